"""The picture while it is made: every few steps the prediction of the end is shown, small or decoded."""

import io
import json
import logging
from pathlib import Path

from PIL import Image

from webui.extensions.api import DenoiserHook, WebuiError, hookimpl

log = logging.getLogger(__name__)

# Of the model that ships with Easel, which has a VAE of its own: red, green and blue of each latent channel, in
# [-1, 1] per unit, and what is added to them. Fitted by tools/fit_preview.py.
COLOURS = json.loads(Path(__file__).with_name("colours.json").read_text("utf-8"))
MIME = {"png": "image/png", "jpeg": "image/jpeg", "webp": "image/webp"}


@hookimpl
def denoiser_hooks(plan, model, job):
    return [LivePreview(model, job, plan.settings)] if plan.settings["live_previews_enable"] else []


class LivePreview(DenoiserHook):
    """Shows x0 as it leaves all other hooks, or what the prompts or the negative prompts alone predict."""

    order = float("inf")

    def __init__(self, model, job, settings):
        self.model, self.job, self.settings = model, job, settings
        self.sign = -1 if settings["live_preview_content"] == "Negative prompt" else 1
        self.rows = []  # (Row, x0) of the running call
        self.method = METHODS[settings["show_progress_type"]]
        if self.method is decoded and shares_device(model) and not settings["live_preview_allow_lowvram_full"]:
            self.method = cheap

    def wrap_network(self, predict):
        def watched(x, sigma, cond, step):
            x0 = predict(x, sigma, cond, step)
            self.rows += zip(cond.rows, x0, strict=True)
            return x0

        return watched if self.settings["live_preview_content"] != "Combined" else predict

    def wrap_denoiser(self, denoise):
        shown = None  # a step may ask for several predictions; the first is shown

        def watched(x, sigma, step):
            nonlocal shown
            self.rows.clear()
            x0 = denoise(x, sigma, step)
            if step.index != shown and is_due(step, self.settings["show_progress_every_n_steps"]):
                shown = step.index
                self.job.show(*self.picture(self.part(x0)))
            return x0

        return watched

    def part(self, x0):
        """Of the guided x0 (B, C, h, w) the part that is to be seen, of the same shape.

        Where the negative prompt was left out, the prompt is seen in its place; of prompts joined by AND the first.
        """
        import torch

        seen = {}
        for row, latent in self.rows:
            if row.part == 0 and (row.picture not in seen or row.sign == self.sign):
                seen[row.picture] = latent
        return torch.stack([seen[picture] for picture in range(len(x0))]) if seen else x0

    def picture(self, x0):
        """x0: (B, C, h, w). Returns: the encoded preview of the batch, or of its first picture, and its type."""
        batch = x0 if self.settings["show_progress_grid"] else x0[:1]
        try:
            pictures = self.method(batch, self.model)
        except WebuiError as error:  # TAESD isn't there: said once
            log.warning("%s Previews are approximated.", error)
            self.job.text(f"{error} Previews are approximated.")
            self.method = cheap
            pictures = cheap(batch, self.model)
        return encoded(grid(pictures), self.settings["live_previews_image_format"])


def shares_device(model):
    """Whether decoding would send the network away from the device in the middle of a job."""
    return model.placement.sharing != "together"


def is_due(step, every):
    """every: steps between previews, at least 1; 0 is 1, and -1 shows the last step only."""
    done = step.index + 1
    return done == step.count if every < 0 else done % max(every, 1) == 0


def cheap(x0, model):
    """Each latent pixel's colour: (B, C, h, w) -> (B, h, w, 3) in [-1, 1], a linear map."""
    import torch

    weights, bias = model.capabilities.preview_colours, (0.0, 0.0, 0.0)
    fitted = COLOURS.get(model.checkpoint.model_name)
    if model.checkpoint.embedded and fitted is not None:
        weights, bias = fitted["weights"], fitted["bias"]
    if len(weights) != x0.shape[1]:  # a family without known colours: grey
        return x0.float().mean(dim=1)[..., None].expand(-1, -1, -1, 3)
    mapped = torch.einsum("bchw,cr->bhwr", x0.float(), torch.tensor(weights, device=x0.device))
    return mapped + torch.tensor(bias, device=x0.device)


def decoded(x0, model):
    """What the VAE makes of it: (B, C, h, w) -> (B, H, W, 3) in [-1, 1]."""
    return model.decode(x0).permute(0, 2, 3, 1)


def tiny(x0, model):
    """What TAESD makes of it, as `decoded`. Raises: WebuiError when its file isn't there."""
    return model.vae.tiny().decode(x0).permute(0, 2, 3, 1)


METHODS = {"Full": decoded, "Approx NN": cheap, "Approx cheap": cheap, "TAESD": tiny}
"""By the setting. The network of "Approx NN" isn't to be had under a licence that allows it."""


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
