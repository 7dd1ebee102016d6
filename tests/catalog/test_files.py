"""Listing model files: names, links, hidden folders, and noticing what is new."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.catalog.conftest import names
from webui.catalog.files import FileCatalog, ModelFile
from webui.core.errors import NotFound

ENDINGS = (".safetensors", ".pt")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "Lora"
    for name in ("ink v10.safetensors", "ink v9.pt", "people/Anna.safetensors", ".secret/hid.pt", "notes.txt"):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode())
    return root


def aged(folder: Path) -> None:
    """As if the folder had been changed a minute ago: what is new since then shows in its time."""
    stat = folder.stat()
    os.utime(folder, ns=(stat.st_atime_ns, stat.st_mtime_ns - 60_000_000_000))


def test_files_are_listed_in_natural_order_by_their_ending(root: Path) -> None:
    assert names(FileCatalog([root], ENDINGS)) == ["ink v9.pt", "ink v10.safetensors", "people/Anna.safetensors"]
    assert ".secret/hid.pt" in names(FileCatalog([root], ENDINGS, hidden=True))
    assert names(FileCatalog([root], ENDINGS, wanted=lambda name: "v9" in name)) == ["ink v9.pt"]
    assert names(FileCatalog([root / "nowhere"], ENDINGS)) == []


@pytest.mark.parametrize(
    "name", ["Anna", "anna", "people/Anna", "Anna.safetensors", "PEOPLE/ANNA.SAFETENSORS", " Anna "]
)
def test_every_spelling_finds_the_file(name: str, root: Path) -> None:
    catalog = FileCatalog([root], ENDINGS)
    assert catalog.find(name).path == root / "people" / "Anna.safetensors"
    assert catalog.find(str(root / "people" / "Anna.safetensors")).folder == "people"


def test_an_unknown_name_offers_the_nearest(root: Path) -> None:
    with pytest.raises(NotFound, match='no "ink v11"; the closest is "ink v'):
        FileCatalog([root], ENDINGS).find("ink v11")


def test_of_equal_stems_the_first_counts_and_paths_tell_them_apart(root: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "ink v9.pt").write_bytes(b"x")
    catalog = FileCatalog([root, other], ENDINGS)
    assert catalog.find("ink v9").path == root / "ink v9.pt"
    assert catalog.find((other / "ink v9.pt").as_posix()).path == other / "ink v9.pt"
    assert len(catalog) == 4


def test_links_are_followed_once(root: Path, tmp_path: Path) -> None:
    far = tmp_path / "far"
    far.mkdir()
    (far / "far.pt").write_bytes(b"x")
    (root / "linked").symlink_to(far)
    (root / "people" / "loop").symlink_to(root)
    (root / "same.pt").symlink_to(root / "ink v9.pt")
    (root / "dangling.pt").symlink_to(tmp_path / "gone")
    assert names(FileCatalog([root, far], ENDINGS)) == [
        "ink v9.pt",
        "ink v10.safetensors",
        "linked/far.pt",
        "people/Anna.safetensors",
        "same.pt",
    ]


def test_a_folder_in_diffusers_layout_is_one_model(root: Path) -> None:
    model = root / "people" / "pipeline"
    (model / "unet").mkdir(parents=True)
    (model / "model_index.json").write_text("{}")
    (model / "unet" / "part.safetensors").write_bytes(b"x")
    catalog = FileCatalog([root], ENDINGS, folders=True)
    found = catalog.find("pipeline")
    assert (found.name, found.is_folder, found.stem) == ("people/pipeline", True, "pipeline")
    assert not any("part" in name for name in names(catalog))


def test_a_new_file_is_seen_by_a_poll_and_nothing_new_costs_no_reading(root: Path) -> None:
    for folder in (root, root / "people", root / ".secret"):
        aged(folder)
    catalog = FileCatalog([root], ENDINGS)
    version = catalog.version
    assert not catalog.poll(0)
    (root / "people" / "new.pt").write_bytes(b"x")
    assert catalog.poll(0)
    assert catalog.version == version + 1
    assert catalog.find("new").name == "people/new.pt"
    (root / "people" / "new.pt").unlink()
    assert catalog.poll(0)
    assert catalog.get("new") is None
    assert not catalog.poll(at_most_every=60)


def test_a_folder_that_is_made_later_is_found(tmp_path: Path) -> None:
    catalog = FileCatalog([tmp_path / "later"], ENDINGS)
    (tmp_path / "later").mkdir()
    (tmp_path / "later" / "first.pt").write_bytes(b"x")
    assert catalog.poll(0)
    assert names(catalog) == ["first.pt"]


def test_hidden_folders_are_marked(root: Path) -> None:
    catalog = FileCatalog([root], ENDINGS, hidden=True)
    assert [file.stem for file in catalog if file.hidden] == ["hid"]
    assert isinstance(catalog.all()[0], ModelFile)


def test_a_link_is_a_second_name_and_the_file_keeps_its_own(root: Path) -> None:
    (root / "alias.safetensors").symlink_to("ink v10.safetensors")
    (root / "a-link").symlink_to(root / "people")
    (root / "a-hard-one.pt").hardlink_to(root / "ink v9.pt")
    catalog = FileCatalog([root], ENDINGS)
    assert {"alias.safetensors", "ink v10.safetensors", "people/Anna.safetensors", "a-hard-one.pt", "ink v9.pt"} == set(
        names(catalog)
    )
    for name in names(catalog):
        assert catalog.find(name).path == root / name
    assert catalog.find("people\\Anna").path == catalog.find("PEOPLE/anna.safetensors").path
