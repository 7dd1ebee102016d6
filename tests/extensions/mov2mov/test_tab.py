"""The tab in a browser: from a clip to a film that plays."""

from __future__ import annotations

from pathlib import Path

from playwright.sync_api import Browser, expect

from extensions.mov2mov.parameters import Frames
from extensions.mov2mov.plan import frame_prompts
from extensions.mov2mov.tab import frame_count, frame_shown, with_key, without_key
from tests.browsing import Visit
from tests.running import Server
from tests.video.clips import moving_square, number_of, numbered, write_clip
from webui.video import open_video

UPSTREAM = (
    *("mov2mov_prompt", "mov2mov_neg_prompt", "mov2mov_styles", "mov2mov_generate", "mov2mov_interrupt"),
    *("mov2mov_skip", "mov2mov_mov", "mov2mov_resize_mode", "mov2mov_width", "mov2mov_height", "mov2mov_sampling"),
    *("mov2mov_steps", "mov2mov_cfg_scale", "mov2mov_denoising_strength", "mov2mov_noise_multiplier"),
    *("mov2mov_movie_frames", "mov2mov_max_frames", "mov2mov_seed", "mov2mov_override_settings", "mov2mov_save"),
)


def test_from_a_clip_to_a_film_that_plays(browser: Browser, server: Server, tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "my clip.mp4", moving_square(6), 6, sound="aac", seconds=1)
    visit = Visit(browser, server.url)
    try:
        page = visit.open()
        page.get_by_role("tab", name="mov2mov").click()
        for elem_id in UPSTREAM:
            expect(page.locator(f"#{elem_id}")).to_have_count(1)
        page.click("#mov2mov_generate")
        expect(page.locator("#html_log_mov2mov")).to_contain_text("There is no video yet")
        page.set_input_files("#mov2mov_mov input[type=file]", str(clip))
        expect(page.locator("#mov2mov_mov video")).to_be_visible()
        page.fill("#mov2mov_prompt textarea", "a harbour")
        for elem_id, value in (("steps", 2), ("width", 64), ("height", 64), ("max_frames", 4)):
            visit.set_number(f"mov2mov_{elem_id}", value)
        page.locator("#mov2mov_editor button.label-wrap").click()
        expect(page.locator("#mov2mov_frame_number input[type=range]")).to_have_attribute("max", "4")
        expect(page.locator("#mov2mov_frame img")).to_be_visible()
        visit.set_number("mov2mov_frame_number", 3)
        page.click("#mov2mov_add_key")
        expect(page.locator("#mov2mov_prompts textarea")).to_have_value("3: ")
        page.click("#mov2mov_remove_key")
        expect(page.locator("#mov2mov_prompts textarea")).to_have_value("")
        page.click("#mov2mov_generate")
        film = page.locator("#mov2mov_video video")
        expect(film).to_be_visible()
        expect(page.locator("#html_log_mov2mov")).to_contain_text("4 of 4 frames")
        played = """async (film) => {
            film.muted = true;
            await film.play();
            await new Promise((done) => { film.onended = done; setTimeout(done, 20000); });
            return [film.currentTime, film.duration, film.videoWidth, film.error === null];
        }"""
        at, seconds, width, went_well = film.evaluate(played)
        assert went_well
        assert width == 64
        assert abs(seconds - 4 / 6) < 0.1
        assert at > 0.5
        left, right = page.locator("#mov2mov_mov").bounding_box(), page.locator("#mov2mov_video").bounding_box()
        assert left is not None
        assert right is not None
        assert right["x"] >= left["x"] + left["width"]  # the player stands beside the form
        with page.expect_download() as saved:
            page.click("#mov2mov_save")
        saved.value.save_as(tmp_path / "saved.mp4")
        assert open_video(tmp_path / "saved.mp4").count == 4
        assert set(visit.complaints) <= {"Method not implemented."}  # Gradio's own, after every upload
    finally:
        visit.close()


def test_key_frames_are_listed_in_order() -> None:
    text = with_key("10: rain", 3)
    assert text == "3: \n10: rain"
    assert with_key(text, 10) == text
    assert without_key(text, 10) == "3: "
    assert with_key("snow\nrain", 4) == "snow\nrain\n4: "  # what is written stays, also where it means nothing
    assert frame_prompts(with_key(without_key(text, 3), 12)) == {9: "rain", 11: ""}


def test_the_frame_that_is_shown_is_the_films(tmp_path: Path) -> None:
    clip = str(write_clip(tmp_path / "clip.mp4", numbered(12), 12))
    frames = tuple(Frames(keep_source_fps=False, movie_fps=6, start=0.5).model_dump().values())
    assert frame_count(clip, *frames) == 3
    assert [number_of(frame_shown(number, clip, *frames)) for number in (1, 2, 3, 9)] == [7, 9, 11, 11]
    (tmp_path / "no.mp4").write_bytes(b"no video")
    assert frame_shown(1, str(tmp_path / "no.mp4"), *frames) is None
    assert frame_count(None, *frames) == 2
