"""Fixtures that every test may ask for."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def parity() -> Path:
    """The folder of recordings of the original program: $EASEL_PARITY, or ../shared/parity beside the repository."""
    folder = Path(os.environ.get("EASEL_PARITY") or ROOT.parent / "shared" / "parity")
    if not (folder / "manifest.json").is_file():
        pytest.skip(f"the recordings are not at {folder}; set EASEL_PARITY to their folder")
    return folder
