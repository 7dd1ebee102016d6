"""Routes beside Gradio's own ask for the page's login too."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.api.server import serving
from webui.api.application import build_api
from webui.api.guard import Guard
from webui.core.flags import parse_flags
from webui.services.building import build_services
from webui.services.logins import OF_AN_ADDRESS
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


def cookies_of(answer: httpx.Response) -> list[str]:
    return [value.lower() for name, value in answer.headers.multi_items() if name == "set-cookie"]


def log_in(client: httpx.Client, user: str = "me", password: str = "secret", **more: Any) -> httpx.Response:
    return client.post("/login", data={"username": user, "password": password}, **more)


@pytest.mark.parametrize("headers", [{}, {"X-Forwarded-Proto": "https"}])
def test_the_cookies_of_a_login_are_for_this_site_alone(address: str, headers: dict[str, str]) -> None:
    with httpx.Client(base_url=address, timeout=60) as client:
        cookies = cookies_of(log_in(client, headers=headers))
        assert len(cookies) == 2
        for cookie in cookies:
            assert "httponly" in cookie
            assert "samesite=lax" in cookie
            assert ("; secure" in cookie) == bool(headers)


def test_a_login_is_a_new_session_and_ends_the_old_one(address: str) -> None:
    with httpx.Client(base_url=address, timeout=60) as client:
        before = client.get("/").cookies
        log_in(client)
        first = dict(client.cookies)
        log_in(client)
        assert all(dict(client.cookies)[name] != value for name, value in first.items())
        assert all(dict(client.cookies).get(name) != value for name, value in before.items())
        assert client.get("/easel/v1/cards/versions").status_code == 200
    header = {"Cookie": "; ".join(f"{name}={value}" for name, value in first.items())}
    assert httpx.get(f"{address}/easel/v1/cards/versions", headers=header).status_code == 401


def test_after_wrong_passwords_even_the_right_one_has_to_wait(address: str) -> None:
    with httpx.Client(base_url=address, timeout=60) as client:
        for number in range(40):  # on a slow machine the first short pauses pass by themselves
            answer = log_in(client, password=f"wrong{number}")
            if answer.status_code != 400:
                break
        assert number >= OF_AN_ADDRESS
        assert answer.status_code == 429
        assert "Try again in" in answer.text
        for _ in range(3):
            log_in(client, password="wrong")  # the pauses grow
        assert log_in(client).status_code == 429


def event_of_interrupt(address: str) -> int:
    """The number of the event that txt2img's Interrupt begins, from the page's description."""
    with httpx.Client(base_url=address, timeout=60) as client:
        log_in(client)
        page = client.get("/config").json()
    button = next(part["id"] for part in page["components"] if part["props"].get("elem_id") == "txt2img_interrupt")
    events = (event for event in page["dependencies"] if event["backend_fn"])
    return next(event["id"] for event in events if [button, "click"] in [list(target) for target in event["targets"]])


def test_events_and_uploads_ask_for_the_login(address: str) -> None:
    number = event_of_interrupt(address)
    with httpx.Client(base_url=address, timeout=60) as client:
        assert client.get("/").status_code == 200  # the form to log in with
        for session in ("before", "after"):
            body = {"fn_index": number, "session_hash": session, "data": [""]}
            asked = (
                client.post("/gradio_api/run/predict", json=body),
                client.post("/gradio_api/queue/join", json=body),
                client.post("/gradio_api/upload", files={"files": ("x.png", b"x")}),
            )
            if "me" in client.get("/gradio_api/user").text:
                break
            assert [answer.status_code for answer in asked] == [401] * 3
            log_in(client)
        assert [answer.status_code for answer in asked] == [200] * 3
