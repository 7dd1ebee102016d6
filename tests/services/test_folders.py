"""Which folders of the server a visitor may name."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from webui.core.errors import InvalidRequest, Refused
from webui.core.flags import parse_flags
from webui.services.folders import folder_of
from webui.services.services import Services


def started_with(services: Services, *flags: str) -> Services:
    return replace(services, flags=parse_flags(["--data-dir", str(services.paths.data), *flags], {})[0])


def test_on_ones_own_machine_any_folder_can_be_named(services: Services) -> None:
    assert folder_of(services, "/") == Path("/").resolve()
    assert folder_of(services, ' "pictures of cats" ') == services.paths.data / "pictures of cats"
    assert folder_of(started_with(services, "--listen", "--gradio-auth", "me:secret"), "/") == Path("/").resolve()


@pytest.mark.parametrize("name", ["", "  ", '""', "a\0b"])
def test_what_is_no_name_is_refused(services: Services, name: str) -> None:
    with pytest.raises(InvalidRequest, match="Name a folder"):
        folder_of(services, name)


def test_others_may_name_what_is_served_anyway(services: Services, tmp_path: Path) -> None:
    shared = started_with(services, "--listen", "--gradio-allowed-path", str(tmp_path / "shown"))
    assert folder_of(shared, "outputs") == services.paths.data / "outputs"
    assert folder_of(shared, str(tmp_path / "shown" / "x")) == tmp_path / "shown" / "x"
    for outside in ("/", "..", "outputs/../../x", "models"):
        with pytest.raises(Refused, match="without a login"):
            folder_of(shared, outside)


@pytest.mark.parametrize("login", [(), ("--gradio-auth", "me:secret")])
def test_over_a_public_link_only_the_outputs_can_be_named(
    services: Services, tmp_path: Path, login: tuple[str, ...]
) -> None:
    shared = started_with(services, "--share", *login)
    assert folder_of(shared, "outputs/batch") == services.paths.outputs / "batch"
    for outside in ("/", "models", "log", "..", str(tmp_path), "~", "outputs/../models", "outputs-of-others"):
        with pytest.raises(Refused, match="public link"):
            folder_of(shared, outside)


def test_no_folder_can_be_chosen_with_the_flag_against_it(services: Services) -> None:
    with pytest.raises(Refused, match="--hide-ui-dir-config"):
        folder_of(started_with(services, "--hide-ui-dir-config"), "outputs")
