"""Which networks restore faces here: A1111's two by name, whether or not their files are there."""

from __future__ import annotations

from pathlib import Path

from webui.catalog.files import FileCatalog
from webui.core.choices import FaceRestorer
from webui.core.packaged import FACE_DETECTOR

SUFFIXES = (".pth", ".pt", ".safetensors")
FUNCTION = "webui.pipeline.faces:by_network"
CODEFORMER, GFPGAN = "CodeFormer", "GFPGAN"
OTHERS = ("detection_", "parsing_")
"""What facexlib's files begin with, which A1111 keeps in the same folder."""

_ADDRESSES = {
    CODEFORMER: "https://github.com/sczhou/CodeFormer/releases/download/v0.1.0/codeformer.pth, for non-commercial use",
    GFPGAN: "https://github.com/TencentARC/GFPGAN/releases/download/v1.3.0/GFPGANv1.4.pth, Apache-2.0",
}
_FOLDERS = {CODEFORMER: "Codeformer", GFPGAN: "GFPGAN"}


class FaceRestorerCatalog:
    """The face restorers. models: the folder of models. Safe to use from several threads."""

    def __init__(self, models: Path):
        self.models = models
        self._files = {
            name: FileCatalog([models / folder], SUFFIXES, wanted=_is_restorer) for name, folder in _FOLDERS.items()
        }

    def all(self) -> tuple[FaceRestorer, ...]:
        """As A1111 lists them; the newest file of each counts, by name."""
        return tuple(self._restorer(name) for name in _FOLDERS)

    def _restorer(self, name: str) -> FaceRestorer:
        catalog = self._files[name]
        catalog.poll()
        files = catalog.all()
        detector = tuple(weights.path(self.models) for weights in FACE_DETECTOR)
        return FaceRestorer(
            name, FUNCTION, files[-1].path if files else None, detector, self._missing(name, bool(files))
        )

    def _missing(self, name: str, is_here: bool) -> str:
        if not is_here:
            return (
                f"{name} has no file here: put {_ADDRESSES[name].partition(',')[0].rpartition('/')[2]} "
                f"({_ADDRESSES[name]}) into the folder models/{_FOLDERS[name]}."
            )
        if any(not weights.path(self.models).exists() for weights in FACE_DETECTOR):
            return (
                "The networks that find faces aren't here yet: fetch them on the Extras tab "
                f"({FACE_DETECTOR[0].package.summary})."
            )
        return ""


def _is_restorer(name: str) -> bool:
    return not name.lower().startswith(OTHERS)
