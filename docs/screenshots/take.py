"""Take the README's screenshot from a running Easel.

python docs/screenshots/take.py http://127.0.0.1:7860 "a red apple, 3d style, blue background"
"""

from __future__ import annotations

import argparse
import os
import shutil
from pathlib import Path

from playwright.sync_api import sync_playwright

NAMES = ("chromium", "chromium-browser", "google-chrome")
PICTURE = "#txt2img_gallery img[data-testid=detailed-image]"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("url")
    parser.add_argument("prompt")
    parser.add_argument("--dark", action="store_true")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "txt2img.png")
    chosen = parser.parse_args()
    program = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox", "--disable-gpu"])
        scheme = "dark" if chosen.dark else "light"
        page = browser.new_page(viewport={"width": 1600, "height": 1100}, color_scheme=scheme)
        page.goto(chosen.url)
        page.wait_for_selector("html[data-easel=ready]", state="attached")
        page.fill("#txt2img_prompt textarea", chosen.prompt)
        page.click("#txt2img_generate")
        page.wait_for_selector(PICTURE, timeout=600_000)
        page.wait_for_function(f"document.querySelector('{PICTURE}').naturalWidth > 0")
        if page.locator("[data-easel=dismiss]").is_visible():
            page.click("[data-easel=dismiss]")  # it names a folder of this machine
        page.mouse.move(0, 0)
        page.wait_for_timeout(1500)
        page.screenshot(path=chosen.out)
        browser.close()


if __name__ == "__main__":
    main()
