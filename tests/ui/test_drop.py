"""Pictures dropped and pasted on prompts and on PNG Info, in a real browser."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest
from PIL import Image
from playwright.sync_api import expect

from tests.browsing import Visit
from webui.core.pictures import encode_image

PROMPT = "#txt2img_prompt textarea"
LOG = "#html_log_txt2img"
INFOTEXT = "a dropped {}\nNegative prompt: rain\nSteps: 7, Sampler: Heun, CFG scale: 4.5, Seed: 99, Size: 128x64"

GIVE = """([selector, name, type, content, kind]) => {
  const bytes = Uint8Array.from(atob(content), (letter) => letter.charCodeAt(0));
  const transfer = new DataTransfer();
  transfer.items.add(new File([bytes], name, { type }));
  const target = document.querySelector(selector);
  const options = { bubbles: true, cancelable: true };
  const pasted = new ClipboardEvent("paste", { ...options, clipboardData: transfer });
  if (kind === "paste") return target.dispatchEvent(pasted);
  const over = target.dispatchEvent(new DragEvent("dragover", { ...options, dataTransfer: transfer }));
  target.dispatchEvent(new DragEvent("drop", { ...options, dataTransfer: transfer }));
  return over;
}"""
"""Drops or pastes a file on an element as a browser does; returns false when it was taken."""


def give(visit: Visit, selector: str, data: bytes, name: str = "x.png", kind: str = "drop") -> bool:
    types = {"png": "image/png", "jpg": "image/jpeg", "webp": "image/webp", "txt": "text/plain"}
    arguments = [selector, name, types[name.rpartition(".")[2]], base64.b64encode(data).decode(), kind]
    return not visit.page.evaluate(GIVE, arguments)


def picture(word: str, format: str = "png") -> bytes:
    return encode_image(Image.new("RGB", (32, 32), "teal"), format, INFOTEXT.format(word))  # type: ignore[arg-type]


def expect_filled(visit: Visit, word: str) -> None:
    expect(visit.page.locator(PROMPT)).to_have_value(f"a dropped {word}")
    expect(visit.page.locator("#txt2img_neg_prompt textarea")).to_have_value("rain")
    expect(visit.page.locator("#txt2img_seed input")).to_have_value("99")
    expect(visit.page.locator("#txt2img_sampling input")).to_have_value("Heun")
    visit.expect_numbers("txt2img", width=128, height=64)


def test_dropped_and_pasted_pictures_fill_the_form_one_after_the_other(visit: Visit) -> None:
    assert give(visit, PROMPT, picture("png"))
    expect_filled(visit, "png")
    assert give(visit, "#txt2img_neg_prompt textarea", picture("jpg", "jpg"), "x.jpg")
    expect_filled(visit, "jpg")
    assert give(visit, PROMPT, picture("webp", "webp"), "x.webp", kind="paste")
    expect_filled(visit, "webp")
    assert give(visit, PROMPT, INFOTEXT.format("text").encode(), "x.txt")
    expect_filled(visit, "text")
    assert set(visit.complaints) <= {"Method not implemented."}  # Gradio's own, after every upload


def test_what_can_be_reproduced_is_told_after_a_drop(visit: Visit) -> None:
    give(visit, PROMPT, picture("here"))
    summary = visit.page.locator(f"{LOG} .reproduce summary")
    expect(summary).to_contain_text("Checkpoint")
    summary.click()
    expect(visit.page.locator(f"{LOG} .reproduce tbody tr.same", has_text="Sampler")).to_contain_text("Heun")


def test_a_picture_that_tells_nothing_changes_nothing(visit: Visit) -> None:
    visit.page.fill(PROMPT, "mine")
    give(visit, PROMPT, encode_image(Image.new("RGB", (8, 8)), "png", None))
    expect(visit.page.locator(".toast-wrap")).to_contain_text("no generation parameters")
    give(visit, PROMPT, b"\x89PNG\r\n\x1a\nnothing")
    expect(visit.page.locator(".toast-wrap")).to_contain_text("isn't a picture")
    expect(visit.page.locator(PROMPT)).to_have_value("mine")


def test_text_is_pasted_as_ever(visit: Visit) -> None:
    visit.page.focus(PROMPT)
    visit.page.evaluate("""() => {
      const transfer = new DataTransfer();
      transfer.setData("text/plain", "words");
      const event = new ClipboardEvent("paste", { bubbles: true, cancelable: true, clipboardData: transfer });
      window.untouched = document.activeElement.dispatchEvent(event);
    }""")
    assert visit.page.evaluate("window.untouched") is True


def test_a_picture_of_the_page_can_be_dragged_onto_the_prompt(visit: Visit) -> None:
    visit.generate("a made picture", steps=2, seed=31)
    visit.picture_width()
    visit.page.fill(PROMPT, "")
    visit.page.evaluate(
        """(selector) => {
          const address = document.querySelector("#txt2img_gallery img[data-testid=detailed-image]").src;
          const transfer = new DataTransfer();
          transfer.setData("text/uri-list", address);
          const options = { bubbles: true, cancelable: true, dataTransfer: transfer };
          document.querySelector(selector).dispatchEvent(new DragEvent("drop", options));
        }""",
        PROMPT,
    )
    expect(visit.page.locator(PROMPT)).to_have_value("a made picture")
    expect(visit.page.locator(f"{LOG} .reproduce.same summary")).to_contain_text("The same picture is to be expected")


@pytest.mark.parametrize("kind", ["drop", "input"])
def test_png_info_shows_one_picture_after_the_other(visit: Visit, tmp_path: Path, kind: str) -> None:
    visit.page.click("#tab_pnginfo-button")
    shown = visit.page.locator("#html_info_pnginfo")
    for word in ("first", "second"):
        if kind == "drop":
            target = "#pnginfo_image img" if word == "second" else "#pnginfo_image button"
            visit.page.wait_for_selector(target)
            give(visit, target, picture(word), f"{word}.png")
        else:
            file = tmp_path / f"{word}.png"
            file.write_bytes(picture(word))
            visit.page.set_input_files("#pnginfo_image input[type=file]", file)
        expect(shown).to_contain_text(f"a dropped {word}")
        expect(shown.locator(".reproduce summary")).to_be_visible()


def test_a_hidden_variation_changes_nothing(visit: Visit) -> None:
    page = visit.page
    give(visit, PROMPT, f"{INFOTEXT.format('one')}, Variation seed: 5, Variation seed strength: 0.1".encode(), "x.txt")
    expect(page.locator("#txt2img_subseed_show input")).to_be_checked()
    visit.expect_numbers("txt2img", subseed=5, subseed_strength=0.1)
    give(visit, PROMPT, INFOTEXT.format("two").encode(), "x.txt")
    expect(page.locator("#txt2img_subseed_show input")).not_to_be_checked()
    page.check("#txt2img_subseed_show input")
    visit.expect_numbers("txt2img", subseed=-1, subseed_strength=0)
    visit.set_number("txt2img_subseed_strength", 0.5)
    page.uncheck("#txt2img_subseed_show input")
    visit.generate("a hidden variation", steps=1, width=64, height=64)
    expect(page.locator("#html_info_txt2img")).not_to_contain_text("Variation")


def test_the_claim_follows_the_form(visit: Visit) -> None:
    visit.generate("claimed", steps=1, seed=8, width=64, height=64)
    infotext = visit.page.locator("#html_info_txt2img p").inner_text()
    summary = visit.page.locator(f"{LOG} .reproduce summary")
    visit.page.fill(PROMPT, infotext)
    visit.page.click("#paste")
    expect(visit.page.locator(PROMPT)).to_have_value("claimed")
    expect(summary).not_to_contain_text("Not the same")
    visit.set_number("txt2img_cfg_scale", 3)
    expect(summary).to_contain_text("Not the same picture as things are: CFG scale.")
    visit.set_number("txt2img_cfg_scale", 7)
    expect(summary).not_to_contain_text("Not the same")
