"""Presets: the settings of a unit without its pictures, kept under names in one file of the data folder."""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from webui.extensions.api import InvalidRequest, NotFound, NotSaved, atomic_file

from .units import Unit

FILE = "controlnet-presets.json"
KEPT = (
    "module", "model", "weight", "guidance_start", "guidance_end", "processor_res", "threshold_a", "threshold_b",
    "control_mode", "resize_mode", "hr_option", "pixel_perfect", "low_vram", "inpaint_crop_input_image",
    "save_detected_map", "advanced_weighting", "union_control_type", "weight_type", "composition_weight",
)  # fmt: skip
"""The parameters of a unit that a preset holds."""
LONGEST_NAME = 100
MOST = 500


class PresetStore:
    """path: the file, which needn't be there yet. Safe to use from several threads."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()

    def names(self) -> list[str]:
        """In alphabetical order. Raises: NotSaved for a file that can't be read."""
        return sorted(self._read(), key=str.casefold)

    def load(self, name: str) -> dict[str, Any]:
        """The values by parameter, checked. Raises: NotFound; InvalidRequest for one that was damaged."""
        presets = self._read()
        if name not in presets:
            raise NotFound(f'There is no ControlNet preset "{name}" any more; refresh the list.')
        given = presets[name]
        if not isinstance(given, dict):
            raise InvalidRequest(f'The ControlNet preset "{name}" in {self.path.name} is damaged; delete it.')
        unit = Unit.checked(**{key: value for key, value in given.items() if key in KEPT})
        return {key: getattr(unit, key) for key in KEPT}

    def save(self, name: str, unit: Unit) -> str:
        """Under a name, in place of what had it. Returns: the name. Raises: InvalidRequest, NotSaved."""
        name = checked_name(name)
        with self._lock:
            presets = self._read()
            if name not in presets and len(presets) >= MOST:
                raise InvalidRequest(f"There are {MOST} ControlNet presets already; delete one first.")
            self._write({**presets, name: {key: getattr(unit, key) for key in KEPT}})
        return name

    def delete(self, name: str) -> None:
        """Raises: NotFound, NotSaved."""
        with self._lock:
            presets = self._read()
            if presets.pop(name, None) is None:
                raise NotFound(f'There is no ControlNet preset "{name}" any more; refresh the list.')
            self._write(presets)

    def _read(self) -> dict[str, Any]:
        try:
            found = json.loads(self.path.read_text("utf-8"))
        except FileNotFoundError:
            return {}
        except (OSError, ValueError) as error:
            raise NotSaved(f"{self.path} can't be read ({error}); mend it or move it away.") from error
        if not isinstance(found, dict):
            raise NotSaved(f"{self.path} holds no presets; mend it or move it away.")
        return found

    def _write(self, presets: Mapping[str, Any]) -> None:
        try:
            with atomic_file(self.path) as file:
                file.write(json.dumps(presets, indent=2, ensure_ascii=False).encode())
        except OSError as error:
            raise NotSaved(f"{self.path} can't be written: {error.strerror}.") from error


def checked_name(name: str) -> str:
    """The name without spaces around it. Raises: InvalidRequest."""
    name = name.strip()
    if not 0 < len(name) <= LONGEST_NAME or not name.isprintable():
        raise InvalidRequest(f"A preset's name has 1 to {LONGEST_NAME} printable characters.")
    return name
