"""The Settings tab in a real browser."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from tests.api.server import serving
from tests.browsing import Visit
from webui.api.guard import Guard
from webui.app import build_app
from webui.core.flags import parse_flags
from webui.core.settings_table import SETTINGS
from webui.services.building import build_services


def options(server: Any) -> dict[str, Any]:
    found: dict[str, Any] = httpx.get(f"{server.url}/sdapi/v1/options", timeout=60).json()
    return found


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A server without a model: nothing here makes pictures."""
    data = tmp_path_factory.mktemp("settings")
    services = build_services(parse_flags(["--data-dir", str(data)], {})[0])
    with serving(Guard(build_app(services))) as url:
        yield SimpleNamespace(url=url, data=data, services=services)
    services.checkpoints.close()


@pytest.fixture(scope="module")
def visit(browser: Browser, server: Any) -> Iterator[Visit]:
    """One page for all: to load it anew for each test would take most of their time."""
    visitor = Visit(browser, server.url)
    visitor.open()
    yield visitor
    visitor.context.close()


@pytest.fixture
def page(visit: Visit, server: Any) -> Iterator[Page]:
    """The tab, opened anew with one section; the settings are put back afterwards, and nothing is left unsaved."""
    before = server_settings(server)
    visit.page.click("#tab_extras-button")
    visit.page.click("#tab_settings-button")
    visit.page.wait_for_selector("#settings_submit")
    visit.page.get_by_role("button", name="Paths for saving", exact=True).click()
    yield visit.page
    now = server_settings(server)
    ask(server, {key: value for key, value in before.items() if value != now[key]})
    assert visit.page.locator(".setting[data-edited]").count() == 0


def server_settings(server: Any) -> dict[str, Any]:
    found: dict[str, Any] = httpx.get(f"{server.url}/easel/v1/settings", timeout=60).json()["values"]
    return found


def ask(server: Any, changes: dict[str, Any]) -> dict[str, Any]:
    answer = httpx.post(f"{server.url}/easel/v1/settings", json={"changes": changes}, timeout=60)
    answer.raise_for_status()
    found: dict[str, Any] = answer.json()
    return found


def field(page: Page, key: str, part: str = "input, textarea, select") -> Locator:
    return page.locator(f"#setting_{key}").locator(part).first


def apply(page: Page) -> Locator:
    page.click("#settings_submit")
    expect(page.locator("#settings_submit")).to_be_enabled()
    return page.locator("#settings_result")


def test_every_setting_of_the_table_stands_on_the_tab(page: Page) -> None:
    page.click("#settings_show_all_pages")
    shown = page.evaluate("[...document.querySelectorAll('#settings .setting')].map((field) => field.dataset.key)")
    assert len(shown) == len(set(shown))
    wanted = {setting.key for setting in SETTINGS if setting.section.id is not None}
    assert wanted - set(shown) == {"sd_model_checkpoint"}  # which is at the top of the page
    assert "control_net_models_path" in shown or len(set(shown) - wanted) > 3  # those of extensions
    titles = page.locator(".settings-page > h2").all_inner_texts()
    assert {"Paths for saving", "Live previews", "User interface", "ControlNet", "Sysinfo"} <= set(titles)
    names = page.evaluate("[...document.querySelectorAll('#settings [id]')].map((part) => part.id)")
    assert len(names) == len(set(names))


def test_a_story_of_changes(page: Page, server: Any) -> None:
    page.locator("#settings_search input").fill("jpeg quality")
    box = page.locator("#setting_jpeg_quality input[type=number]")
    box.fill("91")
    expect(page.locator("#setting_jpeg_quality input[type=range]")).to_have_value("91")
    expect(page.locator("#setting_samples_format")).to_be_hidden()
    expect(apply(page)).to_contain_text("jpeg_quality")
    assert options(server)["jpeg_quality"] == 91
    page.locator("#settings_search input").fill("")
    page.check("#settings_changed_only_input")
    expect(page.locator("#setting_jpeg_quality")).to_be_visible()
    expect(page.locator("#setting_webp_lossless")).to_be_hidden()
    page.get_by_role("button", name="Back to the default: Quality for saved jpeg and avif images").click()
    expect(box).to_have_value("80")
    apply(page)
    assert options(server)["jpeg_quality"] == 80


def test_a_bad_value_is_told_at_its_field_and_the_others_are_saved(page: Page, server: Any) -> None:
    page.click("#settings_show_all_pages")
    page.locator("#setting_jpeg_quality input[type=number]").fill("900")
    field(page, "samples_filename_pattern").fill("[seed]")
    page.locator("#setting_webp_lossless input").check()
    result = apply(page)
    expect(result).to_contain_text("2 settings changed")
    error = page.locator("#setting_jpeg_quality .setting-error")
    expect(error).to_contain_text("900; it must be a whole number from 1")
    now = options(server)
    assert (now["jpeg_quality"], now["samples_filename_pattern"], now["webp_lossless"]) == (80, "[seed]", True)
    page.get_by_role("button", name="Back to the default: Quality for saved jpeg and avif images").click()
    expect(error).to_be_hidden()


def test_what_was_changed_elsewhere_is_not_overwritten(page: Page, server: Any) -> None:
    page.click("#settings_show_all_pages")
    page.locator("#setting_webp_lossless input").check()
    ask(server, {"n_rows": 4, "samples_format": "webp"})
    apply(page)
    now = options(server)
    assert (now["n_rows"], now["samples_format"], now["webp_lossless"]) == (4, "webp", True)
    expect(field(page, "samples_format", "select")).to_have_value("webp")  # and is shown
    ask(server, {"n_rows": 5})
    page.click("#tab_extras-button")
    page.click("#tab_settings-button")
    expect(page.locator("#setting_n_rows input[type=number]")).to_have_value("5")


def test_every_kind_of_field_by_keyboard(page: Page, server: Any) -> None:
    page.click("#settings_show_all_pages")
    field(page, "save_txt").focus()
    page.keyboard.press("Space")
    page.locator("#setting_live_previews_image_format input[value=png]").focus()
    page.keyboard.press("ArrowDown")
    field(page, "keyedit_delimiters_whitespace", "input[value=Tab]").focus()
    page.keyboard.press("Space")
    field(page, "infotext_skip_pasting", "select").select_option("Seed")
    field(page, "infotext_skip_pasting", "select").select_option("Steps")
    field(page, "grid_background_color").fill("#102030")
    field(page, "sigma_min").fill("0.25")
    apply(page)
    now = options(server)
    assert now["save_txt"] is True
    assert now["live_previews_image_format"] == "webp"
    assert now["keyedit_delimiters_whitespace"] == ["Carriage Return", "Line Feed"]
    assert now["infotext_skip_pasting"] == ["Seed", "Steps"]
    assert (now["grid_background_color"], now["sigma_min"]) == ("#102030", 0.25)
    page.get_by_role("button", name="Remove Seed").click()
    apply(page)
    assert options(server)["infotext_skip_pasting"] == ["Steps"]


def test_a_setting_without_effect_is_disabled_and_says_why(page: Page) -> None:
    page.locator("#settings_search input").fill("ddim discretize")
    expect(page.locator("#setting_ddim_discretize input").first).to_be_disabled()
    expect(page.locator("#setting_ddim_discretize")).to_contain_text("A1111 has read it nowhere")


def test_any_setting_can_stand_at_the_top(visit: Visit, server: Any) -> None:
    keys = ["sd_model_checkpoint", "CLIP_stop_at_last_layers", "emphasis", "randn_source"]
    ask(
        server,
        {
            "quicksettings_list": keys,
            "extra_options_txt2img": ["emphasis", "CLIP_stop_at_last_layers"],
            "extra_options_cols": 2,
            "extra_options_accordion": True,
        },
    )
    try:
        visit.reload()
        box = visit.page.locator("#quicksettings #setting_CLIP_stop_at_last_layers input[type=number]")
        box.fill("2")
        box.press("Tab")
        visit.page.locator("#quicksettings #setting_randn_source input[value=NV]").check()
        for _ in range(100):
            now = server_settings(server)
            if (now["CLIP_stop_at_last_layers"], now["randn_source"]) == (2, "NV"):
                break
            visit.page.wait_for_timeout(100)
        assert (now["CLIP_stop_at_last_layers"], now["randn_source"]) == (2, "NV")
        options = visit.page.locator("#txt2img_settings > #extra_options_txt2img")
        options.locator("summary").click()
        box = options.locator("#extra_options_txt2img_CLIP_stop_at_last_layers input[type=number]")
        expect(box).to_have_value("2")  # one setting in two places
        columns = options.locator(".extra-options-grid").evaluate("box => getComputedStyle(box).gridTemplateColumns")
        assert len(columns.split()) == 2
        box.fill("3")
        box.press("Tab")
        top = visit.page.locator("#quicksettings #setting_CLIP_stop_at_last_layers input[type=number]")
        expect(top).to_have_value("3")
        assert server_settings(server)["CLIP_stop_at_last_layers"] == 3
        visit.page.click("#tab_settings-button")
        visit.page.wait_for_selector("#settings_submit")
        assert visit.page.locator("#settings #setting_CLIP_stop_at_last_layers").count() == 0
    finally:
        usual = {"extra_options_txt2img": [], "extra_options_cols": 1, "extra_options_accordion": False}
        ask(server, {"quicksettings_list": keys[:1], "CLIP_stop_at_last_layers": 1, "randn_source": "GPU", **usual})


def test_the_forms_become_the_defaults_and_back(page: Page, visit: Visit, server: Any) -> None:
    page.click("#tab_txt2img-button")
    visit.set_number("txt2img_steps", 33)
    page.fill("#txt2img_prompt textarea", "a lighthouse")
    page.click("#tab_settings-button")
    page.get_by_role("button", name="Defaults", exact=True).click()
    page.click("#ui_defaults_view")
    review = page.locator("#ui_defaults_review")
    expect(review.locator("tbody tr")).to_have_count(2)
    expect(review).to_contain_text("customscript/sampler.py/txt2img/Sampling steps/value")
    page.click("#ui_defaults_apply")
    expect(review).to_contain_text("The defaults are saved.")
    kept = json.loads((server.data / "ui-config.json").read_text())
    assert kept == {"customscript/sampler.py/txt2img/Sampling steps/value": 33, "txt2img/Prompt/value": "a lighthouse"}
    other = Visit(visit.context.browser, server.url)  # type: ignore[arg-type]
    other.open()
    other.expect_numbers("txt2img", steps=33)
    expect(other.page.locator("#txt2img_prompt textarea")).to_have_value("a lighthouse")
    other.close()
    page.click("#ui_defaults_reset")
    expect(review).to_contain_text("Easel's own defaults again")
    assert json.loads((server.data / "ui-config.json").read_text()) == {}


def test_the_last_pages(page: Page) -> None:
    page.get_by_role("button", name="Licenses", exact=True).click()
    expect(page.locator("#licenses")).to_contain_text("Apache License")
    expect(page.locator("#licenses")).to_contain_text("gradio")
    page.get_by_role("button", name="Actions", exact=True).click()
    page.click("#calculate_all_checkpoint_hash")
    expect(page.locator("#settings_action_result")).to_contain_text("while no job runs")
    page.get_by_role("button", name="Sysinfo", exact=True).click()
    with page.expect_download() as download:
        page.get_by_role("link", name="Download system info").click()
    assert "Config" in json.loads(Path(download.value.path()).read_text())


def test_settings_arrange_the_page(visit: Visit, server: Any) -> None:
    before = server_settings(server)
    arranged = {
        "hidden_tabs": ["Train", "txt2img"],
        "ui_tab_order": ["Extras"],
        "ui_reorder_list": ["seed", "cfg"],
        "hide_samplers": ["DPM++ 2M SDE Heun"],
        "gallery_height": "321px",
        "txt2img_settings_accordion": True,
        "hires_fix_show_prompts": True,
    }
    assert ask(server, arranged)["refused"] == {}
    try:
        visit.reload()
        page = visit.page
        shown = page.locator("#tabs > .tab-wrapper > .tab-container:not(.visually-hidden) > button[role=tab]:visible")
        titles = sorted(shown.all(), key=lambda button: (button.bounding_box() or {"x": 0})["x"])
        assert [button.inner_text().strip() for button in titles][:2] == ["Extras", "img2img"]
        expect(page.locator("#tab_extras-button")).to_have_attribute("aria-selected", "true")
        page.click("#tab_img2img-button")
        tops = {part: page.locator(f"#img2img_{part}").bounding_box() for part in ("seed_row", "cfg_scale", "width")}
        heights = {part: box["y"] for part, box in tops.items() if box}
        assert heights["seed_row"] < heights["cfg_scale"] < heights["width"]
        assert (page.locator("#img2img_gallery").bounding_box() or {})["height"] == 321
        page.click("#img2img_sampling input")
        expect(page.get_by_role("option", name="DPM++ 2M SDE", exact=True)).to_be_visible()
        expect(page.get_by_role("option", name="DPM++ 2M SDE Heun", exact=True)).to_be_hidden()
    finally:
        ask(server, {key: before[key] for key in arranged})
    visit.reload()
    ask(server, {"txt2img_settings_accordion": True})
    visit.reload()
    expect(visit.page.locator("#txt2img_steps")).to_be_hidden()
    visit.page.locator("#txt2img_settings > .settings-accordion").click()
    expect(visit.page.locator("#txt2img_steps")).to_be_visible()
    ask(server, {"txt2img_settings_accordion": False})
