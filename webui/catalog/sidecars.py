"""What lies beside a model file: the user's notes, a description, a preview.

`<stem>.json` is A1111's user metadata: description, notes, and "sd version", "activation text", "preferred weight",
"negative text" (LoRA) or "vae" (checkpoints); keys that we don't know are kept. `<stem>.civitai.info` is the answer
of Civitai's model-version API as Civitai Helper stores it; it is only read. All of it comes from strangers.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from webui.catalog.files import ModelFile
from webui.core.errors import InvalidRequest
from webui.core.files import write_atomic
from webui.core.texts import clean_data

PICTURES = ("png", "jpg", "jpeg", "webp", "gif")
"""Endings of previews in the order in which they are looked for."""

MAX_BYTES = 4 << 20
"""Of a sidecar; a larger one is passed over."""

VERSIONS = ("SD1", "SD2", "SDXL", "Unknown")


@dataclass(frozen=True)
class Sidecar:
    """A file's metadata by its user. preferred_weight: 0 stands for the default. vae: None when none is named.

    sd_version: "" when not told. description, activation_text: the user's, else Civitai's.
    own: the whole of `<stem>.json`.
    """

    description: str = ""
    notes: str = ""
    sd_version: str = ""
    activation_text: str = ""
    negative_text: str = ""
    preferred_weight: float = 0.0
    vae: str | None = None
    own: Mapping[str, Any] = field(default_factory=dict, repr=False)
    civitai: Mapping[str, Any] = field(default_factory=dict, repr=False)


def read_sidecar(file: ModelFile) -> Sidecar:
    """Never raises: what is broken or of the wrong kind counts as not there."""
    own = _json(file, ".json")
    civitai = _json(file, ".civitai.info")
    trained = civitai.get("trainedWords")
    words = ", ".join(word for word in trained if isinstance(word, str)) if isinstance(trained, list) else ""
    weight = own.get("preferred weight")
    vae = _text(own.get("vae"))
    return Sidecar(
        description=_text(own.get("description")) or _description(file) or _text(civitai.get("description")),
        notes=_text(own.get("notes")),
        sd_version=version if (version := _text(own.get("sd version"))) in VERSIONS else "",
        activation_text=_text(own["activation text"]) if "activation text" in own else words,
        negative_text=_text(own.get("negative text")),
        preferred_weight=float(weight) if isinstance(weight, int | float) and abs(weight) <= 100 else 0.0,
        vae=vae or None,
        own=own,
        civitai=civitai,
    )


def write_sidecar(file: ModelFile, changes: Mapping[str, Any]) -> None:
    """Change keys of `<stem>.json`; the others stay as they are.

    Raises: InvalidRequest when the file there is no JSON object (it is not overwritten), OSError.
    """
    path = sidecar_path(file, ".json")
    if path.is_symlink():
        path = path.resolve()
    try:
        content = json.loads(path.read_bytes()) if path.exists() else {}
    except (ValueError, RecursionError):
        content = None
    if not isinstance(content, dict):
        raise InvalidRequest(f"{path.name} is damaged and was not overwritten; move it away to begin anew.")
    text = json.dumps({**content, **changes}, indent=4, ensure_ascii=False)
    write_atomic(path, text.encode("utf-8", "replace"))


def sidecar_path(file: ModelFile, ending: str) -> Path:
    """`<stem><ending>` beside the file. ending: ".json", ".preview.png", ..."""
    return file.path.with_name(file.own_stem + ending)


def preview_path(file: ModelFile, samples_format: str = "png") -> Path | None:
    """The first existing of `<stem>.<ending>` and `<stem>.preview.<ending>`; None when there is none."""
    for ending in dict.fromkeys((*PICTURES, samples_format.lower())):
        for name in (f"{file.own_stem}.{ending}", f"{file.own_stem}.preview.{ending}"):
            if name in file.beside and name != file.path.name:
                return file.path.with_name(name)
    return None


def _description(file: ModelFile) -> str:
    for ending in (".txt", ".description.txt"):
        content = _read(file, ending)
        if content is not None:
            return content.decode("utf-8", "replace").strip()
    return ""


def _json(file: ModelFile, ending: str) -> dict[str, Any]:
    content = _read(file, ending)
    if content is None:
        return {}
    try:
        found = json.loads(content)
    except (ValueError, RecursionError):
        return {}
    return clean_data(found) if isinstance(found, dict) else {}


def _read(file: ModelFile, ending: str) -> bytes | None:
    """The sidecar's content; None when it isn't there, can't be read or is larger than any honest one."""
    if file.own_stem + ending not in file.beside:
        return None
    try:
        with sidecar_path(file, ending).open("rb") as stream:
            content = stream.read(MAX_BYTES + 1)
    except OSError:
        return None
    return content if len(content) <= MAX_BYTES else None


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""
