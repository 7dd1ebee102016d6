"""Servers with a login (classes 25 and 26)."""

from __future__ import annotations

import time
from collections.abc import Iterator
from statistics import median

import httpx
import pytest

from tests.api.server import serving
from webui.api.guard import Guard
from webui.api.share import PasswordGate, generated_credentials
from webui.app import build_app
from webui.core.flags import parse_flags
from webui.services.building import build_services
from webui.ui.visitors.tables import PUBLIC

LINK = "abc.gradio.live"


@pytest.fixture(scope="module")
def locked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server with a login, which is also reached over a public link with a password of its own."""
    data = tmp_path_factory.mktemp("locked")
    flags, _ = parse_flags(["--data-dir", str(data), "--gradio-auth", "me:secret", "--share"], {})
    services = build_services(flags)
    guard = Guard(build_app(services))
    gate = PasswordGate(guard)
    guard.allow_host(LINK)
    gate.protect(LINK, [("easel", "tunnel")])
    with serving(gate) as url:
        yield url
    services.checkpoints.close()


@pytest.fixture(scope="module")
def event(locked: str) -> int:
    """The number of an event of the page."""
    with httpx.Client(base_url=locked, timeout=60) as client:
        client.post("/login", data={"username": "me", "password": "secret"})
        events = client.get("/config").json()["dependencies"]
    return int(next(row["id"] for row in events if row["backend_fn"] and not row["api_name"]))


def test_a_link_without_credentials_gets_a_password_that_nobody_guesses() -> None:
    made = {generated_credentials()[1] for _ in range(100)}
    assert len(made) == 100
    assert min(map(len, made)) >= 16


@pytest.mark.parametrize(
    "path", ["/", "/sdapi/v1/options", "/gradio_api/heartbeat/a", "/config", "/openapi.json", "/internal/ping",
             "/gradio_api/file=/etc/passwd", "/easel/v1/cards?kind=lora", "/assets/x.js"]
)  # fmt: skip
@pytest.mark.parametrize("host", [LINK, LINK.upper(), LINK + ":443", LINK + "."])
def test_over_the_link_nothing_is_seen_without_its_password(locked: str, path: str, host: str) -> None:
    assert httpx.get(locked + path, headers={"Host": host}, timeout=60).status_code == 401


@pytest.mark.parametrize("path", ["/easel/v1/downloads/look", "/easel/v1/downloads/start", "/sdapi/v1/train/embedding",
                                  "/sdapi/v1/create/hypernetwork", "/easel/v1/training/start",
                                  "/easel/v1/extensions/install"])  # fmt: skip
def test_over_the_link_nothing_is_installed_or_trained(locked: str, path: str) -> None:
    with httpx.Client(base_url=locked, timeout=60) as client:
        client.post("/login", data={"username": "me", "password": "secret"})
        body = {
            "address": "https://huggingface.co/x/y",
            "offer": "offer1",
            "kind": "lora",
            "values": {},
            "job": "task(x)",
            "id": "x",
        }
        answer = client.post(path, json=body, auth=("easel", "tunnel"), headers={"Host": LINK})
        assert answer.status_code in (401, 403, 404, 405, 501), answer.text


@pytest.mark.parametrize(
    "cookie", ["easel-page=x", "access-token-x=None", "access-token-unsecure-x=", "session=admin", "=;;==", "a" * 5000]
)
def test_no_made_up_cookie_is_a_login(locked: str, event: int, cookie: str) -> None:
    for path in ("/easel/v1/cards?kind=lora", "/config", "/gradio_api/info"):
        assert httpx.get(locked + path, headers={"Cookie": cookie}, timeout=60).status_code == 401
    body = {"fn_index": event, "session_hash": "x", "data": [""]}
    answer = httpx.post(locked + "/gradio_api/run/predict", json=body, headers={"Cookie": cookie}, timeout=60)
    assert answer.status_code in (401, 403)


def test_a_visitor_who_has_not_logged_in_does_nothing(locked: str, event: int) -> None:
    with httpx.Client(base_url=locked, timeout=60) as client:
        assert client.get("/").status_code == 200
        body = {"fn_index": event, "session_hash": "y", "data": [""]}
        assert client.post("/gradio_api/run/predict", json=body).status_code == 401
        assert client.post("/gradio_api/queue/join", json=body).status_code == 401
        for name in PUBLIC:
            for route in ("run", "call", "api"):
                assert client.post(f"/gradio_api/{route}/{name}", json={"data": [{}]}).status_code == 401
        assert client.post("/gradio_api/upload", files={"files": ("x", b"x")}).status_code == 401
        assert client.get("/gradio_api/file=/etc/passwd").status_code in (401, 403)


def test_a_wrong_name_takes_as_long_as_a_wrong_password(locked: str) -> None:
    """Coarse, for a busy machine: no slow hash is run for known names only."""
    with httpx.Client(base_url=locked, timeout=60) as client:
        times: dict[str, list[float]] = {"me": [], "nobody": []}
        for _ in range(4):
            for name, spent in times.items():
                begun = time.monotonic()
                assert client.post("/login", data={"username": name, "password": "wrong"}).status_code == 400
                spent.append(time.monotonic() - begun)
        client.post("/login", data={"username": "me", "password": "secret"})
    assert abs(median(times["me"]) - median(times["nobody"])) < 1


@pytest.mark.parametrize("door", ["page", "link", "api"])
def test_guessing_passwords_comes_to_a_pause(locked: str, door: str) -> None:
    with httpx.Client(base_url=locked, timeout=60) as client:
        for number in range(60):
            if door == "page":
                answer = client.post("/login", data={"username": "me", "password": f"guess{number}"})
            elif door == "link":
                answer = client.get("/", auth=("easel", f"guess{number}"), headers={"Host": LINK})
            else:
                answer = client.get("/sdapi/v1/samplers", auth=("me", f"guess{number}"))
            if answer.status_code == 429:
                break
            assert answer.status_code in (400, 401)
    assert answer.status_code == 429
    assert "Try again" in answer.text
