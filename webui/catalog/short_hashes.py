"""A list of model files under the names that A1111's extensions give them: "canny [d14c016b]"."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path

from webui.catalog.files import FileCatalog, ModelFile
from webui.catalog.hashes import HashCache
from webui.core.errors import BadModelFile


class HashedCatalog(FileCatalog):
    """A `FileCatalog` whose files have short hashes, and are found by names that end in one.

    The short hash is A1111's old one of 8 digits, which reads 64 KiB of a file once and is remembered.
    """

    def __init__(
        self, roots: Sequence[Path], suffixes: Sequence[str], hashes: HashCache, *, passed_over: Collection[str] = ()
    ):
        super().__init__(roots, suffixes, passed_over=passed_over)
        self._hashes = hashes

    def short_hash(self, file: ModelFile) -> str:
        """The 8 digits. Raises: BadModelFile when it can't be read."""
        return self._hash(file, "legacy") or ""

    def sha256(self, file: ModelFile) -> str | None:
        """Of the whole file, read now unless remembered, seconds for a large one; None with --no-hashing.

        Raises: BadModelFile when it can't be read.
        """
        return self._hash(file, "sha256")

    def title(self, file: ModelFile) -> str:
        """ "stem [hash]", by which `find` knows the file again. Raises: BadModelFile when it can't be read."""
        return f"{file.stem} [{self.short_hash(file)}]"

    def titles(self) -> tuple[str, ...]:
        """Those of all files as the folders are now; of one that can't be read its stem alone."""
        self.poll()
        return tuple(self._shown(file) for file in self.all())

    def get(self, name: str) -> ModelFile | None:
        """As `FileCatalog.get`, and by "stem [hash]": the file of that hash, else the one of that stem."""
        found = super().get(name)
        stem, bracket, digits = name.strip().rpartition(" [")
        if found is not None or not bracket or not digits.endswith("]"):
            return found
        wanted = digits[:-1].lower()
        for file in self.all():
            if file.stem.lower() == stem.lower() and self._shown(file).endswith(f"[{wanted}]"):
                return file
        return super().get(stem)

    def _shown(self, file: ModelFile) -> str:
        try:
            return self.title(file)
        except BadModelFile:
            return file.stem

    def _hash(self, file: ModelFile, kind: str) -> str | None:
        try:
            return self._hashes.compute(file.path, kind)
        except OSError as error:
            raise BadModelFile(f"{file.name} can't be read: {error.strerror or error}.") from error
