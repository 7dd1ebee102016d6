"""The pictures in a folder that a visitor names."""

from __future__ import annotations

import pytest

from webui.core.errors import InvalidRequest, NotFound
from webui.services.extras import pictures_in
from webui.services.services import Services


def test_pictures_are_found_by_their_suffix_in_order(services: Services) -> None:
    folder = services.paths.data / "in"
    folder.mkdir()
    for name in ("b.PNG", "a.webp", "notes.txt", ".hidden"):
        (folder / name).write_bytes(b"")
    (folder / "c.png").mkdir()
    assert [source.name for source in pictures_in(services, "in")] == ["a.webp", "b.PNG"]
    assert pictures_in(services, str(folder))[0].path == folder / "a.webp"


def test_folders_that_hold_none(services: Services) -> None:
    with pytest.raises(NotFound, match="no folder"):
        pictures_in(services, "nowhere")
    with pytest.raises(InvalidRequest, match="holds no pictures"):
        pictures_in(services, "outputs")
