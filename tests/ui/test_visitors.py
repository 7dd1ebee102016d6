"""What a visitor of the page may name and is given: files, events, sessions, Gradio's routes."""

from __future__ import annotations

import io
import itertools
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import gradio as gr
import httpx
import pytest
from fastapi import FastAPI
from gradio.routes import App
from PIL import Image

from tests.api.server import serving
from webui.api.guard import Guard
from webui.app import build_app
from webui.core.errors import Refused, WebuiError
from webui.core.flags import parse_flags
from webui.services.building import build_services
from webui.services.services import Services
from webui.ui.blocks import PageBlocks
from webui.ui.visitors.files import DAY, TooMuch, VisitorFiles
from webui.ui.visitors.sessions import owner_of_user
from webui.ui.visitors.tables import FILES_IN, PUBLIC, ROUTES, Use, use_of

EVENTS = "/gradio_api/run/predict"
FIELDS = {"Dropdown": [], "Slider": 1, "Number": 1, "Checkbox": False, "CheckboxGroup": []}


class Place:
    """A running server, its page, and a way to ask for events."""

    def __init__(self, url: str, services: Services, page: PageBlocks, gradio: App):
        self.url, self.services, self.page, self.gradio = url, services, page, gradio
        self.sessions = 0

    @contextmanager
    def visitor(self) -> Iterator[httpx.Client]:
        """A browser's jar of cookies that has loaded the page."""
        with httpx.Client(base_url=self.url, timeout=60) as client:
            assert client.get("/").status_code == 200
            yield client

    def number(self, target: str, event: str = "click") -> int:
        """The number of the event of the component with this id."""
        ids = {block.elem_id: number for number, block in self.page.blocks.items()}
        return next(n for n, fn in self.page.fns.items() if (ids[target], event) in fn.targets and fn.fn is not None)

    @property
    def taking(self) -> set[int]:
        """The numbers of all events that take files."""
        return {
            number
            for number, fn in self.page.fns.items()
            if fn.fn is not None and any(FILES_IN[type(part).__name__] for part in fn.inputs)
        }

    def takers(self, target: str, event: str) -> set[int]:
        """Of those, the component's; and those that do the same of themselves, once another event has ended."""
        ids = {block.elem_id: number for number, block in self.page.blocks.items()}
        fns = {number: self.page.fns[number] for number in self.taking}
        own = {number for number, fn in fns.items() if (ids[target], event) in fn.targets}
        deeds = [(fns[number].name, fns[number].inputs) for number in own]
        later = {number for number, fn in fns.items() if (fn.name, fn.inputs) in deeds and fn.targets[0][0] is None}
        return own | later

    def ask(self, client: httpx.Client, number: int, *files: Any, **more: Any) -> httpx.Response:
        """Ask for an event, its file inputs filled in order, everything else with something harmless."""
        waiting = list(files)
        data = [self._filled(type(part).__name__, waiting) for part in self.page.fns[number].inputs] + waiting
        self.sessions += 1
        body = {"fn_index": number, "session_hash": f"s{self.sessions}", "data": data, **more}
        return client.post(EVENTS, json=body)

    def _filled(self, kind: str, waiting: list[Any]) -> Any:
        if FILES_IN[kind]:
            return waiting.pop(0) if waiting else None
        return FIELDS.get(kind, "")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    data = tmp_path_factory.mktemp("visitors")
    services = build_services(parse_flags(["--data-dir", str(data)], {})[0])
    app = build_app(services)
    gradio = mounted(app)
    with serving(Guard(app)) as url:
        yield Place(url, services, cast(PageBlocks, gradio.get_blocks()), gradio)
    services.checkpoints.close()


def mounted(app: FastAPI) -> App:
    return cast(App, app.routes[-1].app)  # type: ignore[attr-defined]


def picture(note: str = "") -> bytes:
    file = io.BytesIO()
    from PIL.PngImagePlugin import PngInfo

    texts = PngInfo()
    texts.add_text("parameters", note or "a cat\nSteps: 1, Sampler: Euler, Seed: 1, Size: 64x64")
    Image.new("RGB", (32, 32), "red").save(file, "png", pnginfo=texts)
    return file.getvalue()


def upload(client: httpx.Client, content: bytes | None = None, name: str = "cat.png") -> str:
    answer = client.post("/gradio_api/upload", files={"files": (name, picture() if content is None else content)})
    assert answer.status_code == 200, answer.text
    return str(answer.json()[0])


def file_data(path: object, **more: Any) -> dict[str, Any]:
    return {"path": path, "meta": {"_type": "gradio.FileData"}, **more}


# The tables


def routes_of(gradio: App) -> set[str]:
    """Every route of Gradio's app as "METHOD /path"."""
    found = set()
    for route in gradio.routes:
        inner = getattr(route, "original_router", None)
        for each in inner.routes if inner else [route]:
            found |= {f"{method} {each.path.rstrip('/') or '/'}" for method in each.methods}  # type: ignore[attr-defined]
    return found


def test_every_route_of_gradio_is_in_the_table_and_no_other(place: Place) -> None:
    assert routes_of(place.gradio) == set(ROUTES)


def test_every_component_of_every_event_is_in_the_table(place: Place) -> None:
    parts = {part for fn in place.page.fns.values() for part in (*fn.inputs, *fn.outputs)}
    assert {type(part).__name__ for part in parts} <= set(FILES_IN)


def test_every_number_on_the_page_lies_within_its_bounds(place: Place) -> None:
    """Gradio refuses every event that is given another one: one slider's would stop all of Generate."""
    assert [problem.sentence for problem in place.services.host.problems] == []
    numbers = [part for part in place.page.blocks.values() if isinstance(part, gr.Slider | gr.Number)]
    assert len(numbers) > 50
    for part in numbers:
        assert part.value is None or part.minimum is None or part.value >= part.minimum, part.elem_id
        assert part.value is None or part.maximum is None or part.value <= part.maximum, part.elem_id


def test_every_event_of_the_page_is_private_but_those_for_programs(place: Place) -> None:
    events = [fn for fn in place.page.fns.values() if fn.fn is not None]
    assert {fn.api_name for fn in events if fn.api_visibility != "private"} == PUBLIC
    assert {fn.api_visibility for fn in events if fn.api_name in PUBLIC} == {"public"}


def test_a_route_that_is_not_in_the_table_is_not_served(place: Place) -> None:
    for method, path in (("GET", "/gradio_api/new"), ("POST", "/new"), ("DELETE", "/"), ("GET", "//gradio_api/info")):
        assert use_of(method, path) is Use.ABSENT


@pytest.mark.parametrize("route", sorted(route for route, use in ROUTES.items() if use is Use.ABSENT))
def test_what_the_page_does_not_need_is_absent(place: Place, route: str) -> None:
    method, _, path = route.partition(" ")
    if path in ("/openapi.json", "/gradio_api/upload"):
        return  # the server's own stands before Gradio's
    with place.visitor() as client:
        assert client.request(method, re.sub(r"\{[^}]*\}", "x", path)).status_code in (404, 405)


# Files in events


TAKERS = {
    # a picture's texts, as text or in the fields of a form
    ("pnginfo_image", "change"), ("pnginfo_video", "change"), ("txt2img_tab", "click"),
    ("txt2img_prompt_image", "upload"), ("img2img_prompt_image", "upload"),
    # the same picture, in another tab
    ("img2img_tab", "click"), ("inpaint_tab", "click"), ("extras_tab", "click"),
    # a form with its pictures, ControlNet's among them: a job's id, or what is wrong with the form
    ("txt2img_generate", "click"), ("txt2img_upscale", "click"), ("txt2img_judge_form", "click"),
    ("img2img_submit", "click"), ("img2img_judge_form", "click"), ("extras_generate", "click"),
    ("mov2mov_generate", "click"), ("mov2mov_stitch", "click"),
    # a job's id, or what is wrong with the picture
    ("txt2img_controlnet_preview_generate", "click"), ("img2img_controlnet_preview_generate", "click"),
    # what a job says of the faces in pictures
    *(
        (f"{tab}_reactor_{button}", "click")
        for tab in ("txt2img", "img2img")
        for button in ("look", "model_build", "blend_build", "blend_check")
    ),
    # a size in numbers
    ("img2img_update_resize_to", "click"), ("img2img_detected_size", "click"),
    ("img2img_describe_clip", "click"), ("img2img_describe_deepdanbooru", "click"),
    # a text file's lines
    ("script_txt2img_prompts_from_file_or_textbox_file", "upload"),
    ("script_img2img_prompts_from_file_or_textbox_file", "upload"),
    # a video's count of frames, or one frame of it
    ("mov2mov_mov", "change"), ("mov2mov_frame_number", "release"), ("mov2mov_frames_keep_source_fps", "change"),
    ("mov2mov_movie_frames", "change"), ("mov2mov_max_frames", "change"), ("mov2mov_frames_start", "change"),
    ("mov2mov_frames_end", "change"), ("mov2mov_frames_every_nth", "change"),
    ("mov2mov_frames_legacy_skip", "change"),
    # the video that was made, to download
    ("mov2mov_video", "change"),
}  # fmt: skip
"""Every event that takes files, by what it makes of them."""


@pytest.mark.parametrize(("target", "event"), sorted(TAKERS))
def test_a_file_that_was_not_uploaded_is_refused_by_every_event_that_takes_one(
    place: Place, target: str, event: str
) -> None:
    with place.visitor() as client:
        elsewhere = "/etc/passwd", str(place.services.paths.data / "config.json"), "/dev/zero", "/proc/self/environ"
        for number, path in itertools.product(place.takers(target, event), elsewhere):
            answer = place.ask(client, number, file_data(path))
            assert answer.status_code == 403, (number, path, answer.text)
            assert "root:" not in answer.text


def test_the_takers_are_all_events_that_take_files(place: Place) -> None:
    found = [place.takers(*taker) for taker in TAKERS]
    assert all(found)
    assert set().union(*found) == place.taking


@pytest.mark.parametrize(
    "route",
    ["/gradio_api/run/predict", "/gradio_api/run/read_2", "/gradio_api/api/read_2", "/gradio_api/queue/join",
     "/gradio_api/queue/join/", "/gradio_api/call/read_2", "/gradio_api/api/predict/"],
)  # fmt: skip
def test_no_route_to_an_event_goes_past_the_judge(place: Place, route: str) -> None:
    number = place.number("pnginfo_image", "change")
    assert place.page.fns[number].api_name == "read_2"
    with place.visitor() as client:
        body = {"fn_index": number, "session_hash": "route" + route, "data": [file_data("/etc/passwd")]}
        assert client.post(route, json=body).status_code in (403, 404, 307)
        del body["fn_index"]
        assert client.post(route, json=body).status_code in (403, 404, 307)


@pytest.mark.parametrize(
    "payload",
    [
        {"url": "http://169.254.169.254/latest/meta-data/"},
        {"path": "http://127.0.0.1:1/x.png"},
        {"path": "https://example.com/x.png", "url": "https://example.com/x.png"},
        {"path": "file:///etc/passwd"},
        {"path": "ftp://127.0.0.1/x"},
        {"path": "data:image/png;base64,AAAA"},
        {"path": "/gradio_api/file=/etc/passwd"},
        {"path": "../../../../etc/passwd"},
        {"path": "~/.bashrc"},
        {"path": "C:\\Windows\\win.ini"},
        {"path": "\\\\host\\share\\x.png"},
        {"path": "/etc/passwd\0.png"},
        {"path": ""},
        {"path": None},
        {"path": ["/etc/passwd"]},
        {"path": "/etc/passwd", "is_stream": True},
        {"path": "/" + "a" * 5000},
    ],
    ids=str,
)
def test_no_spelling_of_a_file_elsewhere_is_taken(place: Place, payload: dict[str, Any]) -> None:
    number = place.number("pnginfo_image", "change")
    with place.visitor() as client:
        for marked in (payload, {**payload, "meta": {"_type": "gradio.FileData"}}):
            for nested in (marked, [marked], {"value": marked}, {"a": [{"b": [marked]}]}):
                assert place.ask(client, number, nested).status_code == 403
            assert place.ask(client, number, None, event_data={"value": {"image": marked}}).status_code == 403


def test_a_file_address_elsewhere_is_refused_beside_a_good_path(place: Place) -> None:
    number = place.number("pnginfo_image", "change")
    with place.visitor() as client:
        path = upload(client)
        for url in ("http://169.254.169.254/gradio_api/file=x", "gopher://x/", "//evil.example/gradio_api/file=x"):
            assert place.ask(client, number, file_data(path, url=url)).status_code == 403
        own = f"{place.url}/gradio_api/file={path}"
        assert place.ask(client, number, file_data(path, url=own)).status_code == 200


def test_ones_own_upload_is_read_and_shown_and_nobody_elses(place: Place) -> None:
    number = place.number("pnginfo_image", "change")
    with place.visitor() as mine, place.visitor() as other, httpx.Client(base_url=place.url) as stranger:
        path = upload(mine, picture("a red square"))
        answer = place.ask(mine, number, file_data(path))
        assert answer.status_code == 200, answer.text
        assert "a red square" in answer.text
        assert mine.get(f"/gradio_api/file={path}").content == picture("a red square")
        assert place.ask(other, number, file_data(path)).status_code == 403
        for client in (other, stranger):
            for route in ("/gradio_api/file=", "/gradio_api/file/"):
                found, missing = client.get(route + path), client.get(route + path + "x")
                assert found.status_code == missing.status_code == 403
                assert found.content == missing.content


def test_what_an_event_hands_out_may_be_used_by_who_got_it(place: Place) -> None:
    with place.visitor() as mine, place.visitor() as other:
        path = upload(mine)
        answer = place.ask(mine, place.number("extras_tab"), file_data(path))
        given = next(item["path"] for item in answer.json()["data"] if isinstance(item, dict) and "path" in item)
        assert mine.get(f"/gradio_api/file={given}").status_code == 200
        assert place.ask(mine, place.number("pnginfo_image", "change"), file_data(given)).status_code == 200
        assert other.get(f"/gradio_api/file={given}").status_code == 403


def test_outputs_are_for_who_made_them(place: Place) -> None:
    folder = place.services.paths.outputs / "txt2img-images"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "secret.png").write_bytes(picture())
    with place.visitor() as client:
        assert client.get(f"/gradio_api/file={folder / 'secret.png'}").status_code == 403
        number = place.number("pnginfo_image", "change")
        assert place.ask(client, number, file_data(str(folder / "secret.png"))).status_code == 403


def test_more_files_than_an_event_takes_are_refused(place: Place) -> None:
    with place.visitor() as client:
        path = upload(client)
        number = place.number("pnginfo_image", "change")
        assert place.ask(client, number, [file_data(path), file_data(path)]).status_code == 403
        assert (
            place.ask(client, place.number("txt2img_styles_edit_select", "change"), file_data(path)).status_code == 403
        )


def test_links_pipes_devices_and_folders_are_no_files(tmp_path: Path) -> None:
    files = VisitorFiles(tmp_path / "gradio" / "visitors", givers=[tmp_path / "outputs"])
    own = files.uploads_of("me")
    own.mkdir(parents=True)
    (tmp_path / "secret").write_text("x")
    (own / "link").symlink_to(tmp_path / "secret")
    (own / "folder").mkdir()
    (own / "way").symlink_to(tmp_path)
    os.mkfifo(own / "pipe")
    (own / "loop").symlink_to(own / "loop")
    (own / "zero").symlink_to("/dev/zero")
    for name in ("link", "folder", "pipe", "loop", "zero", "way/secret", "missing", "../you/x", "x\0y", "a" * 300):
        with pytest.raises(Refused):
            files.check_given("me", f"{own}/{name}")
    (own / "fine").write_text("x")
    assert files.check_given("me", str(own / "fine")) == (own / "fine").resolve()
    with (own / "huge").open("wb") as huge:
        huge.truncate(2 << 30)  # sparse
    with pytest.raises(Refused):
        files.check_given("me", str(own / "huge"))
    for path in (tmp_path / "secret", own / "link", Path("/etc/passwd")):
        with pytest.raises(Refused):
            files.hand_out("me", str(path))


def test_a_link_put_where_a_file_was_handed_out_is_not_followed(tmp_path: Path) -> None:
    outputs = tmp_path / "outputs"
    outputs.mkdir()
    files = VisitorFiles(tmp_path / "gradio" / "visitors", givers=[outputs])
    (outputs / "a.png").write_text("x")
    files.hand_out("me", str(outputs / "a.png"))
    files.check_given("me", str(outputs / "a.png"))
    (outputs / "a.png").unlink()
    (outputs / "a.png").symlink_to("/etc/passwd")
    with pytest.raises(Refused):
        files.check_given("me", str(outputs / "a.png"))


# Events and sessions


def test_events_are_for_browsers_that_loaded_the_page(place: Place) -> None:
    number = place.number("txt2img_interrupt")
    with httpx.Client(base_url=place.url) as stranger, place.visitor() as visitor:
        assert place.ask(stranger, number).status_code == 403
        cookie, own = next(iter(visitor.cookies.items()))
        nonce, _, signature = own.split(".")
        of_a_user = f"{nonce}.{owner_of_user('anna')}.{signature}"
        for made_up in ("", "x", "0" * 32 + "." + "0" * 64, "é", of_a_user):
            header = {"Cookie": f"{cookie}={made_up}".encode()}
            body = {"fn_index": number, "session_hash": "made-up", "data": []}
            assert stranger.post(EVENTS, json=body, headers=header).status_code == 403
        assert place.ask(visitor, number).status_code == 200


def test_a_session_belongs_to_the_visitor_who_opened_it(place: Place) -> None:
    number = place.number("txt2img_interrupt")
    with place.visitor() as mine, place.visitor() as other:
        assert place.ask(mine, number, session_hash="mine").status_code == 200
        assert place.ask(other, number, session_hash="mine").status_code == 403
        assert other.get("/gradio_api/queue/data", params={"session_hash": "mine"}).status_code == 403
        assert other.get("/gradio_api/heartbeat/mine").status_code == 403
        assert other.get("/gradio_api/call/read_2/mine").status_code == 403
        cancel = {"session_hash": "mine", "fn_index": number, "event_id": "x"}
        assert other.post("/gradio_api/cancel", json=cancel).status_code == 403
        assert mine.post("/gradio_api/cancel", json=cancel).status_code == 200


@pytest.mark.parametrize("number", ["7", 7.0, True, [7], {"a": 1}])
def test_an_event_is_named_by_a_whole_number(place: Place, number: object) -> None:
    with place.visitor() as client:
        body = {"fn_index": number, "session_hash": "odd", "data": []}
        assert client.post(EVENTS, json=body).status_code == 422


def test_events_that_are_not_there_or_have_no_function(place: Place) -> None:
    with place.visitor() as client:
        scripted = next(number for number, fn in place.page.fns.items() if fn.fn is None)
        for number in (-1, 10**6, scripted):
            body = {"fn_index": number, "session_hash": "none", "data": []}
            assert client.post(EVENTS, json=body).status_code == 404


def test_the_page_cookie_is_hidden_from_scripts_and_other_sites(place: Place) -> None:
    header = httpx.get(place.url).headers["set-cookie"].lower()
    assert "httponly" in header
    assert "samesite=lax" in header
    assert "secure" not in header
    proxied = httpx.get(place.url, headers={"X-Forwarded-Proto": "https"}).headers["set-cookie"].lower()
    assert "; secure" in proxied


# Quotas


def test_uploads_have_a_quota_for_one_and_for_all(tmp_path: Path) -> None:
    files = VisitorFiles(tmp_path / "gradio" / "visitors", max_of_one=100, max_of_all=150)
    assert files.room_for("me") == 100
    for owner, size in (("me", 60), ("you", 60)):
        folder = files.uploads_of(owner) / "x"
        folder.mkdir(parents=True)
        (folder / "file").write_bytes(b"x" * size)
    assert files.room_for("me") == 30
    (files.uploads_of("me") / "more").write_bytes(b"x" * 40)
    with pytest.raises(TooMuch):
        files.room_for("me")
    with pytest.raises(WebuiError):
        files.room_for("third")
    old = (files.uploads_of("me") / "more").stat().st_mtime - DAY - 10
    os.utime(files.uploads_of("me") / "more", (old, old))
    assert files.room_for("me") == 30
    files.sweep()
    assert not (tmp_path / "gradio").exists()
