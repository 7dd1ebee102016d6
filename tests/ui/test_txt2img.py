"""Generating from the page, and what happens to what was generated."""

from __future__ import annotations

import csv
import re
import shutil
from typing import Any

import httpx
import pytest
from playwright.sync_api import expect

from tests.browsing import Visit

PROMPT = "#txt2img_prompt textarea"
NEGATIVE = "#txt2img_neg_prompt textarea"
INFO = "#html_info_txt2img"
LOG = "#html_log_txt2img"


def test_generate_shows_a_picture_of_the_native_size_with_its_infotext(visit: Visit) -> None:
    size = visit.number("txt2img_width")
    visit.generate("a red <b>cat</b>", steps=2)
    assert visit.picture_width() == size
    expect(visit.page.locator(INFO)).to_contain_text("a red <b>cat</b>")  # as text, not as bold
    expect(visit.page.locator(INFO)).to_contain_text(f"Size: {size:.0f}x{size:.0f}")
    expect(visit.page.locator(INFO)).to_contain_text("CFG scale: 7,")  # as A1111's page, where the API has 7.0
    expect(visit.page.locator(LOG)).to_contain_text("Time taken:")
    assert visit.complaints == []


def test_the_infotext_follows_the_chosen_picture(visit: Visit) -> None:
    visit.generate("two", steps=1, batch_count=2, seed=5)
    visit.picture_width()
    thumbnails = visit.page.locator("#txt2img_gallery .thumbnails button.thumbnail-item")
    expect(thumbnails).to_have_count(3)  # the grid is the first
    thumbnails.nth(2).click()
    expect(visit.page.locator(INFO)).to_contain_text("Seed: 6,")
    visit.page.click("#txt2img_reuse_seed")
    expect(visit.page.locator("#txt2img_seed input")).to_have_value("6")
    visit.page.click("#txt2img_random_seed")
    expect(visit.page.locator("#txt2img_seed input")).to_have_value("-1")


def test_a_reloaded_page_finds_its_picture_and_form_again(visit: Visit) -> None:
    visit.generate("remember me", steps=3, cfg_scale=5)
    width = visit.picture_width()
    visit.page.fill(NEGATIVE, "typed later")
    visit.page.wait_for_function("sessionStorage.getItem('easel_txt2img_neg_prompt') === 'typed later'")
    visit.reload()
    assert visit.picture_width() == width
    expect(visit.page.locator(INFO)).to_contain_text("remember me")
    expect(visit.page.locator(PROMPT)).to_have_value("remember me")
    expect(visit.page.locator(NEGATIVE)).to_have_value("typed later")
    visit.expect_numbers("txt2img", cfg_scale=5)


def test_a_page_reloaded_meanwhile_finds_the_running_job_again(visit: Visit) -> None:
    visit.start_endless("still running")
    visit.reload()
    visit.wait_for_steps()
    visit.interrupt()
    visit.picture_width()
    expect(visit.page.locator(INFO)).to_contain_text("still running")


def test_a_page_reloaded_before_its_job_arrives_finds_it(visit: Visit) -> None:
    visit.page.evaluate("sessionStorage.setItem('txt2img_task_id', 'task(late)')")
    visit.reload()
    with visit.page.expect_response("**/internal/progress") as asked:
        pass
    assert not asked.value.json()["active"]
    body = {"prompt": "arrived late", "steps": 1, "width": 64, "height": 64, "force_task_id": "task(late)"}
    httpx.post(f"{visit.url}/sdapi/v1/txt2img", json=body, timeout=60).raise_for_status()
    assert visit.picture_width() == 64
    expect(visit.page.locator(INFO)).to_contain_text("arrived late")


def test_interrupt_ends_the_job_with_the_picture_so_far(visit: Visit) -> None:
    visit.start_endless("long")
    expect(visit.page.locator(".progressDiv")).to_contain_text("%")
    visit.page.wait_for_function("document.querySelector('.livePreview img')?.naturalWidth > 0")
    visit.interrupt()
    assert visit.picture_width() > 0
    expect(visit.page.locator(".progressDiv")).to_have_count(0)
    assert visit.page.title() == "Stable Diffusion"


def test_keys_generate_and_interrupt(visit: Visit) -> None:
    visit.fill_in("by keyboard", "txt2img", steps=150, batch_count=100)
    visit.page.focus(PROMPT)
    visit.page.keyboard.press("Control+Enter")
    visit.wait_for_steps()
    visit.page.keyboard.press("Escape")
    visit.wait_idle()
    visit.picture_width()


def test_a_bad_request_is_told_in_one_sentence(visit: Visit) -> None:
    visit.page.fill(PROMPT, "odd seed")
    visit.page.fill("#txt2img_seed input", "ten")
    visit.page.click("#txt2img_generate")
    problem = visit.page.locator(f"{LOG} .error")
    expect(problem).to_contain_text("Seed (seed) must be")
    assert "Traceback" not in problem.inner_text()
    visit.wait_idle()


def test_tokens_are_counted_while_typing(visit: Visit) -> None:
    visit.page.fill(PROMPT, "a cat, sitting")
    expect(visit.page.locator("#txt2img_token_counter")).to_have_text("4/75")
    visit.page.fill(NEGATIVE, "cat " * 80)
    expect(visit.page.locator("#txt2img_negative_token_counter")).to_have_text("80/150")


def test_the_switch_swaps_width_and_height(visit: Visit) -> None:
    visit.set_number("txt2img_width", 192)
    visit.set_number("txt2img_height", 64)
    visit.page.click("#txt2img_res_switch_btn")
    expect(visit.page.locator("#txt2img_width input[type=number]")).to_have_value("64")
    expect(visit.page.locator("#txt2img_height input[type=number]")).to_have_value("192")


def test_the_hires_accordion_opens_by_its_checkbox_and_tells_the_size(visit: Visit) -> None:
    visit.set_number("txt2img_width", 64)
    visit.set_number("txt2img_height", 128)
    upscaler = visit.page.locator("#txt2img_hr_upscaler")
    expect(upscaler).to_be_hidden()
    visit.page.check("#txt2img_hr-checkbox input")
    expect(upscaler).to_be_visible()
    expect(visit.page.locator("#txtimg_hr_finalres")).to_have_text("from 64x128 to 128x256")
    visit.page.click("#txt2img_hr .input-accordion-arrow")
    expect(upscaler).to_be_hidden()


def test_styles_are_written_applied_and_deleted(visit: Visit) -> None:
    page = visit.page
    page.click("#txt2img_styles_edit_button")
    page.fill("#txt2img_styles_edit_select input", "engraving")
    page.press("#txt2img_styles_edit_select input", "Enter")
    page.fill("#txt2img_edit_style_prompt textarea", "engraving of {prompt}")
    page.fill("#txt2img_edit_style_neg_prompt textarea", "photo")
    page.click("#txt2img_edit_style_save")
    expect(page.locator(".toast-wrap")).to_contain_text("engraving is saved")
    page.click("#txt2img_edit_style_close")
    page.fill(PROMPT, "a ship")
    page.click("#txt2img_styles input")
    page.get_by_role("option", name="engraving").click()
    page.keyboard.press("Escape")
    page.click("#txt2img_style_apply")
    expect(page.locator(PROMPT)).to_have_value("engraving of a ship")
    expect(page.locator(NEGATIVE)).to_have_value("photo")
    page.click("#txt2img_styles_edit_button")
    page.click("#txt2img_edit_style_delete")
    expect(page.locator("#txt2img_edit_style_prompt textarea")).to_have_value("")


def test_pasting_an_infotext_fills_the_form(visit: Visit) -> None:
    text = (
        "a (blue:1.2) bird\nNegative prompt: cage\n"
        "Steps: 7, Sampler: Euler a, Schedule type: Karras, CFG scale: 4.5, Seed: 99, Size: 128x64, "
        "Variation seed: 3, Variation seed strength: 0.25, Denoising strength: 0.5, Clip skip: 2, "
        "Hires upscale: 1.5, Hires upscaler: Lanczos, Version: v1.10.1"
    )
    visit.page.fill(PROMPT, text)
    visit.page.click("#paste")
    expect(visit.page.locator(PROMPT)).to_have_value("a (blue:1.2) bird")
    expect(visit.page.locator(NEGATIVE)).to_have_value("cage")
    visit.expect_numbers("txt2img", steps=7, cfg_scale=4.5, seed=99, width=128, height=64, hr_scale=1.5)
    expect(visit.page.locator("#txt2img_sampling input")).to_have_value("Euler a")
    expect(visit.page.locator("#txt2img_scheduler input")).to_have_value("Karras")
    expect(visit.page.locator("#txt2img_hr-checkbox input")).to_be_checked()
    expect(visit.page.locator("#txt2img_override_settings")).to_contain_text("Clip skip: 2")


def test_save_copies_the_picture_and_logs_it(visit: Visit, server: Any) -> None:
    visit.generate("saved, with a comma", steps=1, seed=11)
    visit.picture_width()
    visit.page.click("#save_txt2img")
    expect(visit.page.locator(f"{LOG} .saved")).to_contain_text("Saved:")
    folder = server.data / "log" / "images"
    with (folder / "log.csv").open(newline="", encoding="utf-8") as file:
        row = list(csv.DictReader(file))[-1]
    assert (row["prompt"], row["seed"]) == ("saved, with a comma", "11")
    assert (folder / row["filename"]).stat().st_size > 0


def test_without_a_picture_there_is_nothing_to_send(visit: Visit) -> None:
    visit.page.click("#txt2img_send_to_img2img")
    expect(visit.page.locator(".toast-wrap")).to_contain_text("There is no picture to send")
    expect(visit.page.locator(PROMPT)).to_be_visible()


def test_choosing_a_checkpoint_by_its_card(visit: Visit, server: Any) -> None:
    folder = server.data / "models" / "Stable-diffusion"
    copies = [shutil.copy(file, file.with_stem("by-card")) for file in folder.glob("tiny.*")]
    visit.page.click("#txt2img_checkpoints-button")
    for name in ("by-card", "tiny"):
        visit.page.locator("#txt2img_checkpoints .card", has_text=name).first.click()
        expect(visit.page.locator("#setting_sd_model_checkpoint input")).to_have_value(re.compile(f"^{name}"))
    for copy in copies:
        copy.unlink()


def test_the_sparkles_make_an_upscaled_version_of_the_chosen_picture(visit: Visit) -> None:
    visit.generate("small", steps=2, seed=21)
    width = visit.picture_width()
    visit.set_number("txt2img_seed", 22)
    with visit.job():
        visit.page.click("#txt2img_upscale")
    expect(visit.page.locator(INFO)).to_contain_text("Hires upscale: 2,")
    expect(visit.page.locator(INFO)).to_contain_text("Seed: 21,")
    assert visit.picture_width() == 2 * width


def test_zip_offers_an_archive(visit: Visit) -> None:
    visit.generate("zipped", steps=1)
    visit.picture_width()
    visit.page.click("#save_zip_txt2img")
    with visit.page.expect_download() as download:
        visit.page.click("#download_files_txt2img a")
    assert download.value.suggested_filename.endswith(".zip")


def test_ctrl_enter_starts_again_while_running(visit: Visit) -> None:
    visit.start_endless("first")
    visit.fill_in("second", "txt2img", steps=1, batch_count=1)
    visit.page.press(PROMPT, "Control+Enter")
    expect(visit.page.locator(INFO)).to_contain_text("second")


@pytest.mark.parametrize("seed", ["6687881544318117707", "-5"])
def test_a_long_seed_survives_the_page(visit: Visit, seed: str) -> None:
    text = f"a cat\nNegative prompt: ugly\nSteps: 1, Sampler: Euler a, CFG scale: 7, Seed: {seed}, Size: 64x64"
    visit.page.fill(PROMPT, text)
    visit.page.click("#paste")
    box = visit.page.locator("#txt2img_seed input")
    expect(box).to_have_value(seed)
    visit.generate("a long seed", steps=1, width=64, height=64)
    expect(visit.page.locator("#html_info_txt2img")).to_contain_text(f"Seed: {seed}")
    box.fill("-1")
    visit.page.click("#txt2img_reuse_seed")
    expect(box).to_have_value(seed)


def test_any_size_on_the_page(visit: Visit) -> None:
    visit.generate("odd size", steps=1, width=100, height=67)
    expect(visit.page.locator("#html_info_txt2img")).to_contain_text("Size: 100x67")
    picture = visit.page.locator("#txt2img_gallery img").first
    expect(picture).to_have_js_property("naturalWidth", 96)


def test_a_prompt_with_colons_survives_the_arrow(visit: Visit) -> None:
    text = "RAW photo, subject: woman, lens: 50mm, light: soft"
    visit.page.fill(PROMPT, text)
    visit.page.fill("#txt2img_neg_prompt textarea", "ugly")
    visit.page.click("#paste")
    visit.page.wait_for_timeout(1500)
    expect(visit.page.locator(PROMPT)).to_have_value(text)
    expect(visit.page.locator("#txt2img_neg_prompt textarea")).to_have_value("ugly")


def test_pictures_may_be_kept_from_the_gallery_and_their_end_be_heard(visit: Visit, server: Any) -> None:
    sound = server.data / "notification.mp3"
    sound.write_bytes(b"not really a sound")
    options = f"{server.url}/sdapi/v1/options"
    httpx.post(options, json={"do_not_show_images": True}, timeout=60).raise_for_status()
    try:
        visit.reload()
        visit.generate("unseen", steps=1)
        assert visit.page.locator("#txt2img_gallery img").count() == 0
        assert any(url.endswith("/settings/notification.mp3") for url in visit.requests)
    finally:
        sound.unlink()
        httpx.post(options, json={"do_not_show_images": False}, timeout=60).raise_for_status()
