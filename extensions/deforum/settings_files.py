"""Settings files: what is read from new and old ones, and what is written."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from webui.extensions.api import InvalidRequest, Params

from .prompts import join, unjoin
from .settings import FILLS, UNITS, ControlUnit, Keyed, Settings

LARGEST = 20_000_000  # bytes
ONLY_IF_CHANGED = ("perlin_w", "perlin_h", "original_arithmetic")
"""Keys that other programs' files don't have; written where they differ from the default."""

_RENAMED = {
    "flip_2d_perspective": "enable_perspective_flip",
    "skip_video_for_run_all": "skip_video_creation",
    "animation_prompts_positive": "positive_prompts",
    "animation_prompts_negative": "negative_prompts",
}
_RETOLD: dict[str, dict[Any, Any]] = {
    "color_coherence": {f"Match Frame 0 {space}": space for space in ("LAB", "HSV", "RGB")},
    "hybrid_composite": {True: "Normal", False: "None"},
    "optical_flow_cadence": {True: "DIS Fine", False: "None"},
    "optical_flow_redo_generation": {True: "DIS Fine", False: "None"},
}
_RESIZE_MODES = {
    "Just Resize": "Just Resize",
    "Resize and Fill": "Outer Fit (Shrink to Fit)",
    "Crop and Resize": "Inner Fit (Scale to Fit)",
    "Envelope (Outer Fit)": "Outer Fit (Shrink to Fit)",
    "Scale to Fit (Inner Fit)": "Inner Fit (Scale to Fit)",
    "Envelope": "Outer Fit (Shrink to Fit)",
    "Scale to Fit": "Inner Fit (Scale to Fit)",
}
_DESCRIPTIVE = ("sd_model_name", "sd_model_hash", "deforum_git_commit_id")


@dataclass(frozen=True)
class Read:
    """Settings out of a file or request. ignored: the keys in it that mean nothing to us."""

    settings: Settings
    ignored: tuple[str, ...] = ()


def load_settings(path: Path) -> Read:
    """Raises: InvalidRequest when the file isn't one of settings."""
    try:
        if path.stat().st_size > LARGEST:
            raise InvalidRequest(f"{path} is too large for a settings file.")
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidRequest(f"The settings file {path} can't be read: {error}.") from error
    except (ValueError, RecursionError) as error:
        raise InvalidRequest(f"{path} is no settings file: {error}.") from error
    return read_settings(found)


def read_settings(found: Any) -> Read:
    """Settings from a file's or request's object; keys may be missing, old, or not ours. Raises: InvalidRequest."""
    if not isinstance(found, Mapping) or not all(isinstance(key, str) for key in found):
        raise InvalidRequest("Settings must be a JSON object of keys and values.")
    given = _modern(found)
    values: dict[str, Any] = {"legacy_colormatch": True}
    units: list[dict[str, Any]] = [{} for _ in range(UNITS)]
    ignored = []
    for key, value in given.items():
        unit = re.fullmatch(rf"cn_([1-{UNITS}])_(\w+)", key)
        if unit and unit[2] in ControlUnit.model_fields:
            if value is not None:
                units[int(unit[1]) - 1][unit[2]] = _fitting(ControlUnit, unit[2], value)
        elif key in Settings.model_fields and key != "controlnet":
            if value is not None:
                values[key] = _fitting(Settings, key, value)
        elif key not in _DESCRIPTIVE:
            ignored.append(key)
    if "positive_prompts" in found or "negative_prompts" in found:  # a file of a run, where prompts are joined already
        around = values.get("positive_prompts", ""), values.get("negative_prompts", "")
        if isinstance(values.get("prompts"), dict):
            values["prompts"] = {key: unjoin(text, *around) for key, text in values["prompts"].items()}
    settings = Settings.checked(**values, controlnet=tuple(ControlUnit.checked(**unit) for unit in units))
    _check_choices(settings)
    return Read(settings, tuple(ignored))


def write_settings(settings: Settings, model_name: str = "", model_hash: str = "") -> dict[str, Any]:
    """The object that a settings file holds, prompts joined with what stands before and after each."""
    written: dict[str, Any] = {}
    for key, field in Settings.model_fields.items():
        value = getattr(settings, key)
        if key in ONLY_IF_CHANGED and value == field.default:
            continue
        if key == "controlnet":
            for number, unit in enumerate(value, 1):
                written |= {f"cn_{number}_{name}": getattr(unit, name) for name in ControlUnit.model_fields}
        elif key == "prompts":
            around = settings.positive_prompts, settings.negative_prompts
            written[key] = {frame: join(text, *around) for frame, text in value.items()}
        else:
            written[key] = value
    return {**written, "sd_model_name": model_name, "sd_model_hash": model_hash, "deforum_git_commit_id": ""}


def dump_settings(written: Mapping[str, Any]) -> str:
    return json.dumps(written, indent=4, ensure_ascii=False)


def fill_placeholders(batch_name: str, settings: Settings, timestring: str) -> str:
    """The folder's name: each `{param}` replaced by its value, at most 50 characters, none that folders can't have."""
    values = {**write_settings(settings), "timestring": timestring}
    known = {key.lower(): value for key, value in values.items()}

    def value(found: re.Match[str]) -> str:
        name = found[1].strip().lower()
        return str(known[name]) if name in known else found[0]

    filled = re.sub(r"\{([^{}]*)\}", value, batch_name)
    safe = re.sub(r'[<>:"/\\|?*\x00-\x1f]', "_", filled).strip()[:50].rstrip(" .")
    return safe.lstrip(".") or timestring


def _modern(found: Mapping[str, Any]) -> dict[str, Any]:
    """The object with today's keys and values in place of those of earlier versions."""
    given: dict[str, Any] = {}
    for key, value in found.items():
        if key == "histogram_matching":
            continue
        if key == "use_zoe_depth":
            given.setdefault("depth_algorithm", "Zoe+AdaBins (old)" if value else "Midas+AdaBins (old)")
            continue
        name = _RENAMED.get(key, key)
        if name != key and name in found:
            continue
        told = _RETOLD.get(name, {})
        if isinstance(value, (str, bool)) and value in told:
            value = told[value]
        if name.startswith("cn_") and name.endswith("_resize_mode") and isinstance(value, str):
            value = _RESIZE_MODES.get(value, value)
        if name == "fill" and isinstance(value, (int, float)) and not isinstance(value, bool):
            value = FILLS[int(value)] if 0 <= value < len(FILLS) else value
        given[name] = value
    return given


def _fitting(group: type[Params], key: str, value: Any) -> Any:
    """The value in the form that the field takes: numbers where a schedule is wanted, JSON where it was written out."""
    field = group.model_fields[key]
    if any(isinstance(mark, Keyed) for mark in field.metadata) and isinstance(value, (int, float)):
        return f"0:({value})"
    if key == "prompts" and isinstance(value, str):
        try:
            return json.loads(value)
        except ValueError as error:
            raise InvalidRequest(f"Prompts (prompts) are no JSON object: {error}.") from error
    if key == "init_images" and isinstance(value, Mapping):
        return json.dumps(value)
    if (field.annotation is str or str in get_args(field.annotation)) and isinstance(value, (int, float)):
        return str(value)
    return value


def _check_choices(settings: Settings) -> None:
    for spec in Settings.specs():
        value = getattr(settings, spec.name, None) if len(spec.path) == 1 else None
        if isinstance(spec.choices, tuple) and value is not None and value not in spec.choices:
            raise InvalidRequest(
                f"{spec.label} ({spec.name}) must be one of {', '.join(spec.choices)}; it is {value!r:.80}."
            )
