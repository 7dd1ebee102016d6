"""What holds for the whole application: errors, login, timing, and the guard in front of the real page."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from ligsp.__main__ import main as ligsp

from tests.api.conftest import Running
from tests.api.server import serving
from webui.api.errors import FAULT, add_error_handlers
from webui.api.login import credentials_of
from webui.app import build_app
from webui.core.flags import parse_flags
from webui.services.building import build_services

EVIL = "http://evil.example"


def test_the_security_checker_finds_nothing_at_the_real_server(easel: Running, tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    assert ligsp(["check", easel.url, "--json", str(report)]) == 0
    summary = json.loads(report.read_text())["summary"]
    assert (summary["fail"], summary["warn"]) == (0, 0)


@pytest.mark.parametrize(
    "path",
    ["/sdapi/v1/interrupt", "/sdapi/v1/skip", "/sdapi/v1/refresh-checkpoints", "/sdapi/v1/options",
     "/sdapi/v1/txt2img", "/internal/progress", "/gradio_api/upload", "/gradio_api/queue/join"],
)  # fmt: skip
def test_no_other_site_can_write(easel: Running, path: str) -> None:
    for headers in ({"Origin": EVIL}, {"Origin": "null"}, {"Sec-Fetch-Site": "cross-site"}):
        assert easel.client.post(path, headers=headers).status_code == 403
    assert easel.client.post(path, headers={"Host": "evil.example"}).status_code == 421


@pytest.mark.parametrize("body", ['{"data": [1e309]}', "[" * 100_000, '{"data": [NaN]}', '{"data": ["\\ud800"]}'])
@pytest.mark.parametrize("path", ["/gradio_api/queue/join", "/gradio_api/call/x", "/internal/progress", "/nothing"])
def test_json_that_nothing_can_handle_is_422_everywhere(easel: Running, path: str, body: str) -> None:
    answer = easel.client.post(path, content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code == 422
    json.loads(answer.content, parse_constant=lambda word: pytest.fail(word))


def test_files_outside_the_outputs_stay_hidden(easel: Running) -> None:
    data = easel.services.paths.data
    (data / "config.json").touch()
    hidden = ["/etc/passwd", "/etc/nothing", str(data / "config.json"), "/proc/self/environ", "..%2f..%2fetc%2fpasswd",
              "%252e%252e/config.json", "\\\\host\\share", "C:\\Windows\\win.ini", "config.json"]  # fmt: skip
    for route in ("/gradio_api/file=", "/file=", "/gradio_api/file/"):
        for path in hidden:
            assert easel.client.get(route + path).status_code in (403, 404), path
    found, missing = (easel.client.get("/gradio_api/file=/etc/" + name) for name in ("passwd", "nothing"))
    assert found.status_code == missing.status_code


def test_a_page_from_a_link_elsewhere_opens(easel: Running) -> None:
    headers = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}
    answer = easel.client.get("/", headers=headers)
    assert answer.status_code == 200
    assert "frame-ancestors 'self'" in answer.headers["content-security-policy"]


def test_every_answer_tells_its_time(easel: Running) -> None:
    for path in ("/sdapi/v1/samplers", "/", "/nothing"):
        assert 0 <= float(easel.client.get(path).headers["x-process-time"]) < 60


def test_routes_that_are_not_there(easel: Running) -> None:
    for path in ("/sdapi/v1/nothing", "/sdapi/v1/server-kill", "/sdapi/v1/server-stop"):
        assert easel.client.post(path).status_code in (404, 405)


def test_the_schema_is_complete(easel: Running) -> None:
    schema = easel.client.get("/openapi.json").json()
    assert "/sdapi/v1/txt2img" in schema["paths"]
    body = schema["components"]["schemas"]["TextToImageRequest"]["properties"]
    assert (body["width"]["minimum"], body["width"]["default"]) == (8, 512)
    assert body["steps"]["default"] == 50
    assert easel.client.get("/docs").status_code == 200


# Errors


def test_a_fault_is_told_without_its_traceback(caplog: pytest.LogCaptureFixture) -> None:
    app = FastAPI()
    add_error_handlers(app)

    @app.get("/fault")
    def fault() -> None:
        raise ZeroDivisionError("secret /home/user")

    with serving(app) as url, caplog.at_level(logging.ERROR, logger="webui.api.errors"):
        answer = httpx.get(url + "/fault", timeout=60)
    assert answer.status_code == 500
    assert answer.json() == {"error": "InternalError", "detail": FAULT, "body": "", "errors": FAULT}
    assert any(record.exc_info for record in caplog.records)


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ({"steps": "many"}, "steps must be a valid integer"),
        ({"prompt": "x" * 300_000}, "got str of length 300000"),
        ({"styles": [1, 2]}, "styles.0 must be a valid string, got 1"),
        ([], "The body must be"),
    ],
)
def test_a_refused_body_is_a_report_and_a_sentence(easel: Running, body: Any, says: str) -> None:
    answer = easel.client.post("/sdapi/v1/txt2img", json=body)
    assert answer.status_code == 422
    assert says in answer.json()["errors"]
    assert {"loc", "msg", "type"} == set(answer.json()["detail"][0])
    assert len(answer.content) < 2000


# Login


@pytest.fixture(scope="module")
def locked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """A server without a page that asks for a password."""
    data = tmp_path_factory.mktemp("locked")
    flags, _ = parse_flags(["--data-dir", str(data), "--nowebui", "--api-auth", "anna:pa:ss,bob:ünï"], {})
    services = build_services(flags)
    try:
        with serving(build_app(services)) as url, httpx.Client(base_url=url, timeout=60) as client:
            yield client
    finally:
        services.checkpoints.close()


def test_the_api_asks_for_its_password(locked: httpx.Client) -> None:
    for path in (
        "/sdapi/v1/samplers",
        "/sdapi/v1/progress",
        "/sdapi/v1/options",
        "/sdapi/v1/cmd-flags",
        "/internal/sysinfo",
    ):
        answer = locked.get(path)
        assert answer.status_code == 401
        assert answer.headers["www-authenticate"] == "Basic"
        assert answer.json()["detail"] == "Incorrect username or password"
    assert locked.get("/internal/ping").status_code == 200


@pytest.mark.parametrize(
    ("user", "password", "status"),
    [("anna", "pa:ss", 200), ("bob", "ünï", 200), ("anna", "ünï", 401), ("anna", "", 401), ("", "", 401)],
)
def test_only_a_known_pair_opens_it(locked: httpx.Client, user: str, password: str, status: int) -> None:
    for encoding in ("utf-8", "latin-1"):
        auth = (user.encode(encoding), password.encode(encoding))
        assert locked.get("/sdapi/v1/samplers", auth=auth).status_code == status


@pytest.mark.parametrize("header", ["Basic", "Basic !!!", "Basic YW5uYQ==", "Bearer x", "", "basic \xff"])
def test_a_broken_login_is_refused(locked: httpx.Client, header: str) -> None:
    answer = locked.get("/sdapi/v1/samplers", headers={b"Authorization": header.encode("latin-1")})
    assert answer.status_code == 401


def test_the_pages_password_guards_the_api_where_others_reach_it() -> None:
    def credentials(*argv: str) -> Any:
        return credentials_of(parse_flags(list(argv), {})[0])

    assert credentials("--gradio-auth", "a:b") == ()
    assert credentials("--gradio-auth", "a:b", "--listen") == (("a", "b"),)
    assert credentials("--gradio-auth", "a:b", "--share") == (("a", "b"),)
    assert credentials("--gradio-auth", "a:b", "--listen", "--api-auth", "c:d") == (("c", "d"),)
