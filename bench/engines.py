"""An engine in the benchmark's own process, without a server."""

from __future__ import annotations

from pathlib import Path

from webui.core.flags import parse_flags
from webui.pipeline.engine import Engine, build
from webui.services.building import build_services
from webui.services.services import Services


def build_engine(folder: Path, *flags: str) -> tuple[Services, Engine]:
    """folder: its data, which is made there. flags: as the command line has them. Files aren't hashed."""
    given, _ = parse_flags(["--data-dir", str(folder), "--no-hashing", *flags], {})
    services = build_services(given)
    return services, build(services)
