"""Folders of other programs."""

from __future__ import annotations

from pathlib import Path

import pytest

from webui.core.layouts import folders_of, is_install, listed_folders


@pytest.fixture
def a1111(tmp_path: Path) -> Path:
    for folder in ("models/Stable-diffusion", "models/Lora", "models/LyCORIS", "models/VAE", "embeddings"):
        (tmp_path / "a1111" / folder).mkdir(parents=True)
    return tmp_path / "a1111"


def names(root: Path, found: tuple[Path, ...]) -> list[str]:
    return [path.relative_to(root).as_posix() for path in found]


def test_an_a1111_install_or_its_models_are_known(a1111: Path) -> None:
    assert names(a1111, folders_of([a1111], "checkpoints")) == ["models/Stable-diffusion"]
    assert names(a1111, folders_of([a1111], "lora")) == ["models/Lora", "models/LyCORIS"]
    assert names(a1111, folders_of([a1111], "embeddings")) == ["embeddings"]
    assert names(a1111, folders_of([a1111 / "models"], "vae")) == ["models/VAE"]
    assert folders_of([a1111], "controlnet") == folders_of([a1111 / "nowhere"], "vae") == ()


def test_comfyuis_layout_is_known(tmp_path: Path) -> None:
    for folder in ("checkpoints", "loras", "vae", "embeddings"):
        (tmp_path / "models" / folder).mkdir(parents=True)
    for kind, name in (("checkpoints", "checkpoints"), ("lora", "loras"), ("vae", "vae"), ("embeddings", "embeddings")):
        assert names(tmp_path, folders_of([tmp_path], kind)) == [f"models/{name}"]


def test_a_folder_of_one_kind_can_be_named(tmp_path: Path) -> None:
    assert folders_of([f"lora={tmp_path}"], "lora") == (tmp_path,)
    assert folders_of([f"lora={tmp_path}"], "vae") == ()


def test_one_folder_by_two_ways_counts_once(a1111: Path) -> None:
    (a1111.parent / "link").symlink_to(a1111)
    assert len(folders_of([a1111, a1111.parent / "link", a1111 / "models"], "checkpoints")) == 1


def test_the_list_of_folders_is_a_plain_text_file(tmp_path: Path) -> None:
    file = tmp_path / "model-folders.txt"
    assert listed_folders(file) == ()
    file.write_text("# mine\n/a b\n\n  vae=/c\n/a b\n", encoding="utf-8-sig")
    assert listed_folders(file) == ("/a b", "vae=/c")


def test_an_install_is_known_by_what_it_holds(a1111: Path, tmp_path: Path) -> None:
    assert is_install(a1111)
    assert not is_install(tmp_path / "nothing")
