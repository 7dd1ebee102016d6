"""What extensions put on the page."""

from __future__ import annotations

import base64
import re
from pathlib import Path

import httpx
from playwright.sync_api import Browser, expect

from tests.browsing import Visit
from tests.running import Server
from tests.tiny import tiny_checkpoint

FIXTURES = Path(__file__).resolve().parents[1] / "fixtures" / "extensions"
VIGNETTE = '''
from webui.extensions.api import Params, hookimpl, param

class Vignette(Params):
    """Darken the <corners>."""
    strength: float = param(0.0, label="Strength", infotext="Vignette strength", ge=0, le=1, step=0.05)

@hookimpl
def register_params():
    return Vignette

@hookimpl
def postprocess_image(image, plan):
    return image.point(lambda value: value * (1 - plan.extension(Vignette).strength))
'''


def test_an_extension_has_its_panel_and_a_broken_one_is_named(browser: Browser, tmp_path: Path) -> None:
    tiny_checkpoint(tmp_path / "models" / "Stable-diffusion")
    for name, code in (("vignette", VIGNETTE), ("broken", "import nothing_of_that_name")):
        folder = tmp_path / "extensions" / name
        folder.mkdir(parents=True)
        (folder / "extension.py").write_text(code)
    server = Server(tmp_path)
    server.start()
    visit = Visit(browser, server.url)
    try:
        page = visit.open()
        expect(page.locator("#easel_hint .error")).to_contain_text("broken")
        page.get_by_role("button", name="Darken the <corners>").click()
        visit.set_number("txt2img_Vignette_strength", 1)
        visit.generate("night", steps=1)
        visit.picture_width()
        black = """() => {
            const canvas = document.createElement("canvas");
            canvas.width = canvas.height = 8;
            const drawing = canvas.getContext("2d");
            drawing.drawImage(document.querySelector("#txt2img_gallery img[data-testid=detailed-image]"), 0, 0, 8, 8);
            return drawing.getImageData(0, 0, 8, 8).data.every((value, index) => index % 4 === 3 || value === 0);
        }"""
        assert page.evaluate(black)
        page.click("#tab_extensions-button")
        expect(page.locator("#extensions_installed_html tr", has_text="vignette")).to_contain_text("in use")
        expect(page.locator("#extensions_installed_html tr", has_text="broken")).to_contain_text("broken")
        assert visit.complaints == []
    finally:
        visit.close()
        server.stop()


def test_files_of_every_kind_and_what_can_be_chosen(browser: Browser, tmp_path: Path) -> None:
    """A video is in the gallery and a text below it; upscalers, samplers and Extras steps are where ours are."""
    tiny_checkpoint(tmp_path / "models" / "Stable-diffusion")
    (tmp_path / "extensions").mkdir()
    for name in ("film", "enlarge"):
        (tmp_path / "extensions" / name).symlink_to(FIXTURES / name)
    server = Server(tmp_path)
    server.start()
    visit = Visit(browser, server.url)
    try:
        page = visit.open()
        page.get_by_role("button", name="Film").click()
        page.locator("#txt2img_Film_on input").check()
        visit.generate("night", steps=1)
        visit.picture_width()
        expect(page.locator("#txt2img_gallery .thumbnails button")).to_have_count(2)
        expect(page.locator("#download_files_txt2img")).to_contain_text("srt")
        expect(page.locator("#html_log_txt2img")).to_contain_text("A film of 1 pictures was made.")
        body = {
            "prompt": "a cat",
            "steps": 1,
            "width": 64,
            "height": 64,
            "alwayson_scripts": {"Film": {"args": {"on": True}}},
        }
        content = server.txt2img(**body).json()
        film, text = content["files"]
        assert (film["role"], film["mime"]) == ("video", "image/gif")
        assert base64.b64decode(film["data"]).startswith(b"GIF89a")
        assert (text["role"], base64.b64decode(text["data"])) == ("text", b"1\na cat\n\n")
        assert text["name"].endswith(".srt")
        assert len(content["images"]) == 1
        page.click("#tab_extras-button")
        page.set_input_files("#extras_image input[type=file]", FIXTURES / "blue.png")
        page.click("#extras_upscaler_1 input")
        page.locator("#extras_upscaler_1").get_by_role("option", name="Mosaic", exact=True).click()
        visit.set_number("extras_upscaling_resize", 2)
        page.locator("#extras_extension_Frame button.label-wrap").click()
        visit.set_number("extras_Frame_width", 3)
        page.click("#extras_generate")
        expect(page.locator("#html_info_extras")).to_contain_text("Postprocess upscaler: Mosaic, Frame width: 3")
        picture = base64.b64encode((FIXTURES / "blue.png").read_bytes()).decode()
        with httpx.Client(base_url=server.url, timeout=240) as client:
            steps = {"frame": {"args": {"width": 2}}}
            answer = client.post("/sdapi/v1/extra-single-image", json={"image": picture, "extensions": steps}).json()
            assert answer["html_info"] == "<p>Frame width: 2</p>"
            wrong = {"image": picture, "extensions": {"frames": {"args": {}}}}
            refused = client.post("/sdapi/v1/extra-single-image", json=wrong)
            assert refused.status_code == 422
            assert "frames" in refused.text
            assert "Mosaic" in {row["name"] for row in client.get("/sdapi/v1/upscalers").json()}
            assert "Straight" in {row["name"] for row in client.get("/sdapi/v1/samplers").json()}
        page.click("#tab_txt2img-button")
        page.click("#txt2img_sampling input")
        expect(page.locator("#txt2img_sampling").get_by_role("option", name="Straight", exact=True)).to_have_count(1)
        (tmp_path / "models" / "mosaics").mkdir()
        (tmp_path / "models" / "mosaics" / "Tardy.txt").touch()
        visit.open()
        for tab, boxes in (
            ("txt2img", ["txt2img_hr_upscaler"]),
            ("extras", ["extras_upscaler_1", "extras_upscaler_2"]),
        ):
            page.click(f"#tab_{tab}-button")
            if tab == "txt2img":
                page.locator("#txt2img_hr-checkbox input").check()
            for box in boxes:
                visit.choose(f"#{box} input", "Tardy")
                expect(page.locator(f"#{box} input")).to_have_value("Tardy")
        assert set(visit.complaints) <= {"Method not implemented."}  # Gradio's own, after every upload
    finally:
        visit.close()
        server.stop()


FROM_PICTURES = ("img2img alternative test", "Loopback", "Outpainting mk2", "Poor man's outpainting", "SD upscale")
BOTH = ("Prompt matrix", "Prompts from file or textbox", "X/Y/Z plot")


def test_scripts_stand_in_both_tabs_dropdowns_with_their_panels(browser: Browser, tmp_path: Path) -> None:
    tiny_checkpoint(tmp_path / "models" / "Stable-diffusion")
    server = Server(tmp_path)
    server.start()
    visit = Visit(browser, server.url)
    try:
        page = visit.open()
        start = page.locator("#script_txt2img_prompt_matrix_put_at_start input")
        expect(start).to_be_hidden()
        page.click("#script_list input")
        options = page.locator("#script_list").get_by_role("option")
        expect(options).to_have_text([re.compile(name) for name in ("None", *BOTH)])
        options.filter(has_text="Prompt matrix").click()
        expect(start).to_be_visible()
        start.check()
        visit.fill_in("a cat|red", "txt2img", steps=1, width=64, height=64)
        with visit.job("txt2img"):
            page.click("#txt2img_generate")
        pictures = page.locator("#txt2img_gallery .thumbnails button")
        expect(pictures).to_have_count(3)
        expect(page.locator("#html_info_txt2img")).to_contain_text("a cat")
        page.click("#script_list input")
        options.filter(has_text="Prompts from file").click()
        expect(start).to_be_hidden()
        (tmp_path / "lines.txt").write_text("a dog\n--prompt 'a house' --steps 2\n", encoding="utf-8")
        name = "script_txt2img_prompts_from_file_or_textbox"
        page.set_input_files(f"#{name}_file input[type=file]", tmp_path / "lines.txt")
        expect(page.locator(f"#{name}_prompt_txt textarea")).to_have_value(re.compile("a house"))
        visit.fill_in("", "txt2img", steps=1)
        with visit.job("txt2img"):
            page.click("#txt2img_generate")
        expect(pictures).to_have_count(2)
        page.locator(f"#{name}_prompt_txt textarea").fill("--stepz 3")
        page.click("#txt2img_generate")
        expect(page.locator("#html_log_txt2img")).to_contain_text('Line 1 of the prompts has "--stepz"')
        page.click("#tab_img2img-button")
        page.click("#img2img_script_list input")
        expect(page.locator("#img2img_script_list").get_by_role("option")).to_have_text(
            [re.compile(name) for name in ("None", *sorted((*FROM_PICTURES, *BOTH), key=str.lower))]
        )
        assert set(visit.complaints) <= {"Method not implemented."}  # Gradio's own, after every upload
    finally:
        visit.close()
        server.stop()
