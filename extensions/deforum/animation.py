"""Settings made ready to run: every schedule as a number a frame, the prompts of each, and the camera."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from .camera import Camera, Motion
from .noise import Perlin
from .prompts import prompts_by_frame
from .schedules import schedule_texts, schedule_values
from .seeds import drawn_seed
from .settings import Keyed, Settings, unit_schedules

FEEDBACK = ("2D", "3D")
_ONLY_WITH = {
    "enable_steps_scheduling": ("steps_schedule",),
    "enable_subseed_scheduling": ("subseed_schedule", "subseed_strength_schedule"),
    "enable_sampler_scheduling": ("sampler_schedule",),
    "enable_checkpoint_scheduling": ("checkpoint_schedule",),
    "enable_clipskip_scheduling": ("clipskip_schedule",),
    "enable_noise_multiplier_scheduling": ("noise_multiplier_schedule",),
    "enable_ddim_eta_scheduling": ("ddim_eta_schedule",),
    "enable_ancestral_eta_scheduling": ("ancestral_eta_schedule",),
}
"""Schedules that are read only where a switch is on; what stands in them otherwise may be anything."""


@dataclass(frozen=True)
class Diffusion:
    """What one pass of the model is asked for. None: as the webui's settings have it.

    denoising: 0 leaves the init as it is, 1 paints anew. mask: (H, W) of 0 to 1, white is painted.
    color_target: a picture that the result's colours are corrected to.
    """

    frame: int
    seed: int
    prompt: str
    negative: str
    denoising: float
    steps: int
    cfg_scale: float
    sampler: str
    subseed: int = -1
    subseed_strength: float = 0
    checkpoint: str | None = None
    clip_skip: int | None = None
    noise_multiplier: float | None = None
    ddim_eta: float | None = None
    ancestral_eta: float | None = None
    image_cfg_scale: float = 1.5
    mask: Any = None
    color_target: Any = None


class Animation:
    """One animation, read once. Raises: InvalidRequest for anything in the settings that can't be computed."""

    def __init__(self, settings: Settings, seed: int, frames: int | None = None) -> None:
        """seed: not -1. frames: of a video that rules their number; the settings' own otherwise."""
        self.settings = settings
        self.seed = seed
        self.frames = frames or settings.max_frames
        self.feeds_back = settings.animation_mode in FEEDBACK
        self.cadence = settings.diffusion_cadence if self.feeds_back else 1
        self.seed_behavior = "schedule" if settings.use_looper else settings.seed_behavior
        self.camera = Camera(
            settings.animation_mode if self.feeds_back else "2D",
            settings.border,
            settings.padding_mode,
            settings.sampling_mode,
            settings.original_arithmetic,
        )
        self.perlin = (
            Perlin(settings.perlin_w, settings.perlin_h, settings.perlin_octaves, settings.perlin_persistence)
            if settings.noise_type == "perlin"
            else None
        )
        self._values = {
            key: schedule_values(key, getattr(settings, key), self.frames, seed) for key in scheduled(settings)
        } | {key: schedule_values(key, text, self.frames, seed) for key, text in unit_schedules(settings).items()}
        self._texts = {
            key: schedule_texts(key, getattr(settings, key), self.frames, seed)
            for key in scheduled(settings, of_texts=True)
        }
        around = settings.positive_prompts, settings.negative_prompts
        interpolated = settings.animation_mode == "Interpolation"
        self.prompts = prompts_by_frame(settings.prompts, *around, self.frames, seed, interpolated)

    def value(self, key: str, frame: int) -> float:
        return float(self._values[key][min(frame, self.frames - 1)])

    def text(self, key: str, frame: int) -> str:
        return self._texts[key][min(frame, self.frames - 1)]

    def plot(self, key: str) -> list[float]:
        """A schedule's value for every frame."""
        return [float(value) for value in self._values[key]]

    def strength(self, frame: int) -> float:
        """How much of the picture before stays, 0 to 1."""
        key = "image_strength_schedule" if self.settings.use_looper else "strength_schedule"
        return min(max(self.value(key, frame), 0.0), 1.0)

    def scheduled_seed(self, frame: int) -> int:
        """Of the seed schedule; where it is -1, the random one that belongs to the frame."""
        seed = int(self.value("seed_schedule", frame))
        return drawn_seed(self.seed, frame) if seed == -1 else seed

    def motion(self, frame: int) -> Motion:
        def values(*keys: str) -> Sequence[float]:
            return tuple(self.value(key, frame) for key in keys)

        settings = self.settings
        x, y, z = values("translation_x", "translation_y", "translation_z")
        turned = values("rotation_3d_x", "rotation_3d_y", "rotation_3d_z")
        center = values("transform_center_x", "transform_center_y")
        flip = None
        if settings.enable_perspective_flip:
            flip = tuple(
                values(
                    "perspective_flip_theta", "perspective_flip_phi", "perspective_flip_gamma", "perspective_flip_fv"
                )
            )
        aspect = self.value("aspect_ratio_schedule", frame)
        if settings.aspect_ratio_use_old_formula:
            aspect = settings.width / settings.height
        return Motion(
            angle=self.value("angle", frame),
            zoom=self.value("zoom", frame),
            tx=x,
            ty=y,
            tz=z,
            center=(center[0], center[1]),
            rotation=(turned[0], turned[1], turned[2]),
            flip=flip,  # type: ignore[arg-type]
            fov=min(max(self.value("fov_schedule", frame), 0.1), 179.9),
            aspect=aspect if abs(aspect) > 1e-6 else 1.0,
            near=self.value("near_schedule", frame) or 1.0,
        )

    def diffusion(
        self, frame: int, seed: int, denoising: float, mask: Any = None, color_target: Any = None
    ) -> Diffusion:
        settings = self.settings

        def if_on(switch: str, key: str) -> float | None:
            return self.value(key, frame) if getattr(settings, switch) else None

        steps = if_on("enable_steps_scheduling", "steps_schedule")
        subseed = if_on("enable_subseed_scheduling", "subseed_schedule")
        clip_skip = if_on("enable_clipskip_scheduling", "clipskip_schedule")
        strength = if_on("enable_subseed_scheduling", "subseed_strength_schedule")
        positive, negative = self.prompts[frame]
        return Diffusion(
            frame=frame,
            seed=seed,
            prompt=positive,
            negative=negative,
            denoising=denoising,
            steps=settings.steps if steps is None else max(1, int(steps)),
            cfg_scale=self.value("cfg_scale_schedule", frame),
            sampler=self.text("sampler_schedule", frame) if settings.enable_sampler_scheduling else settings.sampler,
            subseed=-1 if subseed is None else int(subseed),
            subseed_strength=strength or 0.0,
            checkpoint=self.text("checkpoint_schedule", frame) if settings.enable_checkpoint_scheduling else None,
            clip_skip=None if clip_skip is None else int(clip_skip),
            noise_multiplier=if_on("enable_noise_multiplier_scheduling", "noise_multiplier_schedule"),
            ddim_eta=if_on("enable_ddim_eta_scheduling", "ddim_eta_schedule"),
            ancestral_eta=if_on("enable_ancestral_eta_scheduling", "ancestral_eta_schedule"),
            image_cfg_scale=self.value("pix2pix_img_cfg_scale_schedule", frame),
            mask=mask,
            color_target=color_target,
        )


def scheduled(settings: Settings, of_texts: bool = False) -> list[str]:
    """The names of the schedules that an animation of these settings reads."""
    off = {key for switch, keys in _ONLY_WITH.items() if not getattr(settings, switch) for key in keys}
    fields = Settings.model_fields.items()
    return [key for key, field in fields if Keyed(of_texts) in field.metadata and key not in off]
