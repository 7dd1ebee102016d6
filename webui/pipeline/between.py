"""Pictures between those of a video, by the engine that somebody chose."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from webui.core.errors import InvalidRequest
from webui.core.extras import FLOW, FRAME_ENGINES, RIFE
from webui.models.manager import ModelManager
from webui.models.rife import load_rife, pictures_between
from webui.video import Between, in_betweens

KIND = "rife"
SUFFIXES = (".safetensors", ".pkl", ".pth", ".pt")
MISSING = (
    f"{RIFE} has no weights here yet: put the file of its authors (flownet.pkl or rife46.pth, about 21 MB, MIT) into "
    "models/RIFE, or choose Optical flow."
)


@contextmanager
def frames_between(engine: str, models: ModelManager, folder: Path) -> Iterator[Between]:
    """What makes the pictures between two others; a network is in memory until the context ends, at least.

    engine: one of `FRAME_ENGINES`. folder: of all models.
    Raises: InvalidRequest for another one, and without the weights; BadModelFile.
    """
    if engine == FLOW:
        yield in_betweens
        return
    if engine not in FRAME_ENGINES:
        raise InvalidRequest(f'Frames between can\'t be made by "{engine}"; choose {" or ".join(FRAME_ENGINES)}.')
    path = rife_file(folder)
    if path is None:
        raise InvalidRequest(MISSING)
    known = path.stat()
    key = (KIND, str(path), known.st_size, known.st_mtime_ns)
    with models.borrow(key, partial(load_rife, path, models.placement.device), known.st_size) as network:
        yield partial(pictures_between, network)


def rife_file(folder: Path) -> Path | None:
    """The first file of weights for RIFE, by name, among all models; None if there is none."""
    found = (path for path in (folder / "RIFE").glob("*") if path.suffix.lower() in SUFFIXES and path.is_file())
    return min(found, default=None)
