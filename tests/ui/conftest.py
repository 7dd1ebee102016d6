"""The page of the shared server, opened in a browser."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from playwright.sync_api import Browser

from tests.browsing import Visit


@pytest.fixture
def visit(browser: Browser, server: Any) -> Iterator[Visit]:
    """The page, opened."""
    visitor = Visit(browser, server.url)
    visitor.open()
    yield visitor
    visitor.context.close()
    httpx.post(f"{server.url}/sdapi/v1/interrupt", timeout=60)  # what a failed test left running
