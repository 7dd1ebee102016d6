"""Translations: where files of A1111's format are found, and what of them the page gets."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from webui.core.choices import ExtrasStep, Script
from webui.core.effects import WITHOUT_EFFECT
from webui.core.flags import parse_flags
from webui.core.merging import MergeRequest
from webui.core.params import Params
from webui.core.request import GenerationRequest
from webui.core.settings import Setting
from webui.core.training import TrainingRequest
from webui.core.values import ParamSpec
from webui.services.building import build_services
from webui.services.localization import SHIPPED, locale_files, translations
from webui.services.services import Services


def put(folder: Path, name: str, content: object) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8-sig")


def services_in(data: Path, config: dict[str, object] | None = None) -> Services:
    (data / "config.json").write_text(json.dumps(config or {}))
    flags, _ = parse_flags(["--data-dir", str(data), "--no-hashing"], {})
    return build_services(flags)


def test_files_of_users_and_of_packages_that_hold_nothing_else_are_languages(tmp_path: Path) -> None:
    put(tmp_path / "localizations", "de_DE.json", {"Seed": "Startwert"})
    put(tmp_path / "extensions" / "stable-diffusion-webui-localization-fa" / "localizations", "fa_IR.json", {"a": "b"})
    put(tmp_path / "extensions" / "off" / "localizations", "off.json", {"a": "b"})
    services = services_in(tmp_path, {"disabled_extensions": ["off"]})
    assert {"ko_KR", "de_DE", "fa_IR"} <= set(locale_files(services))
    assert "off" not in locale_files(services)
    assert translations(services, "de_DE") == {"Seed": "Startwert"}


def test_the_users_file_wins_over_a_packages_and_ours(tmp_path: Path) -> None:
    put(tmp_path / "localizations", "ko_KR.json", {"Seed": "mine"})
    put(tmp_path / "extensions" / "korean" / "localizations", "ko_KR.json", {"Seed": "theirs", "Generate": "theirs"})
    found = translations(services_in(tmp_path), "ko_KR")
    shipped = json.loads((SHIPPED / "ko_KR.json").read_text(encoding="utf-8"))
    assert (found["Seed"], found["Generate"], found["Sampler"]) == ("mine", "theirs", shipped["Sampler"])


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ({"Seed": "بذر", "rtl": True}, {"Seed": "بذر", "rtl": True}),
        ({"Seed": "", "Steps": None, "Width": "w", "rtl": "yes"}, {"Width": "w", "rtl": "yes"}),  # a text of that name
        (["Seed"], {}),
        ("Seed", {}),
    ],
)
def test_what_a_file_may_hold(tmp_path: Path, content: object, expected: dict[str, object]) -> None:
    put(tmp_path / "localizations", "xx.json", content)
    assert translations(services_in(tmp_path), "xx") == expected


def test_a_file_that_cannot_be_read_is_passed_over_and_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    put(tmp_path / "localizations", "xx.json", {"a": "b"})
    (tmp_path / "localizations" / "broken.json").write_text('{"a": "b"')
    services = services_in(tmp_path)
    assert translations(services, "broken") == {}
    assert "broken.json can't be read" in caplog.text
    assert translations(services, "xx") == {"a": "b"}


def test_no_language_is_a_name_alone(services: Services) -> None:
    for name in ("None", "", "../../config", "nowhere"):
        assert translations(services, name) == {}


def test_the_setting_is_meant_where_no_language_is_named(tmp_path: Path) -> None:
    put(tmp_path / "localizations", "xx.json", {"a": "b"})
    services = services_in(tmp_path, {"localization": "xx"})
    assert translations(services) == {"a": "b"}
    assert services.settings.is_chosen("localization")


def test_nobody_has_chosen_until_the_file_says_so(services: Services) -> None:
    assert not services.settings.is_chosen("localization")
    services.settings.update({"localization": "None"})
    assert services.settings.is_chosen("localization")


def words(declared: Iterable[Setting | ParamSpec]) -> Iterator[str]:
    """What a widget shows of each: label, hint, and choices that are words; sections of settings, too."""
    for one in declared:
        yield one.label
        yield one.help or ""
        if isinstance(one.choices, tuple):
            yield from map(str, one.choices)
        if isinstance(one, Setting):
            yield from (one.section.title, one.section.category or "")


def lacking(texts: Iterable[str]) -> list[str]:
    """Those with words in them that Korean lacks."""
    korean = json.loads((SHIPPED / "ko_KR.json").read_text(encoding="utf-8"))
    return [text for text in dict.fromkeys(texts) if re.search(r"[^\W\d_]{2}", text) and text.strip() not in korean]


def test_korean_has_every_setting(services: Services) -> None:
    table = services.settings.snapshot().table.values()
    assert lacking([*words(table), *(f"It has no effect: {reason}." for reason in WITHOUT_EFFECT.values())]) == []


def test_korean_has_every_parameter(services: Services) -> None:
    groups: list[type[Params]] = [GenerationRequest, MergeRequest, TrainingRequest, *services.host.params]
    groups += [script.params for script in services.choices.all(Script) if script.params is not None]
    groups += [step.params for step in services.choices.all(ExtrasStep) if step.params is not None]
    assert lacking(words(spec for group in groups for spec in group.specs())) == []


def test_translations_use_the_values_that_there_are() -> None:
    for key, translation in json.loads((SHIPPED / "ko_KR.json").read_text(encoding="utf-8")).items():
        numbers = [int(number) for number in re.findall(r"\{(\d+)\}", translation)]
        assert len(re.findall(r"\{\}", translation)) <= key.count("{}"), key
        assert all(1 <= number <= key.count("{}") for number in numbers), key
        assert translation.strip() == translation, key
