"""Which folders a visitor may name, and the pictures in them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from webui.core.errors import InvalidRequest, NotFound, Refused
from webui.core.flags import parse_flags
from webui.desk.extras import folder_of, pictures_in
from webui.desk.services import Services


def started_with(services: Services, *flags: str) -> Services:
    return replace(services, flags=parse_flags(["--data-dir", str(services.paths.data), *flags], {})[0])


def test_pictures_are_found_by_their_suffix_in_order(services: Services) -> None:
    folder = services.paths.data / "in"
    folder.mkdir()
    for name in ("b.PNG", "a.webp", "notes.txt", ".hidden"):
        (folder / name).write_bytes(b"")
    (folder / "c.png").mkdir()
    assert [source.name for source in pictures_in(services, "in")] == ["a.webp", "b.PNG"]
    assert pictures_in(services, str(folder))[0].path == folder / "a.webp"


def test_folders_that_are_none(services: Services, tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="no folder"):
        pictures_in(services, "nowhere")
    with pytest.raises(InvalidRequest, match="holds no pictures"):
        pictures_in(services, "outputs")
    for name in ("", "  ", "a\0b"):
        with pytest.raises(InvalidRequest, match="Name a folder"):
            folder_of(services, name)


def test_others_stay_inside_the_data_folder(services: Services) -> None:
    assert folder_of(services, "/") == Path("/").resolve()
    shared = started_with(services, "--listen")
    assert folder_of(shared, "outputs") == services.paths.data / "outputs"
    for outside in ("/", "..", "outputs/../../x"):
        with pytest.raises(Refused, match="inside Easel's data folder"):
            folder_of(shared, outside)


def test_no_folder_can_be_chosen_with_the_flag_against_it(services: Services) -> None:
    with pytest.raises(Refused, match="--hide-ui-dir-config"):
        folder_of(started_with(services, "--hide-ui-dir-config"), "outputs")
