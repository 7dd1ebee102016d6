"""ReActor on the page: stories of one face, several, a folder, a face model, what is missing, and the notes."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Browser, expect

from tests.browsing import Visit, photograph
from tests.extensions.faceswap import standins
from tests.extensions.faceswap.conftest import LEFT, RIGHT
from tests.running import Server
from tests.tiny import tiny_checkpoint

RED, BLUE = (220, 40, 20), (20, 40, 220)
SIZE = {"width": 128, "height": 128, "steps": 1}


@pytest.fixture(scope="module")
def swapping(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    data = tmp_path_factory.mktemp("swapping")
    tiny_checkpoint(data / "models" / "Stable-diffusion")
    standins.all_of_them(data / "models", (LEFT, RIGHT))
    for name, color in (("red", RED), ("blue", BLUE)):
        path = data / "outputs" / "people" / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (640, 640), color).save(path)
    (data / "config.json").write_text(json.dumps({"interrupt_after_current": False}))
    running = Server(data)
    running.start()
    yield running
    assert running.stop() == 0


@pytest.fixture
def visit(browser: Browser, swapping: Server) -> Iterator[Visit]:
    visitor = Visit(browser, swapping.url)
    visitor.open()
    yield visitor
    assert [told for told in visitor.complaints if "Method not implemented" not in told] == []  # Gradio's, of an upload
    visitor.context.close()


def people(server: Server, name: str) -> Path:
    return server.data / "outputs" / "people" / f"{name}.png"


def enable(visit: Visit, form: str = "txt2img") -> None:
    visit.page.locator(f"#{form}_reactor-checkbox input").check()
    expect(visit.page.locator(f"#{form}_reactor_tabs")).to_be_visible()


def load(visit: Visit, box: str, *files: Path) -> None:
    visit.page.locator(f"#{box} input[type=file]").first.set_input_files([str(file) for file in files])
    expect(visit.page.locator(f"#{box} img").first).to_be_visible()


def choose(visit: Visit, radio: str, label: str) -> None:
    visit.page.locator(f"#{radio}").get_by_label(label, exact=True).check()


def results(visit: Visit, form: str = "txt2img") -> list[np.ndarray]:
    """The pictures in the gallery, the grid in front of several included."""
    shown = visit.page.locator(f"#{form}_gallery .thumbnail-item img").or_(
        visit.page.locator(f"#{form}_gallery img[data-testid=detailed-image]")
    )
    expect(shown.first).to_be_visible()
    urls = dict.fromkeys(str(item.get_attribute("src")) for item in shown.all())
    pictures = []
    for url in urls:
        answer = visit.context.request.get(url if "://" in url else f"{visit.url}{url}")
        pictures.append(np.asarray(Image.open(io.BytesIO(answer.body())).convert("RGB"), dtype=int))
    return pictures


def redness(picture: np.ndarray) -> float:
    """Of the place of the left face."""
    area = picture[60:68, 28:36].mean((0, 1))
    return float(area[0] - area[2])


def test_one_picture_is_the_source(visit: Visit, swapping: Server) -> None:
    visit.generate("a cat", **SIZE, seed=1)
    plain = results(visit)[0]
    enable(visit)
    load(visit, "txt2img_ReActor_img", people(swapping, "red"))
    visit.generate("a cat", **SIZE, seed=1)
    expect(visit.page.locator("#html_info_txt2img")).to_contain_text("ReActor: ")
    swapped = results(visit)[0]
    assert (swapped[64, 32] != plain[64, 32]).any()
    assert (swapped[:25] == plain[:25]).all()
    expect(visit.page.locator("#html_log_txt2img")).to_contain_text("became source face 0 (male, 31)")
    photograph(visit.page, "single")


def test_several_pictures_make_a_result_each(visit: Visit, swapping: Server) -> None:
    enable(visit)
    visit.page.locator("#txt2img_reactor_sources").get_by_role("tab", name="Multiple").click()
    load(visit, "txt2img_ReActor_imgs", people(swapping, "red"), people(swapping, "blue"))
    visit.generate("a dog", **SIZE, seed=1)
    photograph(visit.page, "multiple")
    grid, red, blue = sorted(results(visit), key=lambda picture: -picture.shape[1])
    assert grid.shape[1] == 2 * red.shape[1]
    assert redness(red) != redness(blue)


def test_a_folder_is_the_source(visit: Visit) -> None:
    enable(visit)
    choose(visit, "txt2img_ReActor_select_source", "Folder")
    visit.page.fill("#txt2img_ReActor_source_folder input, #txt2img_ReActor_source_folder textarea", "outputs/people")
    visit.page.locator("#txt2img_ReActor_random_image input").check()
    visit.generate("a bird", **SIZE, seed=1)
    expect(visit.page.locator("#html_info_txt2img")).to_contain_text("source: folder")
    photograph(visit.page, "folder")


def test_a_face_model_is_built_and_used(visit: Visit, swapping: Server) -> None:
    enable(visit)
    tabs = visit.page.locator("#txt2img_reactor_tabs")
    tabs.get_by_role("tab", name="Tools").click()
    visit.page.click("#txt2img_reactor_model_build")
    said = visit.page.locator("#txt2img_reactor_model_said")
    expect(said).to_contain_text("There is no picture; load one first.")
    load(visit, "txt2img_reactor_model_image", people(swapping, "red"))
    visit.page.fill("#txt2img_reactor_model_name input, #txt2img_reactor_model_name textarea", "Ruby")
    visit.page.click("#txt2img_reactor_model_build")
    expect(said).to_contain_text("Face model Ruby.safetensors is saved (male, 31).")
    photograph(visit.page, "tools")
    tabs.get_by_role("tab", name="Main").click()
    visit.choose("#txt2img_reactor_face_model input", "Ruby")
    choose(visit, "txt2img_ReActor_select_source", "Face Model")
    visit.generate("a fish", **SIZE, seed=1)
    expect(visit.page.locator("#html_info_txt2img")).to_contain_text("source: face model Ruby")
    photograph(visit.page, "face-model")


def test_several_pictures_are_blended_after_a_check(visit: Visit, swapping: Server) -> None:
    enable(visit)
    visit.page.locator("#txt2img_reactor_tabs").get_by_role("tab", name="Tools").click()
    visit.page.get_by_role("tab", name="Blend").first.click()
    files = [str(people(swapping, name)) for name in ("red", "blue")]
    visit.page.locator("#txt2img_reactor_blend_images input[type=file]").set_input_files(files)
    expect(visit.page.locator("#txt2img_reactor_blend_images")).to_contain_text("blue")
    said = visit.page.locator("#txt2img_reactor_model_said")
    visit.page.click("#txt2img_reactor_blend_check")
    expect(said).to_contain_text("The faces of 2 pictures can be blended.")
    choose(visit, "txt2img_reactor_method", "Median")
    visit.page.fill("#txt2img_reactor_blend_name input, #txt2img_reactor_blend_name textarea", "../both")
    visit.page.click("#txt2img_reactor_blend_build")
    expect(said).to_contain_text("can't be the name of a face model")
    visit.page.fill("#txt2img_reactor_blend_name input, #txt2img_reactor_blend_name textarea", "both")
    visit.page.click("#txt2img_reactor_blend_build")
    expect(said).to_contain_text("Face model both.safetensors is saved")
    assert (swapping.data / "models" / "reactor" / "faces" / "both.safetensors").is_file()


def test_faces_are_looked_at_and_forgotten(visit: Visit, swapping: Server) -> None:
    enable(visit)
    load(visit, "txt2img_ReActor_img", people(swapping, "blue"))
    visit.page.locator("#txt2img_reactor_tabs").get_by_role("tab", name="Detection").click()
    said = visit.page.locator("#txt2img_reactor_faces")
    visit.page.click("#txt2img_reactor_look")
    expect(said).to_contain_text("0: female, 31 (0.90); 1: female, 31 (0.80).")
    photograph(visit.page, "detection")
    visit.page.click("#txt2img_reactor_clear_source")
    expect(said).to_contain_text("forgotten.")


def test_without_a_source_one_sentence_says_so(visit: Visit) -> None:
    enable(visit)
    visit.fill_in("a cow", "txt2img", **SIZE)
    visit.page.click("#txt2img_generate")
    expect(visit.page.locator("#html_log_txt2img")).to_contain_text("ReActor has no source picture")
    photograph(visit.page, "no-source")
    visit.complaints.clear()


def test_the_source_picture_of_img2img_is_swapped(visit: Visit, swapping: Server, tmp_path: Path) -> None:
    path = tmp_path / "ramp.png"
    Image.linear_gradient("L").resize((128, 128)).convert("RGB").save(path)
    visit.page.get_by_role("tab", name="img2img").first.click()
    load(visit, "img2img_image", path)
    asked = {"width": 128, "height": 128, "steps": 2, "seed": 1, "denoising_strength": 0}
    visit.generate("a ramp", tab="img2img", **asked)
    plain = results(visit, "img2img")[0]
    enable(visit, "img2img")
    load(visit, "img2img_ReActor_img", people(swapping, "red"))
    visit.page.locator("#img2img_ReActor_swap_in_source input").check()
    visit.page.locator("#img2img_ReActor_swap_in_generated input").uncheck()
    visit.generate("a ramp", tab="img2img", **asked)
    photograph(visit.page, "img2img")
    swapped = results(visit, "img2img")[0]
    assert redness(swapped) > redness(plain) + 10
    expect(visit.page.locator("#html_info_img2img")).to_contain_text("ReActor: ")


def test_extras_swaps_a_picture(visit: Visit, swapping: Server) -> None:
    visit.page.get_by_role("tab", name="Extras").first.click()
    load(visit, "extras_image", people(swapping, "blue"))
    visit.page.locator("#extras_extension_ReActorStep-checkbox input").check()
    load(visit, "extras_ReActorStep_img", people(swapping, "red"))
    with visit.job("extras"):
        visit.page.click("#extras_generate")
    expect(visit.page.locator("#html_info_extras")).to_contain_text("ReActor: True")
    photograph(visit.page, "extras")
    picture = results(visit, "extras")[0]
    assert picture[320, 160, 0] > 100 > picture[10, 10, 0]


def test_the_note_on_consent_goes_for_good(browser: Browser, swapping: Server) -> None:
    visit = Visit(browser, swapping.url)
    visit.open()
    enable(visit)
    note = visit.page.locator("#txt2img_reactor_note")
    expect(note).to_contain_text("people who agreed")
    photograph(visit.page, "note")
    visit.page.click("#txt2img_reactor_understood")
    expect(note).to_be_hidden()
    visit.close()
    options = swapping.client.get(f"{swapping.url}/sdapi/v1/options").json()
    assert options["reactor_note"] is False
    assert options["reactor_content_check"] is True
