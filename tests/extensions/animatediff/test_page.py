"""From a prompt to a clip that plays, in a browser, and what the API answers."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import Image
from playwright.sync_api import Browser, expect

from tests.browsing import Visit
from tests.extensions.animatediff.motion_files import write_motion
from tests.running import Server
from tests.tiny import tiny_checkpoint
from webui.video import open_video

pytestmark = pytest.mark.browser

LABELS = {
    "motion-module": "Motion module", "save-format": "Save format", "enable": "Enable AnimateDiff",
    "video-length": "Number of frames", "fps": "FPS", "loop-number": "Display loop number",
    "closed-loop": "Closed loop", "batch-size": "Context batch size", "stride": "Stride", "overlap": "Overlap",
    "interp-choice": "Frame Interpolation", "interp-x": "Interp X", "freeinit-enable": "Enable FreeInit",
    "freeinit-filter": "Filter", "freeinit-ds": "d_s", "freeinit-dt": "d_t", "freeinit-iters": "FreeInit Iterations",
}  # fmt: skip
OF_PICTURES = {
    "latent-power": "Latent power", "latent-scale": "Latent scale", "last-frame": "Optional last frame",
    "latent-power-last": "Optional latent power for last frame",
    "latent-scale-last": "Optional latent scale for last frame",
}  # fmt: skip


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    data = tmp_path_factory.mktemp("animated")
    tiny_checkpoint(data / "models" / "Stable-diffusion", unet_groups=32)
    write_motion(data / "models" / "AnimateDiff", "AnimateDiff v3", name="mm_tiny")
    running = Server(data)
    running.start()
    yield running
    assert running.stop() == 0


def test_from_a_prompt_to_a_clip_that_plays(browser: Browser, server: Server, tmp_path: Path) -> None:
    visit = Visit(browser, server.url)
    try:
        page = visit.open()
        page.get_by_role("tab", name="img2img", exact=True).click()
        for part in ("", "-freeinit", "-i2v"):
            page.locator(f"#img2img-ad{part} > button").click()
        for name, label in {**LABELS, **OF_PICTURES}.items():
            expect(page.locator(f"#img2img-ad-{name}")).to_contain_text(label)
        page.get_by_role("tab", name="txt2img", exact=True).click()
        visit.fill_in("a harbour\n0: morning\n3: evening", "txt2img", steps=2, width=64, height=64)
        page.fill("#txt2img_seed textarea, #txt2img_seed input", "5")
        for part in ("", "-freeinit"):
            page.locator(f"#txt2img-ad{part} > button").click()
        for name, label in LABELS.items():
            expect(page.locator(f"#txt2img-ad-{name}")).to_contain_text(label)
        expect(page.locator("#txt2img-ad-last-frame")).to_have_count(0)
        page.check("#txt2img-ad-enable input")
        expect(page.locator("#txt2img-ad-motion-module input")).to_have_value("mm_tiny.safetensors")
        page.locator("#txt2img-ad-save-format").get_by_label("MP4").check()
        visit.set_number("txt2img-ad-video-length", 6)
        visit.set_number("txt2img-ad-batch-size", 4)
        with visit.job():
            page.click("#txt2img_generate")
        expect(page.locator("#html_info_txt2img")).to_contain_text("video_length: 6")
        thumbnails = page.locator("#txt2img_gallery .thumbnail-small")
        expect(thumbnails).to_have_count(2)
        thumbnails.nth(1).click()
        film = page.locator("#txt2img_gallery video[data-testid=detailed-video]")
        expect(film).to_be_visible()
        played = """async (film) => {
            film.muted = true;
            await film.play();
            await new Promise((done) => { film.onended = done; setTimeout(done, 20000); });
            return [film.currentTime, film.duration, film.videoWidth, film.error === null];
        }"""
        at, seconds, width, went_well = film.evaluate(played)
        assert went_well
        assert (width, seconds) == (64, pytest.approx(6 / 8, abs=0.1))
        assert at > 0.3
        page.screenshot(path=tmp_path / "clip.png")
        folder = next((server.data / "outputs" / "txt2img-images" / "AnimateDiff").iterdir())
        assert sorted(path.name for path in folder.iterdir()) == ["00000-5", "00000-5.gif", "00000-5.mp4"]
        assert open_video(folder / "00000-5.mp4").count == 6
        page.click("#txt2img-ad-remove")
        expect(page.get_by_text("1 motion module is removed")).to_be_visible()
        page.click("#txt2img-ad-unload")
        expect(page.get_by_text("No motion module is in main memory.")).to_be_visible()
        visit.reload()
        page.click("#paste")
        page.locator("#txt2img-ad > button").click()
        expect(page.locator("#txt2img-ad-enable input")).to_be_checked()
        assert visit.number("txt2img-ad-batch-size") == 4
        assert set(visit.complaints) <= {"Method not implemented."}
    finally:
        visit.close()


def test_clips_of_a_later_file_are_listed_after_a_refresh(browser: Browser, server: Server) -> None:
    visit = Visit(browser, server.url)
    try:
        page = visit.open()
        page.locator("#txt2img-ad > button").click()
        write_motion(server.data / "models" / "AnimateDiff", "AnimateDiff v2", name="mm_late")
        page.click("#txt2img-ad-refresh-motion-module")
        visit.choose("#txt2img-ad-motion-module input", "mm_late.safetensors")
        expect(page.locator("#txt2img-ad-motion-module input")).to_have_value("mm_late.safetensors")
    finally:
        visit.close()


def ask(server: Server, **clip: Any) -> httpx.Response:
    body = {
        "prompt": "a cat", "seed": 7, "steps": 2, "width": 64, "height": 64, "sampler_name": "Euler",
        "alwayson_scripts": {
            "AnimateDiff": {
                "args": [{"enable": True, "model": "mm_tiny", "video_length": 4, "batch_size": 4, **clip}]
            }
        },
    }  # fmt: skip
    return httpx.post(f"{server.url}/sdapi/v1/txt2img", json=body, timeout=120)


def test_the_api_answers_with_the_videos(server: Server) -> None:
    answer = ask(server, format=["GIF", "MP4", "PNG", "TXT"], video_default=False, prompt_scheduler=None).json()
    gif, film = (base64.b64decode(item) for item in answer["images"])
    assert Image.open(io.BytesIO(gif)).n_frames == 4  # type: ignore[attr-defined]
    assert film[4:8] == b"ftyp"
    info = json.loads(answer["info"])
    assert len(info["infotexts"]) == len(info["all_seeds"]) == 4
    assert [file["role"] for file in answer["files"]] == ["text"]
    assert base64.b64decode(answer["files"][0]["data"]).decode() == info["infotexts"][0]
    assert "comments" not in info
    frames = ask(server, format=["PNG"], odd=1).json()
    assert len(frames["images"]) == 4
    assert any('no parameter "odd"' in comment for comment in json.loads(frames["info"])["comments"])


@pytest.mark.parametrize(
    ("clip", "status", "says"),
    [
        ({"model": "nosuch"}, 404, "no motion module"),
        ({"format": ["TXT"]}, 422, "no format"),
        ({"batch_size": 40, "video_length": 40}, 422, "knows 32 frames at a time"),
        ({"file": "/etc/passwd", "fps": 0}, 422, "FPS"),
    ],
)  # fmt: skip
def test_mistakes_are_answered_in_a_sentence(server: Server, clip: dict[str, Any], status: int, says: str) -> None:
    answer = ask(server, **clip)
    assert (answer.status_code, says in answer.text) == (status, True), answer.text
