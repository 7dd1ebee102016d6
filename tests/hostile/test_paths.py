"""Files and folders that are nobody's business (classes 8 to 11, 22, 23, and every way to a file through the page)."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest

from tests.hostile.conftest import SECRET, Target

FILE_ROUTES = ["/gradio_api/file=", "/gradio_api/file/", "/file=", "/file/", "/sd_extra_networks/thumb?filename=",
               "/gradio_api/proxy=", "/static/", "/assets/", "/svelte/", "/easel-assets/",
               "/gradio_api/custom_component/1/client/component/"]  # fmt: skip


def spellings(path: str) -> list[str]:
    """One path as attackers write it."""
    bare = path.lstrip("/")
    up = "../" * 12
    return [path, "/" + path, bare, up + bare, quote(up + bare, safe=""), quote(quote(up + bare, safe=""), safe=""),
            up.replace("/", "\\") + bare, "..%2f" * 12 + bare, "%252e%252e/" * 12 + bare, "....//" * 12 + bare,
            "file://" + path, path + "%00.png", path + "%0a", "/." + path, path.replace("/", "//"),
            "/proc/self/root" + path, "/dev/fd/../.." + path, "\\\\localhost\\" + bare, "C:" + path, "~root" + path,
            "http://127.0.0.1/" + bare, "http://169.254.169.254/latest"]  # fmt: skip


@pytest.mark.parametrize("route", FILE_ROUTES)
def test_no_spelling_of_a_path_leads_out(target: Target, route: str) -> None:
    with httpx.Client(base_url=target.url, timeout=60) as visitor:
        visitor.get("/")
        secrets = (str(target.outside / "secret.txt"), "/etc/passwd", str(target.data / "config.json"),
                   "/proc/self/environ", str(target.data / "cache" / "hashes.sqlite"))  # fmt: skip
        for number in range(len(spellings(""))):
            # Every route meets every spelling and every secret, and each pair of the two meets two routes and more.
            spelling = spellings(secrets[(number + FILE_ROUTES.index(route)) % len(secrets)])[number]
            answer = visitor.get(route + spelling)
            assert answer.status_code in (400, 403, 404, 422), (answer.status_code, route + spelling)
            assert SECRET not in answer.text
            assert "root:" not in answer.text


@pytest.mark.parametrize("route", ["/gradio_api/file=", "/gradio_api/file/"])
def test_what_is_there_and_what_is_not_look_the_same(target: Target, route: str) -> None:
    (target.data / "outputs").mkdir(exist_ok=True)
    places = [target.outside, target.data, target.data / "outputs", Path("/etc"), Path("/proc/self"), Path("/root")]
    (target.data / "outputs" / "secret.txt").write_text(SECRET)
    answers = {
        (answer.status_code, answer.content)
        for place in places
        for name in ("secret.txt", "config.json", "passwd", "environ", "missing", ".env", ".ssh/id_rsa", "")
        for answer in [target.client.get(f"{route}{place}/{name}")]
    }
    assert len(answers) == 1
    assert answers.pop()[0] == 403


@pytest.mark.parametrize("kind", ["symlink", "folder link", "hard to read", "pipe"])
def test_links_out_of_the_outputs_are_not_followed(target: Target, kind: str) -> None:
    folder = target.data / "outputs" / "txt2img-images"
    folder.mkdir(parents=True, exist_ok=True)
    link = folder / f"{kind}.png"
    match kind:
        case "symlink":
            link.symlink_to(target.outside / "secret.txt")
        case "folder link":
            link.symlink_to(target.outside)
            link = link / "secret.txt"
        case "hard to read":
            link.symlink_to("/dev/zero")
        case "pipe":
            os.mkfifo(link)
    try:
        answer = target.client.get(f"/gradio_api/file={link}", timeout=20)
        assert answer.status_code == 403
    finally:
        (folder / f"{kind}.png").unlink()


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("outdir_txt2img_samples", "/root/.ssh"),
        ("outdir_img2img_samples", "../../../home"),
        ("outdir_samples", "scripts"),
        ("outdir_grids", "extensions/evil"),
        ("outdir_save", "/etc/cron.d"),
        ("outdir_init_images", "~/.config/autostart"),
        ("outdir_extras_samples", "webui"),
        ("outdir_txt2img_grids", "\\\\host\\share"),
    ],
)
def test_folders_are_not_set_over_the_api(target: Target, key: str, value: str) -> None:
    options = target.client.get("/sdapi/v1/options").json()
    assert target.client.post("/sdapi/v1/options", json={key: value}).status_code == 403
    assert target.client.post("/sdapi/v1/options", json={"samples_format": "jpg", key: value}).status_code == 403
    assert target.client.get("/sdapi/v1/options").json() == options
    assert target.client.post("/sdapi/v1/options", json=options).status_code == 200  # all unchanged, as clients do
    answer = target.txt2img(override_settings={key: value}, save_images=True)
    assert answer.status_code in (200, 403, 422)
    assert not target.touched()


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("page.png", b"<html><script>alert(1)</script></html>"),
        ("drawing.svg", b"<svg xmlns='http://www.w3.org/2000/svg' onload='alert(1)'/>"),
        ("page.html", b"<script>alert(1)</script>"),
        ("page.xhtml", b"<html xmlns='http://www.w3.org/1999/xhtml'><script>alert(1)</script></html>"),
        ("script.js", b"alert(1)"),
        ("page.jpg.shtml", b"<script>alert(1)</script>"),
        ("x.xml", b"<?xml version='1.0'?><x:script xmlns:x='http://www.w3.org/1999/xhtml'>alert(1)</x:script>"),
        ("noextension", b"<!doctype html><script>alert(1)</script>"),
    ],
)
def test_an_upload_never_acts_as_a_page(target: Target, name: str, content: bytes) -> None:
    with httpx.Client(base_url=target.url, timeout=60) as visitor:
        visitor.get("/")
        path = visitor.post("/gradio_api/upload", files={"files": (name, content)}).json()[0]
        answer = visitor.get(f"/gradio_api/file={quote(path)}")
        assert answer.status_code == 200
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["content-security-policy"].startswith("sandbox")
        assert not answer.headers["content-type"].startswith(
            ("text/html", "application/xhtml", "text/xml", "application/xml")
        )


@pytest.mark.parametrize(
    "name", ["../../../evil.png", "..\\..\\evil.png", "/etc/evil.png", "a/b/../../../c.png", "CON", "a" * 300 + ".png",
             "\u202egnp.exe", ".bashrc", "..", "x\0.png", "a\r\nb.png"]
)  # fmt: skip
def test_an_upload_lands_in_its_own_folder_whatever_its_name(target: Target, name: str) -> None:
    with httpx.Client(base_url=target.url, timeout=60) as visitor:
        visitor.get("/")
        answer = visitor.post("/gradio_api/upload", files={"files": (name, b"evil content")})
        assert answer.status_code in (200, 400, 422), answer.text
        place = (target.data / "tmp" / "gradio" / "visitors").resolve()
        for path in answer.json() if answer.status_code == 200 else ():
            assert Path(path).resolve().is_relative_to(place)
    found = [path for path in target.data.parent.rglob("*evil*") if path.is_file()]
    assert all(path.resolve().is_relative_to(place) for path in found)


# The page's events

EVIL_FILES: list[Any] = [
    {"path": "/etc/hostname"},
    {"path": "/proc/self/environ"},
    {"path": "/dev/urandom"},
    {"path": "/dev/stdin"},
    {"path": "http://127.0.0.1:22/"},
    {"path": "http://[::1]:7860/"},
    {"url": "http://metadata.google.internal/"},
    {"path": "x", "url": "file:///etc/passwd"},
]


@pytest.mark.parametrize("payload", EVIL_FILES, ids=str)
def test_no_event_takes_a_file_from_elsewhere(target: Target, payload: dict[str, Any]) -> None:
    """Each payload at its share of the events; every spelling at one event is in tests/ui/test_visitors.py."""
    data = {**payload, "meta": {"_type": "gradio.FileData"}}
    with httpx.Client(base_url=target.url, timeout=60) as visitor, httpx.Client(base_url=target.url) as stranger:
        visitor.get("/")
        config = visitor.get("/config").json()
        numbers = [row["id"] for row in config["dependencies"] if row.get("backend_fn")]
        assert len(numbers) > 50
        share = EVIL_FILES.index(payload)
        for number in numbers[share :: len(EVIL_FILES)]:
            width = len(next(row for row in config["dependencies"] if row["id"] == number)["inputs"])
            body = {"fn_index": number, "session_hash": f"evil{number}", "data": [data] * max(width, 1)}
            for client, route in ((visitor, "run/predict"), (visitor, "queue/join"), (stranger, "run/predict")):
                answer = client.post(f"/gradio_api/{route}", json=body)
                assert answer.status_code == 403, (number, route, answer.text)


@pytest.mark.parametrize(
    "path", ["/gradio_api/component_server", "/gradio_api/stream/x", "/gradio_api/stream/x/close",
             "/gradio_api/process_recording", "/gradio_api/vibe-edit", "/gradio_api/vibe-code", "/gradio_api/call/v2/x"]
)  # fmt: skip
def test_side_doors_of_gradio_are_shut(target: Target, path: str) -> None:
    with httpx.Client(base_url=target.url) as visitor:
        visitor.get("/")
        body = {"data": [], "component_id": 1, "session_hash": "a", "fn_name": "ls", "prompt": "x", "code": "x"}
        assert visitor.post(path, json=body).status_code in (404, 405)


# Extensions (class 24): only what https addresses hold is fetched, and nothing of it is put anywhere unasked


@pytest.mark.parametrize(
    "url", ["ext::sh -c touch% evil", "--upload-pack=touch evil", "/etc", "https://evil.example/x.git", "git@evil:x",
            "file:///etc", "ssh://evil.example/x.git", "https://127.0.0.1/x.git", "https://169.254.169.254/x.zip"]
)  # fmt: skip
def test_an_extension_is_fetched_from_nowhere_that_it_should_not_be(target: Target, url: str) -> None:
    before = target.client.get("/easel/v1/extensions").json()["extensions"]
    body = {"url": url, "name": url, "submodules": [url], "recurse_submodules": True, "symlinks": True}
    for more in ({}, {"name": ""}, {"name": "../../evil"}, {"branch": "--upload-pack=touch evil"}):
        answer = target.client.post("/easel/v1/extensions/fetch", json=body | more)
        assert answer.status_code in (400, 403, 422, 502), answer.text
        assert "Traceback" not in answer.text
    assert target.client.get("/easel/v1/extensions").json()["extensions"] == before
    assert not target.touched()


@pytest.mark.parametrize("key", ["", "0" * 16, "../../evil", "a" * 10_000])
def test_nothing_is_installed_that_was_not_fetched(target: Target, key: str) -> None:
    for route in ("install", "discard"):
        answer = target.client.post(f"/easel/v1/extensions/{route}", json={"id": key})
        assert answer.status_code in (400, 404, 422), answer.text
    for path in ("/sdapi/v1/extensions/install", "/internal/extensions/install", "/easel/v1/extensions/update"):
        assert target.client.post(path, json={"url": key, "id": key}).status_code in (404, 405)


def test_uploads_of_a_server_that_was_killed_are_deleted_by_the_next(target: Target) -> None:
    with httpx.Client(base_url=target.url, timeout=60) as visitor:
        visitor.get("/")
        files = [("files", (f"{number}.png", b"left behind")) for number in range(3)]
        left = [Path(path) for path in visitor.post("/gradio_api/upload", files=files).json()]
    stray = target.data / "tmp" / "gradio" / "visitors" / "stray"
    stray.write_bytes(b"half an upload")
    assert all(path.is_file() for path in left)
    assert target.server.process is not None
    target.server.process.kill()
    target.server.process.wait()
    target.server.start()
    assert not any(path.exists() for path in (*left, stray))
    target.is_well()
