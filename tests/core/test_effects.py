"""Nothing that is accepted is without effect, or it is told: docs/effects.md, held against the program."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from webui.app import build_app
from webui.core.effects import WITHOUT_EFFECT, changed, ineffective
from webui.core.flags import parse_flags
from webui.core.settings import Settings
from webui.core.settings_table import SETTINGS
from webui.services.building import build_services

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "effects.md"
LEFT_OUT = ROOT / "docs" / "settings-left-out.md"
ROW = re.compile(
    r"\| `(?P<name>[^`]+)` \| (?:no effect: (?P<reason>.+)|`(?P<file>[^`]+)`(?: as `(?P<name_there>.+)`)?) \|"
)
GENERATION = ("/sdapi/v1/txt2img", "/sdapi/v1/img2img")
EXTRAS = ("/sdapi/v1/extra-single-image", "/sdapi/v1/extra-batch-images")


@cache
def rows(heading: str) -> dict[str, re.Match[str]]:
    """The table below a heading of the page: name -> its row."""
    section = PAGE.read_text().partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("| `")]
    found = [ROW.fullmatch(line) for line in lines]
    assert all(found), [line for line, match in zip(lines, found, strict=True) if not match]
    return {match["name"]: match for match in found if match}


def is_read(row: re.Match[str]) -> bool:
    """Whether the file named in the row holds the name: as a text, as an attribute, or as an f-string writes it."""
    text = (ROOT / row["file"]).read_text()
    name = row["name_there"] or row["name"].split()[-1]
    return re.search(rf"""(["'.]{re.escape(name)}(["']|\b))|(\b{re.escape(name)}: )""", text) is not None


def test_every_setting_has_a_reader_or_is_left_out_with_a_reason() -> None:
    table = rows("Settings")
    left_out = dict(re.findall(r"^\| `([^`]+)` \| (.+) \|$", LEFT_OUT.read_text(), re.MULTILINE))
    assert left_out == dict(WITHOUT_EFFECT)
    assert not set(table) & set(left_out)
    assert {*table, *left_out} == {setting.key for setting in SETTINGS}
    for key, row in table.items():
        assert not row["reason"], f"{key}: settings that are left out stand in {LEFT_OUT.name}"
        assert is_read(row), f"{row['file']} doesn't read {key}"


def test_settings_said_to_have_no_effect_are_read_nowhere() -> None:
    files = [*(ROOT / "webui").rglob("*.py"), *(ROOT / "webui").rglob("*.js"), *(ROOT / "extensions").rglob("*.py")]
    text = "\n".join(file.read_text() for file in files)
    for key in WITHOUT_EFFECT:
        assert not re.search(rf"""\[["']{key}["']\]|\.get\(["']{key}["']|settings\.{key}\b""", text), key
    assert set(WITHOUT_EFFECT) <= {setting.key for setting in SETTINGS}


@cache
def operations(folder: Path) -> dict[str, set[str]]:
    """'POST /path' -> the names of its query parameters and of its body's fields, of the whole application."""
    services = build_services(parse_flags(["--data-dir", str(folder)], {})[0])
    try:
        schema = build_app(services).openapi()
    finally:
        services.checkpoints.close()
    found = {}
    for path, item in schema["paths"].items():
        for method, operation in item.items():
            names = {parameter["name"] for parameter in operation.get("parameters", ())}
            body: dict[str, Any] = operation.get("requestBody", {}).get("content", {}).get("application/json", {})
            reference = body.get("schema", {}).get("$ref", "").rpartition("/")[2]
            names |= set(schema["components"]["schemas"].get(reference, {}).get("properties", ()))
            found[f"{method.upper()} {path}"] = names
    return found


@pytest.fixture(scope="module")
def fields(tmp_path_factory: pytest.TempPathFactory) -> dict[str, set[str]]:
    return operations(tmp_path_factory.mktemp("effects"))


@pytest.mark.parametrize(("heading", "paths"), [("txt2img and img2img", GENERATION), ("Extras", EXTRAS)])
def test_every_field_of_a_job_has_a_row_and_a_reader(
    fields: dict[str, set[str]], heading: str, paths: tuple[str, ...]
) -> None:
    table = rows(heading)
    assert set(table) == set().union(*(fields[f"POST {path}"] for path in paths))
    for name, row in table.items():
        assert row["reason"] or is_read(row), f"{row['file']} doesn't read {name}"


def test_every_field_of_the_other_routes_has_a_row_and_a_reader(fields: dict[str, set[str]]) -> None:
    table = rows("Other routes")
    jobs = {f"POST {path}" for path in (*GENERATION, *EXTRAS)}
    assert set(table) == {f"{route} {name}" for route, names in fields.items() if route not in jobs for name in names}
    for name, row in table.items():
        assert row["reason"] or is_read(row), f"{row['file']} doesn't read {name}"


def test_a_setting_without_effect_says_why() -> None:
    assert list(ineffective(["jpeg_quality", "ddim_discretize"])) == [
        'Setting "ddim_discretize" has no effect: A1111 has read it nowhere since version 1.6 either.'
    ]
    settings = Settings.defaults(SETTINGS)
    assert list(changed({"jpeg_quality": 80, "pin_memory": True, "nothing": 1}, settings)) == ["pin_memory"]
