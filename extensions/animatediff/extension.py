"""AnimateDiff: a motion module makes the pictures of a batch the frames of a clip."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

from webui.extensions.api import (
    InvalidRequest,
    Panel,
    Section,
    Setting,
    decoded_picture,
    hookimpl,
)

from . import unloading
from .catalog import MotionCatalog
from .control import followed
from .parameters import AS_TRAINED, AVERAGE, FORMATS, FREE_NOISE, KEY, NO_SPARSE, NOISE_LEVELS, OVERLAPS, AnimateDiff
from .saving import require_writable, save_clips, shown
from .travel import read_travel

SECTION = Section("animatediff", "AnimateDiff", "animatediff")
TAG = re.compile(r"<\w+:[^<>]+>")


@hookimpl
def register_params():
    return AnimateDiff


@hookimpl
def register_settings():
    def setting(key, default, label, **more):
        return Setting(f"animatediff_{key}", default, label, section=SECTION, **more)

    return [
        setting("model_path", "", "Extra folder with motion modules", reaches="folder"),
        setting(
            "windows", AVERAGE, "Where contexts overlap", choices=OVERLAPS, kind="radio",
            help="sd-webui-animatediff lets the last one win.",
        ),
        setting(
            "noise_levels", AS_TRAINED, "Noise levels", choices=NOISE_LEVELS, kind="radio",
        ),
        setting(
            "norm_over_clip", False, "Motion modules norm all frames together",
            help="As diffusers computes them; they were trained with each frame by itself.",
        ),
        setting("default_save_formats", ("GIF", "PNG"), "Save formats at first", choices=FORMATS, kind="checkboxgroup"),
        setting("mp4_crf", 23, "Quality factor of MP4 and WEBM, less is better", ge=0, le=51, step=1),
        setting("mp4_preset", "", "Preset of MP4", choices=PRESETS),
        setting("webp_quality", 80, "Quality of WEBP", ge=0, le=100, step=1),
        setting("webp_lossless", False, "WEBP without loss"),
    ]  # fmt: skip


PRESETS = ("", "ultrafast", "superfast", "veryfast", "faster", "fast", "medium", "slow", "slower", "veryslow")


@hookimpl
def register_jobs():
    return [unloading.KIND]


@hookimpl
def register_panels():
    return [Panel(AnimateDiff, build_panel, slot="scripts")]


def build_panel(panel):
    from .panel import build

    build(panel, MotionCatalog(panel.easel))


@hookimpl(tryfirst=True)  # before ControlNet, whose units it gives a picture for each frame
def revise_request(request, easel):
    """Find the motion module and tell mistakes before anything waits; the batch becomes the clip."""
    asked = request.extensions.get(AnimateDiff.__name__)
    if asked is None or not asked.enable or asked.file:
        return None
    asked.require_sound()
    settings = easel.settings.snapshot().replace(**request.overrides)
    require_writable(asked, *_largest_size(request), settings)
    catalog = MotionCatalog(easel)
    changed = {"file": str(catalog.find(asked.model).path), "kept": request.save_samples, "video_source": ""}
    if asked.sparse_model != NO_SPARSE:
        _ = asked.sparse_places
        changed["sparse_file"] = str(catalog.find_sparse(asked.sparse_model).path)
    request, asked, remarks = followed(request, asked, easel)
    asked.require_sound()
    if request.batch_size not in (1, asked.frames):
        remarks.append(f"AnimateDiff: the batch size has no effect; a batch is a clip of {asked.frames} frames.")
    if request.image is None and asked.last_frame is not None:
        remarks.append("AnimateDiff: the last frame has no effect in txt2img; img2img begins with pictures.")
    if request.image is not None:
        _require_pictures(request.image, asked)
    extensions = {**request.extensions, AnimateDiff.__name__: asked.replace(**changed)}
    return request.replace(
        batch_size=asked.frames,
        save_samples=False,
        save_grid=False,
        extensions=extensions,
        remarks=(*request.remarks, *remarks),
    )


def _largest_size(request) -> tuple[int, int]:
    """At most that of the clip's pictures in pixels, as far as the request tells."""
    hires = request.hires
    if hires is None:
        return request.width, request.height
    width, height = hires.resize_width, hires.resize_height
    return width or int(request.width * hires.scale), height or int(request.height * hires.scale)


def _require_pictures(image, asked: AnimateDiff) -> None:
    """Raises: InvalidRequest for pictures that no clip can begin with."""
    if len(image.images) not in (0, 1, asked.frames):
        raise InvalidRequest(
            f"AnimateDiff: {len(image.images)} pictures can't begin a clip of {asked.frames} frames; give one, or one "
            "for each frame."
        )
    if asked.last_frame is not None:
        decoded_picture(asked.last_frame, "The last frame")


@hookimpl
def revise_plan(plan):
    """Give each frame its own prompt, where the prompt is one for frames."""
    asked = plan.extension(AnimateDiff)
    if not asked.enable:
        return None
    together = None if asked.context.is_whole or asked.noise == FREE_NOISE else asked.batch_size
    first, hires = plan.first, plan.hires
    written = (first.prompts[0], first.negative_prompts[0])
    passes = [_with_prompts(sampling, asked) for sampling in (first, *([hires.sampling] if hires else []))]
    if passes[0] is first and (hires is None or passes[1] is hires.sampling):
        return replace(plan, together=together)
    if hires is not None:
        hires = replace(hires, sampling=passes[1])
    return replace(plan, together=together, written=written, first=passes[0], hires=hires)


def _with_prompts(sampling, asked: AnimateDiff):
    """A pass's prompts, frame by frame."""
    found = {}
    for name in ("prompts", "negative_prompts"):
        travel = read_travel(getattr(sampling, name)[0])
        if travel is None:
            continue
        prompts = travel.prompts(asked.frames)
        if len({tuple(TAG.findall(prompt)) for prompt in prompts}) > 1:
            raise InvalidRequest(
                "The prompts of frames name different extra networks; name them in the lines before or after, for the "
                "whole clip."
            )
        found[name] = prompts * (len(sampling.prompts) // asked.frames)
    return replace(sampling, **found) if found else sampling


@hookimpl
def revise_pass(parts, this_pass, easel):
    asked = this_pass.plan.extension(AnimateDiff)
    if not asked.enable:
        for lora in this_pass.motion_loras:
            this_pass.report.comment(f"The LoRA {lora.name!r} is for motion modules; enable AnimateDiff to use it.")
        return None
    if not this_pass.model.capabilities.unet:
        raise InvalidRequest("AnimateDiff needs a checkpoint with a U-Net; disable it for this one.")
    from .passes import revised

    digits = MotionCatalog(easel).digits(Path(asked.file))
    this_pass.report.fields[KEY] = asked.told(digits, from_image=this_pass.plan.request.image is not None)
    return revised(parts, this_pass, asked)


@hookimpl
def wrap_sampling(sample, this_pass):
    asked = this_pass.plan.extension(AnimateDiff)
    if not asked.enable or not asked.freeinit_enable or this_pass.kind == "hires":
        return None
    from .freeinit import repeated

    return repeated(sample, asked, this_pass.job)


@hookimpl
def finish(result, plan, save_file):
    asked = plan.extension(AnimateDiff)
    return save_clips(result, plan, save_file) if asked.enable and result.pictures else None


@hookimpl
def revise_result(result, plan):
    asked = plan.extension(AnimateDiff)
    return shown(result, asked) if asked.enable else None
