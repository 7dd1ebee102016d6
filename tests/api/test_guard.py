"""The guard, in front of a small FastAPI + Gradio server and over real HTTP."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import gradio as gr
import httpx
import pytest
from fastapi import FastAPI, UploadFile
from hypothesis import given
from hypothesis import strategies as st
from ligsp.__main__ import main as ligsp
from pydantic import BaseModel

from tests.api.server import serving
from webui.api.guard import MAX_DEPTH, MAX_VALUES, Guard, check_json, host_name

EVIL = "http://evil.example"


class Numbers(BaseModel):
    width: float = 512


def routes(folder: Path) -> FastAPI:
    """An API route, an upload and a Gradio page with a file folder, all without any protection of their own."""
    app = FastAPI()

    @app.post("/sdapi/v1/txt2img")
    def generate(body: Numbers) -> dict[str, float]:
        return {"width": body.width}

    @app.post("/sdapi/v1/interrupt")
    def interrupt() -> dict[str, str]:
        return {}

    @app.get("/sdapi/v1/samplers")
    def samplers() -> list[dict[str, str]]:
        return [{"name": "Euler"}]

    @app.post("/upload")
    def upload(file: UploadFile) -> dict[str, int]:
        return {"size": len(file.file.read())}

    with gr.Blocks() as page:
        text = gr.Textbox()
        gr.Button("Go").click(lambda value: value, text, text, api_name="echo")
    return gr.mount_gradio_app(app, page, path="/", allowed_paths=[str(folder)])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("files")
    (folder / "page.html").write_text("<script>alert(1)</script>")
    (folder / "drawing.svg").write_text("<svg xmlns='http://www.w3.org/2000/svg'><script>alert(1)</script></svg>")
    (folder / "picture.png").write_text("<html><script>alert(1)</script></html>")
    return folder


@pytest.fixture(scope="module")
def url(folder: Path) -> Iterator[str]:
    guarded = Guard(
        routes(folder),
        hosts=["webui.lan"],
        origins=["http://friend.example:3000"],
        max_json=8 * 2**20,
        max_upload=9 * 2**20,
    )
    with serving(guarded) as address:
        yield address


@pytest.fixture(scope="module")
def client(url: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=url, timeout=60) as client:
        yield client


def sentence(answer: httpx.Response) -> str:
    """The refusal's sentence; every refusal is valid JSON."""
    return str(json.loads(answer.content, parse_constant=lambda word: pytest.fail(word))["detail"])


def raw(url: str, request: bytes) -> int:
    """The status that hand-written bytes get."""
    parts = urlsplit(url)
    with socket.create_connection((parts.hostname, parts.port), 60) as connection:
        connection.sendall(request)
        return int(connection.makefile("rb").readline().split()[1])


# Host names


@pytest.mark.parametrize(
    "host",
    ["localhost", "LOCALHOST:7860", "app.localhost", "127.0.0.1", "127.8.8.8:1", "[::1]:7860", "[::ffff:127.0.0.1]",
     "webui.lan", "localhost.", "friend.example"],
)  # fmt: skip
def test_own_names_are_answered(client: httpx.Client, host: str) -> None:
    assert client.get("/sdapi/v1/samplers", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize(
    "host",
    ["evil.example", "rebind.evil.example:7860", "127.0.0.1.evil.example", "localhost.evil.example", "192.168.1.5",
     "0.0.0.0", "[fe80::1]", "[::ffff:10.0.0.1]", "webui.lan.evil", "2130706433"],
)  # fmt: skip
@pytest.mark.parametrize("path", ["/", "/sdapi/v1/samplers", "/gradio_api/info", "/theme.css", "/nothing"])
def test_other_host_names_are_refused_everywhere(client: httpx.Client, host: str, path: str) -> None:
    answer = client.get(path, headers={"Host": host})
    assert answer.status_code == 421
    assert "--server-name" in sentence(answer)


def test_broken_host_headers_are_refused(url: str) -> None:
    for hosts in (b"", b"Host: a\r\nHost: localhost\r\n", b"Host: user@localhost\r\n", b"Host: local host\r\n"):
        assert raw(url, b"GET /sdapi/v1/samplers HTTP/1.1\r\n" + hosts + b"Connection: close\r\n\r\n") == 400
    assert raw(url, b"GET /sdapi/v1/samplers HTTP/1.0\r\n\r\n") == 400


def test_listening_on_the_network_answers_addresses_but_no_foreign_names(folder: Path) -> None:
    guard = Guard(routes(folder), listen=True)
    own = socket.gethostname().lower()
    with serving(guard) as url, httpx.Client(base_url=url, timeout=60) as client:

        def status(host: str) -> int:
            return client.get("/sdapi/v1/samplers", headers={"Host": host}).status_code

        assert [status(host) for host in ("192.168.1.5:7860", "[fe80::1]", "0.0.0.0:7860", own)] == [200] * 4
        assert status("evil.example") == 421
        assert status("abc.gradio.live") == 421
        guard.allow_host("https://abc.gradio.live/")
        assert status("abc.gradio.live") == 200


@given(st.text(max_size=40))
def test_any_host_header_gives_a_name_or_none(host: str) -> None:
    name = host_name(host)
    assert name is None or (name == name.lower() and name)


# Senders


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": EVIL},
        {"Origin": "null"},
        {"Origin": "http://localhost:3000"},
        {"Origin": "https://localhost"},
        {"Origin": "file://"},
        {"Origin": "http://friend.example:3001"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site", "Sec-Fetch-Mode": "cors"},
        {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"},
        {"Sec-Fetch-Site": "same-origin", "Origin": EVIL},
    ],
)
@pytest.mark.parametrize("path", ["/sdapi/v1/interrupt", "/upload", "/gradio_api/upload", "/gradio_api/queue/join"])
def test_a_write_from_another_site_is_refused(client: httpx.Client, headers: dict[str, str], path: str) -> None:
    answer = client.post(path, headers=headers)
    assert answer.status_code == 403
    assert "access-control-allow-origin" not in answer.headers


def test_an_upload_from_another_site_is_refused_and_from_here_accepted(client: httpx.Client, url: str) -> None:
    files = {"file": ("x.png", b"123")}
    assert client.post("/upload", files=files, headers={"Origin": EVIL}).status_code == 403
    assert client.post("/upload", files=files, headers={"Origin": url}).json() == {"size": 3}
    assert client.post("/gradio_api/upload", files={"files": ("x.png", b"123")}).status_code == 200


def test_writes_from_the_own_page_and_from_programs_are_accepted(client: httpx.Client, url: str) -> None:
    for headers in (
        {},
        {"Origin": url},
        {"Sec-Fetch-Site": "same-origin"},
        {"Sec-Fetch-Site": "none"},
        {"Origin": "https://webui.lan", "Host": "webui.lan", "Sec-Fetch-Site": "same-origin"},
        {"Origin": "http://localhost", "Host": "localhost:80"},
    ):
        assert client.post("/sdapi/v1/interrupt", headers=headers).status_code == 200, headers


@pytest.mark.parametrize("path", ["/sdapi/v1/samplers", "/gradio_api/info", "/theme.css", "/config"])
@pytest.mark.parametrize(
    "headers",
    [
        {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors", "Sec-Fetch-Dest": "image"},
        {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "iframe"},
        {"Sec-Fetch-Site": "same-site", "Sec-Fetch-Mode": "cors"},
        {"Origin": EVIL},
    ],
)
def test_other_sites_cannot_embed_or_read(client: httpx.Client, path: str, headers: dict[str, str]) -> None:
    assert client.get(path, headers=headers).status_code == 403


def test_a_link_on_another_site_opens_the_page(client: httpx.Client) -> None:
    headers = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}
    assert client.get("/", headers={**headers, "Referer": EVIL}).status_code == 200


def test_a_configured_origin_may_use_the_api(client: httpx.Client) -> None:
    origin = "http://friend.example:3000"
    answer = client.post("/sdapi/v1/txt2img", json={}, headers={"Origin": origin, "Sec-Fetch-Site": "cross-site"})
    assert answer.status_code == 200
    assert answer.headers.get_list("access-control-allow-origin") == [origin]
    assert "Origin" in answer.headers.get_list("vary")
    wish = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "content-type"}
    preflight = client.options("/sdapi/v1/txt2img", headers={"Origin": origin, **wish})
    assert preflight.status_code == 204
    assert "POST" in preflight.headers["access-control-allow-methods"]
    assert client.options("/sdapi/v1/txt2img", headers={"Origin": EVIL, **wish}).status_code == 403


def test_behind_a_reverse_proxy_its_address_is_the_own_page(folder: Path) -> None:
    with (
        serving(Guard(routes(folder), origins=["https://pictures.example"])) as url,
        httpx.Client(base_url=url, timeout=60) as client,
    ):
        for host in ("pictures.example", "127.0.0.1"):  # passed on by the proxy, or rewritten
            headers = {"Host": host, "Origin": "https://pictures.example"}
            assert client.post("/sdapi/v1/interrupt", headers=headers).status_code == 200
        assert client.post("/sdapi/v1/interrupt", headers={"Host": "other.example"}).status_code == 421


def test_any_origin_gets_no_cookies(folder: Path) -> None:
    with serving(Guard(routes(folder), origins=["*"])) as url, httpx.Client(base_url=url, timeout=60) as client:
        answer = client.get("/sdapi/v1/samplers", headers={"Origin": EVIL})
        assert answer.headers["access-control-allow-origin"] == EVIL
        assert "access-control-allow-credentials" not in answer.headers
        assert client.post("/sdapi/v1/interrupt", headers={"Origin": "null"}).status_code == 403


def test_an_origin_pattern_must_match_whole(folder: Path) -> None:
    with (
        serving(Guard(routes(folder), origin_regex=r"https://.*\.friend\.example")) as url,
        httpx.Client(base_url=url, timeout=60) as client,
    ):
        good, bad = "https://a.friend.example", "https://a.friend.example.evil"
        assert client.post("/sdapi/v1/interrupt", headers={"Origin": good}).status_code == 200
        assert client.post("/sdapi/v1/interrupt", headers={"Origin": bad}).status_code == 403


def test_refused_origins_are_logged_once(client: httpx.Client, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, logger="webui.api.guard"):
        for _ in range(3):
            client.post("/sdapi/v1/interrupt", headers={"Origin": "http://loud.example"})
    assert [record.message.count("loud.example") for record in caplog.records] == [2]


@pytest.mark.parametrize(
    ("headers", "passed"),
    [
        ({"host": "localhost", "origin": "http://localhost"}, True),
        ({"host": "localhost"}, True),
        ({"host": "localhost", "origin": EVIL}, False),
        ({"host": "localhost", "origin": "null"}, False),
        ({"host": "evil.example", "origin": EVIL}, False),
        ({"host": "localhost", "sec-fetch-site": "cross-site", "sec-fetch-mode": "websocket"}, False),
    ],
)
def test_a_websocket_is_refused_in_the_handshake(headers: dict[str, str], passed: bool) -> None:
    sent: list[Any] = []
    reached: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        reached.append(scope["path"])

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        return {"type": "websocket.connect"}

    pairs = [(name.encode(), value.encode()) for name, value in headers.items()]
    asyncio.run(Guard(app)({"type": "websocket", "path": "/queue", "headers": pairs}, receive, send))
    assert bool(reached) == passed
    assert passed or [(message["type"], message["code"]) for message in sent] == [("websocket.close", 1008)]


# Bodies


@pytest.mark.parametrize(
    "kind", ["text/plain", "text/plain; application/json", "", "application/x-www-form-urlencoded"]
)
def test_json_under_another_type_is_refused(client: httpx.Client, kind: str) -> None:
    headers = {"Content-Type": kind} if kind else {}
    for path in ("/sdapi/v1/txt2img", "/sdapi/v1/interrupt"):
        assert client.post(path, content=b'{"width": 8}', headers=headers).status_code == 415


def test_plain_text_is_refused_on_every_other_route_too(client: httpx.Client) -> None:
    answer = client.post("/gradio_api/queue/join", content=b"{}", headers={"Content-Type": "text/plain"})
    assert answer.status_code == 415


@pytest.mark.parametrize(
    "body",
    [
        '{"width": 1e309}',
        '{"width": -1e999}',
        '{"width": NaN}',
        '{"width": Infinity}',
        '{"width": -Infinity}',
        '{"x": {"y": [1e400]}}',
        '{"width": 1' + "0" * 5000 + "}",
        "[" * 100_000,
        "[" * 100_000 + "]" * 100_000,
        '{"a":' * 100_000 + "1" + "}" * 100_000,
        "[" * (MAX_DEPTH + 2) + "]" * (MAX_DEPTH + 2),
        '{"width": "\\ud800"}',
        "[" + "1," * (MAX_VALUES + 1) + "1]",
        '{"width": ',
        "",
    ],
)
@pytest.mark.parametrize("path", ["/sdapi/v1/txt2img", "/gradio_api/call/echo", "/gradio_api/queue/join"])
def test_json_that_nothing_can_handle_is_422_in_valid_json(client: httpx.Client, path: str, body: str) -> None:
    answer = client.post(path, content=body.encode(), headers={"Content-Type": "application/json"})
    assert answer.status_code == 422
    json.loads(answer.content, parse_constant=lambda word: pytest.fail(word))


def test_ordinary_bodies_pass_whole(client: httpx.Client) -> None:
    big = {
        "width": 64,
        "init_images": ["é" * 2_000_000],
        "deep": json.loads("[" * 80 + "]" * 80),
        "emoji": "\U0001f600",
    }
    assert client.post("/sdapi/v1/txt2img", json=big).json() == {"width": 64}
    assert client.post("/sdapi/v1/txt2img", content=json.dumps(big), headers={"Content-Type": "application/json"})
    chunks = (part for part in (b'{"wid', b'th": 8', b"}"))
    answer = client.post("/sdapi/v1/txt2img", content=chunks, headers={"Content-Type": "application/json"})
    assert answer.json() == {"width": 8}


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
       | st.text(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)))  # fmt: skip
def test_any_sound_json_passes(content: Any) -> None:
    check_json(json.dumps(content).encode())
    check_json(json.dumps(content, ensure_ascii=False).encode())


def test_large_bodies_are_refused_whether_announced_or_streamed(client: httpx.Client) -> None:
    too_much = b'{"width": "' + b"0" * (9 * 2**20) + b'"}'
    headers = {"Content-Type": "application/json"}
    assert client.post("/sdapi/v1/txt2img", content=too_much, headers=headers).status_code == 413
    parts = (too_much[at : at + 65536] for at in range(0, len(too_much), 65536))
    assert client.post("/sdapi/v1/txt2img", content=parts, headers=headers).status_code == 413


def test_large_uploads_are_refused_whether_announced_or_streamed(client: httpx.Client) -> None:
    for path, field in (("/upload", "file"), ("/gradio_api/upload", "files")):
        start = f'--x\r\nContent-Disposition: form-data; name="{field}"; filename="a.bin"\r\n\r\n'.encode()
        body = start + b"0" * (10 * 2**20) + b"\r\n--x--\r\n"
        headers = {"Content-Type": "multipart/form-data; boundary=x"}
        assert client.post(path, content=body, headers=headers).status_code == 413
        parts = (body[at : at + 65536] for at in range(0, len(body), 65536))
        with contextlib.suppress(httpx.WriteError):  # it may close the connection while we are still sending
            assert client.post(path, content=parts, headers=headers).status_code == 413


# Answers


@pytest.mark.parametrize("path", ["/", "/sdapi/v1/samplers", "/nothing", "/theme.css"])
def test_safe_headers_are_on_every_answer(client: httpx.Client, path: str) -> None:
    for host in ("localhost", "evil.example"):
        headers = client.get(path, headers={"Host": host}).headers
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["x-frame-options"] == "SAMEORIGIN"
        assert "frame-ancestors 'self'" in headers["content-security-policy"]
        assert headers["referrer-policy"] == "same-origin"
        assert headers["cross-origin-opener-policy"] == "same-origin"
        assert headers["cross-origin-resource-policy"] == "same-origin"
        assert "geolocation=()" in headers["permissions-policy"]


def test_gradios_own_cors_answer_is_replaced(client: httpx.Client) -> None:
    answer = client.get("/config", headers={"Origin": "http://localhost", "Host": "localhost"})
    assert answer.status_code == 200
    assert not [name for name in answer.headers if name.startswith("access-control-")]


@pytest.mark.parametrize("name", ["page.html", "drawing.svg", "picture.png"])
def test_a_served_file_can_never_act_as_a_page(client: httpx.Client, folder: Path, name: str) -> None:
    answer = client.get(f"/gradio_api/file={folder / name}")
    assert answer.status_code == 200
    assert answer.headers["content-security-policy"].startswith("sandbox")
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert not answer.headers["content-type"].startswith("text/html")


def test_a_nul_in_a_path_is_not_found(url: str) -> None:
    assert raw(url, b"GET /gradio_api/file=a%00b HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n") == 404


def test_behind_a_subpath_the_same_rules_hold(folder: Path) -> None:
    outer = FastAPI()
    outer.mount("/easel", routes(folder))
    with serving(Guard(outer, subpath="easel")) as url, httpx.Client(base_url=url, timeout=60) as client:
        assert client.get("/easel/sdapi/v1/samplers").status_code == 200
        body: dict[str, Any] = {"content": b"{}", "headers": {"Content-Type": "text/plain"}}
        assert client.post("/easel/sdapi/v1/interrupt", **body).status_code == 415
        file = client.get(f"/easel/gradio_api/file={folder / 'page.html'}")
        assert file.headers["content-security-policy"].startswith("sandbox")


def test_the_security_checker_finds_nothing(url: str, tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    assert ligsp(["check", url, "--json", str(report)]) == 0
    summary = json.loads(report.read_text())["summary"]
    assert (summary["fail"], summary["warn"]) == (0, 0)
    assert summary["pass"] >= 5
