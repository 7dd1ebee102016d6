"""What tests of lists of files have in common."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from webui.catalog.checkpoints import Checkpoint
from webui.catalog.files import ModelFile
from webui.catalog.hashes import HashCache


@pytest.fixture
def hashes(tmp_path: Path) -> Iterator[HashCache]:
    with HashCache(tmp_path / "hashes.sqlite") as cache:
        yield cache


def names(catalog: Iterable[ModelFile | Checkpoint]) -> list[str]:
    """Of the files in a catalog, in its order."""
    return [file.name for file in catalog]
