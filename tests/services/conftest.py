"""The parts of a server that isn't started."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from webui.core.flags import parse_flags
from webui.services.building import build_services
from webui.services.services import Services


@pytest.fixture
def services(tmp_path: Path) -> Iterator[Services]:
    (tmp_path / "styles.csv").write_text("name,prompt,negative_prompt\nink,ink drawing of {prompt},photo\n")
    flags, _ = parse_flags(["--data-dir", str(tmp_path), "--no-hashing"], {})
    built = build_services(flags)
    yield built
    built.checkpoints.close()
