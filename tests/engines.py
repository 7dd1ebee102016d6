"""The engine in the test's own process."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.running import EXACT
from webui.core.flags import parse_flags
from webui.pipeline.engine import Engine, build
from webui.services.building import build_services


@contextmanager
def exact_engine(data: Path, checkpoint: str = "tiny") -> Iterator[Engine]:
    """An engine in fp32 on the CPU, over a data folder that has that checkpoint."""
    services = build_services(parse_flags(["--data-dir", str(data), *EXACT], {})[0])
    services.settings.update({"sd_model_checkpoint": checkpoint})
    yield build(services)
    services.checkpoints.close()
