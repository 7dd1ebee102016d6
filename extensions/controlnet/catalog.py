"""The control models that lie in models/ControlNet and the folders named beside it, and the one that ships."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from webui.extensions.api import Easel, HashedCatalog, NotFound

from .preprocessors.registry import CONTROL_TYPES, PREPROCESSORS

SUFFIXES = (".safetensors", ".pth", ".pt", ".ckpt", ".bin")
ANNOTATORS = ("preprocessors", "annotators")
"""Folders beside the models whose files are networks of preprocessors."""
OF_SHIPPED = "easel-emoji"
"""How the names of models begin that serve the checkpoint that ships, and no other."""
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


def catalogs_of(easel: Easel) -> tuple[HashedCatalog, ...]:
    """Of the folders named ControlNet, of the one that the settings name beside them, and of what ships."""
    extra = str(easel.settings.snapshot()["control_net_models_path"])
    folders = ["ControlNet", *([os.path.abspath(extra)] if extra else [])]
    shipped = easel.paths.code / "models" / "ControlNet"
    if shipped != easel.paths.models / "ControlNet":
        folders.append(str(shipped))
    return tuple(easel.catalog(folder, SUFFIXES, passed_over=ANNOTATORS) for folder in folders)


def refresh(easel: Easel) -> None:
    """Look at the folders again, as a button or a client asks."""
    for catalog in catalogs_of(easel):
        catalog.refresh()


def model_names(easel: Easel) -> tuple[str, ...]:
    """Those offered beside the checkpoint in use as "stem [hash]", each stem once, by name."""
    found: dict[str, str] = {}
    for catalog in catalogs_of(easel):
        for title in catalog.titles():
            found.setdefault(title.rpartition(" [")[0] or title, title)
    has_shipped = _uses_shipped_checkpoint(easel)
    return tuple(found[stem] for stem in sorted(found) if has_shipped or not stem.startswith(OF_SHIPPED))


def _uses_shipped_checkpoint(easel: Easel) -> bool:
    try:
        return easel.catalogs.checkpoints.default(easel.settings.snapshot()["sd_model_checkpoint"] or "").embedded
    except NotFound:
        return False


def image_encoders(easel: Easel) -> list[Path]:
    """Files that may hold CLIP's image encoder: those that are called so, or whose folder is."""
    catalogs = (*catalogs_of(easel), easel.catalog("clip_vision", SUFFIXES))
    found = []
    for catalog in catalogs:
        catalog.poll()
        found += [file.path for file in catalog.all() if any(_names_encoder(part) for part in file.path.parts[-3:])]
    return found


def _names_encoder(part: str) -> bool:
    return "clip" in part.lower() or "image_encoder" in part.lower()


def find_model(name: str, easel: Easel) -> Path:
    """By "stem [hash]", its stem, or its file's name. Raises: NotFound naming what there is."""
    for catalog in catalogs_of(easel):
        catalog.poll()
        file = catalog.get(name)
        if file is not None:
            return file.path
    known = ", ".join(title.rpartition(" [")[0] for title in model_names(easel)[:5]) or "none"
    raise NotFound(f'ControlNet has no model called "{name}"; in models/ControlNet there are: {known}.')


def control_types(names: Iterable[str]) -> dict[str, dict[str, object]]:
    """What the page offers for each control type: preprocessors and models by name, and what is chosen at first."""
    names = list(names)
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
            "default_model": _default_of(fitting),
        }
    return found


def _default_of(names: Sequence[str]) -> str:
    """What is chosen at first: the model made for the checkpoint in use, else one of ControlNet 1.1, else the first."""
    made_for_it = next((name for name in names if name.startswith(OF_SHIPPED)), None)
    return made_for_it or next((name for name in names if "11" in name), names[0] if names else "None")
