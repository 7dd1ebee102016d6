"""What a user asks for: one frozen request, and what comes back.

The widgets, the /sdapi/v1 schema, and the infotext keys derive from the parameters here. The seed may
be -1, the model a name, a setting "as it is": `webui.planning.plan` turns a request into a plan in which
all of that is decided.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from PIL.Image import Image
from pydantic import Field

from webui.core.errors import NoSpace, NotSaved
from webui.core.params import Params, param
from webui.core.results import TRANSIENT, ResultFile

MIN_SEED, MAX_SEED = -(2**63), 2**63 - 1
"""Any whole number of 64 bits; -1 draws one."""
LAST_SEED = 4294967294
MAX_PROMPT = 200_000
MAX_SIDE = 16_384
MAX_BATCH = 1024
MAX_PICTURES = 10_000


class Variation(Params):
    """A second seed whose noise is blended in, and noise drawn at another size."""

    seed: int = param(-1, label="Variation seed", infotext="Variation seed", api="subseed", ge=MIN_SEED, le=MAX_SEED)
    strength: float = param(
        0.0,
        label="Variation strength",
        infotext="Variation seed strength",
        api="subseed_strength",
        ge=0,
        le=1,
        step=0.01,
    )
    resize_from_width: int = param(
        0,
        label="Resize seed from width",
        api="seed_resize_from_w",
        api_default=-1,
        ge=-1,
        le=MAX_SIDE,
        slider=(0, 2048, 8),
    )
    resize_from_height: int = param(
        0,
        label="Resize seed from height",
        api="seed_resize_from_h",
        api_default=-1,
        ge=-1,
        le=MAX_SIDE,
        slider=(0, 2048, 8),
    )


class HiresFix(Params):
    """A second pass at a larger size over the upscaled first one."""

    upscaler: str = param(
        "Latent", label="Upscaler", infotext="Hires upscaler", api="hr_upscaler", choices="hires_upscalers"
    )
    steps: int = param(
        0, label="Hires steps", infotext="Hires steps", api="hr_second_pass_steps", ge=0, le=10_000, slider=(0, 150, 1)
    )
    denoising_strength: float = param(
        0.7, label="Denoising strength", infotext="Denoising strength", api="denoising_strength", ge=0, le=1, step=0.01
    )
    scale: float = param(
        2.0, label="Upscale by", infotext="Hires upscale", api="hr_scale", ge=0.05, le=16, slider=(1, 4, 0.05)
    )
    resize_width: int = param(0, label="Resize width to", api="hr_resize_x", ge=0, le=MAX_SIDE, slider=(0, 2048, 8))
    resize_height: int = param(0, label="Resize height to", api="hr_resize_y", ge=0, le=MAX_SIDE, slider=(0, 2048, 8))
    checkpoint: str | None = param(
        None, label="Checkpoint", infotext="Hires checkpoint", api="hr_checkpoint_name", choices="checkpoints"
    )
    sampler: str | None = param(
        None, label="Hires sampling method", infotext="Hires sampler", api="hr_sampler_name", choices="samplers"
    )
    scheduler: str | None = param(
        None, label="Hires schedule type", infotext="Hires schedule type", api="hr_scheduler", choices="schedulers"
    )
    prompt: str = param("", label="Hires prompt", infotext="Hires prompt", api="hr_prompt", max_length=MAX_PROMPT)
    negative_prompt: str = param(
        "",
        label="Hires negative prompt",
        infotext="Hires negative prompt",
        api="hr_negative_prompt",
        max_length=MAX_PROMPT,
    )


class Refiner(Params):
    """A second checkpoint that takes over part of the way."""

    checkpoint: str = param("", label="Checkpoint", infotext="Refiner", api="refiner_checkpoint", choices="checkpoints")
    switch_at: float = param(
        0.8, label="Switch at", infotext="Refiner switch at", api="refiner_switch_at", ge=0.01, le=1, step=0.01
    )


class SamplerOptions(Params):
    """Sampler constants of this request; None leaves the setting of that name in force."""

    eta: float | None = param(None, label="Eta", api="eta", ge=0, le=10)
    s_churn: float | None = param(None, label="Sigma churn", api="s_churn", ge=0, le=1000)
    s_tmin: float | None = param(None, label="Sigma tmin", api="s_tmin", ge=0, le=1000)
    s_tmax: float | None = param(None, label="Sigma tmax", api="s_tmax", ge=0)
    s_noise: float | None = param(None, label="Sigma noise", api="s_noise", ge=0, le=10)
    s_min_uncond: float | None = param(None, label="Negative Guidance minimum sigma", api="s_min_uncond", ge=0, le=1000)


class SoftInpainting(Params):
    """Soft inpainting: blend the painted part into the rest step by step, and by how much the two differ."""

    schedule_bias: float = param(
        1.0,
        label="Schedule bias",
        infotext="Soft inpainting schedule bias",
        ge=0,
        le=8,
        step=0.1,
        help="Shifts when preservation of original content occurs during denoising.",
    )
    preservation: float = param(
        0.5,
        label="Preservation strength",
        infotext="Soft inpainting preservation strength",
        ge=0,
        le=8,
        step=0.05,
        help="How strongly partially masked content should be preserved.",
    )
    contrast_boost: float = param(
        4.0,
        label="Transition contrast boost",
        infotext="Soft inpainting transition contrast boost",
        ge=1,
        le=32,
        step=0.5,
        help="Amplifies the contrast that may be lost in partially masked regions.",
    )
    mask_influence: float = param(
        0.0,
        label="Mask influence",
        infotext="Soft inpainting mask influence",
        ge=0,
        le=1,
        step=0.05,
        help="How strongly the original mask should bias the difference threshold.",
    )
    difference_threshold: float = param(
        0.5,
        label="Difference threshold",
        infotext="Soft inpainting difference threshold",
        ge=0,
        le=8,
        step=0.25,
        help="How much an image region can change before the original pixels are not blended in anymore.",
    )
    difference_contrast: float = param(
        2.0,
        label="Difference contrast",
        infotext="Soft inpainting difference contrast",
        ge=0,
        le=8,
        step=0.25,
        help="How sharp the transition should be between blended and not blended.",
    )


class Inpaint(Params):
    """Where and how a part of the picture is painted anew.

    mask, latent_mask: encoded pictures; a varying alpha channel is the mask, else brightness. latent_mask: where the
    noise changes things, if elsewhere than in the mask.
    fill: what the masked part begins with: 0 colours from around it, 1 the picture, 2 noise, 3 nothing.
    """

    mask: bytes = Field(repr=False)
    latent_mask: bytes | None = Field(default=None, repr=False)
    blur_x: int = param(4, label="Mask blur", infotext="Mask blur", api="mask_blur_x", ge=0, le=1024, slider=(0, 64, 1))
    blur_y: int = param(4, label="Mask blur", api="mask_blur_y", ge=0, le=1024, slider=(0, 64, 1))
    round_mask: bool = param(True, label="Round the mask", api="mask_round")
    invert: bool = param(False, label="Mask mode", infotext="Mask mode", api="inpainting_mask_invert")
    fill: int = param(
        1, label="Masked content", infotext="Masked content", api="inpainting_fill", api_default=0, ge=0, le=3
    )
    only_masked: bool = param(
        False, label="Inpaint area", infotext="Inpaint area", api="inpaint_full_res", api_default=True
    )
    padding: int = param(
        32,
        label="Only masked padding, pixels",
        infotext="Masked area padding",
        api="inpaint_full_res_padding",
        api_default=0,
        ge=0,
        le=4096,
        slider=(0, 256, 4),
    )
    soft: SoftInpainting | None = None


class FromImage(Params):
    """The starting pictures of img2img, as encoded files; one for the whole batch, or one an image of it.

    resize_mode: 0 stretches to the size asked for, 1 cuts off what overhangs, 2 fills the borders, 3 stretches the
    latent instead of the picture. image_cfg_scale: for instruct-pix2pix models alone.
    noise_multiplier: None for the setting. color_reference: the picture whose colours all results take over, where
    the settings correct colours; None for the one that each starts from. turn: which picture of img2img's Batch tab
    this is, from 0; None elsewhere.
    """

    images: tuple[bytes, ...] = Field(default=(), repr=False)
    color_reference: bytes | None = Field(default=None, repr=False)
    denoising_strength: float = param(
        0.75, label="Denoising strength", infotext="Denoising strength", api="denoising_strength", ge=0, le=1, step=0.01
    )
    resize_mode: int = param(0, label="Resize mode", api="resize_mode", ge=0, le=3)
    image_cfg_scale: float | None = param(
        None,
        label="Image CFG Scale",
        infotext="Image CFG scale",
        api="image_cfg_scale",
        ge=0,
        le=100,
        slider=(0, 3, 0.05),
    )
    noise_multiplier: float | None = param(
        None,
        label="Noise multiplier",
        infotext="Noise multiplier",
        api="initial_noise_multiplier",
        ge=0,
        le=10,
        slider=(0, 1.5, 0.001),
    )
    inpaint: Inpaint | None = None
    turn: int | None = None


class GenerationRequest(Params):
    """Everything that decides a job's pictures. `image` set means img2img.

    script: title of the script that makes many requests of this one, "" for none.
    remarks: sentences for the user about what was asked for and is left out; they come with the result.
    """

    prompt: str = param("", label="Prompt", api="prompt", max_length=MAX_PROMPT)
    negative_prompt: str = param("", label="Negative prompt", api="negative_prompt", max_length=MAX_PROMPT)
    styles: tuple[str, ...] = param((), label="Styles", api="styles", choices="styles")
    sampler: str = param(
        "DPM++ 2M", label="Sampling method", infotext="Sampler", api="sampler_name", choices="samplers"
    )
    scheduler: str = param(
        "Automatic", label="Schedule type", infotext="Schedule type", api="scheduler", choices="schedulers"
    )
    steps: int = param(
        20, label="Sampling steps", infotext="Steps", api="steps", api_default=50, ge=1, le=10_000, slider=(1, 150, 1)
    )
    width: int = param(512, label="Width", api="width", ge=8, le=MAX_SIDE, slider=(64, 2048, 8))
    height: int = param(512, label="Height", api="height", ge=8, le=MAX_SIDE, slider=(64, 2048, 8))
    batch_count: int = param(1, label="Batch count", api="n_iter", ge=1, le=MAX_PICTURES, slider=(1, 100, 1))
    batch_size: int = param(1, label="Batch size", api="batch_size", ge=1, le=MAX_BATCH, slider=(1, 8, 1))
    cfg_scale: float = param(
        7.0, label="CFG Scale", infotext="CFG scale", api="cfg_scale", ge=-100, le=1000, slider=(1, 30, 0.5)
    )
    seed: int = param(-1, label="Seed", infotext="Seed", api="seed", ge=MIN_SEED, le=MAX_SEED)
    variation: Variation = Variation()
    hires: HiresFix | None = None
    refiner: Refiner | None = None
    sampler_options: SamplerOptions = SamplerOptions()
    image: FromImage | None = None
    restore_faces: bool | None = param(None, label="Restore faces", infotext="Face restoration", api="restore_faces")
    tiling: bool | None = param(None, label="Tiling", infotext="Tiling", api="tiling")
    disable_extra_networks: bool = param(False, label="Disable extra networks", api="disable_extra_networks")
    script: str = ""
    save_samples: bool = True
    save_grid: bool = True
    user: str | None = None
    remarks: tuple[str, ...] = ()
    overrides: Mapping[str, Any] = Field(default_factory=dict)
    extensions: Mapping[str, Params] = Field(default_factory=dict)

    @property
    def mode(self) -> Literal["txt2img", "img2img"]:
        return "txt2img" if self.image is None else "img2img"

    def extension(self, group: type[Params]) -> Any:
        """The values of an extension's parameter group, its defaults when the request names none."""
        return self.extensions.get(group.__name__) or group()


def drawn(seed: int) -> int:
    """The seed itself, or a random one for -1."""
    return random.randrange(LAST_SEED) if seed == -1 else seed


@dataclass(frozen=True)
class GenerationResult:
    """What a finished job hands back.

    images: everything that is shown as a picture: the grid first when there is one, then the pictures in order.
    files: everything else: videos, sound, text.
    pictures: those made, without loss, for whoever asked for them within a job; they end with it.
    info: the facts of the job in the shape and under the names of /sdapi/v1's `info`.
    comments: sentences for the user, e.g. a missing LoRA.
    unsaved: why pictures of it are on no disk at all; after a NoSpace no further job can save either.
    """

    images: tuple[ResultFile, ...]
    info: Mapping[str, Any]
    comments: tuple[str, ...] = ()
    seconds: float = 0.0
    unsaved: NotSaved | None = None
    files: tuple[ResultFile, ...] = ()
    pictures: tuple[Image, ...] = field(default=(), repr=False, compare=False, metadata={TRANSIENT: True})

    @property
    def out_of_space(self) -> bool:
        """No further picture can be saved either."""
        return isinstance(self.unsaved, NoSpace)

    @property
    def index_of_first_image(self) -> int:
        return 1 if self.images and self.images[0].is_grid else 0
