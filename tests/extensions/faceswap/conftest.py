"""An engine whose models folder has networks that stand in for insightface's; two faces are found in every picture."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.engines import exact_engine
from tests.extensions.faceswap import standins
from tests.extensions.faceswap.standins import Hit
from tests.tiny import tiny_checkpoint
from webui.pipeline.engine import Engine

LEFT, RIGHT = Hit(40, 20, (9, 12)), Hit(40, 60, (7, 9), score=0.8)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    data = tmp_path_factory.mktemp("faceswap")
    tiny_checkpoint(data / "models" / "Stable-diffusion")
    standins.all_of_them(data / "models", (LEFT, RIGHT))
    return data


@pytest.fixture(scope="module")
def engine(data: Path) -> Iterator[Engine]:
    with exact_engine(data) as engine:
        assert engine.host.problems == ()
        yield engine
