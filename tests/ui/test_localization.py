"""The page in other languages: A1111's files as they are, whose choice counts, and that Korean leaves nothing out."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Browser, expect

from tests.browsing import Visit
from tests.running import Server
from tests.tiny import tiny_checkpoint

COMMUNITY = {
    "rtl": True,
    "Seed": "بذر",
    "Generate": "ولّد",
    "Prompt\n(Press Ctrl+Enter to generate, Alt+Enter to skip, Esc to interrupt)": "نص\n(Ctrl+Enter)",
    "Euler a": "أويلر",
    "None": "لا شيء",
    "Karras": "كراس",
    "Width": "Height",
    "Height": "Width",
    "Clear the prompts": "امسح",
    "Style {} is saved.": "حُفظ {}.",
    "{} of {} things in {}": "{3}: {2}/{1}",
    "Saved. {}": "تم. {}",
}
"""As people translate A1111, with keys that users' own things are named after, and sentences with values."""


@pytest.fixture(scope="module")
def speaking(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server on which nobody has chosen a language; things of the user's are called as texts of the page are."""
    data = tmp_path_factory.mktemp("speaking")
    tiny_checkpoint(data / "models" / "Stable-diffusion", "Seed")
    (data / "models" / "VAE").mkdir()
    (data / "embeddings").mkdir()
    shutil.copy(data / "models" / "Stable-diffusion" / "Seed.safetensors", data / "models" / "VAE" / "Generate.pt")
    (data / "styles.csv").write_text("name,prompt,negative_prompt\nSeed,ink,\nGenerate,oil,\n")
    (data / "localizations").mkdir()
    (data / "localizations" / "ar_AR.json").write_text(json.dumps(COMMUNITY, ensure_ascii=False), encoding="utf-8")
    running = Server(data)
    running.start()
    yield running
    assert running.stop() == 0


def visit_in(browser: Browser, url: str, locale: str, chosen: str | None = None) -> Visit:
    """The page in a browser of that language, where a language may have been chosen before."""
    visitor = Visit(browser, url, locale=locale)
    if chosen:
        visitor.context.add_init_script(f"localStorage.setItem('easel_language', '{chosen}')")
    visitor.open()
    return visitor


@pytest.fixture(scope="module")
def arabic(browser: Browser, speaking: Server) -> Iterator[Visit]:
    visitor = visit_in(browser, speaking.url, "en-US", "ar_AR")
    yield visitor
    visitor.context.close()


@pytest.fixture(scope="module")
def korean(browser: Browser, speaking: Server) -> Iterator[Visit]:
    visitor = visit_in(browser, speaking.url, "ko-KR")
    yield visitor
    visitor.context.close()


def test_a_file_of_a1111s_users_works_as_it_is(arabic: Visit) -> None:
    page = arabic.page
    expect(page.locator("#txt2img_generate")).to_have_text("ولّد")
    expect(page.locator("#txt2img_seed")).to_contain_text("بذر")
    expect(page.locator("#txt2img_prompt textarea")).to_have_attribute("placeholder", "نص\n(Ctrl+Enter)")
    expect(page.locator("#txt2img_clear_prompt")).to_have_attribute("title", "امسح")
    expect(page.locator("html")).to_have_attribute("dir", "rtl")
    expect(page.locator("html")).to_have_attribute("lang", "ar-AR")
    assert page.evaluate("getComputedStyle(document.querySelector('#txt2img_settings')).direction") == "rtl"
    generate, prompt = (page.locator(f"#txt2img_{name}").bounding_box() for name in ("generate", "prompt"))
    assert generate is not None
    assert prompt is not None
    assert generate["x"] < prompt["x"]  # A1111's order, mirrored


def test_a_translation_that_is_itself_a_key_stands(arabic: Visit) -> None:
    expect(arabic.page.locator("#txt2img_width [data-testid=block-info]").first).to_have_text("Height")
    expect(arabic.page.locator("#txt2img_height [data-testid=block-info]").first).to_have_text("Width")


def test_what_users_write_and_name_is_left_alone(arabic: Visit) -> None:
    page = arabic.page
    page.fill("#txt2img_prompt textarea", "Seed")
    assert page.input_value("#txt2img_prompt textarea") == "Seed"
    arabic.open_list("#txt2img_styles input", "Seed")
    names = page.locator("#txt2img_styles [role=option]").evaluate_all("list => list.map(one => one.ariaLabel)")
    assert names == ["Seed", "Generate"]
    page.locator("#txt2img_styles [role=option]").first.click()
    expect(page.locator("#txt2img_styles .token")).to_have_text("Seed")
    page.locator("#txt2img_styles input").blur()
    page.get_by_role("tab", name="Checkpoints").first.click()
    expect(page.locator("#txt2img_checkpoints_cards .name", has_text="Seed")).to_have_count(1)
    page.locator("#txt2img_extra_tabs [role=tab]").first.click()
    infotext = page.evaluate("""async () => {
      const made = Object.assign(document.createElement("p"), { textContent: "Seed" });
      document.getElementById("html_info_txt2img").append(made);
      await new Promise(requestAnimationFrame);
      made.remove();
      return made.textContent;
    }""")
    assert infotext == "Seed"


def test_choices_are_translated_where_they_are_words(arabic: Visit) -> None:
    page = arabic.page
    page.click("#txt2img_sampling input")  # a list of names, which an extension may add to
    assert "أويلر" not in page.locator("#txt2img_sampling [role=option]").all_inner_texts()
    page.locator("#txt2img_sampling input").blur()
    arabic.open_list("#tab_txt2img #script_list input", re.compile("لا شيء"))
    page.locator("#tab_txt2img #script_list input").blur()


@pytest.mark.parametrize(
    ("shown", "translated"),
    [
        ("Style night {} {1} sky is saved.", "حُفظ night {} {1} sky."),
        ("3 of 5 things in a folder in there", "a folder in there: 5/3"),
        ("Saved. Style x is saved.", "تم. حُفظ x."),
        ("Saved. Seed", "تم. Seed"),
        ("Saved. $& is it.", "تم. $& is it."),
        ("Style is saved.", "Style is saved."),
    ],
)
def test_sentences_with_values_in_them(arabic: Visit, shown: str, translated: str) -> None:
    said = arabic.page.evaluate(
        """async (text) => {
          const made = Object.assign(document.createElement("p"), { textContent: `  ${text} ` });
          document.querySelector(".gradio-container").append(made);
          await new Promise(requestAnimationFrame);
          made.remove();
          return made.textContent;
        }""",
        shown,
    )
    assert said == f"  {translated} "
    assert arabic.page.evaluate("text => easel.translated(text)", shown) == translated


def test_a_first_visit_is_in_the_browsers_language(korean: Visit) -> None:
    expect(korean.page.locator("#txt2img_generate")).to_have_text("생성")
    expect(korean.page.locator("html")).to_have_attribute("lang", "ko-KR")
    assert korean.page.locator("#easel_language option").all_inner_texts() == ["English", "العربية", "한국어"]
    assert korean.complaints == []


@pytest.mark.parametrize("locale", ["en-US", "de-DE", "en-KR"])
def test_other_browsers_see_english(browser: Browser, speaking: Server, locale: str) -> None:
    visitor = visit_in(browser, speaking.url, locale)
    expect(visitor.page.locator("#easel_language")).to_have_value("None")
    expect(visitor.page.locator("#txt2img_generate")).to_have_text("Generate")
    visitor.context.close()


def test_the_switch_is_for_this_browser_and_takes_everything_back(browser: Browser, speaking: Server) -> None:
    visitor = visit_in(browser, speaking.url, "ko-KR")
    page = visitor.page
    expect(page.locator("#txt2img_generate")).to_have_text("생성")
    page.select_option("#easel_language", "ar_AR")
    expect(page.locator("#txt2img_generate")).to_have_text("ولّد")
    expect(page.locator("#txt2img_cfg_scale [data-testid=block-info]").first).to_have_text("CFG Scale")
    page.select_option("#easel_language", "None")
    expect(page.locator("#txt2img_generate")).to_have_text("Generate")
    expect(page.locator("html")).to_have_attribute("dir", "ltr")
    expect(page.locator("#txt2img_clear_prompt")).to_have_attribute("title", "Clear the prompts")
    visitor.reload()
    expect(page.locator("#easel_language")).to_have_value("None")
    expect(page.locator("#txt2img_generate")).to_have_text("Generate")
    visitor.context.close()


def test_the_template_has_every_text_with_its_translation_so_far(arabic: Visit) -> None:
    page = arabic.page
    page.click("#tab_settings-button")
    page.locator("#download_localization").wait_for(state="attached")
    with page.expect_download() as download:
        page.evaluate("document.querySelector('#download_localization').click()")
    page.click("#tab_txt2img-button")
    assert download.value.suggested_filename == "localization.json"
    template = json.loads(Path(download.value.path()).read_text(encoding="utf-8"))
    assert template["Seed"] == "بذر"
    assert template["Sampling steps"] == "Sampling steps"
    assert template["Always save all generated images"] == "Always save all generated images"  # of the settings


def test_thousands_of_texts_cost_no_time_to_speak_of(browser: Browser, speaking: Server) -> None:
    """The work of a change of the page is bounded by what has changed, not by the number of translations."""
    assert len(httpx.get(f"{speaking.url}/internal/localization?language=ko_KR", timeout=60).json()) > 2000
    visitor = visit_in(browser, speaking.url, "ko-KR")  # a page of its own: it would remember the rows as untranslated
    spent = visitor.page.evaluate("""async () => {
      const place = document.querySelector(".gradio-container");
      const rows = document.createElement("div");
      for (let i = 0; i < 2000; i++) rows.append(document.createElement("p"));
      for (const row of rows.children) row.textContent = `row ${Math.random()} of it`;
      const before = performance.now();
      place.append(rows);
      await Promise.resolve();
      const after = performance.now();
      rows.remove();
      return after - before;
    }""")
    visitor.context.close()
    assert spent < 1000


OPEN = """(parts) => {
  let opened = 0;
  for (const button of document.querySelectorAll(parts)) {
    if (!button.offsetParent || button.dataset.opened) continue;
    button.dataset.opened = "";
    button.click();
    opened += 1;
  }
  return opened;
}"""
PARTS = "button.label-wrap:not(.open), .tabitem button[role=tab], .settings-nav button, .train-heads button"
NO_WORDS = (
    re.compile(r"[가-힣]"),  # translated already, by Gradio
    re.compile(r"^(/|[A-Z]:\\)\S+$"),  # a folder
    re.compile(r"^\S+\.\w{2,11}$"),  # a file
)
"""What needs no translation."""


CHOICES = """() => gradio_config.components
  .filter(({ props }) => props?.choices && !props.elem_classes?.includes("names"))
  .flatMap(({ props }) => props.choices.map(([label]) => label))
  .filter((label) => typeof label === "string" && /\\p{L}{2}/u.test(label) && easel.translated(label) === label)"""
"""Words to choose from, in lists that nobody has opened, without a translation."""
SAME_IN_KOREAN = re.compile(
    r"[A-Z]{2,5}|[a-z0-9]{3,4}|safetensors|realesr.*|(DIS|RIFE|Depth) .*|Midas-3-Hybrid|OpenPose|FreeNoise|"
    r"CodeFormer|Deep[bB]ooru|Farneback|AdaBins|Zoe|Leres|Lanczos"
)
"""Names of formats, methods and networks."""


def test_korean_has_every_text_of_every_tab(korean: Visit) -> None:
    page = korean.page
    tabs = page.locator("#tabs > .tab-wrapper button[role=tab]").evaluate_all("tabs => tabs.map(tab => tab.id)")
    assert len(tabs) >= 10
    for tab in dict.fromkeys(tabs):
        page.evaluate("tab => document.getElementById(tab).click()", tab)
        for _ in range(5):
            page.wait_for_timeout(700)
            if not page.evaluate(OPEN, PARTS):
                break
    code = Path(__file__).parents[2]
    named = {folder.name for folder in (code / "extensions").iterdir()}
    left = [text for text in page.evaluate("easel.untranslated()") if text not in named]
    known = json.loads((code / "webui" / "localizations" / "ko_KR.json").read_text(encoding="utf-8"))
    left += [text for text in page.evaluate(CHOICES) if text not in known and not SAME_IN_KOREAN.fullmatch(text)]
    assert [text for text in left if not any(rule.search(text) for rule in NO_WORDS)] == []


def test_until_somebody_chooses_for_the_server(browser: Browser, speaking: Server) -> None:
    """Last in this file: a choice isn't taken back."""
    assert httpx.post(f"{speaking.url}/sdapi/v1/options", json={"localization": "None"}, timeout=60).status_code == 200
    visitor = visit_in(browser, speaking.url, "ko-KR")
    expect(visitor.page.locator("#easel_language")).to_have_value("None")
    expect(visitor.page.locator("#txt2img_generate")).to_have_text("Generate")
    httpx.post(f"{speaking.url}/sdapi/v1/options", json={"localization": "ar_AR"}, timeout=60)
    visitor.reload()
    expect(visitor.page.locator("#txt2img_generate")).to_have_text("ولّد")
    visitor.context.close()
