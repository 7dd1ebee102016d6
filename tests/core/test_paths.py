"""Where files lie, and names that must not lead out of their folder."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from webui.core.errors import NotFound, Refused
from webui.core.flags import Flags
from webui.core.paths import Paths, child

ROOT = Path(__file__).resolve().parents[2]


def test_everything_lies_beside_launch_py_by_default() -> None:
    paths = Paths.of(Flags())
    assert paths.code == paths.data == ROOT
    assert paths.checkpoints == (ROOT / "models" / "Stable-diffusion",)
    assert paths.vae == ROOT / "models" / "VAE"
    assert paths.embeddings == ROOT / "embeddings"
    assert paths.config == ROOT / "config.json"
    assert paths.extensions == paths.builtin_extensions == ROOT / "extensions"


def test_data_dir_moves_all_but_what_ships(tmp_path: Path) -> None:
    paths = Paths.of(Flags(data_dir=tmp_path, ckpt_dir=tmp_path / "more"))
    assert paths.checkpoints == (
        tmp_path / "models" / "Stable-diffusion",
        tmp_path / "more",
        ROOT / "models" / "Stable-diffusion",
    )
    moved = vars(paths).copy()
    for shipped in ("code", "builtin_extensions", "checkpoints"):
        del moved[shipped]
    assert all(path.is_relative_to(tmp_path) for path in moved.values()), moved
    assert paths.builtin_extensions == ROOT / "extensions"


def test_flags_move_single_folders_and_files(tmp_path: Path) -> None:
    paths = Paths.of(
        Flags(
            models_dir=tmp_path / "m",
            lora_dir=tmp_path / "l",
            ui_settings_file=tmp_path / "other.json",
            styles_files=(tmp_path / "s*.csv", tmp_path / "mine.csv"),
        )
    )
    assert paths.hypernetworks == tmp_path / "m" / "hypernetworks"
    assert paths.lora == tmp_path / "l"
    assert paths.config == tmp_path / "other.json"
    assert paths.styles == tmp_path / "mine.csv"
    assert paths.outputs == ROOT / "outputs"


def test_make_folders_twice(tmp_path: Path) -> None:
    paths = Paths.of(Flags(data_dir=tmp_path))
    paths.make_folders()
    paths.make_folders()
    assert (tmp_path / "models" / "Lora").is_dir()
    assert paths.tmp.is_dir()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "models"
    (folder / "sub").mkdir(parents=True)
    (folder / "sub" / "a b.safetensors").write_bytes(b"1")
    (folder / "..dots.txt").write_bytes(b"2")
    (tmp_path / "secret.txt").write_bytes(b"3")
    return folder


@pytest.mark.parametrize("name", ["sub/a b.safetensors", "./sub/a b.safetensors", "..dots.txt", "sub"])
def test_a_name_inside(root: Path, name: str) -> None:
    assert child(root, name) == (root / name).resolve()


@pytest.mark.parametrize(
    "name",
    [
        "",
        ".",
        "..",
        "../secret.txt",
        "sub/../../secret.txt",
        "sub/../sub",
        "/etc/passwd",
        "//server/share",
        "..\\secret.txt",
        "sub\\..\\..\\secret.txt",
        "C:\\Windows\\win.ini",
        "C:secret.txt",
        "\\\\server\\share\\x",
        "\\\\?\\C:\\x",
        "\\secret.txt",
        "a\0b",
        "x" * 5000,
        "\ud800",
    ],
)
def test_a_name_that_leads_out_is_refused(root: Path, name: str) -> None:
    for must_exist in (True, False):
        with pytest.raises(Refused) as caught:
            child(root, name, must_exist=must_exist)
        str(caught.value).encode("utf-8")
        assert len(str(caught.value)) < 250


@pytest.mark.parametrize("name", ["%2e%2e/secret.txt", "..%2fsecret.txt", "%2Fetc%2Fpasswd", "~/x", "none.safetensors"])
def test_percent_and_tilde_are_literal_characters(root: Path, name: str) -> None:
    with pytest.raises(NotFound, match="There is no"):
        child(root, name)
    assert child(root, name, must_exist=False) == root.resolve() / name


@pytest.mark.skipif(sys.platform == "win32", reason="symbolic links need a privilege on Windows")
def test_links_stay_inside(root: Path) -> None:
    os.symlink(root.parent / "secret.txt", root / "link.txt")
    os.symlink(root.parent, root / "up")
    os.symlink(root / "sub", root / "alias")
    os.symlink(root / "loop", root / "loop")
    for name in ("link.txt", "up/secret.txt", "up"):
        with pytest.raises(Refused, match="leads out of"):
            child(root, name)
    assert child(root, "alias/a b.safetensors") == root.resolve() / "sub" / "a b.safetensors"
    with pytest.raises((Refused, NotFound)):
        child(root, "loop")


def test_a_root_behind_a_link_is_fine(root: Path) -> None:
    alias = root.parent / "linked-models"
    alias.symlink_to(root, target_is_directory=True)
    assert child(alias, "sub/a b.safetensors").read_bytes() == b"1"
