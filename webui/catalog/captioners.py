"""What describes pictures here: A1111's two by name, whether or not their files are there, and all taggers in folders.

No file is opened.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from webui.core.choices import Captioner
from webui.core.packaged import BLIP, CLIP, DEEPBOORU

CAPTIONER = "captioner"
"""What the keys begin with that captioners are borrowed under."""
_DESCRIBING = "webui.pipeline.describing:"
WEIGHTS = ("model.safetensors", "pytorch_model.bin")
VOCABULARIES = ("tokenizer.json", "vocab.txt")
TAGGERS = "wd-tagger"


class CaptionerCatalog:
    """The folders are looked at whenever the list is asked for.

    models: the folder of models. categories: of the text files whose lines CLIP chooses from.
    """

    def __init__(self, models: Path, categories: Path) -> None:
        self._models = models
        self._categories = categories

    def all(self) -> tuple[Captioner, ...]:
        """A1111's, then the taggers by the names of their folders."""
        return (self._blip(), self._deepbooru(), *sorted(self._taggers(), key=lambda tagger: tagger.name.lower()))

    def _blip(self) -> Captioner:
        blip = _network(self._models / BLIP.folder)
        clip = _network(self._models / CLIP.folder)
        files = {key: folder for key, folder in (("BLIP", blip), ("CLIP", clip)) if folder is not None}
        files["categories"] = self._categories
        missing = "" if blip is not None else BLIP.missing
        return Captioner("BLIP", _DESCRIBING + "by_blip", ("clip",), files, missing, _DESCRIBING + "many_by_blip")

    def _deepbooru(self) -> Captioner:
        found = _files(self._models / DEEPBOORU.folder, (".pt", ".pth", ".safetensors"))
        files = {"network": found[0]} if found else {}
        return Captioner(
            "Deepbooru", _DESCRIBING + "by_deepbooru", ("deepdanbooru",), files, "" if found else DEEPBOORU.missing
        )

    def _taggers(self) -> Iterator[Captioner]:
        root = self._models / TAGGERS
        for folder in (root, *_folders(root)):
            networks, lists = _files(folder, (".onnx",)), _files(folder, (".csv",))
            if not networks:
                continue
            name = folder.name if folder != root else networks[0].stem
            files = {"network": networks[0], **({"tags": lists[0]} if lists else {})}
            missing = (
                "" if lists else f"{name} lacks its list of tags: put selected_tags.csv beside {networks[0].name}."
            )
            yield Captioner(name, _DESCRIBING + "by_tagger", (), files, missing)


def categories_in(folder: Path) -> tuple[Path, ...]:
    """The text files whose lines CLIP chooses from, by name."""
    return tuple(_files(folder, (".txt",)))


def _network(root: Path) -> Path | None:
    """A folder in the layout of transformers: the one itself, or the first below it."""
    for folder in (root, *_folders(root)):
        parts = ((name for name in names if (folder / name).is_file()) for names in (WEIGHTS, VOCABULARIES))
        if (folder / "config.json").is_file() and all(next(part, None) for part in parts):
            return folder
    return None


def _folders(root: Path) -> list[Path]:
    try:
        return sorted(entry for entry in root.iterdir() if entry.is_dir())
    except OSError:
        return []


def _files(folder: Path, suffixes: tuple[str, ...]) -> list[Path]:
    try:
        return sorted(entry for entry in folder.iterdir() if entry.suffix.lower() in suffixes and entry.is_file())
    except OSError:
        return []
