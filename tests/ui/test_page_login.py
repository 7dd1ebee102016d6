"""Routes beside Gradio's own ask for the page's login too."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.api.server import serving
from webui.api.application import build_api
from webui.api.guard import Guard
from webui.app import build_services
from webui.core.flags import parse_flags
from webui.ui.page import mount

ROUTES = ("cards?kind=lora", "cards/versions", "cards/details?kind=lora&name=x", "downloads")


@pytest.fixture
def address(tmp_path: Path) -> Iterator[str]:
    services = build_services(parse_flags(["--data-dir", str(tmp_path), "--gradio-auth", "me:secret"], {})[0])
    with serving(Guard(mount(build_api(services), services))) as url:
        yield url
    services.checkpoints.close()


def test_strangers_see_no_cards_and_start_no_downloads(address: str) -> None:
    with httpx.Client(base_url=address, timeout=60) as client:
        for route in ROUTES:
            assert client.get(f"/easel/v1/{route}").status_code == 401
        saved = client.post("/easel/v1/cards/save", json={"kind": "lora", "name": "x", "changes": {}})
        assert saved.status_code == 401
        forged = {f"access-token-{name}": "None" for name in ("", "x", "unsecure-x")}
        header = {"Cookie": "; ".join(f"{name}={value}" for name, value in forged.items())}
        assert client.get("/easel/v1/cards/versions", headers=header).status_code == 401
        assert client.post("/login", data={"username": "me", "password": "wrong"}).status_code == 400
        assert client.get("/easel/v1/cards/versions").status_code == 401
        assert client.post("/login", data={"username": "me", "password": "secret"}).status_code == 200
        assert client.get("/easel/v1/cards/versions").status_code == 200
        assert client.get("/easel/v1/downloads").json() == []
