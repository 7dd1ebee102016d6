"""The small extensions below tests/fixtures/extensions, one for each seam, and every parameter group there is."""

from __future__ import annotations

from pathlib import Path

from webui.core.params import Params
from webui.core.request import GenerationRequest
from webui.extensions.host import Host
from webui.extensions.loader import load_extensions

ROOT = Path(__file__).resolve().parents[1]
FIXTURES = ROOT / "tests" / "fixtures" / "extensions"


def fixture_host() -> Host:
    """A host with our own extensions and the fixtures."""
    host = load_extensions((ROOT / "extensions", FIXTURES))
    ours = {folder.name for folder in FIXTURES.iterdir()}
    assert [problem for problem in host.problems if problem.name in ours] == []
    return host


def group_named(host: Host, name: str) -> type[Params]:
    return next(group for group in host.params if group.__name__ == name)


def every_group(host: Host) -> tuple[type[Params], ...]:
    """The request itself, and the groups of extensions."""
    return (GenerationRequest, *host.params)
