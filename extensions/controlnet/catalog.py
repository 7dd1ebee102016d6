"""The control models that lie in models/ControlNet and the folders named beside it."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from webui.extensions.api import NotFound

from .preprocessors.registry import CONTROL_TYPES, PREPROCESSORS

SUFFIXES = (".safetensors", ".pth", ".pt", ".ckpt", ".bin")
ALIASES = {
    "InstructP2P": ("ip2p",), "Segmentation": ("seg",), "NormalMap": ("normal",),
    "T2I-Adapter": ("t2i-adapter", "t2i_adapter", "t2iadapter", "t2ia"),
    "IP-Adapter": ("ip_adapter", "ipadapter", "ip-adapter"), "OpenPose": ("openpose", "densepose"),
    "Instant-ID": ("instant_id", "instantid"), "Scribble": ("scribble", "sketch"), "Tile": ("tile", "blur"),
}  # fmt: skip
OF_UNION = {
    "OpenPose", "Depth", "SoftEdge", "Scribble", "Canny", "Lineart", "MLSD", "NormalMap", "Segmentation", "Tile",
    "Inpaint",
}  # fmt: skip


@dataclass(frozen=True)
class ControlModel:
    path: Path
    short_hash: str

    @property
    def name(self) -> str:
        return f"{self.path.stem} [{self.short_hash}]"


def models_in(folders: Iterable[Path]) -> tuple[ControlModel, ...]:
    """All of them by name, each stem once."""
    found: dict[str, ControlModel] = {}
    for folder in folders:
        for file in sorted(_files_below(folder), key=lambda path: path.stem.lower()):
            state = file.stat()
            found.setdefault(file.stem, ControlModel(file, _short_hash(file, state.st_size, state.st_mtime_ns)))
    return tuple(sorted(found.values(), key=lambda model: model.path.stem))


def _files_below(folder: Path) -> Iterable[Path]:
    for parent, _, names in os.walk(folder, followlinks=True):
        if "preprocessors" in Path(parent).relative_to(folder).parts:
            continue  # annotators, not control models
        for name in names:
            path = Path(parent) / name
            if path.suffix.lower() in SUFFIXES and path.is_file():
                yield path


def image_encoders(folders: Iterable[Path]) -> list[Path]:
    """Files that may hold CLIP's image encoder: those that are called so, or whose folder is."""
    return [
        file
        for folder in folders
        for file in sorted(_files_below(folder))
        if any("clip" in part or "image_encoder" in part for part in (folder.name, *_parts_below(file, folder)))
    ]


def _parts_below(file: Path, folder: Path) -> tuple[str, ...]:
    return tuple(part.lower() for part in file.relative_to(folder).parts)


@lru_cache(maxsize=4096)
def _short_hash(path: Path, size: int, changed: int) -> str:
    """A1111's old hash: of the 64 KiB that begin at 1 MiB. size, changed: so that a new file is read anew."""
    with path.open("rb") as file:
        file.seek(0x100000)
        return hashlib.sha256(file.read(0x10000)).hexdigest()[:8]


def find_model(name: str, models: Iterable[ControlModel]) -> ControlModel:
    """By `stem [hash]`, its stem, or its file's name. Raises: NotFound naming what there is."""
    models = tuple(models)
    wanted = name.strip()
    for model in models:
        if wanted in (model.name, model.path.stem, model.path.name):
            return model
    bare = wanted.partition(" [")[0].lower()
    for model in models:
        if model.path.stem.lower() == bare:
            return model
    known = ", ".join(model.path.stem for model in models[:5]) or "none"
    raise NotFound(f'ControlNet has no model called "{name}"; in models/ControlNet there are: {known}.')


def control_types(models: Iterable[ControlModel]) -> dict[str, dict[str, object]]:
    """What the page offers for each control type: preprocessors and models by name, and what is chosen at first."""
    names = [model.name for model in models]
    found: dict[str, dict[str, object]] = {
        "All": {
            "module_list": [item.label for item in PREPROCESSORS],
            "model_list": ["None", *names],
            "default_option": "none",
            "default_model": "None",
        }
    }
    for kind in CONTROL_TYPES:
        offered = [item for item in PREPROCESSORS if kind in item.types]
        words = (kind.lower(), *ALIASES.get(kind, ()))
        fitting = [
            name
            for name in names
            if any(word in name.lower() for word in words) or (kind in OF_UNION and "union" in name.lower())
        ]
        default = next((item for item in offered if item.is_default), offered[min(1, len(offered) - 1)])
        found[kind] = {
            "module_list": [item.label for item in offered],
            "model_list": ["None", *fitting],
            "default_option": default.label,
            "default_model": next((name for name in fitting if "11" in name), fitting[0] if fitting else "None"),
        }
    return found
