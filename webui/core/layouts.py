"""Where other programs keep their models, so that they can be used without being copied.

A root is the folder of an A1111 or ComfyUI install, or of its models. Standard library only.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import MappingProxyType

PLACES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "checkpoints": ("Stable-diffusion", "checkpoints"),
        "vae": ("VAE", "vae"),
        "lora": ("Lora", "LyCORIS", "loras"),
        "hypernetworks": ("hypernetworks",),
        "embeddings": ("embeddings",),
        "upscalers": ("ESRGAN", "RealESRGAN", "upscale_models"),
        "controlnet": ("ControlNet", "controlnet"),
    }
)
"""Kind -> names of its folders in A1111 (first) and ComfyUI."""


def kind_of(folder: str) -> str:
    """The kind whose models lie in folders of this name; a folder of another name is a kind of its own."""
    return next((kind for kind, names in PLACES.items() if folder in names), folder)


def folders_of(roots: Iterable[str | Path], kind: str) -> tuple[Path, ...]:
    """The existing folders with models of one kind below some roots, each once.

    roots: folders, or "kind=folder" for a folder that holds nothing but models of that kind.
    kind: one of PLACES, or the name of a folder.
    """
    found: dict[tuple[int, int] | str, Path] = {}
    for root in roots:
        named, equals, path = str(root).partition("=")
        if equals and named in PLACES:
            candidates = [Path(path)] if named == kind else []
        else:
            candidates = [Path(root) / inner / name for name in PLACES.get(kind, (kind,)) for inner in ("models", "")]
        for folder in candidates:
            try:
                stat = folder.stat()
            except OSError:
                continue
            if folder.is_dir():
                same = (stat.st_dev, stat.st_ino) if stat.st_ino else os.path.normcase(os.path.realpath(folder))
                found.setdefault(same, Path(os.path.abspath(folder)))
    return tuple(found.values())


def listed_folders(file: Path) -> tuple[str, ...]:
    """The lines of model-folders.txt: a root or "kind=folder" each, without comments (#). () without the file."""
    try:
        text = file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError):
        return ()
    lines = (line.strip() for line in text.splitlines())
    return tuple(dict.fromkeys(line for line in lines if line and not line.startswith("#")))


def is_install(folder: Path) -> bool:
    """Whether a folder looks like the install of A1111 or a fork, by what it holds."""
    marks = ("config.json", "ui-config.json", "styles.csv", "webui-user.sh", "webui-user.bat", "models")
    return any((folder / mark).exists() for mark in marks)
