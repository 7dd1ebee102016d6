"""The img2img tab: every sub-tab from a picture to a saved one."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Browser, Locator, expect

from tests.browsing import Visit
from tests.describers import small_deepbooru
from webui.core.pictures import encode_image

TAB = "img2img"
PROMPT = "#img2img_prompt textarea"
INFO = "#html_info_img2img"
LOG = "#html_log_img2img"
MODES = {
    "img2img": "img2img_img2img_tab",
    "sketch": "img2img_img2img_sketch_tab",
    "inpaint": "img2img_inpaint_tab",
    "inpaint_sketch": "img2img_inpaint_sketch_tab",
    "inpaint_upload": "img2img_inpaint_upload_tab",
    "batch": "img2img_batch_tab",
}
A1111_IDS = (Path(__file__).parents[1] / "fixtures" / "ui" / "a1111-img2img-element-ids.txt").read_text().split()
SIZE = 128
SMALL_EDITORS = (
    ":is(#img2img_sketch, #img2maskimg, #inpaint_sketch) { height: 260px !important; width: 300px !important; }"
)
"""The editor draws by WebGL, which takes long where no graphics card helps."""


def picture(width: int = SIZE, height: int = SIZE) -> Image.Image:
    """Colours that differ everywhere."""
    y, x = np.mgrid[0:height, 0:width]
    colours = np.stack([x * 255 // width, y * 255 // height, (x * 7 + y * 3) % 256], axis=-1)
    return Image.fromarray(colours.astype(np.uint8))


@pytest.fixture(scope="module")
def shown(browser: Browser, server: Any) -> Iterator[Visit]:
    """One page for all tests of this file: opening it anew for each would take most of their time."""
    visitor = Visit(browser, server.url)
    visitor.open().add_style_tag(content=SMALL_EDITORS)
    yield visitor
    visitor.context.close()


@pytest.fixture
def fresh(visit: Visit) -> Visit:
    """A page on which img2img was never opened."""
    visit.page.add_style_tag(content=SMALL_EDITORS)
    return visit


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "colours.png"
    path.write_bytes(encode_image(picture(), "png", None))
    return path


def open_mode(visit: Visit, mode: str) -> None:
    visit.page.click("#tab_img2img-button")
    visit.page.click(f"#{MODES[mode]}-button")


def upload(visit: Visit, image_id: str, path: Path) -> None:
    """Choose a file in a plain picture field, in place of what it shows."""
    clear(visit, image_id)
    box = visit.page.locator(f"#{image_id}")
    box.locator("input[type=file]").set_input_files(path)
    expect(box.locator("img")).to_be_visible()


def clear(visit: Visit, image_id: str) -> None:
    """Take the picture out of a plain picture field, if it shows one."""
    box = visit.page.locator(f"#{image_id}")
    box.locator("input[type=file], img").first.wait_for(state="attached")
    button = box.get_by_role("button", name="Remove Image")
    if button.count():
        button.click()
    expect(box.locator("img")).to_have_count(0)


def load_into_editor(visit: Visit, editor_id: str, path: Path) -> None:
    """Choose a file in an editor that is empty, and wait until its brush is ready."""
    editor = visit.page.locator(f"#{editor_id}")
    editor.get_by_role("button", name="Undo").wait_for()
    with visit.page.expect_file_chooser() as chooser:
        editor.locator(".image-container").click(position={"x": 150, "y": 200})
    chooser.value.set_files(path)
    expect(editor.get_by_role("button", name="Undo")).to_be_enabled()


def stroke(visit: Visit, editor_id: str) -> None:
    """Paint a little across the middle of the picture."""
    canvas = visit.page.locator(f"#{editor_id} .pixi-target canvas")
    canvas.scroll_into_view_if_needed()
    box = canvas.bounding_box()
    assert box is not None
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    mouse = visit.page.mouse
    mouse.move(x - 20, y)
    mouse.down()
    mouse.move(x, y, steps=4)
    mouse.move(x + 20, y, steps=4)
    mouse.up()


def middle(visit: Visit, selector: str) -> list[int]:
    """The colour in the middle of a picture on the page, and its width in pixels."""
    script = """async (selector) => {
        const image = document.querySelector(selector);
        await image.decode();
        const canvas = Object.assign(document.createElement("canvas"), { width: 1, height: 1 });
        const pencil = canvas.getContext("2d");
        pencil.drawImage(image, -Math.floor(image.naturalWidth / 2), -Math.floor(image.naturalHeight / 2));
        return [...pencil.getImageData(0, 0, 1, 1).data.slice(0, 3), image.naturalWidth];
    }"""
    found: list[int] = visit.page.evaluate(script, selector)
    return found


def saved(server: Any) -> Image.Image:
    """The picture saved last."""
    files = (server.data / "outputs" / "img2img-images").rglob("*.png")
    newest = max(files, key=lambda path: (path.stat().st_mtime_ns, path.name))
    return Image.open(io.BytesIO(newest.read_bytes()))


def generate(visit: Visit, prompt: str, **numbers: object) -> None:
    visit.generate(prompt, tab=TAB, **{"steps": 2, "width": SIZE, "height": SIZE, **numbers})
    visit.picture_width(TAB)
    expect(visit.page.locator(INFO)).to_contain_text(prompt)


def changed(before: Image.Image, after: Image.Image) -> np.ndarray:
    """(H, W) bool: where two pictures differ."""
    assert before.size == after.size
    return np.any(np.asarray(before.convert("RGB")) != np.asarray(after.convert("RGB")), axis=-1)


def toast(visit: Visit) -> Locator:
    return visit.page.locator(".toast-wrap")


def test_without_a_picture_the_page_says_so(shown: Visit) -> None:
    open_mode(shown, "img2img")
    shown.page.click("#img2img_generate")
    expect(shown.page.locator(f"{LOG} .error")).to_have_text("There is no picture to start from; load one first.")
    open_mode(shown, "inpaint")
    shown.page.locator("#img2maskimg").get_by_role("button", name="Undo").wait_for()
    shown.page.click("#img2img_generate")
    shown.page.wait_for_selector("#img2img_generate_box:not([data-state=sending])")
    expect(shown.page.locator(f"{LOG} .error")).to_have_text("There is no picture to start from; load one first.")


def test_a_picture_is_made_from_an_uploaded_one(shown: Visit, server: Any, file: Path) -> None:
    open_mode(shown, "img2img")
    upload(shown, "img2img_image", file)
    generate(shown, "from a <b>picture</b>", denoising_strength=0.5)
    expect(shown.page.locator(INFO)).to_contain_text("Denoising strength: 0.5")
    assert saved(server).size == (SIZE, SIZE)
    expect(shown.page.locator("#inpaint_controls")).to_be_hidden()


def test_inpaint_changes_what_was_painted_over_and_nothing_else(shown: Visit, server: Any, file: Path) -> None:
    open_mode(shown, "inpaint")
    load_into_editor(shown, "img2maskimg", file)
    shown.page.click("#img2img_generate")
    expect(shown.page.locator(f"{LOG} .error")).to_contain_text("Nothing is painted yet")
    stroke(shown, "img2maskimg")
    generate(shown, "in the middle", mask_blur=0, denoising_strength=1)
    differs = changed(picture(), saved(server))
    ys, xs = np.nonzero(differs)
    assert differs[SIZE // 2, SIZE // 2]
    assert 0 < len(ys) < SIZE * SIZE / 2
    assert (xs.min() > 0, ys.min() > 0, xs.max() < SIZE - 1, ys.max() < SIZE - 1) == (True,) * 4


def test_a_drawing_that_stays_is_sent_once(shown: Visit) -> None:
    open_mode(shown, "inpaint")
    before = len([url for url in shown.requests if "/upload" in url])
    generate(shown, "again")
    assert len([url for url in shown.requests if "/upload" in url]) == before
    stroke(shown, "img2maskimg")
    generate(shown, "painted on")
    assert len([url for url in shown.requests if "/upload" in url]) > before


def test_a_sketch_is_the_picture_with_its_strokes(shown: Visit, server: Any, file: Path) -> None:
    open_mode(shown, "sketch")
    load_into_editor(shown, "img2img_sketch", file)
    stroke(shown, "img2img_sketch")
    generate(shown, "sketched", denoising_strength=0.3)
    assert saved(server).size == (SIZE, SIZE)
    expect(shown.page.locator("#inpaint_controls")).to_be_hidden()


def test_a_colour_sketch_is_painted_in_and_only_there(shown: Visit, server: Any, file: Path) -> None:
    open_mode(shown, "inpaint_sketch")
    expect(shown.page.locator("#img2img_mask_alpha")).to_be_visible()
    load_into_editor(shown, "inpaint_sketch", file)
    stroke(shown, "inpaint_sketch")
    generate(shown, "coloured", mask_blur=0, denoising_strength=0.5)
    differs = changed(picture(), saved(server))
    assert differs[SIZE // 2, SIZE // 2]
    assert not differs[0].any()


def test_an_uploaded_mask_says_where_to_paint(shown: Visit, server: Any, file: Path, tmp_path: Path) -> None:
    mask = np.zeros((SIZE, SIZE), np.uint8)
    mask[:, : SIZE // 2] = 255
    Image.fromarray(mask).save(tmp_path / "mask.png")
    open_mode(shown, "inpaint_upload")
    upload(shown, "img_inpaint_base", file)
    shown.page.click("#img2img_generate")
    expect(shown.page.locator(f"{LOG} .error")).to_contain_text("There is no mask")
    upload(shown, "img_inpaint_mask", tmp_path / "mask.png")
    generate(shown, "left half", mask_blur=0, denoising_strength=1)
    differs = changed(picture(), saved(server))
    assert differs[:, : SIZE // 2].mean() > 0.9
    assert not differs[:, SIZE // 2 :].any()


def test_a_batch_from_a_directory_saves_under_the_originals_names(shown: Visit, tmp_path: Path) -> None:
    source, goal = tmp_path / "in", tmp_path / "out"
    source.mkdir()
    for name, prompt in (("one", "a boat"), ("two", "a train")):
        text = f"{prompt}\nSteps: 1, Sampler: Euler, CFG scale: 3, Seed: 5, Size: 8x8"
        (source / f"{name}.png").write_bytes(encode_image(picture(), "png", text))
    (source / "notes.txt").write_text("no picture")
    (source / "broken.png").write_bytes(b"no picture either")
    open_mode(shown, "batch")
    shown.page.click("#img2img_batch_from_dir_tab-button")
    shown.page.fill("#img2img_batch_input_dir textarea, #img2img_batch_input_dir input", str(source))
    shown.page.fill("#img2img_batch_output_dir textarea, #img2img_batch_output_dir input", str(goal))
    shown.page.get_by_role("button", name="PNG info").click()
    shown.page.check("#img2img_batch_use_png_info input")
    shown.page.locator("#img2img_batch_png_info_props").get_by_label("Prompt", exact=True).check()
    generate(shown, "batch", denoising_strength=0.3)
    assert sorted(path.name for path in goal.iterdir()) == ["one.png", "two.png"]
    expect(shown.page.locator(INFO)).to_contain_text("batch a boat")
    expect(shown.page.locator(LOG)).to_contain_text("broken.png was left out")
    expect(shown.page.locator("#img2img_gallery .thumbnails button.thumbnail-item")).to_have_count(2)


@pytest.mark.parametrize(("folder", "sentence"), [("missing", "There is no folder"), (".", "holds no pictures")])
def test_a_batch_that_cannot_be_is_told_in_a_sentence(shown: Visit, tmp_path: Path, folder: str, sentence: str) -> None:
    open_mode(shown, "batch")
    shown.page.click("#img2img_batch_from_dir_tab-button")
    shown.page.fill("#img2img_batch_input_dir textarea, #img2img_batch_input_dir input", str(tmp_path / folder))
    shown.page.click("#img2img_generate")
    expect(shown.page.locator(f"{LOG} .error")).to_contain_text(sentence)
    expect(shown.page.locator(f"{LOG} .error")).to_have_count(1)


def test_resize_by_tells_and_makes_the_size(shown: Visit, server: Any, tmp_path: Path) -> None:
    wide = tmp_path / "wide.png"
    picture(128, 64).save(wide)
    open_mode(shown, "img2img")
    upload(shown, "img2img_image", wide)
    shown.page.click("#img2img_tab_resize_by-button")
    shown.set_number("img2img_scale", 0.5)
    expect(shown.page.locator("#img2img_scale_resolution_preview")).to_have_text("resize: from 128x64 to 64x32")
    shown.generate("half", tab=TAB, steps=1)
    expect(shown.page.locator(INFO)).to_contain_text("Size: 64x32")
    shown.page.click("#img2img_tab_resize_to-button")
    shown.page.click("#img2img_detect_image_size_btn")
    expect(shown.page.locator("#img2img_width input[type=number]")).to_have_value("128")
    expect(shown.page.locator("#img2img_height input[type=number]")).to_have_value("64")


def test_the_size_of_a_drawing_is_found(shown: Visit) -> None:
    open_mode(shown, "sketch")
    shown.set_number("img2img_width", 64)
    shown.page.click("#img2img_detect_image_size_btn")
    expect(shown.page.locator("#img2img_width input[type=number]")).to_have_value(str(SIZE))


def test_a_picture_is_copied_between_sub_tabs(shown: Visit, file: Path) -> None:
    open_mode(shown, "img2img")
    upload(shown, "img2img_image", file)
    shown.page.locator("#img2img_copy_to_img2img").get_by_role("button", name="sketch", exact=True).click()
    expect(shown.page.locator("#img2img_sketch")).to_be_visible()
    expect(shown.page.locator("#img2img_sketch").get_by_role("button", name="Undo")).to_be_enabled()
    copy = "#img2img_image img"
    before = shown.page.locator(copy).get_attribute("src")
    stroke(shown, "img2img_sketch")
    shown.page.locator("#img2img_copy_to_sketch").get_by_role("button", name="img2img").click()  # at once
    shown.page.wait_for_function(
        "([copy, before]) => ![null, before].includes(document.querySelector(copy)?.getAttribute('src') ?? null)",
        arg=[copy, before],
    )
    expect(shown.page.locator(copy)).to_be_visible()
    assert middle(shown, copy) == [255, 255, 255, SIZE]  # the stroke came along


def test_an_infotext_fills_the_fields(shown: Visit) -> None:
    open_mode(shown, "inpaint")
    shown.page.fill(
        PROMPT,
        "a (blue:1.2) bird\nNegative prompt: cage\nSteps: 7, Sampler: Euler a, Schedule type: Karras, CFG scale: 4.5, "
        "Seed: 99, Size: 128x64, Denoising strength: 0.41, Mask blur: 11, Mask mode: Inpaint not masked, "
        "Inpaint area: Only masked, Masked area padding: 48, Masked content: latent noise, "
        "Soft inpainting enabled: True, Soft inpainting schedule bias: 2.5, Version: v1.10.1",
    )
    shown.page.click("#img2img_paste")
    expect(shown.page.locator(PROMPT)).to_have_value("a (blue:1.2) bird")
    shown.expect_numbers(TAB, steps=7, cfg_scale=4.5, seed=99, width=128, height=64, denoising_strength=0.41)
    shown.expect_numbers(TAB, mask_blur=11, inpaint_full_res_padding=48)
    for group, choice in (
        ("img2img_mask_mode", "Inpaint not masked"),
        ("img2img_inpaint_full_res", "Only masked"),
        ("img2img_inpainting_fill", "latent noise"),
    ):
        expect(shown.page.locator(f"#{group}").get_by_label(choice, exact=True)).to_be_checked()
    expect(shown.page.locator("#soft_inpainting_enabled-checkbox input")).to_be_checked()
    shown.expect_numbers("mask", blend_power=2.5)


def test_a_gallerys_picture_goes_to_img2img_and_inpaint_before_they_were_opened(fresh: Visit) -> None:
    fresh.generate("sent on", steps=1, seed=77, width=64, height=128)
    fresh.picture_width()
    fresh.page.click("#txt2img_send_to_inpaint")
    expect(fresh.page.locator("#img2maskimg").get_by_role("button", name="Undo")).to_be_enabled()
    expect(fresh.page.locator(PROMPT)).to_have_value("sent on")
    fresh.expect_numbers(TAB, seed=77, steps=1, width=64, height=128)
    fresh.page.click("#tab_txt2img-button")
    fresh.page.click("#txt2img_send_to_img2img")
    expect(fresh.page.locator("#img2img_image img")).to_be_visible()
    fresh.generate("and once more", tab=TAB)
    fresh.picture_width(TAB)
    fresh.page.click("#img2img_send_to_inpaint")
    expect(fresh.page.locator("#img2maskimg")).to_be_visible()


def test_png_info_sends_picture_and_parameters(fresh: Visit, tmp_path: Path) -> None:
    path = tmp_path / "hat.png"
    path.write_bytes(
        encode_image(picture(), "png", "a hat\nSteps: 9, Sampler: Heun, CFG scale: 3, Seed: 4, Size: 64x128")
    )
    fresh.page.click("#tab_pnginfo-button")
    fresh.page.set_input_files("#pnginfo_image input[type=file]", path)
    expect(fresh.page.locator("#html_info_pnginfo")).to_contain_text("a hat")
    fresh.page.click("#img2img_tab")
    expect(fresh.page.locator("#img2img_image img")).to_be_visible()
    expect(fresh.page.locator(PROMPT)).to_have_value("a hat")
    fresh.expect_numbers(TAB, steps=9, height=128)


def test_elements_have_a1111s_ids(shown: Visit) -> None:
    for mode in MODES:
        open_mode(shown, mode)
    shown.page.click("#img2img_batch_from_dir_tab-button")
    shown.page.click("#img2img_tab_resize_by-button")
    shown.page.wait_for_selector("#img2img_scale", state="attached")
    shown.page.click("#img2img_tab_resize_to-button")
    if not shown.page.locator("#img2img_batch_png_info_dir").count():
        shown.page.get_by_role("button", name="PNG info").click()
    shown.page.wait_for_selector("#img2img_batch_png_info_dir", state="attached")
    script = "ids => ids.map(id => document.querySelectorAll(`[id='${id}']`).length)"
    counts = shown.page.evaluate(script, A1111_IDS)
    assert {name: count for name, count in zip(A1111_IDS, counts, strict=True) if count != 1} == {}


def test_describing_without_weights_or_picture_is_told_in_a_sentence(shown: Visit, file: Path) -> None:
    open_mode(shown, "img2img")
    clear(shown, "img2img_image")
    shown.page.click("#deepbooru")
    expect(toast(shown).first).to_contain_text("There is no picture to start from")
    upload(shown, "img2img_image", file)
    for button, name, size in (("interrogate", "BLIP", 990), ("deepbooru", "Deepbooru", 614)):
        shown.page.click(f"#{button}")
        told = toast(shown).filter(has_text=f"{name} has no weights here yet")
        expect(told.first).to_contain_text(f"Fetch them on the Extras tab ({size}.0 MB")


@pytest.fixture
def deepbooru(server: Any) -> Iterator[None]:
    network = server.data / "models" / "torch_deepdanbooru" / "model.pt"
    small_deepbooru(network, ("cat_ears", "sky"))
    options = f"{server.url}/sdapi/v1/options"
    httpx.post(options, json={"interrogate_deepbooru_score_threshold": 0.0}).raise_for_status()
    yield
    httpx.post(options, json={"interrogate_deepbooru_score_threshold": 0.5}).raise_for_status()
    network.unlink()


def test_a_picture_is_described_into_the_prompt(shown: Visit, file: Path, deepbooru: None) -> None:
    open_mode(shown, "img2img")
    upload(shown, "img2img_image", file)
    shown.page.fill(PROMPT, "before")
    shown.page.click("#deepbooru")
    expect(shown.page.locator(PROMPT)).to_have_value("cat ears, sky")
    shown.page.locator("#img2img_copy_to_img2img").get_by_role("button", name="sketch", exact=True).click()
    expect(shown.page.locator("#img2img_sketch").get_by_role("button", name="Undo")).to_be_enabled()
    shown.page.fill(PROMPT, "before")
    shown.page.click("#deepbooru")
    expect(shown.page.locator(PROMPT)).to_have_value("cat ears, sky")


def test_a_folder_is_described_into_text_files(shown: Visit, tmp_path: Path, deepbooru: None) -> None:
    for name in ("one", "two"):
        Image.new("RGB", (32, 32), "teal").save(tmp_path / f"{name}.png")
    open_mode(shown, "batch")
    shown.page.click("#img2img_batch_from_dir_tab-button")
    shown.page.fill("#img2img_batch_input_dir textarea, #img2img_batch_input_dir input", str(tmp_path))
    shown.page.fill("#img2img_batch_output_dir textarea, #img2img_batch_output_dir input", "")
    shown.page.click("#deepbooru")
    expect(toast(shown).first).to_contain_text("2 of 2 pictures are described")
    assert {name: (tmp_path / f"{name}.txt").read_text() for name in ("one", "two")} == {
        "one": "cat ears, sky\n",
        "two": "cat ears, sky\n",
    }


def test_the_loopback_script_makes_a_picture_a_loop(shown: Visit, file: Path) -> None:
    open_mode(shown, "img2img")
    upload(shown, "img2img_image", file)
    loops = shown.page.locator("#script_loopback_loops")
    expect(loops).to_be_hidden()
    shown.page.click("#img2img_script_list input")
    shown.page.get_by_role("option", name="Loopback").click()
    expect(loops).to_be_visible()
    shown.set_number("script_loopback_loops", 2)
    generate(shown, "over and over", steps=1)
    pictures = shown.page.locator("#img2img_gallery .thumbnails button.thumbnail-item")
    expect(pictures).to_have_count(3)  # the grid is the first
    shown.page.click("#img2img_script_list input")
    shown.page.get_by_role("option", name="None").click()
    expect(loops).to_be_hidden()


@pytest.mark.parametrize(
    ("script", "numbers", "size"),
    [
        ("SD upscale", {"sd_upscale_overlap": 32}, 2 * SIZE),
        ("Outpainting mk2", {"outpainting_mk2_pixels": 64}, SIZE + 2 * 64),
        ("Poor man's outpainting", {"poor_mans_outpainting_pixels": 64}, SIZE + 2 * 64),
        ("img2img alternative test", {"img2img_alternative_test_st": 2}, SIZE),
    ],
)
def test_a_script_makes_its_picture(shown: Visit, file: Path, script: str, numbers: dict[str, int], size: int) -> None:
    page = shown.page
    open_mode(shown, "img2img")
    upload(shown, "img2img_image", file)
    shown.choose("#img2img_script_list input", script)
    for name, value in numbers.items():
        shown.set_number(f"script_{name}", value)
    if script == "SD upscale":
        page.locator("#script_sd_upscale_upscaler_index").get_by_label("Lanczos", exact=True).check()
    generate(shown, script, steps=1)
    assert shown.picture_width(TAB) == size
    shown.choose("#img2img_script_list input", "None")


def test_a_picture_that_the_server_lost_is_told_and_the_page_goes_on(shown: Visit, server: Any, file: Path) -> None:
    """One that it lost in another sub-tab, too, does not stop what is made in this one."""
    open_mode(shown, "inpaint_upload")
    upload(shown, "img_inpaint_base", file)
    open_mode(shown, "img2img")
    upload(shown, "img2img_image", file)
    for copy in (server.data / "tmp" / "gradio").rglob(file.name):
        copy.unlink()
    shown.page.click("#img2img_generate")
    expect(toast(shown)).to_contain_text("Error")
    shown.wait_idle(TAB)
    upload(shown, "img2img_image", file)
    generate(shown, "here again")


def test_a_reloaded_page_finds_its_form_and_result_again(shown: Visit, file: Path) -> None:
    open_mode(shown, "img2img")
    upload(shown, "img2img_image", file)
    generate(shown, "kept", denoising_strength=0.37)
    shown.reload()
    shown.page.click("#tab_img2img-button")
    shown.picture_width(TAB)
    expect(shown.page.locator(INFO)).to_contain_text(re.compile("kept"))
    expect(shown.page.locator(PROMPT)).to_have_value("kept")
    shown.expect_numbers(TAB, denoising_strength=0.37)
