"""Fixtures that every test may ask for."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest
from playwright.sync_api import Browser, expect

from tests.browsing import SLOW, photograph_all
from tests.running import Server
from tests.tiny import tiny_checkpoint
from tools.chromium import chromium, find_chromium

ROOT = Path(__file__).resolve().parents[1]

# The same examples on every machine, however slow it is.
hypothesis.settings.register_profile(
    "easel", deadline=None, derandomize=True, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("easel")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    """Each story in a browser leaves a picture of its end in the folder that $EASEL_SCREENSHOTS names."""
    try:
        return (yield)
    finally:
        browser = getattr(item, "funcargs", {}).get("browser")
        if browser is not None:
            photograph_all(browser, f"{item.path.stem}.{item.name}")


@pytest.fixture(scope="session")
def parity() -> Path:
    """The folder of recordings of the original program: $EASEL_PARITY, or ../shared/parity beside the repository."""
    folder = Path(os.environ.get("EASEL_PARITY") or ROOT.parent / "shared" / "parity")
    if not (folder / "manifest.json").is_file():
        pytest.skip(f"the recordings are not at {folder}; set EASEL_PARITY to their folder")
    return folder


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A Chromium: $CHROMIUM, or the first one on the path.

    One a module: while Playwright runs, its event loop holds the main thread, where tests that know no browser may
    want one of their own.
    """
    if find_chromium() is None:
        pytest.skip("no Chromium here: install one or name it in $CHROMIUM")
    expect.set_options(timeout=SLOW)
    with chromium() as running:
        yield running


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A running Easel with one tiny checkpoint, for the tests of the page; `.url`, `.data`.

    Its Interrupt ends a job of several pictures at its step, not after the picture in work.
    """
    data = tmp_path_factory.mktemp("easel")
    tiny_checkpoint(data / "models" / "Stable-diffusion")
    (data / "config.json").write_text(json.dumps({"interrupt_after_current": False}))
    running = Server(data)
    running.start()
    yield running
    assert running.stop() == 0
