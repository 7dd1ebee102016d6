"""What the frame loop calls to paint one picture: the pipeline, within a job, or the dry run."""

from __future__ import annotations

import time
from typing import Any

from webui.extensions.api import FromImage, GenerationRequest, Inpaint, JobContext, Variation

from .animation import Animation, Diffusion
from .colors import correct_colors
from .materials import as_array, as_png
from .preview import paint_preview
from .run import State
from .settings import FILLS
from .units import COUNT, GROUP, Units


class Interrupted(Exception):
    """The user ended the job while a frame was painted."""


class Painter:
    """A `Generate` for the frame loop. overrides: settings of the webui for this animation alone."""

    def __init__(
        self, job: JobContext, animation: Animation, state: State, units: Units | None, overrides: dict[str, Any]
    ) -> None:
        """state: where the animation begins; what lies before it is no part of the job."""
        self.job, self.animation, self.units, self.overrides = job, animation, units, overrides
        settings = animation.settings
        self._first, self._begun = state.frame, time.monotonic()
        self._preview = paint_preview(settings.width, settings.height) if settings.motion_preview_mode else None
        # The original turns the mask round twice and finds nothing in it; A1111 then paints the whole picture.
        self._paints_all = settings.original_arithmetic and settings.invert_mask and settings.full_res_mask
        groups = -(-(animation.frames - state.frame) // animation.cadence)
        again = settings.diffusion_redo + (settings.optical_flow_redo_generation != "None")
        self._share = 1 / max(1, groups * (1 + again))

    def __call__(self, init: Any, asked: Diffusion) -> Any:
        """Raises: Interrupted, WebuiError."""
        if self.job.interrupted:
            raise Interrupted
        self.job.text(f"Frame {asked.frame} of {self.animation.frames}{self._left(asked.frame)}")
        if self._preview is not None:
            return self._preview(init, asked)
        result = self.job.child(self._share).generate(self.request(init, asked), save=False)
        if self.job.interrupted or not result.pictures:
            raise Interrupted
        picture = as_array(result.pictures[0], result.pictures[0].size)
        return picture if asked.color_target is None else correct_colors(picture, asked.color_target)

    def _left(self, frame: int) -> str:
        """How long the rest will take, as a clause, once a frame is behind us."""
        done = frame - self._first
        if done <= 0:
            return ""
        seconds = (time.monotonic() - self._begun) / done * (self.animation.frames - frame)
        return f", {seconds / 60:.0f} min left" if seconds >= 90 else f", {seconds:.0f} s left"

    def request(self, init: Any, asked: Diffusion) -> GenerationRequest:
        """One picture as the pipeline is asked for it."""
        settings = self.animation.settings
        overrides: dict[str, Any] = {"img2img_fix_steps": False, **self.overrides}
        for key, value in (
            ("sd_model_checkpoint", asked.checkpoint),
            ("CLIP_stop_at_last_layers", asked.clip_skip),
            ("eta_ddim", asked.ddim_eta),
            ("eta_ancestral", asked.ancestral_eta),
        ):
            if value is not None:
                overrides[key] = value
        extensions = {} if self.units is None else self.units.extensions(asked.frame, init)
        if GROUP in extensions:
            overrides[COUNT] = len(extensions[GROUP].units)
        return GenerationRequest.checked(
            prompt=asked.prompt,
            negative_prompt=asked.negative,
            sampler=asked.sampler,
            steps=asked.steps,
            width=settings.width,
            height=settings.height,
            cfg_scale=asked.cfg_scale,
            seed=asked.seed,
            variation=Variation(
                seed=asked.subseed,
                strength=asked.subseed_strength,
                resize_from_width=settings.seed_resize_from_w,
                resize_from_height=settings.seed_resize_from_h,
            ),
            image=None if init is None else self._from_image(init, asked),
            restore_faces=settings.restore_faces,
            tiling=settings.tiling,
            overrides=overrides,
            extensions=extensions,
        )

    def _from_image(self, init: Any, asked: Diffusion) -> FromImage:
        settings = self.animation.settings
        inpaint = None
        if asked.mask is not None and not self._paints_all:
            inpaint = Inpaint(
                mask=as_png((asked.mask * 255).round().astype("uint8")),
                blur_x=round(settings.mask_overlay_blur),
                blur_y=round(settings.mask_overlay_blur),
                fill=FILLS.index(settings.fill),
                only_masked=settings.full_res_mask,
                padding=settings.full_res_mask_padding,
            )
        return FromImage(
            images=(as_png(init),),
            denoising_strength=asked.denoising,
            noise_multiplier=asked.noise_multiplier,
            image_cfg_scale=asked.image_cfg_scale,
            inpaint=inpaint,
        )
