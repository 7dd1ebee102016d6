"""The recordings of the original program: cases, their payloads with files inlined, and their pictures.

A recorded folder holds manifest.json, images/ and inputs/. The tests that compare and `tests.parity_report` read
it by this module alone.
"""

from __future__ import annotations

import base64
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

TOLERANCE = 2
"""Levels of 255 by which a value may differ, as recorded programs differ among themselves."""
SHARE = 0.99
"""How many of a picture's values must be within the tolerance."""


@dataclass(frozen=True)
class Case:
    """One recorded request. infotexts: of the pictures in order; empty where none was recorded."""

    name: str
    folder: Path
    endpoint: str
    payload: dict[str, Any]
    files: tuple[str, ...]
    infotexts: tuple[str, ...]

    def body(self) -> dict[str, Any]:
        """The payload as it is sent: "@inputs/x.png" replaced by the file in base64."""
        inlined: dict[str, Any] = self._inlined(self.payload)
        return inlined

    def picture(self, index: int) -> Image.Image:
        return Image.open(self.folder / "images" / self.files[index])

    def _inlined(self, value: Any) -> Any:
        if isinstance(value, str) and value.startswith("@"):
            return base64.b64encode((self.folder / value[1:]).read_bytes()).decode()
        if isinstance(value, list):
            return [self._inlined(item) for item in value]
        if isinstance(value, dict):
            return {key: self._inlined(item) for key, item in value.items()}
        return value


@dataclass(frozen=True)
class Difference:
    """maximum, mean: levels of 255 between the pictures. within: share of values that are within TOLERANCE."""

    maximum: int
    mean: float
    within: float

    @property
    def passes(self) -> bool:
        return self.within >= SHARE


def load_cases(folder: Path) -> tuple[Case, ...]:
    """Every case of a recorded folder, in its order. Raises: FileNotFoundError."""
    manifest = json.loads((folder / "manifest.json").read_text("utf-8"))
    return tuple(
        Case(
            name,
            folder,
            case["endpoint"],
            case["payload"],
            tuple(case["files"]),
            tuple(case.get("infotexts") or ()),
        )
        for name, case in manifest.items()
    )


def folders(folder: Path) -> tuple[Path, ...]:
    """The folder and those inside it that hold recordings, too."""
    return tuple(place for place in (folder, folder / "more") if (place / "manifest.json").is_file())


FILES_OF_MODELS = {
    "models": "models/Stable-diffusion",
    "vae": "models/VAE",
    "lora": "models/Lora",
    "hypernetworks": "models/hypernetworks",
    "embeddings": "embeddings",
}
"""Where a folder of recordings keeps what its cases name, and where --data-dir has it."""


def lay_out(folder: Path, data: Path) -> None:
    """Put the models and other files that the cases name into a --data-dir, packed ones restored.

    Raises: FileNotFoundError when neither the folder nor the one above has unpack.py.
    """
    script = next((place / "unpack.py" for place in (folder, folder.parent) if (place / "unpack.py").is_file()), None)
    if script is None:
        raise FileNotFoundError(f"{folder} has no unpack.py, nor has the folder above it")
    unpacked = data / "unpacked"
    subprocess.run([sys.executable, script, unpacked], check=True, capture_output=True)
    for place in (unpacked, *folders(folder)):
        for name, target in FILES_OF_MODELS.items():
            for file in sorted((place / name).glob("*")) if (place / name).is_dir() else ():
                if file.is_file() and file.suffix != ".pack":
                    (data / target).mkdir(parents=True, exist_ok=True)
                    (shutil.move if place == unpacked else shutil.copy)(file, data / target / file.name)
        if (place / "styles.csv").is_file():
            shutil.copy(place / "styles.csv", data)
    shutil.rmtree(unpacked)


def difference(ours: Image.Image, theirs: Image.Image) -> Difference | None:
    """How far two pictures are apart; None when their sizes differ."""
    if ours.size != theirs.size:
        return None
    mode = "RGBA" if "A" in ours.mode + theirs.mode else "RGB"
    a, b = (np.asarray(image.convert(mode), dtype=np.int16) for image in (ours, theirs))
    apart = np.abs(a - b)
    return Difference(int(apart.max()), float(apart.mean()), float((apart <= TOLERANCE).mean()))


def without_version(infotext: str) -> str:
    """The infotext without the field that tells the program's version."""
    return re.sub(r",? ?Version: [^,\n]*", "", infotext).strip()


def same_infotexts(ours: Sequence[str], theirs: Sequence[str]) -> bool:
    """Whether they are equal, versions aside, as far as both were told."""
    return all(without_version(a) == without_version(b) for a, b in zip(ours, theirs, strict=False))
