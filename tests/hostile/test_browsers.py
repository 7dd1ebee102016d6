"""What other web sites make a browser do (classes 1 to 7 and 28), and websites under the server's address."""

from __future__ import annotations

import asyncio
import base64
import json
import socket
from contextlib import ExitStack
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from tests.hostile.conftest import Target

ELSEWHERE: list[dict[str, str]] = [
    {"Origin": "https://evil.example"},
    {"Origin": "http://127.0.0.1.evil.example"},
    {"Origin": "http://localhost:1"},
    {"Origin": "null"},
    {"Origin": "file://"},
    {"Origin": "chrome-extension://abcdef"},
    {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"},
    {"Sec-Fetch-Site": "same-site", "Sec-Fetch-Mode": "cors"},
    {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "iframe"},
]
WRITES = ["/sdapi/v1/interrupt", "/sdapi/v1/skip", "/sdapi/v1/unload-checkpoint", "/sdapi/v1/reload-checkpoint",
          "/sdapi/v1/refresh-checkpoints", "/sdapi/v1/refresh-vae", "/sdapi/v1/options", "/sdapi/v1/txt2img",
          "/sdapi/v1/server-kill", "/sdapi/v1/server-restart", "/internal/progress", "/login",
          "/easel/v1/downloads/start", "/easel/v1/cards/save", "/easel/v1/extensions/install", "/gradio_api/upload",
          "/gradio_api/queue/join", "/gradio_api/run/predict", "/gradio_api/cancel", "/nothing"]  # fmt: skip


@pytest.mark.parametrize("path", WRITES)
def test_another_site_writes_nothing(target: Target, path: str) -> None:
    for headers in ELSEWHERE:
        for body in ({}, {"files": {"files": ("a.png", b"x")}}, {"data": {"a": "b"}}, {"json": {}}):
            assert target.client.post(path, headers=headers, **body).status_code == 403, (headers, body)


@pytest.mark.parametrize("method", ["PUT", "PATCH", "DELETE"])
def test_no_other_method_goes_round(target: Target, method: str) -> None:
    for path in ("/sdapi/v1/options", "/gradio_api/upload", "/"):
        assert target.client.request(method, path, headers=ELSEWHERE[0]).status_code == 403


@pytest.mark.parametrize("path", ["/sdapi/v1/server-kill", "/sdapi/v1/server-stop", "/sdapi/v1/server-restart"])
def test_nobody_stops_the_server(target: Target, path: str) -> None:
    for method in ("GET", "POST"):
        assert target.client.request(method, path).status_code in (404, 405)
    target.is_well()


@pytest.mark.parametrize(
    "host",
    ["evil.example", "169.254.169.254", "127.0.0.1.nip.io", "localhost.evil.example:7860", "10.0.0.1", "a b", ""],
)
@pytest.mark.parametrize(
    "path", ["/", "/sdapi/v1/options", "/gradio_api/queue/data?session_hash=a", "/gradio_api/heartbeat/a",
             "/assets/x.js", "/easel-assets/x", "/gradio_api/file=/etc/passwd", "/openapi.json", "/docs"]
)  # fmt: skip
def test_a_name_that_is_not_the_servers_gets_nothing(target: Target, host: str, path: str) -> None:
    answer = target.client.get(path, headers={"Host": host})
    assert answer.status_code in (400, 421)
    assert len(answer.content) < 1000


@pytest.mark.parametrize("path", ["/gradio_api/queue/data?session_hash=a", "/gradio_api/heartbeat/a",
                                  "/gradio_api/upload_progress?upload_id=a"])  # fmt: skip
def test_no_event_stream_opens_for_another_site(target: Target, path: str) -> None:
    for headers in ELSEWHERE:
        assert target.client.get(path, headers=headers).status_code == 403


@pytest.mark.parametrize("path", ["/", "/queue/join", "/gradio_api/queue/join", "/ws", "/sdapi/v1/progress"])
@pytest.mark.parametrize("more", ["Origin: https://evil.example\r\n", "Origin: null\r\n", ""])
def test_no_websocket_opens(target: Target, path: str, more: str) -> None:
    with handshake(target, path, more) as connection:
        assert b" 101 " not in connection.makefile("rb").readline()


def handshake(target: Target, path: str, more: str = "") -> socket.socket:
    """A connection that has asked to become a websocket."""
    parts = urlsplit(target.url)
    key = base64.b64encode(b"0" * 16).decode()
    request = (
        f"GET {path} HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n{more}"
        f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n\r\n"
    )
    connection = socket.create_connection((parts.hostname, parts.port), 30)
    connection.sendall(request.encode())
    return connection


def test_hundreds_of_idle_websockets_keep_nobody_out(target: Target) -> None:
    before = target.memory
    with ExitStack() as opened:
        idle = [opened.enter_context(handshake(target, "/gradio_api/queue/join")) for _ in range(400)]
        target.is_well()
        assert all(b" 101 " not in connection.recv(100) for connection in idle)
        assert target.memory - before < 100 * 2**20


@pytest.fixture(scope="module")
def event(target: Target) -> int:
    """The number of an event of the page."""
    events = target.client.get("/config").json()["dependencies"]
    return int(next(row["id"] for row in events if row["backend_fn"] and not row["api_name"]))


@pytest.mark.parametrize("kind", ["text/plain", "text/plain;application/json", "application/x-www-form-urlencoded",
                                  "multipart/form-data; boundary=x", "application/xml", "json", ""])  # fmt: skip
@pytest.mark.parametrize(
    "path", ["/sdapi/v1/options", "/sdapi/v1/txt2img", "/internal/progress", "/gradio_api/queue/join",
             "/gradio_api/run/predict", "/gradio_api/cancel"]
)  # fmt: skip
def test_json_is_json_only_when_it_says_so(target: Target, event: int, kind: str, path: str) -> None:
    before = target.client.get("/sdapi/v1/options").json()["samples_format"]
    headers = {"Content-Type": kind} if kind else {}
    body = {"samples_format": "jpg", "fn_index": event, "session_hash": "a", "data": [], "event_id": "a"}
    answer = target.client.post(path, content=json.dumps(body), headers=headers)
    assert answer.status_code in (403, 415, 422)
    assert target.client.get("/sdapi/v1/options").json()["samples_format"] == before


@pytest.mark.parametrize(
    "path", ["/", "/docs", "/sdapi/v1/options", "/nothing", "/gradio_api/file=/etc/passwd", "/config"]
)
def test_no_other_site_shows_the_server_in_a_frame(target: Target, path: str) -> None:
    headers = target.client.get(path).headers
    assert "frame-ancestors 'self'" in headers["content-security-policy"]
    assert headers["x-frame-options"] == "SAMEORIGIN"


def test_many_refused_requests_fill_no_log(target: Target) -> None:
    before = len(target.server.log)
    for _ in range(200):
        target.client.post("/sdapi/v1/interrupt", headers={"Origin": "https://often.example"})
    assert len(target.server.log) - before < 2000


async def _flood(base: str, count: int, **request: Any) -> list[int]:
    limits = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(base_url=base, timeout=120, limits=limits) as client:
        answers = await asyncio.gather(*(client.request(**request) for _ in range(count)))
    return [answer.status_code for answer in answers]


def test_cross_site_uploads_in_a_loop_leave_nothing(target: Target) -> None:
    headers = {"Origin": "https://evil.example"}
    files = {"files": ("a.bin", b"x" * 100_000)}
    statuses = asyncio.run(
        _flood(target.url, 50, method="POST", url="/gradio_api/upload", files=files, headers=headers)
    )
    assert set(statuses) == {403}
    left = [path for path in (target.data / "tmp").rglob("*") if path.is_file() and path.stat().st_size == 100_000]
    assert not left
