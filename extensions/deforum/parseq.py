"""Parseq: a manifest that has already worked out the value of each parameter for every frame."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from webui.extensions.api import InvalidRequest

from .prompts import NEGATIVE
from .schedules import MOST_FRAMES
from .settings import Settings

LARGEST = 100_000_000  # bytes
MOVES = (
    "angle", "zoom", "translation_x", "translation_y", "translation_z", "rotation_3d_x", "rotation_3d_y",
    "rotation_3d_z", "perspective_flip_theta", "perspective_flip_phi", "perspective_flip_gamma",
)  # fmt: skip
"""Parameters that a manifest also has the change of, from one frame to the next, as name_delta."""
SCHEDULES = {
    **{name: name for name in MOVES},
    "perspective_flip_fv": "perspective_flip_fv",
    "noise": "noise_schedule",
    "strength": "strength_schedule",
    "contrast": "contrast_schedule",
    "scale": "cfg_scale_schedule",
    "steps": "steps_schedule",
    "seed": "seed_schedule",
    "subseed": "subseed_schedule",
    "subseed_strength": "subseed_strength_schedule",
    "fov": "fov_schedule",
    "near": "near_schedule",
    "far": "far_schedule",
    "antiblur_amount": "amount_schedule",
    "antiblur_kernel": "kernel_schedule",
    "antiblur_sigma": "sigma_schedule",
    "antiblur_threshold": "threshold_schedule",
    "hybrid_comp_alpha": "hybrid_comp_alpha_schedule",
    "hybrid_comp_mask_blend_alpha": "hybrid_comp_mask_blend_alpha_schedule",
    "hybrid_comp_mask_contrast": "hybrid_comp_mask_contrast_schedule",
    "hybrid_comp_mask_auto_contrast_cutoff_low": "hybrid_comp_mask_auto_contrast_cutoff_low_schedule",
    "hybrid_comp_mask_auto_contrast_cutoff_high": "hybrid_comp_mask_auto_contrast_cutoff_high_schedule",
    "hybrid_flow_factor": "hybrid_flow_factor_schedule",
}
"""What a frame of a manifest calls a parameter, and the schedule that it stands for."""
_SWITCHES = {"steps": "enable_steps_scheduling", "subseed": "enable_subseed_scheduling"}


def with_manifest(settings: Settings) -> Settings:
    """The settings with the manifest's values as their schedules; as they are without one. Raises: InvalidRequest."""
    text = (settings.parseq_manifest or "").strip()
    if not text:
        return settings
    manifest = _read(text)
    by_frame = _frames(manifest)
    changes: dict[str, Any] = {}
    for name, key in SCHEDULES.items():
        given = name
        if settings.parseq_use_deltas and name in MOVES and any(f"{name}_delta" in row for row in by_frame.values()):
            given = f"{name}_delta"
        values = {frame: row[given] for frame, row in by_frame.items() if row.get(given) is not None}
        if values:
            changes[key] = ", ".join(f"{frame}:({_number(given, frame, value)})" for frame, value in values.items())
            if name in _SWITCHES:
                changes[_SWITCHES[name]] = True
            if name.startswith("perspective_flip"):
                changes["enable_perspective_flip"] = True
    if "seed_schedule" in changes:
        changes["seed_behavior"] = "schedule"
    prompts = {str(frame): _prompt(row) for frame, row in by_frame.items() if row.get("deforum_prompt")}
    if prompts:
        changes["prompts"] = prompts
    if settings.parseq_non_schedule_overrides:
        changes |= _overrides(manifest, max(by_frame) + 1)
    return settings.replace(**changes)


def _read(text: str) -> Mapping[str, Any]:
    if text.lower().startswith(("http://", "https://")):
        raise InvalidRequest(f"Parseq manifest: {text:.200} is an address. Save the file, or paste what is in it.")
    try:
        if not text.startswith(("{", "[")):
            path = Path(text).expanduser()
            if path.stat().st_size > LARGEST:
                raise InvalidRequest(f"Parseq manifest: {text:.200} is too large.")
            text = path.read_text(encoding="utf-8")
        found = json.loads(text)
    except (OSError, ValueError, RecursionError) as error:
        raise InvalidRequest(
            f"Parseq manifest: it is no JSON, and no file of it ({error}).".replace("\n", " ")
        ) from error
    if not isinstance(found, Mapping):
        raise InvalidRequest("Parseq manifest: it must be an object with rendered_frames.")
    return found


def _frames(manifest: Mapping[str, Any]) -> dict[int, Mapping[str, Any]]:
    rows = manifest.get("rendered_frames")
    if not isinstance(rows, list) or not rows or not all(isinstance(row, Mapping) for row in rows):
        raise InvalidRequest("Parseq manifest: it has no rendered_frames; press Render in Parseq and copy its output.")
    by_frame = {}
    for place, row in enumerate(rows):
        frame = row.get("frame", place)
        if not isinstance(frame, int | float) or not 0 <= frame < MOST_FRAMES:
            raise InvalidRequest(
                f"Parseq manifest: rendered_frames[{place}].frame is {frame!r:.40}, no frame's number."
            )
        by_frame[int(frame)] = row
    return dict(sorted(by_frame.items()))


def _number(name: str, frame: int, value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise InvalidRequest(f"Parseq manifest: {name} of frame {frame} is {value!r:.40}, no number.")
    return str(value) if isinstance(value, int) else f"{value:.9f}"


def _prompt(row: Mapping[str, Any]) -> str:
    text = str(row["deforum_prompt"])
    negative = str(row.get("deforum_neg_prompt") or "")
    return text if NEGATIVE in text or not negative else f"{text} {NEGATIVE} {negative}"


def _overrides(manifest: Mapping[str, Any], frames: int) -> dict[str, Any]:
    options = manifest.get("options")
    options = options if isinstance(options, Mapping) else {}
    found: dict[str, Any] = {"max_frames": frames}
    if isinstance(options.get("output_fps"), int | float):
        found["fps"] = options["output_fps"]
    cadence = options.get("cc_cadence", options.get("cadence"))
    if isinstance(cadence, int | float):
        found["diffusion_cadence"] = int(cadence)
    return found
