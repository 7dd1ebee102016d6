"""Changing settings one by one, as the Settings tab does, and who may change what."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from webui.app import build_app
from webui.core.flags import parse_flags
from webui.core.settings_table import SETTINGS
from webui.services.building import build_services
from webui.services.choices import THEMES, choices_of
from webui.services.options import change_each, change_settings, why_locked
from webui.services.services import Services
from webui.services.settings_form import settings_form
from webui.ui.theme import theme_of


def made(folder: Path, *flags: str) -> Services:
    return build_services(parse_flags(["--data-dir", str(folder), *flags], {})[0])


@pytest.fixture
def services(tmp_path: Path) -> Iterator[Services]:
    found = made(tmp_path)
    yield found
    found.checkpoints.close()


def test_each_change_is_judged_for_itself(services: Services) -> None:
    wished = {"jpeg_quality": 900, "n_rows": 3, "nonsense": 1, "emphasis": "Loud", "outdir_samples": "elsewhere"}
    changes = change_each(services, {**wished, "ldsr_cached": True})
    assert changes.saved == {"n_rows": 3, "outdir_samples": "elsewhere", "ldsr_cached": True}
    assert set(changes.refused) == {"jpeg_quality", "nonsense", "emphasis"}
    assert "900" in changes.refused["jpeg_quality"]
    assert changes.notes == ['Setting "ldsr_cached" has no effect: the upscaler LDSR isn\'t in this version.']
    now = services.settings.snapshot()
    assert (now["n_rows"], now["jpeg_quality"], now["outdir_samples"]) == (3, 80, "elsewhere")


def test_a_checkpoint_that_is_not_there_is_told_at_its_setting(services: Services) -> None:
    changes = change_each(services, {"sd_model_checkpoint": "nowhere", "sd_vae": "nothing", "n_rows": 2})
    assert set(changes.refused) == {"sd_model_checkpoint", "sd_vae"}
    assert changes.loading is None
    assert services.settings.snapshot()["n_rows"] == 2


FOLDERS = {"outdir_samples": "x", "font": "x.ttf", "clean_temp_dir_at_start": True, "api_useragent": "x"}
LISTEN = ("--listen",)


@pytest.mark.parametrize(
    ("flags", "refused"),
    [
        ((), set()),
        (LISTEN, set(FOLDERS)),
        (("--share",), set(FOLDERS)),
        (("--share", "--gradio-auth", "a:b"), set(FOLDERS)),
        ((*LISTEN, "--gradio-auth", "a:b"), set()),
        (("--hide-ui-dir-config",), {"outdir_samples", "font", "samples_filename_pattern"}),
        (("--freeze-settings",), {*FOLDERS, "samples_filename_pattern", "n_rows"}),
        (("--freeze-specific-settings", "n_rows, font"), {"n_rows", "font"}),
        (("--freeze-settings-in-sections", "Paths for saving,API"), {"outdir_samples", "api_useragent"}),
    ],
)
def test_who_may_change_what_on_the_page(tmp_path: Path, flags: tuple[str, ...], refused: set[str]) -> None:
    services = made(tmp_path, *flags)
    wished = {**FOLDERS, "samples_filename_pattern": "[seed]", "n_rows": 3}
    changes = change_each(services, wished)
    services.checkpoints.close()
    assert set(changes.refused) == refused
    assert set(changes.saved) == set(wished) - refused
    table = services.settings.snapshot().table
    assert {key for key in wished if why_locked(services, table[key], on_page=True)} == refused


def test_the_form_has_every_setting_with_its_choices(services: Services) -> None:
    form = settings_form(services, ["txt2img", "Mine"])
    found = {item["key"]: item for section in form["sections"] for item in section["settings"]}
    assert set(found) >= {setting.key for setting in SETTINGS if setting.section.id is not None}
    assert set(form["values"]) == set(services.settings.snapshot())
    assert found["hidden_tabs"]["choices"] == ["txt2img", "Mine"]
    assert found["jpeg_quality"]["le"] == 100
    assert "restart" in found["gradio_theme"]["after"]
    assert found["ddim_discretize"]["idle"].startswith("It has no effect: A1111 has read it nowhere")
    for key in ("quicksettings_list", "infotext_skip_pasting", "gradio_theme", "sd_unet", "hide_samplers"):
        assert len(found[key]["choices"]) > 1, key
    titles = [(section["category"], section["title"]) for section in form["sections"]]
    assert titles[0] == ("Saving images", "Paths for saving")
    assert ("Uncategorized", "ControlNet") in titles


def test_a_value_that_is_not_in_its_list_now_can_be_shown(services: Services) -> None:
    change_settings(services, {"upscaler_for_img2img": "gone"})
    form = settings_form(services)
    found = {item["key"]: item for section in form["sections"] for item in section["settings"]}
    assert found["upscaler_for_img2img"]["choices"][0] == "gone"


def test_every_theme_offered_is_one(services: Services) -> None:
    setting = services.settings.snapshot().setting("gradio_theme")
    assert choices_of(services, setting) == THEMES
    kinds = {type(theme_of(name)).__name__ for name in THEMES}
    assert len(kinds) == len(THEMES)
    assert type(theme_of("somebody/elses")) is type(theme_of("Default"))


def test_routes(services: Services) -> None:
    client: Any = TestClient(build_app(services), base_url="http://127.0.0.1")
    root = "/easel/v1/settings"
    answer = client.post(root, json={"changes": {"n_rows": 5, "jpeg_quality": "high"}}).json()
    assert answer["values"]["n_rows"] == 5
    assert list(answer["refused"]) == ["jpeg_quality"]
    assert client.post(root, json={"changes": [1]}).status_code == 422
    assert client.post(f"{root}/actions", json={"action": "format"}).status_code == 422
    assert "while no job runs" in client.post(f"{root}/actions", json={"action": "hash"}).json()["told"]
    assert "unloaded" in client.post(f"{root}/actions", json={"action": "unload"}).json()["told"]
    assert "loaded" in client.post(f"{root}/actions", json={"action": "load"}).json()["told"]
    names = [item["name"] for item in client.get(f"{root}/licenses").json()]
    assert names[0] == "Easel: LICENSE"
    assert any(name.startswith("gradio ") for name in names)
    assert client.get(f"{root}/notification.mp3").status_code == 404
    (services.paths.data / "notification.mp3").write_bytes(b"sound")
    assert client.get(f"{root}/notification.mp3").content == b"sound"


def test_the_routes_ask_for_the_pages_login(tmp_path: Path) -> None:
    services = made(tmp_path, "--gradio-auth", "ann:secret")
    client: Any = TestClient(build_app(services), base_url="http://127.0.0.1")
    for path in ("", "/licenses", "/notification.mp3"):
        assert client.get(f"/easel/v1/settings{path}").status_code == 401
    for path in ("", "/actions"):
        assert client.post(f"/easel/v1/settings{path}", json={"changes": {}, "action": "hash"}).status_code == 401
    services.checkpoints.close()
