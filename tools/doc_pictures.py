"""Take the documentation's pictures from a running Easel with the embedded model.

python -m tools.doc_pictures            all of them, into docs/screenshots
python -m tools.doc_pictures gallery    some, by name

Each picture shows what came before it: with some names the others are gone through, too, and not saved.
"""

from __future__ import annotations

import argparse
import io
import tempfile
from collections.abc import Callable
from pathlib import Path

from PIL import Image
from playwright.sync_api import expect

from tests.browsing import Visit
from tests.running import ROOT, Server
from tools.chromium import chromium

FOLDER = ROOT / "docs" / "screenshots"
SIZE = {"width": 1280, "height": 880}
PHONE = {"width": 390, "height": 844}
QUALITY = 70
PATIENCE = 600_000
"""Milliseconds that anything may take."""
APPLE = "a red apple, blue background"

Scene = Callable[[Visit], None]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME")
    parser.add_argument("--out", type=Path, default=FOLDER)
    wanted = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="easel-pictures-") as data:
        server = Server(Path(data), flags=())
        server.start()
        try:
            with chromium() as browser:
                visit = Visit(browser, server.url, viewport=SIZE)
                visit.page.set_default_timeout(PATIENCE)
                expect.set_options(timeout=PATIENCE)
                visit.open()
                if visit.page.locator("[data-easel=dismiss]").is_visible():
                    visit.page.click("[data-easel=dismiss]")  # it names a folder of this machine
                for name, scene in SCENES.items():
                    scene(visit)
                    if not wanted.names or name in wanted.names:
                        take(visit, wanted.out / f"{name}.webp")
        finally:
            server.stop()


def take(visit: Visit, file: Path) -> None:
    visit.page.mouse.move(0, 0)
    visit.page.wait_for_timeout(1500)  # what moves comes to rest
    picture = Image.open(io.BytesIO(visit.page.screenshot()))
    picture.convert("RGB").save(file, "WEBP", quality=QUALITY, method=6)
    print(f"{file}: {file.stat().st_size >> 10} KiB", flush=True)


def tab(visit: Visit, name: str) -> None:
    visit.page.set_viewport_size(SIZE)
    visit.page.click(f"#tab_{name}-button")


def first_picture(visit: Visit) -> None:
    visit.generate(APPLE, seed=7)
    visit.picture_width()


def cards(visit: Visit) -> None:
    visit.page.locator("#txt2img_extra_tabs > .tab-wrapper button[role=tab]", has_text="Checkpoints").first.click()
    expect(visit.page.locator("#txt2img_checkpoints_cards .card").first).to_be_visible()


def plot(visit: Visit) -> None:
    page = visit.page
    page.locator("#txt2img_extra_tabs > .tab-wrapper button[role=tab]", has_text="Generation").first.click()
    visit.choose("#script_list input", "X/Y/Z plot")
    for letter, axis, values in (("x", "Prompt S/R", "apple, pizza, rocket"), ("y", "CFG Scale", "2, 5, 9")):
        box = f"#script_txt2img_xyz_plot_{letter}"
        visit.choose(f"{box}_type input", axis)
        page.fill(f"{box}_values textarea", values)
    with visit.job():
        page.click("#txt2img_generate")
    visit.picture_width()
    page.locator("#script_txt2img_xyz_plot_x_type").scroll_into_view_if_needed()


def inpaint(visit: Visit) -> None:
    page = visit.page
    visit.choose("#script_list input", "None")
    visit.generate(APPLE, seed=7)
    page.click("#txt2img_send_to_inpaint")
    canvas = page.locator("#img2maskimg canvas").first
    canvas.wait_for()
    page.wait_for_timeout(3000)
    place = page.locator("#img2maskimg").bounding_box()
    assert place is not None
    x, y = place["x"] + place["width"] / 2, place["y"] + place["height"] / 2
    page.mouse.move(x - 60, y)
    page.mouse.down()
    for step in range(12):
        page.mouse.move(x - 60 + 10 * step, y + (step % 2) * 12)
    page.mouse.up()
    page.fill("#img2img_prompt textarea", "a green apple, blue background")
    with visit.job("img2img"):
        page.click("#img2img_generate")
    visit.picture_width("img2img")


def extras(visit: Visit) -> None:
    tab(visit, "txt2img")
    visit.page.click("#txt2img_send_to_extras")
    expect(visit.page.locator("#extras_image img")).to_be_visible()
    visit.choose("#extras_upscaler_1 input", "Lanczos")
    with visit.job("extras"):
        visit.page.click("#extras_generate")
    visit.picture_width("extras")


def png_info(visit: Visit) -> None:
    tab(visit, "gallery")
    visit.page.locator("#gallery_files img").first.wait_for()
    tab(visit, "pnginfo")
    saved = visit.page.evaluate("document.querySelector('#txt2img_gallery img').src")
    answer = visit.page.request.get(saved)
    file = {"name": "apple.png", "mimeType": "image/png", "buffer": answer.body()}
    visit.page.set_input_files("#pnginfo_image input[type=file]", file)
    expect(visit.page.locator("#html_info_pnginfo")).to_contain_text("apple")


def merger(visit: Visit) -> None:
    tab(visit, "modelmerger")
    visit.choose("#modelmerger_primary_model_name input", "easel-emoji")


def train(visit: Visit) -> None:
    tab(visit, "train")
    visit.page.locator("#tab_train input").first.wait_for()


def settings(visit: Visit) -> None:
    tab(visit, "settings")
    visit.page.wait_for_selector("#settings_submit")
    visit.page.locator("#settings_search input").fill("preview")


def gallery(visit: Visit) -> None:
    tab(visit, "gallery")
    visit.page.click("#gallery_refresh")
    visit.page.locator("#gallery_files img").nth(3).wait_for()


def queue(visit: Visit) -> None:
    tab(visit, "queue")
    visit.page.locator("#queue_jobs img").first.wait_for()


def of_extension(name: str) -> Scene:
    def scene(visit: Visit) -> None:
        tab(visit, name)
        visit.page.locator(f"#{name}_generate").wait_for()

    return scene


def phone(visit: Visit) -> None:
    tab(visit, "txt2img")
    visit.page.set_viewport_size(PHONE)
    visit.page.evaluate("window.scrollTo(0, 0)")


SCENES: dict[str, Scene] = {
    "txt2img": first_picture,
    "cards": cards,
    "plot": plot,
    "inpaint": inpaint,
    "extras": extras,
    "png-info": png_info,
    "merger": merger,
    "train": train,
    "settings": settings,
    "gallery": gallery,
    "queue": queue,
    "mov2mov": of_extension("mov2mov"),
    "deforum": of_extension("deforum"),
    "phone": phone,
}
"""In this order: each leaves something for the next."""

if __name__ == "__main__":
    main()
