"""Checkpoints for the tests of this folder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from tests.tiny import tiny_checkpoint
from webui.catalog.checkpoints import Checkpoint
from webui.models.devices import placement_on_cpu
from webui.models.families.base import LoadedModel
from webui.models.registry import open_checkpoint


@pytest.fixture(autouse=True)
def _the_same_numbers() -> None:
    """What a test draws doesn't depend on which ones ran before."""
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_checkpoint(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="session")
def described() -> Callable[[Path], Checkpoint]:
    """A file as the catalog would describe it."""

    def describe(path: Path) -> Checkpoint:
        stat, config = path.stat(), path.with_suffix(".yaml")
        return Checkpoint(path, path.name, stat.st_size, stat.st_mtime_ns, config=config if config.exists() else None)

    return describe


@pytest.fixture(scope="session")
def model(tiny: Path, described: Callable[[Path], Checkpoint]) -> LoadedModel:
    """The tiny checkpoint in fp32; tests don't change it."""
    return open_checkpoint(described(tiny)).load(placement_on_cpu(torch.float32))
