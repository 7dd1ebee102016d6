"""The units in a browser: from a picture to its map to what it steers, poses, masks, presets, batches.

The control networks, PiDiNet, Depth Anything and the segmenter have random weights, since real ones are hundreds of
megabytes: what they make means nothing. Canny and lineart_standard have no weights, openpose those that ship.
"""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw
from playwright.sync_api import Browser, Page, expect

from tests.browsing import Visit, photograph
from tests.extensions.controlnet.annotators import segmenter, written
from tests.extensions.controlnet.nets import control_shapes, random_weights, write
from tests.running import Server
from tests.tiny import tiny_checkpoint
from tools.random_checkpoint import TINY

KINDS = {
    "Canny": ("canny", "canny"),
    "Depth": ("depth", "depth_anything"),
    "OpenPose": ("openpose", "openpose"),
    "Segmentation": ("seg", "seg_ufade20k"),
    "Lineart": ("lineart", "lineart_standard (from white bg & black line)"),
    "SoftEdge": ("softedge", "softedge_pidinet"),
}
"""Control type -> what its model's name holds, its preprocessor."""


@pytest.fixture(scope="module")
def controlled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with a tiny checkpoint and, with random weights, a control model for each kind and three networks."""
    data = tmp_path_factory.mktemp("controlled")
    tiny_checkpoint(data / "models" / "Stable-diffusion")
    nets = data / "models" / "ControlNet"
    first = write(nets / "control_v11p_sd15_canny.safetensors", random_weights(control_shapes(TINY)))
    for name in ("v11f1p_sd15_depth", "v11p_sd15_openpose", "v11p_sd15_seg", "v11p_sd15_lineart", "v11p_sd15_softedge"):
        (nets / f"control_{name}.safetensors").write_bytes(first.read_bytes())
    for name in ("table5_pidinet.pth", "depth_anything_vitl14.pth"):
        written(nets / "preprocessors", name)
    segmenter(nets / "preprocessors" / "upernet-convnext-small", "upernet")
    batch = data / "batch"
    batch.mkdir()
    for number, colour in enumerate(("red", "green", "blue")):
        picture(colour).save(batch / f"{number}.png")
    running = Server(data)
    running.start()
    yield running
    assert running.stop() == 0


@pytest.fixture(scope="module")
def visit(browser: Browser, controlled: Server) -> Iterator[Visit]:
    visitor = Visit(browser, controlled.url)
    page = visitor.open()
    page.click("#txt2img_controlnet > button.label-wrap")
    visitor.fill_in("a harbour", "txt2img", steps=2, width=64, height=64)
    yield visitor
    assert set(visitor.complaints) <= {"Method not implemented."}  # Gradio's own, after every upload
    visitor.context.close()


def picture(colour: str = "red") -> Image.Image:
    image = Image.new("RGB", (96, 64), "white")
    ImageDraw.Draw(image).ellipse((20, 10, 70, 50), fill=colour, outline="black")
    return image


def upload(image: Image.Image, name: str = "in.png") -> dict[str, object]:
    file = io.BytesIO()
    image.save(file, "PNG")
    return {"name": name, "mimeType": "image/png", "buffer": file.getvalue()}


def part(unit: int, name: str, form: str = "txt2img") -> str:
    return f"#{form}_controlnet_ControlNet-{unit}_{name}"


def choose(visit: Visit, unit: int, name: str) -> None:
    """A preprocessor from the list."""
    exactly = re.compile(rf"(^|\s){re.escape(name)}$")
    visit.choose(f"{part(unit, 'controlnet_preprocessor_dropdown')} input", exactly)


def open_unit(page: Page, unit: int, form: str = "txt2img") -> None:
    page.locator(f"#{form}_controlnet_tabs").get_by_role("tab", name=f"ControlNet Unit {unit}").click()
    expect(page.locator(part(unit, "controlnet_preprocessor_dropdown", form))).to_be_visible()


def value_of(page: Page, unit: int, name: str) -> str:
    return page.locator(f"{part(unit, name)} input").first.input_value()


def load(page: Page, unit: int, image: Image.Image, name: str = "input_image") -> None:
    clear = page.locator(f"{part(unit, name)} button[aria-label=Clear]")
    if clear.count():
        clear.click()
    page.set_input_files(f"{part(unit, name)} input[type=file]", upload(image))
    expect(page.locator(f"{part(unit, name)} img")).to_be_visible()
    expect(page.locator(part(unit, "controlnet_enable_checkbox") + " input")).to_be_checked()  # which a picture does


def shown(visit: Visit, selector: str) -> np.ndarray:
    """The picture that an <img> shows."""
    image = visit.page.locator(selector)
    expect(image).to_be_visible()
    url = image.get_attribute("src") or ""
    answer = visit.context.request.get(url if "://" in url else f"{visit.url}{url}")
    assert answer.ok, url
    return np.asarray(Image.open(io.BytesIO(answer.body())).convert("RGB"))


def generate(visit: Visit, pictures: int, *told: str) -> None:
    """Generate, and wait for so many pictures and maps, and for what the first one's text tells."""
    with visit.job():
        visit.page.click("#txt2img_generate")
    expect(visit.page.locator("#txt2img_gallery .thumbnails button")).to_have_count(pictures)
    for text in told:
        expect(visit.page.locator("#html_info_txt2img")).to_contain_text(text)


@pytest.mark.parametrize("kind", KINDS)
def test_from_a_picture_to_its_map_to_the_result(visit: Visit, kind: str) -> None:
    page, (word, preprocessor) = visit.page, KINDS[kind]
    open_unit(page, 0)
    page.locator(part(0, "controlnet_type_filter_radio")).get_by_label(kind, exact=True).check()
    model = page.locator(f"{part(0, 'controlnet_model_dropdown')} input")
    expect(model).to_have_value(called(word))
    if value_of(page, 0, "controlnet_preprocessor_dropdown") != preprocessor:
        choose(visit, 0, preprocessor)
    load(page, 0, picture())
    expect(page.locator(part(0, "controlnet_enable_checkbox") + " input")).to_be_checked()
    page.click(part(0, "controlnet_trigger_preprocessor"))
    map_shown = part(0, "generated_image .cnet-shown > img")
    found = shown(visit, map_shown)
    assert found.shape == (512, 768, 3)  # of the resolution chosen
    expect(page.locator(part(0, "generated_image")).get_by_text("JSON")).to_be_visible(visible=kind == "OpenPose")
    photograph(page, f"{kind}")
    generate(visit, 2, f"Module: {preprocessor}", f"_{word} [")
    page.locator(part(0, "generated_image")).get_by_text("Close").click()
    expect(page.locator(part(0, "generated_image"))).to_be_hidden()
    tab = page.locator("#txt2img_controlnet_tabs").get_by_role("tab", name="ControlNet Unit 0").first
    expect(tab).to_contain_text(f"[{kind}]")
    expect(page.locator("#txt2img_controlnet .cnet-count")).to_have_text("1 unit")


def called(word: str) -> re.Pattern[str]:
    """The name of a control model that holds the word."""
    return re.compile(rf"_{word} \[")


def test_a_preprocessor_has_its_own_sliders(visit: Visit) -> None:
    page = visit.page
    open_unit(page, 1)
    sliders = {name: page.locator(part(1, f"controlnet_{name}_slider")) for name in
               ("preprocessor_resolution", "threshold_A", "threshold_B")}  # fmt: skip
    for slider in sliders.values():
        expect(slider).to_be_hidden()
    choose(visit, 1, "canny")
    expect(sliders["threshold_A"]).to_contain_text("Low Threshold")
    assert visit.number(part(1, "controlnet_threshold_A_slider")[1:]) == 100
    assert visit.number(part(1, "controlnet_threshold_B_slider")[1:]) == 200
    assert visit.number(part(1, "controlnet_preprocessor_resolution_slider")[1:]) == 512
    page.locator(part(1, "controlnet_pixel_perfect_checkbox") + " input").check()
    expect(sliders["preprocessor_resolution"]).to_be_hidden()
    page.locator(part(1, "controlnet_pixel_perfect_checkbox") + " input").uncheck()
    choose(visit, 1, "mlsd")
    expect(sliders["threshold_A"]).to_contain_text("MLSD Value Threshold")
    assert visit.number(part(1, "controlnet_threshold_A_slider")[1:]) == 0.1
    choose(visit, 1, "reference_only")
    expect(sliders["threshold_B"]).to_be_hidden()
    expect(page.locator(part(1, "controlnet_model_dropdown"))).to_be_hidden()
    choose(visit, 1, "none")
    for slider in sliders.values():
        expect(slider).to_be_hidden()
    expect(page.locator(part(1, "controlnet_model_dropdown"))).to_be_visible()


def test_a_preset_is_saved_loaded_and_deleted(visit: Visit, controlled: Server) -> None:
    page = visit.page
    open_unit(page, 1)
    choose(visit, 1, "canny")
    expect(page.locator(part(1, "controlnet_threshold_A_slider"))).to_be_visible()
    visit.set_number(part(1, "controlnet_threshold_A_slider")[1:], 33)
    visit.set_number(part(1, "controlnet_control_weight_slider")[1:], 1.25)
    page.fill("#txt2img_controlnet_preset_name", "<b>thin</b> lines")
    panel = page.locator("#txt2img_controlnet .cnet-presets")
    panel.get_by_role("button", name="Save").click()
    names = page.locator("#txt2img_controlnet_presets")
    expect(names).to_have_value("<b>thin</b> lines")
    stored = json.loads((controlled.data / "controlnet-presets.json").read_text())["<b>thin</b> lines"]
    assert (stored["module"], stored["threshold_a"], stored["weight"]) == ("canny", 33, 1.25)
    open_unit(page, 2)
    panel.get_by_role("button", name="Load").click()
    expect(page.locator(f"{part(2, 'controlnet_preprocessor_dropdown')} input")).to_have_value("canny")
    expect(page.locator(part(2, "controlnet_threshold_A_slider"))).to_contain_text("Low Threshold")
    visit.expect_numbers(part(2, "controlnet")[1:], threshold_A_slider=33, control_weight_slider=1.25)
    panel.get_by_role("button", name="Delete").click()
    expect(names.locator("option")).to_have_count(1)
    page.fill("#txt2img_controlnet_preset_name", "x")
    page.locator("#txt2img_controlnet_preset_name").evaluate("(box) => (box.value = 'a\\u0007b')")
    panel.get_by_role("button", name="Save").click()
    expect(panel.locator(".cnet-told")).to_contain_text("printable characters")
    page.fill("#txt2img_controlnet_preset_name", "")


def test_a_pose_is_drawn_and_steers(visit: Visit, tmp_path: Path) -> None:
    page = visit.page
    open_unit(page, 0)
    page.locator(part(0, "controlnet_type_filter_radio")).get_by_label("OpenPose", exact=True).check()
    expect(page.locator(f"{part(0, 'controlnet_model_dropdown')} input")).to_have_value(called("openpose"))
    load(page, 0, picture())
    page.click(part(0, "controlnet_edit_pose_button"))
    editor = page.locator("dialog.cnet-editor")
    canvas = editor.locator("canvas").bounding_box()
    assert canvas is not None
    scale = canvas["width"] / 96

    def drag(start: tuple[float, float], end: tuple[float, float]) -> None:
        page.mouse.move(canvas["x"] + start[0] * scale, canvas["y"] + start[1] * scale)
        page.mouse.down()
        page.mouse.move(canvas["x"] + end[0] * scale, canvas["y"] + end[1] * scale)
        page.mouse.up()

    def saved() -> dict[str, list[dict[str, list[float]]]]:
        with page.expect_download() as download:
            editor.get_by_role("button", name="Save JSON").click()
        download.value.save_as(tmp_path / "pose.json")
        pose: dict[str, list[dict[str, list[float]]]] = json.loads((tmp_path / "pose.json").read_text())
        return pose

    wrist = 16 + 0.34 * 64, 0.51 * 64  # of the standing figure in the middle
    drag(wrist, (10, 20))
    body = saved()["people"][0]["pose_keypoints_2d"]
    assert len(body) == 18 * 3
    assert body[12:15] == pytest.approx([10, 20, 1], abs=1.5)
    editor.get_by_role("button", name="Undo").click()
    assert saved()["people"][0]["pose_keypoints_2d"][12:14] == pytest.approx(wrist, abs=0.01)
    editor.get_by_role("button", name="Add person").click()
    drag(wrist, (90, 5))
    two = saved()
    assert (len(two["people"]), two["canvas_width"], two["canvas_height"]) == (2, 96, 64)
    editor.get_by_role("button", name="Remove person").click()
    assert len(saved()["people"]) == 1
    (tmp_path / "two.json").write_text(json.dumps(two))
    with page.expect_file_chooser() as chooser:
        editor.get_by_role("button", name="Load JSON").click()
    chooser.value.set_files(tmp_path / "two.json")
    page.wait_for_timeout(200)
    assert len(saved()["people"]) == 2
    photograph(page, "pose editor")
    editor.get_by_role("button", name="Send to ControlNet").click()
    expect(editor).to_have_count(0)
    drawn = shown(visit, part(0, "generated_image .cnet-shown > img"))
    assert drawn.shape == (64, 96, 3)
    expect(page.locator(f"{part(0, 'controlnet_preprocessor_dropdown')} input")).to_have_value("none")
    assert (shown(visit, part(0, "input_image img")) == drawn).all()  # the map is the unit's picture now
    generate(visit, 2, "Module: none", "_openpose [")
    page.click(part(0, "controlnet_edit_pose_button"))
    assert len(saved()["people"]) == 2  # what was sent is there to be changed
    editor.get_by_role("button", name="Cancel").click()


def test_a_mask_is_drawn_and_sizes_are_sent(visit: Visit) -> None:
    page = visit.page
    open_unit(page, 2)
    load(page, 2, picture("blue"))
    expect(page.locator(part(2, "mask_image"))).to_be_hidden()
    page.click(part(2, "controlnet_draw_mask_button"))
    editor = page.locator("dialog.cnet-editor")
    canvas = editor.locator("canvas").bounding_box()
    assert canvas is not None
    page.mouse.move(canvas["x"] + canvas["width"] / 4, canvas["y"] + canvas["height"] / 2)
    page.mouse.down()
    page.mouse.move(canvas["x"] + canvas["width"] / 2, canvas["y"] + canvas["height"] / 2)
    page.mouse.up()
    photograph(page, "mask editor")
    editor.get_by_role("button", name="Send to ControlNet").click()
    mask = shown(visit, part(2, "mask_image img"))
    assert mask.shape == (64, 96, 3)
    assert mask[32, 30].tolist() == [255, 255, 255]
    assert mask[5, 90].tolist() == [0, 0, 0]
    page.locator(part(2, "controlnet_mask_upload_checkbox")).get_by_role("checkbox").uncheck()
    expect(page.locator(part(2, "mask_image"))).to_be_hidden()
    page.click(part(2, "controlnet_send_dimen_button"))
    visit.expect_numbers("txt2img", width=96, height=64)
    visit.set_number("txt2img_width", 64)
    page.locator(part(2, "controlnet_enable_checkbox") + " input").uncheck()


def test_a_batch_takes_the_pictures_of_a_folder_in_turn(visit: Visit, controlled: Server) -> None:
    page = visit.page
    open_unit(page, 0)
    page.locator(part(0, "controlnet_type_filter_radio")).get_by_label("Canny", exact=True).check()
    expect(page.locator(f"{part(0, 'controlnet_model_dropdown')} input")).to_have_value(called("canny"))
    page.locator(part(0, "controlnet_enable_checkbox") + " input").check()
    page.locator(part(0, "controlnet_input_mode")).get_by_label("Batch").check()
    page.fill(part(0, "controlnet_batch_input_dir") + " textarea, " + part(0, "controlnet_batch_input_dir") + " input",
              str(controlled.data / "batch"))  # fmt: skip
    photograph(page, "batch")
    generate(visit, 7)  # three pictures, their grid, three maps
    page.locator(part(0, "controlnet_input_mode")).get_by_label("Multi-Inputs").check()
    page.click("#txt2img_generate")
    expect(page.locator("#html_log_txt2img")).to_contain_text("no pictures under Multi-Inputs")
    page.locator(part(0, "controlnet_input_mode")).get_by_label("Single Image").check()


def test_what_is_wrong_is_one_sentence(visit: Visit) -> None:
    page = visit.page
    open_unit(page, 1)
    page.click(part(1, "controlnet_trigger_preprocessor"))
    expect(page.locator("#html_log_txt2img_controlnet_preview")).to_contain_text("There is no picture to look at")
    page.locator(part(1, "controlnet_enable_checkbox") + " input").check()
    page.click("#txt2img_generate")
    expect(page.locator("#html_log_txt2img")).to_contain_text("ControlNet unit 1 has no picture")
    page.locator(part(1, "controlnet_enable_checkbox") + " input").uncheck()


def test_a_preview_waits_in_the_queue_and_can_be_stopped(visit: Visit) -> None:
    page = visit.page
    open_unit(page, 2)
    load(page, 2, picture())
    page.locator(part(2, "controlnet_enable_checkbox") + " input").uncheck()
    page.locator(part(0, "controlnet_enable_checkbox") + " input").evaluate("(box) => box.checked && box.click()")
    visit.start_endless("an endless road")
    page.click(part(2, "controlnet_trigger_preprocessor"))
    expect(page.locator(part(2, "generated_image .progressText"))).to_contain_text("In queue")
    stop = page.get_by_role("button", name="Stop preprocessor")
    stop.click()
    expect(page.locator("#html_log_txt2img_controlnet_preview")).to_contain_text("was cancelled before it began")
    expect(stop).to_be_hidden()
    visit.interrupt()
    visit.fill_in("a harbour", "txt2img", steps=2, batch_count=1)
    page.click(part(2, "controlnet_trigger_preprocessor"))
    assert shown(visit, part(2, "generated_image .cnet-shown > img")).any()
    expect(page.locator("#html_log_txt2img_controlnet_preview")).not_to_contain_text("cancelled")


def test_a_pasted_text_sets_the_units(visit: Visit) -> None:
    page = visit.page
    told = (
        'a mill\nSteps: 2, Sampler: Euler, CFG scale: 7, Seed: 1, Size: 64x64, ControlNet 0: "Module: canny, Model: '
        "control_v11p_sd15_canny, Weight: 0.7, Resize Mode: Resize and Fill, Processor Res: 256, Threshold A: 20, "
        "Threshold B: 40, Guidance Start: 0.1, Guidance End: 0.9, Pixel Perfect: False, Control Mode: My prompt is "
        'more important"'
    )
    open_unit(page, 0)
    page.locator(part(0, "controlnet_enable_checkbox") + " input").uncheck()
    page.fill("#txt2img_prompt textarea", told)
    page.click("#paste")
    expect(page.locator(part(0, "controlnet_enable_checkbox") + " input")).to_be_checked()
    expect(page.locator(part(0, "controlnet_threshold_A_slider"))).to_contain_text("Low Threshold")
    visit.expect_numbers(
        part(0, "controlnet")[1:], threshold_A_slider=20, threshold_B_slider=40, preprocessor_resolution_slider=256,
        control_weight_slider=0.7, start_control_step_slider=0.1,
    )  # fmt: skip
    expect(page.locator(part(0, "controlnet_resize_mode_radio")).get_by_label("Resize and Fill")).to_be_checked()
    expect(page.locator("#txt2img_controlnet .cnet-count")).to_have_text("1 unit")


def test_img2img_has_a_picture_of_its_own_only_on_request(visit: Visit) -> None:
    page = visit.page
    page.click("#tab_img2img-button")
    page.click("#img2img_controlnet > button.label-wrap")
    expect(page.locator(part(0, "input_image", "img2img"))).to_be_hidden()
    page.locator(part(0, "controlnet_same_img2img_checkbox", "img2img")).get_by_role("checkbox").check()
    expect(page.locator(part(0, "input_image", "img2img"))).to_be_visible()
    expect(page.locator(part(0, "controlnet_hr_option_radio", "img2img"))).to_be_hidden()
    page.set_viewport_size({"width": 390, "height": 900})
    photograph(page, "narrow")
    too_wide = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    assert too_wide <= 0
    page.set_viewport_size({"width": 1600, "height": 1100})
    page.click("#tab_txt2img-button")
