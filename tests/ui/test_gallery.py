"""The Gallery tab in a real browser, and who may see what in it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from playwright.sync_api import Browser, Page, expect

from tests.api.server import serving
from tests.browsing import Visit
from tests.video.clips import numbered
from webui.api.guard import Guard
from webui.app import build_app
from webui.core.flags import parse_flags
from webui.services.belongings import is_for_one
from webui.services.building import build_services
from webui.video import write_video

HOSTILE = "<img src=x onerror=window.hacked=1>"
ROUTES = "/easel/v1/gallery"


def draw(outputs: Path, path: str, prompt: str, seed: int, colour: str = "red") -> None:
    file = outputs / path
    file.parent.mkdir(parents=True, exist_ok=True)
    texts = PngInfo()
    texts.add_text(
        "parameters", f"{prompt}\nSteps: 7, Sampler: Euler, CFG scale: 5, Seed: {seed}, Size: 64x64, Model: ink"
    )
    Image.new("RGB", (64, 64), colour).save(file, pnginfo=texts)


@contextmanager
def running(data: Path, *flags: str) -> Iterator[str]:
    services = build_services(parse_flags(["--data-dir", str(data), *flags], {})[0])
    with serving(Guard(build_app(services), listen="--listen" in flags)) as url:
        yield url
    services.checkpoints.close()


@pytest.fixture(scope="module")
def outputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("gallery") / "outputs"


@pytest.fixture(scope="module")
def visit(browser: Browser, outputs: Path) -> Iterator[Visit]:
    """The Gallery tab, with 150 pictures, a video and names that would like to be markup."""
    for number in range(150):
        draw(outputs, f"txt2img-images/{number:05}.png", f"picture number{number}", number)
    draw(outputs, "img2img-images/fox.png", f"a fox {HOSTILE}", 4711, "blue")
    draw(outputs, f"img2img-images/{HOSTILE.replace('/', '')}.png", "a <lora:fur:1> cat", 12)
    (outputs / "clips").mkdir()
    write_video(outputs / "clips" / "walk.mp4", numbered(4), 8, infotext="a walk\nSteps: 3, Sampler: Euler, Seed: 5")
    with running(outputs.parent) as url:
        visitor = Visit(browser, url)
        visitor.open()
        visitor.page.click("#tab_gallery-button")
        expect(visitor.page.locator("#gallery_status")).to_have_text("Found: 153.")
        yield visitor
        visitor.context.close()


@pytest.fixture
def page(visit: Visit) -> Iterator[Page]:
    """The tab, left as it was found."""
    yield visit.page
    visit.page.click("#tab_gallery-button")
    visit.page.fill("#gallery_search", "")
    for box in ("model", "lora", "kind"):
        visit.page.select_option(f"#gallery_{box}", "")


def test_pages_search_and_filters(page: Page) -> None:
    tiles = page.locator("#gallery_files figure")
    expect(tiles).to_have_count(100)
    expect(page.locator("#gallery_pages")).to_contain_text("of 2")
    page.get_by_role("button", name="Older").click()
    expect(tiles).to_have_count(53)
    page.fill("#gallery_search", "number14")
    expect(page.locator("#gallery_status")).to_have_text("Found: 11.")
    page.fill("#gallery_search", "")
    page.select_option("#gallery_lora", "fur")
    expect(tiles).to_have_count(1)
    page.select_option("#gallery_lora", "")
    page.select_option("#gallery_kind", "kind:video")
    expect(tiles).to_have_count(1)
    expect(tiles.locator(".gallery-mark")).to_be_visible()
    page.wait_for_function("document.querySelector('#gallery_files img').naturalWidth > 0")
    tiles.locator(".gallery-open").click()
    expect(page.locator("#gallery_detail video")).to_be_visible()
    expect(page.locator("#gallery_detail")).to_contain_text("a walk")
    assert page.evaluate("window.hacked") is None


def test_a_picture_is_opened_and_sent_with_everything_that_made_it(visit: Visit, page: Page) -> None:
    page.fill("#gallery_search", "fox")
    tiles = page.locator("#gallery_files figure")
    expect(tiles).to_have_count(1)
    tiles.locator(".gallery-open").click()
    expect(page.locator("#gallery_detail .gallery-infotext")).to_contain_text("Seed: 4711")
    page.locator("#gallery_detail").get_by_role("button", name="Send to txt2img").click()
    expect(page.locator("#txt2img_prompt textarea")).to_have_value(re.compile("a fox"))
    visit.expect_numbers("txt2img", steps=7, cfg_scale=5, seed=4711)
    page.click("#tab_gallery-button")
    page.locator("#gallery_detail").get_by_role("button", name="Send to img2img").click()
    expect(page.locator("#img2img_image img")).to_be_visible()
    expect(page.locator("#img2img_prompt textarea")).to_have_value(re.compile("a fox"))
    page.click("#tab_gallery-button")
    page.locator("#gallery_detail").get_by_role("button", name="Send to extras").click()
    expect(page.locator("#extras_image img")).to_be_visible()
    assert page.evaluate("window.hacked") is None


def test_two_are_compared(page: Page) -> None:
    page.fill("#gallery_search", '"picture number3" -number30')
    tiles = page.locator("#gallery_files figure")
    expect(page.locator("#gallery_compare")).to_be_disabled()
    page.fill("#gallery_search", "number3")
    expect(tiles).to_have_count(11)
    for number in (0, 1):
        tiles.nth(number).locator("input").check()
    page.click("#gallery_compare")
    expect(page.locator("#gallery_detail .gallery-compared img")).to_have_count(2)
    differences = page.locator("#gallery_differences tbody tr")
    expect(differences.filter(has_text="Seed")).to_have_count(1)
    expect(differences.filter(has_text="Steps")).to_have_count(0)
    page.get_by_role("button", name="Choose none").click()


def test_what_is_deleted_can_be_had_back(page: Page, outputs: Path) -> None:
    page.fill("#gallery_search", "number77")
    tiles = page.locator("#gallery_files figure")
    expect(tiles).to_have_count(1)
    tiles.locator("input").check()
    page.click("#gallery_delete")
    expect(tiles).to_have_count(0)
    assert not (outputs / "txt2img-images" / "00077.png").exists()
    page.click("#gallery_trash")
    expect(tiles).to_have_count(1)
    tiles.locator("input").check()
    page.click("#gallery_restore")
    expect(tiles).to_have_count(0)
    assert (outputs / "txt2img-images" / "00077.png").exists()
    page.click("#gallery_trash")
    expect(tiles).to_have_count(1)


@pytest.mark.parametrize(
    ("flags", "one"),
    [
        ([], True),
        (["--gradio-auth", "ann:x"], True),
        (["--listen", "--gradio-auth", "ann:x"], True),
        (["--gradio-auth", "ann:x,bob:y"], False),
        (["--listen"], False),
        (["--share"], False),
        (["--server-name", "0.0.0.0"], False),
    ],
)
def test_all_outputs_are_shown_where_one_person_uses_the_page(flags: list[str], one: bool) -> None:
    assert is_for_one(parse_flags(flags, {})[0]) is one


def test_nobody_sees_others_outputs_where_several_use_the_page(tmp_path: Path) -> None:
    draw(tmp_path / "outputs", "txt2img-images/secret.png", "a secret", 1)
    with running(tmp_path) as url, httpx.Client(base_url=url, timeout=60) as client:
        for _ in range(100):
            found = client.get(ROUTES).json()
            if found["total"] and not found["busy"]:
                break
        (file,) = found["files"]
    with running(tmp_path, "--listen") as url, httpx.Client(base_url=url, timeout=60) as client:
        assert client.get("/").status_code == 200
        for wish in ({}, {"trashed": True}, {"search": "secret"}):
            assert client.get(ROUTES, params=wish).json()["total"] == 0
        choices = client.get(f"{ROUTES}/choices").json()
        assert choices == {"models": [], "loras": [], "sections": [], "may_delete": False}
        for what in ("details", "thumbnail", "file"):
            answers = [client.get(f"{ROUTES}/{what}", params={"id": number}) for number in (file["id"], 999)]
            assert [answer.status_code for answer in answers] == [404, 404]
            assert answers[0].text == answers[1].text
        for what, body in (("delete", {"ids": [file["id"]]}), ("restore", {"ids": [file["id"]]}), ("empty", {})):
            assert client.post(f"{ROUTES}/{what}", json=body).status_code == 403
    assert (tmp_path / "outputs" / "txt2img-images" / "secret.png").exists()


def test_files_are_served_harmless_and_only_to_who_has_logged_in(tmp_path: Path) -> None:
    draw(tmp_path / "outputs", "txt2img-images/a.png", "x", 1)
    with running(tmp_path) as url, httpx.Client(base_url=url, timeout=60) as client:
        for _ in range(100):
            found = client.get(ROUTES).json()
            if found["total"]:
                break
        number = found["files"][0]["id"]
        answer = client.get(f"{ROUTES}/file", params={"id": number})
        assert answer.content == (tmp_path / "outputs" / "txt2img-images" / "a.png").read_bytes()
        assert answer.headers["content-security-policy"].startswith("sandbox")
        assert client.get(f"{ROUTES}/thumbnail", params={"id": number}).headers["content-type"] == "image/jpeg"
        assert client.get(f"{ROUTES}/details", params={"id": "../x"}).status_code == 422
        foreign = {"Origin": "https://evil.example"}
        assert client.post(f"{ROUTES}/delete", json={"ids": [number]}, headers=foreign).status_code == 403
    with running(tmp_path, "--gradio-auth", "ann:x") as url, httpx.Client(base_url=url, timeout=60) as client:
        for path in ("", "/choices", f"/details?id={number}", f"/thumbnail?id={number}", f"/file?id={number}"):
            assert client.get(f"{ROUTES}{path}").status_code == 401
        for path in ("delete", "restore", "empty"):
            assert client.post(f"{ROUTES}/{path}", json={"ids": [number]}).status_code == 401
        assert client.get("/easel/v1/extensions").status_code == 401
        assert client.post("/easel/v1/extensions/fetch", json={"url": "https://x.example/y"}).status_code == 401
