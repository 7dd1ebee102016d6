"""The Deforum tab in a browser: an animation from the form, a mistake, settings saved and loaded."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from tests.browsing import Visit
from tests.running import Server

pytestmark = pytest.mark.browser
PLAYS = """selector => {
  const video = document.querySelector(selector);
  if (!video || video.readyState < 2) return false;
  video.muted = true;
  video.play();
  return video.currentTime > 0 && [video.videoWidth, video.videoHeight];
}"""
"""The size of a video that the browser plays."""


def test_an_animation_from_the_form(browser: Browser, server: Server, tmp_path: Path) -> None:
    visit = Visit(browser, server.url)
    page = visit.open()
    page.click("#tab_deforum-button")
    for name, value in (("W", 64), ("H", 64), ("steps", 1)):
        visit.set_number(f"deforum_{name}", value)
    visit.tick("deforum_motion_preview_mode")
    page.get_by_role("tab", name="Keyframes").click()
    visit.set_number("deforum_max_frames", 3)

    page.get_by_role("tab", name="Prompts").click()
    page.fill("#deforum_prompts textarea", '{"0": "a `1/t` cat"}')
    page.click("#deforum_generate")
    expect(page.locator("#html_log_deforum")).to_contain_text("prompts, frame 0")

    page.fill("#deforum_prompts textarea", '{"0": "a cat --neg a dog"}')
    with visit.job("deforum"):
        page.click("#deforum_generate")
    assert page.wait_for_function(PLAYS, arg="#deforum_video video").json_value() == [64, 64]
    made = list((server.data / "outputs" / "img2img-images").glob("Deforum_*/*.mp4"))
    assert len(made) == 1
    assert len(list(made[0].parent.glob("*_00000000[0-2].png"))) == 3

    page.fill("#deforum_settings_path textarea, #deforum_settings_path input", str(tmp_path / "mine.txt"))
    page.click("#deforum_save_settings")
    expect(page.locator("#deforum_settings_told")).to_contain_text("Saved as")
    saved = json.loads((tmp_path / "mine.txt").read_text())
    assert (saved["W"], saved["max_frames"], saved["motion_preview_mode"]) == (64, 3, True)
    assert saved["prompts"] == {"0": " a cat --neg a dog  "}
    (tmp_path / "mine.txt").write_text(json.dumps({**saved, "max_frames": 7, "cn_1_weight": "0:(0.5)", "odd": 1}))
    page.click("#deforum_load_settings")
    expect(page.locator("#deforum_settings_told")).to_contain_text("odd")
    page.get_by_role("tab", name="Keyframes").click()
    expect(page.locator("#deforum_max_frames input")).to_have_value("7")
    page.click("#deforum_save_settings")
    expect(page.locator("#deforum_settings_told")).to_contain_text("Saved as")
    again = json.loads((tmp_path / "mine.txt").read_text())
    assert (again["max_frames"], again["cn_1_weight"]) == (7, "0:(0.5)")
    visit.close()


def test_presets_curves_units_and_several_files(browser: Browser, server: Server, tmp_path: Path) -> None:
    visit = Visit(browser, server.url)
    page = visit.open()
    page.click("#tab_deforum-button")
    page.get_by_role("tab", name="Keyframes").click()
    page.locator("#tab_deforum button.label-wrap", has_text="Motion").click()
    angle = page.locator("#deforum_angle textarea, #deforum_angle input")
    angle.fill("0:(0), 60:(90)")
    expect(page.locator("#deforum_plots figcaption", has_text="Angle: 0 to 90")).to_be_visible()
    angle.press_sequentially(", 70:(nope)")
    expect(page.locator("#deforum_plots")).to_contain_text("angle, column 20")
    angle.fill("0:(0)")
    expect(page.locator("#deforum_plots figcaption", has_text="Angle")).to_have_count(0)

    page.click("#deforum_preset input")
    page.get_by_role("option", name="Flight through five scenes").click()
    expect(page.locator("#deforum_max_frames input")).to_have_value("500")
    expect(page.locator("#deforum_plots figcaption", has_text="Translation X: 0 to 15")).to_be_visible()

    page.get_by_role("tab", name="ControlNet", exact=True).last.click()
    expect(page.locator("#deforum_units")).to_contain_text("Loopback mode")
    page.fill("#deforum_settings_path textarea, #deforum_settings_path input", str(tmp_path / "flight.txt"))
    page.click("#deforum_save_settings")
    expect(page.locator("#deforum_settings_told")).to_contain_text("Saved as")
    saved = json.loads((tmp_path / "flight.txt").read_text())
    assert saved["rotation_3d_x"] == "0: (0), 60:(0), 90:(0.5), 179:(0), 180:(150), 300:(0.5)"
    assert (saved["cn_1_enabled"], saved["cn_5_weight"], saved["cn_5_processor_res"]) == (False, "0:(1)", 64)

    small = {**saved, "W": 64, "H": 64, "max_frames": 2, "motion_preview_mode": True, "cn_2_model": "tiny",
             "cn_2_loopback_mode": True}  # fmt: skip
    for name in ("one", "two"):
        (tmp_path / f"{name}.txt").write_text(json.dumps({**small, "batch_name": f"several_{name}"}))
    page.fill("#deforum_settings_path textarea, #deforum_settings_path input", str(tmp_path / "one.txt"))
    page.click("#deforum_load_settings")
    expect(page.locator("#deforum_settings_told")).to_contain_text("Loaded.")
    expect(page.locator("#deforum_units")).to_contain_text("tiny")
    page.fill("#deforum_several textarea", f"{tmp_path / 'one.txt'}\n{tmp_path / 'gone.txt'}")
    page.click("#deforum_generate")
    expect(page.locator("#html_log_deforum")).to_contain_text("gone.txt")
    page.fill("#deforum_several textarea", f"{tmp_path / 'one.txt'}\n{tmp_path / 'two.txt'}")
    with visit.job("deforum"):
        page.click("#deforum_generate")
    outputs = server.data / "outputs" / "img2img-images"
    deadline = time.monotonic() + 60
    while not list(outputs.glob("several_two/*.mp4")):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert len(list(outputs.glob("several_one/*.mp4"))) == 1
    visit.close()
