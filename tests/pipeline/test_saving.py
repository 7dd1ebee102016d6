"""Where pictures go, whatever the settings of a request say: inside their folder, over nothing, under a fit name."""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import subprocess
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file

from tests.engines import exact_engine
from tests.tiny import tiny_checkpoint
from webui.core.errors import NoSpace
from webui.core.request import GenerationRequest, GenerationResult, HiresFix
from webui.core.settings_table import SETTINGS
from webui.diffusion.denoiser import NotANumber
from webui.jobs.context import JobContext
from webui.pipeline.engine import Engine
from webui.pipeline.generate import run

VAE = "first_stage_model."
OUTSIDE = "{outside}"  # stands for a folder beside the data folder
HOSTILE = [
    f"{OUTSIDE}/x",
    "../../../x",
    "..\\..\\..\\x",
    "/etc/x",
    "C:\\x",
    "C:x",
    "\\\\host\\share\\x",
    "~/x",
    "a/../../../../x",
    "x\ny\r\t\x00\x1b[31m",
    "cat\u202egnp.exe",
    "\u2066a\u200e\u200b\ufeff\u061cb\u2028\u0085",
    "CON",
    "nul.png",
    "COM\u00b9",
    "lpt9 .txt",
    "con .",
    "...",
    " . ",
    "end. . ",
    'a:b|c?d*e<f>g"h',
    "[prompt]/../[seed]",
    "[datetime<../../%Y>]",
    "[hasprompt<cat|../../x><a/../b|../../y>]",
    "[unknown<../x>]",
    "x" * 5000,
    "é" * 300,
    "👩‍👩‍👧" * 200,
    "%2e%2e%2fx",
    "",
]
PATTERNS = [
    setting.key for setting in SETTINGS if setting.reaches == "name" and setting.key != "grid_zip_filename_pattern"
]


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    data = tmp_path_factory.mktemp("place") / "data"
    tiny_checkpoint(data / "models" / "Stable-diffusion")
    with exact_engine(data) as engine:
        yield engine


def made(engine: Engine, **values: Any) -> GenerationResult:
    small = {"prompt": "a cat", "steps": 1, "width": 64, "height": 64, "seed": 1, "sampler": "Euler"}
    request = GenerationRequest(**{**small, "save_grid": False, **values})
    return run(engine, engine.plan(request), JobContext.alone())


def files_below(folder: Path) -> dict[Path, bytes]:
    """Every file; what changes with each job (params.txt, caches) aside."""
    found = (path for path in folder.rglob("*") if path.is_file())
    return {path: path.read_bytes() for path in found if "cache" not in path.parts and path.name != "params.txt"}


def judge(name: str) -> None:
    """A component of a path that every system takes."""
    assert len(name.encode()) <= 255
    assert not set(name) & set('\\/:*?"<>|')
    assert not [letter for letter in name if unicodedata.category(letter) in ("Cc", "Cf", "Cs", "Zl", "Zp")]
    assert not name.endswith((" ", "."))
    assert name.split(".")[0].strip().upper() not in {"CON", "NUL", "AUX", "PRN", "COM1", "COM¹", "LPT9"}


@pytest.mark.parametrize("pattern", HOSTILE, ids=range(len(HOSTILE)))
def test_no_pattern_leaves_its_folder_or_hits_a_file(engine: Engine, pattern: str) -> None:
    outside, home = engine.paths.data.parent / "outside", engine.paths.outputs / "txt2img-images"
    shutil.rmtree(home, ignore_errors=True)
    outside.mkdir(exist_ok=True)
    (outside / "x.png").write_bytes(b"a picture")
    (outside / "x.txt").write_bytes(b"a text")
    before = files_below(engine.paths.data.parent)
    pattern = pattern.replace(OUTSIDE, str(outside))
    overrides = {**dict.fromkeys(PATTERNS, pattern), "save_txt": True, "save_images_add_number": False}
    result = made(engine, prompt="../../a cat", overrides=overrides)
    after = files_below(engine.paths.data.parent)
    assert before.items() <= after.items()
    new = sorted(after.keys() - before.keys())
    assert sorted(path.suffix for path in new) == [".png", ".txt"]
    assert result.images[0].path == str(new[0])
    assert result.comments == ()
    for path in new:
        assert path.resolve().is_relative_to(home.resolve())
        for name in path.relative_to(home).parts:
            judge(name)


def test_within_a_job_no_picture_takes_anothers_place(engine: Engine) -> None:
    overrides = {"samples_filename_pattern": "same", "save_images_add_number": False, "save_to_dirs": False}
    result = made(engine, batch_size=2, batch_count=2, overrides={**overrides, "save_txt": True})
    names = [Path(str(image.path)).name for image in result.images]
    assert names == ["same.png", "same-1.png", "same-2.png", "same-3.png"]
    again = made(engine, overrides=overrides)
    assert Path(str(again.images[0].path)).name == "same.png"  # as save_images_replace_action says


def test_a_text_of_the_users_is_not_taken_for_a_pictures(engine: Engine) -> None:
    note = engine.paths.outputs / "txt2img-images" / "notes.txt"
    note.parent.mkdir(parents=True, exist_ok=True)
    note.write_text("mine")
    overrides = {"samples_filename_pattern": "notes", "save_images_add_number": False, "save_to_dirs": False}
    result = made(engine, overrides={**overrides, "save_txt": True})
    assert note.read_text() == "mine"
    assert Path(str(result.images[0].path)).name == "notes-1.png"


@pytest.mark.skipif(os.name == "nt", reason="links need rights there")
@pytest.mark.parametrize("target", ["outside", "loop"])
def test_a_link_out_of_the_folder_is_not_followed(engine: Engine, target: str) -> None:
    outside = engine.paths.data.parent / "elsewhere"
    outside.mkdir(exist_ok=True)
    link = engine.paths.outputs / "txt2img-images" / target
    link.parent.mkdir(parents=True, exist_ok=True)
    link.symlink_to(outside if target == "outside" else link)
    result = made(engine, overrides={"directories_filename_pattern": target})
    assert list(outside.iterdir()) == []
    assert any(target in comment for comment in result.comments)


def test_a_folder_that_is_a_link_is_the_owners_wish(engine: Engine) -> None:
    disk = engine.paths.data.parent / "another-disk"
    disk.mkdir()
    (engine.paths.data / "linked").symlink_to(disk)
    made(engine, overrides={"outdir_samples": "linked"})
    assert [path.suffix for path in disk.rglob("*.*")] == [".png"]


@pytest.mark.parametrize(
    ("prompt", "overrides", "start"),
    [
        ("傑作、最高品質、猫耳の少女、青い空、" * 10, {"save_to_dirs": False}, "0"),
        ("masterpiece, best quality, " * 20, {"samples_filename_pattern": "[seed]-[prompt]-[prompt_no_styles]"}, ""),
        ("🐈" * 300, {"samples_filename_pattern": "[prompt_spaces][prompt_spaces][seed]", "save_txt": True}, ""),
        ("ก้" * 200, {"samples_filename_pattern": "[prompt][prompt]", "samples_format": "webp"}, ""),
        ("ä" * 400, {"directories_filename_pattern": "[prompt][prompt][prompt]"}, ""),
    ],
)  # fmt: skip
def test_a_long_name_is_cut_to_what_the_disk_takes(
    engine: Engine, prompt: str, overrides: dict[str, Any], start: str
) -> None:
    result = made(engine, prompt=prompt, seed=3456789012, overrides=overrides)
    path = Path(str(result.images[0].path))
    assert path.is_file()
    assert path.name.startswith(start)
    assert result.comments == ()
    assert max(len(part.encode()) for part in path.parts) <= 255


def test_a_suffix_and_a_number_survive_the_cut(engine: Engine) -> None:
    overrides = {"samples_filename_pattern": "猫" * 200, "save_images_before_highres_fix": True, "save_to_dirs": False}
    made(engine, hires=HiresFix(steps=1, scale=1.0), overrides=overrides)
    names = [path.name for path in (engine.paths.outputs / "txt2img-images").iterdir() if "猫猫猫" in path.name]
    assert any(name.endswith("猫-before-highres-fix.png") for name in names)
    assert all(name[:5].isdigit() for name in names)


def test_a_folder_that_cannot_be_written_is_replaced_and_told(engine: Engine, caplog: pytest.LogCaptureFixture) -> None:
    (engine.paths.data / "a-file").write_text("not a folder")
    result = made(engine, overrides={"outdir_txt2img_samples": "a-file/inside", "save_txt": True})
    path = Path(str(result.images[0].path))
    assert path.parent == engine.paths.outputs / "rescued"
    assert path.is_file()
    assert path.with_suffix(".txt").is_file()
    (comment,) = result.comments
    assert "a-file/inside" in comment
    assert str(path) in comment
    assert comment in caplog.text
    assert result.unsaved is None


@pytest.fixture
def full_disk(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder on a disk of 64 KiB that is full, where every picture would go, and the rescue folders with it."""
    disk = engine.paths.data.parent / "full"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(disk)], capture_output=True)
    if mounted.returncode:
        disk.rmdir()
        pytest.skip("a small disk can't be mounted here")
    try:
        with contextlib.suppress(OSError):
            (disk / "filler").write_bytes(bytes(1 << 17))
        shutil.rmtree(engine.paths.outputs / "rescued", ignore_errors=True)
        (engine.paths.outputs / "rescued").symlink_to(disk)
        monkeypatch.setenv("HOME", str(disk))
        yield disk
    finally:
        (engine.paths.outputs / "rescued").unlink()
        subprocess.run(["umount", str(disk)], check=True)
        disk.rmdir()


def test_on_a_full_disk_the_picture_is_handed_over_and_the_job_ends(engine: Engine, full_disk: Path) -> None:
    result = made(engine, batch_count=3, batch_size=2, overrides={"outdir_txt2img_samples": str(full_disk)})
    assert [image.path for image in result.images] == [None, None]
    assert all(image.data.startswith(b"\x89PNG") for image in result.images)
    assert isinstance(result.unsaved, NoSpace)
    assert str(full_disk) in str(result.unsaved)
    assert any("2 of 6" in comment for comment in result.comments)
    assert [path.name for path in full_disk.rglob("*") if path.is_file()] == ["filler"]


def test_when_space_comes_back_pictures_are_saved_again(engine: Engine, full_disk: Path) -> None:
    overrides = {"outdir_txt2img_samples": str(full_disk), "save_to_dirs": False}
    assert made(engine, overrides=overrides).unsaved is not None
    (full_disk / "filler").unlink()
    assert made(engine, overrides=overrides).images[0].path == str(full_disk / "00000-1-a cat.png")


def test_no_other_file_that_cannot_be_saved_costs_the_pictures(engine: Engine) -> None:
    (engine.paths.data / "a-file").write_text("not a folder")
    folders = ["outdir_txt2img_samples", "outdir_txt2img_grids"]
    overrides = {**dict.fromkeys(folders, "a-file"), "save_images_before_highres_fix": True}
    result = made(engine, hires=HiresFix(steps=1, scale=1.0), batch_count=2, save_grid=True, overrides=overrides)
    assert len(result.images) == 3
    assert all(Path(str(image.path)).is_file() for image in result.images)


@pytest.mark.parametrize("share", ["all", "decoder's last"])
def test_a_vae_that_gives_no_numbers_is_an_error(engine: Engine, share: str) -> None:
    folder = engine.paths.vae
    folder.mkdir(parents=True, exist_ok=True)
    weights = load_file(engine.checkpoints.find("tiny").path)
    vae = {key.removeprefix(VAE): value for key, value in weights.items() if key.startswith(VAE)}
    wrong = {key for key in vae if share == "all" or key.startswith("decoder.conv_out")}
    save_file(
        {key: value * float("nan") if key in wrong else value for key, value in vae.items()},
        folder / "nanvae.safetensors",
    )
    engine.vaes.refresh()
    for settings in ({}, {"auto_vae_precision": False}, {"auto_vae_precision_bfloat16": True}):
        with pytest.raises(NotANumber, match="The VAE produced no valid picture"):
            made(engine, overrides={"sd_vae": "nanvae.safetensors", **settings})
    assert made(engine, overrides={"sd_vae": "None"}).images
    (folder / "nanvae.safetensors").unlink()
    engine.vaes.refresh()


def test_a_single_picture_has_a_grid_where_that_is_wished(engine: Engine, caplog: pytest.LogCaptureFixture) -> None:
    wished = {"grid_only_if_multiple": False, "enable_console_prompts": True, "samples_log_stdout": True}
    with caplog.at_level(logging.INFO):
        result = made(engine, prompt="one lantern", save_grid=True, overrides=wished)
    assert [image.role for image in result.images] == ["grid", "picture"]
    told = [record.message for record in caplog.records if "lantern" in record.message]
    assert told[0] == "txt2img: one lantern"
    assert "Steps: " in told[1]
    caplog.clear()
    with caplog.at_level(logging.INFO):
        assert [image.role for image in made(engine, prompt="one lantern", save_grid=True).images] == ["picture"]
    assert "lantern" not in caplog.text
