"""The picture while it is made: every few steps the prediction of the end is shown, small or decoded."""

import io

from PIL import Image

from webui.extensions.api import DenoiserHook, hookimpl

# Red, green and blue of each latent channel, in [-1, 1] per unit, by the latent scale that tells the families apart.
# Source: AUTOMATIC1111's "Approx cheap" previews.
RGB_OF_LATENT = {
    0.18215: ((0.298, 0.207, 0.208), (0.187, 0.286, 0.173), (-0.158, 0.189, 0.264), (-0.184, -0.271, -0.473)),
    0.13025: (
        (0.3448, 0.4168, 0.4395),
        (-0.1953, -0.0290, 0.0250),
        (0.1074, 0.0886, -0.0163),
        (-0.3730, -0.2499, -0.2088),
    ),
}
MIME = {"png": "image/png", "jpeg": "image/jpeg", "webp": "image/webp"}


@hookimpl
def denoiser_hooks(plan, model, job):
    return [LivePreview(model, job, plan.settings)] if plan.settings["live_previews_enable"] else []


class LivePreview(DenoiserHook):
    """Shows x0, the prediction that leaves all other hooks."""

    order = float("inf")

    def __init__(self, model, job, settings):
        self.model, self.job, self.settings = model, job, settings

    def wrap_denoiser(self, denoise):
        shown = None  # a step may ask for several predictions; the first is shown

        def watched(x, sigma, step):
            nonlocal shown
            x0 = denoise(x, sigma, step)
            if step.index != shown and is_due(step, self.settings["show_progress_every_n_steps"]):
                shown = step.index
                self.job.show(*self.picture(x0))
            return x0

        return watched

    def picture(self, x0):
        """x0: (B, C, h, w). Returns: the encoded preview of the batch, or of its first picture, and its type."""
        batch = x0 if self.settings["show_progress_grid"] else x0[:1]
        method = decoded if self.settings["show_progress_type"] == "Full" else cheap
        return encoded(grid(method(batch, self.model)), self.settings["live_previews_image_format"])


def is_due(step, every):
    """every: steps between previews, at least 1; 0 is 1, and -1 shows the last step only."""
    done = step.index + 1
    return done == step.count if every < 0 else done % max(every, 1) == 0


def cheap(x0, model):
    """Each latent pixel's colour: (B, C, h, w) -> (B, h, w, 3) in [-1, 1], a linear map."""
    import torch

    weights = RGB_OF_LATENT.get(model.capabilities.latent_scale)
    if weights is None:  # a family without known colours: grey
        weights = [[1 / x0.shape[1]] * 3] * x0.shape[1]
    return torch.einsum("bchw,cr->bhwr", x0.float(), torch.tensor(weights, device=x0.device))


def decoded(x0, model):
    """What the VAE makes of it: (B, C, h, w) -> (B, H, W, 3) in [-1, 1]."""
    return model.decode(x0).permute(0, 2, 3, 1)


def grid(pictures):
    """(B, H, W, 3) in [-1, 1] as one picture, near to square."""
    pixels = ((pictures.nan_to_num() + 1) * 127.5).clamp(0, 255).byte().cpu().numpy()
    count, height, width, _ = pixels.shape
    rows = max(round(count**0.5), 1)
    columns = -(-count // rows)
    sheet = Image.new("RGB", (columns * width, rows * height))
    for index, picture in enumerate(pixels):
        sheet.paste(Image.fromarray(picture), (index % columns * width, index // columns * height))
    return sheet


def encoded(picture, file_format):
    """file_format: "png", "jpeg" or "webp". Returns: bytes and their MIME type."""
    buffer = io.BytesIO()
    options = {"compress_level": 1} if file_format == "png" else {}
    picture.save(buffer, file_format, **options)
    return buffer.getvalue(), MIME[file_format]
