"""One client that asks too much, or too slowly, and the others beside it."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from fastapi import FastAPI, Request, UploadFile

import webui.api.guard.bodies as bodies
from tests.api.server import serving
from webui.api.guard import Guard
from webui.api.guard.asgi import Refusal
from webui.api.guard.crowds import MAX_AT_ONCE, Crowds
from webui.api.patience import ImpatientProtocol


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_an_address_has_so_many_places_and_no_more() -> None:
    crowds = Crowds(max_at_once=3)
    with ExitStack() as held:
        for _ in range(3):
            held.enter_context(crowds.place_for("a"))
        with pytest.raises(Refusal, match="being answered") as refused, crowds.place_for("a"):
            pass
        assert refused.value.status == 429
        with crowds.place_for("b"):
            pass
    with crowds.place_for("a"):
        pass


def test_a_place_is_free_again_after_a_fault() -> None:
    crowds = Crowds(max_at_once=1)
    for _ in range(3):
        with pytest.raises(ZeroDivisionError), crowds.place_for("a"):
            raise ZeroDivisionError


def test_who_asks_all_the_time_is_slowed_down_alone() -> None:
    clock = Clock()
    crowds = Crowds(rate=10, burst=20, clock=clock)

    def answered(address: str, count: int) -> int:
        done, refused = 0, []
        for _ in range(count):
            try:
                with crowds.place_for(address):
                    done += 1
            except Refusal as refusal:
                refused.append(refusal.status)
        assert set(refused) <= {429}
        return done

    assert answered("a", 50) == 20
    assert answered("b", 5) == 5
    clock.now += 1
    assert answered("a", 50) == 10
    clock.now += 100
    assert answered("a", 50) == 20


def test_idle_websockets_of_one_address_are_bounded() -> None:
    async def crowd() -> None:
        over = asyncio.Event()
        reached: list[str] = []

        async def app(scope: Any, receive: Any, send: Any) -> None:
            reached.append(scope["client"][0])
            await over.wait()

        async def opened(address: str) -> list[Any]:
            sent: list[Any] = []

            async def send(message: Any) -> None:
                sent.append(message)

            scope = {"type": "websocket", "path": "/x", "headers": [(b"host", b"localhost")], "client": (address, 1)}
            await guard(scope, send, send)
            return sent

        guard = Guard(app)
        idle = [asyncio.create_task(opened("127.0.0.1")) for _ in range(MAX_AT_ONCE)]
        await asyncio.sleep(0)
        refused = await opened("127.0.0.1")
        assert [(message["type"], message["code"]) for message in refused] == [("websocket.close", 1008)]
        idle.append(asyncio.create_task(opened("127.0.0.2")))
        await asyncio.sleep(0)
        assert reached == ["127.0.0.1"] * MAX_AT_ONCE + ["127.0.0.2"]
        over.set()
        assert not any(await asyncio.gather(*idle))

    asyncio.run(crowd())


@pytest.fixture
def url(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A server whose patience is short."""
    monkeypatch.setattr(bodies, "PATIENCE", 0.5)
    app = FastAPI()

    @app.post("/sdapi/v1/x")
    async def take(request: Request) -> int:
        return len(await request.body())

    @app.post("/upload")
    def upload(file: UploadFile) -> int:
        return len(file.file.read())

    class Hasty(ImpatientProtocol):
        headers_within = 0.5

    with serving(Guard(app), http=Hasty) as address:
        yield address


def ended(connection: socket.socket) -> bytes:
    """What comes until the server closes the connection."""
    connection.settimeout(30)
    found = b""
    while part := connection.recv(4096):
        found += part
    return found


@pytest.mark.parametrize("start", [b"", b"GET / HTTP/1.1\r\nHost: localhost\r\nX-", b"GET / HT"])
def test_headers_that_never_end_are_not_waited_for(url: str, start: bytes) -> None:
    parts = urlsplit(url)
    with socket.create_connection((parts.hostname, parts.port), 30) as slow:
        slow.sendall(start)
        begun = time.monotonic()
        try:
            for _ in range(100):
                slow.sendall(b"a")
                time.sleep(0.05)
        except OSError:
            pass
        assert time.monotonic() - begun < 4
        assert httpx.post(url + "/sdapi/v1/x", json=[1], timeout=30).status_code == 200


def test_a_second_request_of_a_connection_is_not_waited_for_either(url: str) -> None:
    parts = urlsplit(url)
    with socket.create_connection((parts.hostname, parts.port), 30) as slow:
        slow.sendall(b"GET /nothing HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert slow.recv(4096).startswith(b"HTTP/1.1 404")
        slow.sendall(b"GET /nothing HTTP/1.1\r\nHo")
        begun = time.monotonic()
        ended(slow)
        assert time.monotonic() - begun < 4


@pytest.mark.parametrize(
    ("path", "kind"), [("/sdapi/v1/x", "application/json"), ("/upload", "multipart/form-data; boundary=b")]
)
def test_a_body_that_never_ends_is_refused(url: str, path: str, kind: str) -> None:
    parts = urlsplit(url)
    with socket.create_connection((parts.hostname, parts.port), 30) as slow:
        head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: {kind}\r\nContent-Length: 90000\r\n\r\n"
        slow.sendall(head.encode() + b"--b\r\n")
        slow.settimeout(30)
        assert slow.recv(4096).startswith(b"HTTP/1.1 408")


def test_a_request_that_takes_long_to_answer_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    app = FastAPI()

    @app.post("/sdapi/v1/x")
    async def take(body: list[int]) -> int:
        await asyncio.sleep(1)
        return len(body)

    class Hasty(ImpatientProtocol):
        headers_within = 0.3

    with serving(Guard(app), http=Hasty) as url, httpx.Client(base_url=url, timeout=30) as client:
        for _ in range(2):
            assert client.post("/sdapi/v1/x", json=[1]).json() == 1
