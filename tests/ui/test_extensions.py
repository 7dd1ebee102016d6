"""What extensions put on the page."""

from __future__ import annotations

from pathlib import Path

from playwright.sync_api import Browser, expect

from tests.running import Server
from tests.tiny import tiny_checkpoint
from tests.ui.conftest import Visit

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
        visit.context.close()
        server.stop()
