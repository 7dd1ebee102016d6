"""What holds for the parameters of every extension of ours, whichever it is."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from webui.core.choices import Choices, ExtrasStep, Script
from webui.core.params import Params, param
from webui.extensions.host import Host
from webui.extensions.loader import load_extensions

BUILT_IN = Path(__file__).resolve().parents[2] / "extensions"


WEBUI = BUILT_IN.parent / "webui"


@pytest.fixture(scope="module")
def host() -> Host:
    host = load_extensions([BUILT_IN])
    assert host.problems == ()
    return host


@pytest.fixture(scope="module")
def groups(host: Host) -> dict[str, type[Params]]:
    """Every group of parameters that users can set, by its class's name."""
    choices = Choices()
    host.register_choices(choices)
    assert host.problems == ()
    chosen = (*choices.all(ExtrasStep), *choices.all(Script))
    found = [*host.params, *(item.params for item in chosen if item.params is not None)]
    assert len({group.__name__ for group in found}) == len(found)
    return {group.__name__: group for group in found}


def code_of(group: type[Params]) -> str:
    """All that the group's extension consists of; of the program's own groups, all of the program."""
    file = sys.modules[group.__module__].__file__
    assert file is not None
    folder = WEBUI if Path(file).is_relative_to(WEBUI) else Path(file).parent
    return "\n".join(part.read_text(encoding="utf-8") for part in sorted(folder.rglob("*.py")))


def unread(group: type[Params], code: str) -> Iterator[str]:
    """Parameters that the code never asks for; one that can have a single value needs no reader."""
    for spec in group.specs():
        if isinstance(spec.choices, tuple) and len(spec.choices) == 1:
            continue
        name = re.escape(spec.name)
        if not re.search(rf"""\.{name}\b|["']{name}["'](?!\s*,\s*label)""", code):
            yield f"{group.__name__}.{spec.dotted}"


def test_no_parameter_is_accepted_and_then_ignored(groups: dict[str, type[Params]]) -> None:
    assert {"Loopback", "PromptMatrix", "PromptsFromFile"} <= set(groups)
    assert [name for group in groups.values() for name in unread(group, code_of(group))] == []


def test_an_ignored_parameter_would_be_found() -> None:
    class Both(Params):
        """Both"""

        used: int = param(0, label="Used")
        idle: int = param(0, label="Idle")

    assert list(unread(Both, "values.used + 1")) == ["Both.idle"]


def test_what_a_group_writes_into_a_pictures_text_it_reads_again(groups: dict[str, type[Params]]) -> None:
    for group in groups.values():
        told = group().to_infotext(everything=True)
        assert all(group.reads_key(key) for key in told), group
