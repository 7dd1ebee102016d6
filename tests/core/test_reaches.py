"""The table of settings that reach the file system: each says what judges it, and none is left out."""

from __future__ import annotations

import pytest

from webui.core.settings import Setting
from webui.core.settings_table import SETTINGS
from webui.services.options import is_restricted

# Texts that stay texts: shown, counted, sent in a header or compared. What isn't here must say how it reaches files.
ONLY_TEXTS = frozenset(
    ["extra_networks_add_text_separator", "ui_extra_networks_tab_reorder", "cross_attention_optimization"]
    + ["hide_samplers", "gallery_height", "infotext_skip_pasting", "keyedit_delimiters", "quicksettings_list"]
    + ["extra_options_txt2img", "extra_options_img2img", "ui_tab_order", "hidden_tabs"]
    + ["postprocessing_enable_in_main_ui", "postprocessing_disable_in_extras", "postprocessing_operation_order"]
    + ["dataset_filename_word_regex", "dataset_filename_join_string", "api_useragent"]
    + ["canvas_hotkey_shrink_brush", "canvas_hotkey_grow_brush", "canvas_hotkey_move", "canvas_hotkey_fullscreen"]
    + ["canvas_hotkey_reset", "canvas_hotkey_overlap", "interrogate_clip_skip_categories", "deepbooru_filter_tags"]
    + ["sd_checkpoint_hash"]
)


def is_free_text(setting: Setting) -> bool:
    """Whether a user may write what they like into it."""
    closed = isinstance(setting.choices, tuple) and setting.choices
    return isinstance(setting.default, str | tuple | None) and setting.kind != "color" and not closed


def unjudged(settings: tuple[Setting, ...]) -> list[str]:
    """Settings that may reach the file system without anyone looking."""
    texts = (setting for setting in settings if is_free_text(setting) and not setting.reaches)
    return [setting.key for setting in texts if setting.key not in ONLY_TEXTS]


def test_every_text_says_what_judges_it() -> None:
    assert unjudged(SETTINGS) == []
    assert {setting.key for setting in SETTINGS if is_free_text(setting)} >= ONLY_TEXTS


@pytest.mark.parametrize("default", ["", None, (), "outputs/new"])
def test_a_new_text_without_a_judge_is_found(default: object) -> None:
    assert unjudged((*SETTINGS, Setting("outdir_videos", default, "Where videos go"))) == ["outdir_videos"]


@pytest.mark.parametrize("setting", [s for s in SETTINGS if s.reaches], ids=lambda setting: setting.key)
def test_places_are_the_owners_and_names_are_anyones(setting: Setting) -> None:
    owners = setting.reaches in ("folder", "file") or setting.key == "disabled_extensions"
    assert is_restricted(setting) == owners
    assert is_restricted(setting, patterns=True) == (owners or setting.reaches == "name")
