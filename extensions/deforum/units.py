"""ControlNet units: a picture for each frame that steers what is painted, from a video, a file, or the frame before."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from webui.extensions.api import InvalidRequest

from .animation import Animation
from .frames import control_name
from .materials import as_array, as_png, local_path, open_image
from .settings import ControlUnit, Settings
from .video import extract_frames

GROUP = "ControlNet"
"""The parameters that ControlNet reads out of a request."""
COUNT = "control_net_unit_count"
"""Its setting of how many units a request may have."""
PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".bmp")


class Units:
    """The units that are on, with their pictures laid out in the animation's folder."""

    def __init__(self, group: Any, animation: Animation, folder: Path) -> None:
        """group: the class of ControlNet's parameters, None without it. Raises: InvalidRequest."""
        self.group, self.animation, self.folder = group, animation, folder
        self.enabled = {number: unit for number, unit in enumerate(animation.settings.controlnet, 1) if unit.enabled}
        if self.enabled and group is None:
            raise InvalidRequest(
                "The extension ControlNet is off, so its units can't be used; enable it, or turn them off."
            )
        for number, unit in self.enabled.items():
            for place, kind in ((unit.vid_path, "input"), (unit.mask_vid_path, "mask")):
                if place.strip() and not (kind == "input" and unit.loopback_mode):
                    _lay_out(place, self._folder(number, kind), unit, animation, f"ControlNet model {number}")

    def extensions(self, frame: int, init: Any) -> dict[str, Any]:
        """What a request is given for a frame; units without a picture for it are left out.

        init: the picture that the frame is painted from, (H, W, 3) uint8 BGR, None for none.
        """
        found = (self._asked(number, unit, frame, init) for number, unit in self.enabled.items())
        asked = [values for values in found if values is not None]
        if not asked or self.group is None:
            return {}
        unit = type(self.group().units[0])
        units = tuple(unit.as_given(**unit.from_api(values)) for values in asked)
        return {GROUP: self.group.as_given(units=units)}

    def _asked(self, number: int, unit: ControlUnit, frame: int, init: Any) -> Mapping[str, Any] | None:
        if unit.loopback_mode:
            picture = init
        else:
            picture = self._picture(number, "input", frame)
        if picture is None:
            return None
        mask = self._picture(number, "mask", frame)

        def value(name: str, most: float) -> float:
            return min(max(self.animation.value(f"cn_{number}_{name}", frame), 0.0), most)

        begin = value("guidance_start", 1)
        return {
            "enabled": True,
            "low_vram": unit.low_vram,
            "pixel_perfect": unit.pixel_perfect,
            "module": unit.module,
            "model": unit.model,
            "weight": value("weight", 2),
            "guidance_start": begin,
            "guidance_end": max(begin, value("guidance_end", 1)),
            "processor_res": unit.processor_res,
            "threshold_a": unit.threshold_a,
            "threshold_b": unit.threshold_b,
            "resize_mode": unit.resize_mode,
            "control_mode": unit.control_mode,
            "image": as_png(picture),
            **({} if mask is None else {"mask": as_png(mask)}),
        }

    def _picture(self, number: int, kind: str, frame: int) -> Any:
        """(H, W, 3) BGR of a frame; a single picture in the folder stands for all frames."""
        folder = self._folder(number, kind)
        there = sorted(folder.glob("[0-9]*.jpg")) if folder.is_dir() else []
        path = there[0] if len(there) == 1 else folder / control_name(frame)
        if not path.is_file():
            return None
        image = open_image(path, f"ControlNet model {number}")
        return as_array(image, image.size)

    def _folder(self, number: int, kind: str) -> Path:
        return self.folder / f"controlnet_{number}_{kind}frames"


def _lay_out(place: str, folder: Path, unit: ControlUnit, animation: Animation, what: str) -> None:
    settings: Settings = animation.settings
    path = local_path(place, f"{what}, input video or picture")
    if path.suffix.lower() in PICTURES:
        folder.mkdir(parents=True, exist_ok=True)
        if unit.overwrite_frames or not (folder / control_name(0)).is_file():
            for old in folder.glob("[0-9]*.jpg"):
                old.unlink()
            open_image(path, what).convert("RGB").save(folder / control_name(0), quality=100, subsampling=0)
        return
    whole = settings.animation_mode != "Video Input"
    extract_frames(
        path,
        folder,
        1 if whole else settings.extract_nth_frame,
        0 if whole else settings.extract_from_frame,
        animation.frames - 1 if whole else settings.extract_to_frame,
        unit.overwrite_frames,
        stem="",
    )
