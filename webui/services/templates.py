"""Templates of what is said of a picture while an embedding or a hypernetwork learns it: text files, a line each.

[name] stands for the embedding, [filewords] for the picture's caption. Users put their own into the folder
textual_inversion_templates; one called like ours is taken in place of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import chain
from pathlib import Path

from webui.core.errors import NotFound, nearest
from webui.core.paths import child

FOLDER = "textual_inversion_templates"
_LOOKS = ("", "good ", "clean ", "dark ", "bright ", "detailed ", "close-up ", "cropped ")


def _lines(*forms: str) -> str:
    return "\n".join(chain.from_iterable((form.replace("{} ", look) for look in _LOOKS) for form in forms))


OURS: Mapping[str, str] = {
    "hypernetwork.txt": _lines("{} picture of [filewords]", "{} photo of [filewords]"),
    "none.txt": "picture",
    "style.txt": _lines("{} picture in the style of [name]", "{} artwork in the style of [name]"),
    "style_filewords.txt": _lines(
        "{} picture of [filewords] in the style of [name]", "[filewords], {} artwork by [name]"
    ),
    "subject.txt": _lines("{} photo of [name]", "{} picture of a [name]"),
    "subject_filewords.txt": _lines("{} photo of [name], [filewords]", "{} picture of a [name], [filewords]"),
}


def template_names(data: Path) -> list[str]:
    """data: the data folder."""
    folder = data / FOLDER
    own = [file.name for file in folder.iterdir() if file.suffix == ".txt"] if folder.is_dir() else []
    return sorted({*OURS, *own})


def template_text(data: Path, name: str) -> str:
    """The lines of a template. Raises: NotFound, Refused for a name that leads elsewhere."""
    if name not in template_names(data):
        raise NotFound(f'There is no prompt template "{name[:200]}"{nearest(name, template_names(data))}.')
    file = child(data / FOLDER, name, must_exist=False) if (data / FOLDER).is_dir() else None
    return file.read_text("utf-8", "replace") if file is not None and file.is_file() else OURS[name]
