"""The motion modules that lie in models/AnimateDiff and the folder named beside it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from webui.extensions.api import HashedCatalog, ModelFile, NotFound

from .parameters import DEFAULT_MODEL

SUFFIXES = (".safetensors", ".ckpt", ".pth", ".pt", ".bin")


class MotionCatalog:
    """easel: the parts of the program."""

    def __init__(self, easel: Any) -> None:
        self._easel = easel
        self._own = easel.catalog("AnimateDiff", SUFFIXES)
        self._sparse = easel.catalog("ControlNet", SUFFIXES)
        self._further: dict[Path, HashedCatalog] = {}

    @property
    def _catalogs(self) -> list[HashedCatalog]:
        named = str(self._easel.settings.snapshot()["animatediff_model_path"]).strip()
        if not named:
            return [self._own]
        folder = self._easel.paths.data / named
        if folder not in self._further:
            self._further[folder] = self._easel.catalog(folder, SUFFIXES)
        return [self._further[folder], self._own]

    def names(self) -> list[str]:
        """Names of the files, as they are now."""
        for catalog in self._catalogs:
            catalog.poll()
        return list(dict.fromkeys(file.name for catalog in self._catalogs for file in catalog.all()))

    def first(self) -> str:
        """What is chosen at first."""
        names = self.names()
        return DEFAULT_MODEL if DEFAULT_MODEL in names or not names else names[0]

    def find(self, name: str) -> ModelFile:
        """By its name, with or without the ending. Raises: NotFound naming what there is."""
        for catalog in self._catalogs:
            found = catalog.get(name)
            if found is None and catalog.poll(at_most_every=0):
                found = catalog.get(name)
            if found is not None:
                return found
        names = self.names()
        known = f"there are: {', '.join(names[:5])}" if names else "there is none; put one there"
        raise NotFound(f'There is no motion module "{name}" in models/AnimateDiff; {known}.')

    def sparse_names(self) -> list[str]:
        """Names of the files that may be SparseCtrl's: those in models/ControlNet and ours that say so."""
        self._sparse.poll()
        names = [file.name for file in self._sparse.all()] + self.names()
        return list(dict.fromkeys(name for name in names if "sparse" in name.lower()))

    def find_sparse(self, name: str) -> ModelFile:
        """Raises: NotFound naming what there is."""
        found = self._sparse.get(name)
        if found is None and self._sparse.poll(at_most_every=0):
            found = self._sparse.get(name)
        if found is not None:
            return found
        try:
            return self.find(name)
        except NotFound:
            known = ", ".join(self.sparse_names()[:5]) or "none"
            raise NotFound(f'There is no SparseCtrl model "{name}"; in models/ControlNet there are: {known}.') from None

    def digits(self, file: Path) -> str | None:
        """The first 8 digits of its SHA-256; None with --no-hashing."""
        for catalog in self._catalogs:
            for candidate in catalog.all():
                if candidate.path == file:
                    digest = catalog.sha256(candidate)
                    return digest[:8] if digest else None
        return None
