"""Compare the page of a running Easel with a recorded tree of A1111's: every component's element id, label and default.

    python -m tools.recorded_page http://127.0.0.1:7860 ui-tree.txt

Prints the share of equal components and what differs. Pages of files' names (checkpoints, VAEs) are compared by label
alone, and sentences by nothing but their place. Start the server with an empty data folder: what it has chosen counts.
"""

from __future__ import annotations

import argparse
import ast
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from playwright.sync_api import Page, sync_playwright

READY = "html[data-easel=ready]"
LAYOUT = ("row", "form", "column", "group", "box", "state", "tabs", "html", "markdown", "label", "highlightedtext")
"""Kinds of components that hold others or show text, and are counted only where they have an element id."""
PROSE = ("html", "markdown", "label", "highlightedtext")
OPENED = {
    "txt2img": "#txt2img_gallery",
    "img2img": "#img2img_gallery",
    "extras": "#extras_gallery",
    "pnginfo": "#pnginfo_image",
    "modelmerger": "#modelmerger_merge",
    "train": "#tab_train input",
    "settings": "#settings_submit",
    "extensions": "#extensions_installed_html table",
    "gallery": "#gallery_files",
    "queue": "#queue_jobs",
    "deforum": "#tab_deforum button",
    "mov2mov": "#tab_mov2mov button",
}
"""Tab -> what is there once it has been drawn."""
INNER = {
    "txt2img": ("txt2img_textual_inversion", "txt2img_hypernetworks", "txt2img_checkpoints", "txt2img_lora"),
    "img2img": (
        *("img2img_img2img_sketch_tab", "img2img_inpaint_tab", "img2img_inpaint_sketch_tab"),
        *("img2img_inpaint_upload_tab", "img2img_batch_tab", "img2img_batch_from_dir_tab", "img2img_tab_resize_by"),
        *("img2img_textual_inversion", "img2img_hypernetworks", "img2img_checkpoints", "img2img_lora"),
    ),
    "extras": ("extras_batch_process_tab", "extras_batch_directory_tab", "extras_scale_to_tab"),
}
"""Tab -> the tabs within it that aren't open at first, by their element ids."""
FILE = re.compile(r"tiny|\.safetensors|\.pt\b|\.ckpt")
READER = Path(__file__).with_name("recorded_page.js")


@dataclass(frozen=True)
class Part:
    """One component. name: its label, or a button's text. value: its default, None for none.

    place: the recorded tree's tab, or "" above and below the tabs.
    """

    kind: str
    elem_id: str
    name: str
    value: Any = None
    place: str = ""
    hidden: bool = False

    @property
    def shown(self) -> str:
        """How a person finds it: by its id, or by tab and name where it has none."""
        return self.elem_id or f"{self.place}: {self.name}"


def recorded(tree: str) -> Iterator[Part]:
    """The components of a recorded tree that can be told apart: with an element id, a label or a text."""
    place, hidden_below = "", -1
    for line in tree.splitlines():
        depth = len(line) - len(line.lstrip())
        kind, _, rest = line.strip().partition(" ")
        found = dict(re.findall(r"(\w+)=('(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\"|\[[^\]]*\]|\{[^}]*\}|\S+)", rest))
        facts = {key: _literal(found[key]) for key in ("elem_id", "label", "text", "value") if key in found}
        if kind == "tabitem" and depth == 2:
            place = str(facts["label"])
        elif depth == 0:
            place = ""
        if hidden_below >= 0 and depth <= hidden_below:
            hidden_below = -1
        hidden = hidden_below >= 0 or rest.endswith("HIDDEN")
        if hidden and hidden_below < 0 and kind in LAYOUT:
            hidden_below = depth
        elem_id = re.sub(r"^input-accordion-\d+$", "", str(facts.get("elem_id", "")))  # numbered as they were made
        name = str(facts.get("label") or facts.get("text") or "")
        if elem_id or (name and kind not in LAYOUT):
            yield Part(kind, elem_id, name, facts.get("value"), place, hidden)


def _literal(text: str) -> Any:
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def open_each(page: Page) -> Iterator[str]:
    """Opens one place of the page after the other, with all that is drawn only then; yields its name."""
    for tab, part in OPENED.items():
        page.click(f"#tab_{tab}-button")
        page.wait_for_selector(part, state="attached")
        yield tab
        if tab == "settings":
            page.click("#settings_show_all_pages")
        if tab == "modelmerger":
            page.locator("#tab_modelmerger").get_by_role("button", name="Metadata", exact=True).click()
        for inner in INNER.get(tab, ()):
            page.click(f"#{inner}-button")
            page.wait_for_selector(f"#{inner}")
            if inner == "img2img_batch_from_dir_tab":
                page.get_by_role("button", name="PNG info").click()
            yield inner
        heads = page.locator(f"#tab_{tab} :is(.train-heads button, [role=tablist] > button[data-tab-id]:not([id]))")
        for number in range(heads.count() if tab in ("train", "extensions") else 0):
            heads.nth(number).click()
            yield f"{tab}, {heads.nth(number).inner_text()}"


def on_page(page: Page) -> list[dict[str, Any]]:
    """Every element that has an id or a label, as recorded_page.js reads it."""
    found: list[dict[str, Any]] = page.evaluate(READER.read_text(encoding="utf-8"))
    return found


def differences(parts: Sequence[Part], found: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """What of the recorded parts is missing or otherwise on the page, by `Part.shown`."""
    by_id: dict[str, Mapping[str, Any]] = {}
    by_name: dict[str, list[Mapping[str, Any]]] = {}
    for one in found:
        if one["id"]:
            by_id.setdefault(one["id"], one)
        for name in one["names"]:
            by_name.setdefault(_plain(name), []).append(one)
    told: dict[str, str] = {}
    for part in parts:
        if part.elem_id:
            candidates = [by_id[part.elem_id]] if part.elem_id in by_id else []
        else:
            candidates = by_name.get(_plain(part.name), [])
        why = _difference(part, candidates)
        if why:
            told[part.shown] = why
    return told


def _difference(part: Part, candidates: Sequence[Mapping[str, Any]]) -> str:
    if not candidates:
        return "missing"
    if part.kind in PROSE or part.kind in LAYOUT:
        return ""
    if part.name and not any(_plain(part.name) in map(_plain, one["names"]) for one in candidates):
        return f"is called {candidates[0]['names'][:1]} instead of {part.name!r}"
    if part.kind in ("button", "tabitem", "accordion", "file", "image", "gallery"):
        return ""
    if not any(_same(part, one["values"]) for one in candidates):
        return f"begins with {candidates[0]['values']} instead of {part.value!r}"
    return ""


def _plain(name: str) -> str:
    return re.sub(r"\s+", " ", name).strip()


def _same(part: Part, values: Mapping[str, Any]) -> bool:
    """Whether a control with these values (see recorded_page.js) begins as the recorded one does."""
    value = part.value
    match part.kind:
        case "checkbox":
            return values["checked"] == bool(value)
        case "slider" | "number":
            number = values["number"] if values["number"] not in ("", None) else values["text"]
            return (value is None and number in ("", None, "0")) or (
                number not in ("", None) and float(number) == value
            )
        case "checkboxgroup":
            return Counter(values["ticked"]) == Counter(value or ())
        case "dropdown" if isinstance(value, list):
            return Counter(values["chosen"]) == Counter(value)
        case "dropdown" | "radio" | "textbox" | "colorpicker":
            known = [str(one) for one in (values["text"], *values["ticked"], *values["chosen"]) if one is not None]
            wanted = str(value if value is not None else "")
            if FILE.search(wanted):
                return True
            if wanted.endswith("…"):
                return any(one.startswith(wanted[:-1]) for one in known)
            return wanted in known or (wanted in ("", "None") and (not known or known[0] in ("", "None")))
    return True


def main() -> None:
    parser = argparse.ArgumentParser(description="Compare a running page with a recorded one.")
    parser.add_argument("url")
    parser.add_argument("tree", type=Path)
    parser.add_argument("--chromium", default=None, help="the browser's program")
    given = parser.parse_args()
    parts = [part for part in recorded(given.tree.read_text(encoding="utf-8")) if not part.hidden]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=given.chromium, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1600, "height": 1100})
        page.goto(given.url)
        page.wait_for_selector(READY, state="attached")
        for _ in open_each(page):
            pass
        told = differences(parts, on_page(page))
        browser.close()
    for name, why in told.items():
        print(f"{name}: {why}")
    print(f"{len(parts) - len(told)} of {len(parts)} components are equal ({1 - len(told) / len(parts):.1%})")


if __name__ == "__main__":
    main()
