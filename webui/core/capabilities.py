"""What a model can do, as data: page, API and pipeline ask this and never which family it is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from webui.core.choices import Sampler, Scheduler

Colours = tuple[tuple[float, float, float], ...]

SD1_COLOURS: Colours = ((0.298, 0.207, 0.208), (0.187, 0.286, 0.173), (-0.158, 0.189, 0.264), (-0.184, -0.271, -0.473))
SDXL_COLOURS: Colours = (
    (0.3448, 0.4168, 0.4395),
    (-0.1953, -0.0290, 0.0250),
    (0.1074, 0.0886, -0.0163),
    (-0.3730, -0.2499, -0.2088),
)
"""Source of both: AUTOMATIC1111's "Approx cheap" previews."""

SD1_LEVELS = (14.615, 6.475, 3.861, 2.697, 1.886, 1.396, 0.963, 0.652, 0.399, 0.152, 0.029)
SDXL_LEVELS = (14.615, 6.315, 3.771, 2.181, 1.342, 0.862, 0.555, 0.380, 0.234, 0.113, 0.029)
"""Noise levels found best for 10 steps. Source: Sabour et al. 2024, arXiv:2404.14507."""


@dataclass(frozen=True)
class Capabilities:
    """What the user interface and the pipeline may ask of a model.

    prediction: what the network's output means; None when only the loaded model can tell.
    context_width: channels of a text vector. pooled_width: of the one vector beside them, 0 for none.
    latent_channels, latent_scale, latent_shift: of the VAE. downscale: pixels per latent pixel.
    size_step: width and height, less what no whole latent pixel covers, must be multiples of it.
    native_size: edge in pixels the model was trained on.
    cfg_scale: the guidance that suits the model.
    input_kind: "plain" takes latents alone, "inpaint" also mask and masked picture, "edit" also a picture.
    negative_prompt: guidance compares with a second prompt. clip_skip: the text encoder's layer can be chosen.
    fp16_safe: False when fp16 overflows in the network. unet: the network is a U-Net, which token merging and tiling
    need.
    step_levels: noise levels of "Align Your Steps", empty when none were published for the model.
    preview_colours: red, green and blue in [-1, 1] per unit of each latent channel, empty when not known.
    """

    prediction: Literal["eps", "v", "flow"] | None
    context_width: int
    pooled_width: int = 0
    latent_channels: int = 4
    latent_scale: float = 0.18215
    latent_shift: float = 0.0
    downscale: int = 8
    size_step: int = 8
    native_size: int = 512
    cfg_scale: float = 7.0
    input_kind: Literal["plain", "inpaint", "edit"] = "plain"
    negative_prompt: bool = True
    clip_skip: bool = True
    fp16_safe: bool = True
    unet: bool = True
    step_levels: tuple[float, ...] = SD1_LEVELS
    preview_colours: Colours = ()

    def why_not(self, sampler: Sampler, schedule: Scheduler) -> str | None:
        """Why the model can't be sampled that way, in words that end a sentence; None when it can.

        A flow goes straight from noise to picture: samplers that add noise of their own, or count on the picture's
        size staying the same under the noise, lead astray on it.
        """
        if self.prediction == "flow" and not sampler.is_plain_ode:
            return f"by {sampler.name}, which can't follow a flow; Euler, Heun, DPM2, LMS and DPM++ 2M can"
        if schedule.name == "align_your_steps" and not self.step_levels:
            return f"with the schedule {schedule.label}, which was not published for it; Automatic works"
        return None
