from __future__ import annotations

import csv
import os
import sys
import zipfile
from dataclasses import replace

import pytest

from webui.core.errors import NotSaved, Refused, WebuiError
from webui.core.request import GenerationResult
from webui.core.results import ResultFile
from webui.services.saving import COLUMNS, open_folder, save_pictures, zip_pictures
from webui.services.services import Services

INFO = {
    "prompt": 'a "cat", sitting\nthere',
    "negative_prompt": "dog",
    "all_seeds": [5, 6],
    "seed": 5,
    "width": 8,
    "height": 8,
    "sampler_name": "Euler",
    "cfg_scale": 7.0,
    "steps": 2,
    "sd_model_name": "tiny/one",
    "sd_model_hash": "0123456789",
}


@pytest.fixture
def result() -> GenerationResult:
    grid = ResultFile(b"grid", "image/png", "g", 16, 8, role="grid")
    pictures = [ResultFile(name, "image/jpeg", "p", 8, 8) for name in (b"one", b"two")]
    return GenerationResult((grid, *pictures), INFO)


def rows(services: Services) -> list[dict[str, str]]:
    with (services.paths.log / "images" / "log.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_the_chosen_picture_is_saved_and_logged(services: Services, result: GenerationResult) -> None:
    (saved,) = save_pictures(services, result, 2)
    assert (saved.name, saved.read_bytes()) == ("00000-6.jpg", b"two")
    (row,) = rows(services)
    assert (row["prompt"], row["filename"], row["cfgs"]) == (INFO["prompt"], saved.name, "7.0")
    assert row["sd_model_hash"] == "0123456789"


def test_the_grid_chosen_means_all(services: Services, result: GenerationResult) -> None:
    names = [path.name for path in save_pictures(services, result, 0)]
    assert names == ["00000-grid.png", "00001-5.jpg", "00002-6.jpg"]
    services.settings.update({"save_selected_only": False, "save_write_log_csv": False})
    assert [path.name for path in save_pictures(services, result, 2)][0] == "00003-grid.png"
    assert len(rows(services)) == 1


def test_an_older_log_is_widened(services: Services, result: GenerationResult) -> None:
    folder = services.paths.log / "images"
    folder.mkdir(parents=True)
    (folder / "log.csv").write_text(
        "prompt,seed,width,height,sampler,cfgs,steps,filename,negative_prompt\n1,2,3,4,5,6,7,8,9\n"
    )
    save_pictures(services, result, 1)
    old, new = rows(services)
    assert list(old) == list(COLUMNS)
    assert (old["negative_prompt"], old["sd_model_name"], new["sd_model_name"]) == ("9", "", "tiny/one")


def test_the_archive_holds_the_pictures(services: Services, result: GenerationResult) -> None:
    saved = save_pictures(services, result, 0)
    path = zip_pictures(services, saved, result)
    assert path.name.endswith("_[tiny_one]_5-6.zip")
    with zipfile.ZipFile(path) as archive:
        assert archive.namelist() == [file.name for file in saved]
        assert archive.read("00001-5.jpg") == b"one"


def test_a_folder_that_cannot_be_written_is_told(services: Services, result: GenerationResult) -> None:
    (services.paths.data / "taken").write_text("a file")
    services.settings.update({"outdir_save": "taken/images"})
    with pytest.raises(WebuiError, match="can't be saved to .*taken"):
        save_pictures(services, result, 1)


@pytest.mark.skipif(sys.platform != "linux", reason="the folder is opened by xdg-open")
@pytest.mark.parametrize(
    ("choice", "picture", "opened"),
    [
        ("Output Root", "outputs/txt2img-images/today/a.png", "outputs/txt2img-images"),
        ("Subdirectory", "outputs/txt2img-images/today/a.png", "outputs/txt2img-images/today"),
        ("Subdirectory", "elsewhere/a.png", "outputs/txt2img-images"),
        ("Subdirectory (even temp dir)", "elsewhere/a.png", "elsewhere"),
        ("Subdirectory", None, "outputs/txt2img-images"),
    ],
)
def test_the_setting_chooses_the_folder_that_is_opened(
    services: Services, monkeypatch: pytest.MonkeyPatch, choice: str, picture: str | None, opened: str
) -> None:
    data = services.paths.data
    program = data / "bin" / "xdg-open"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    services.settings.update({"open_dir_button_choice": choice})
    path = data / picture if picture else None
    if path:
        path.parent.mkdir(parents=True, exist_ok=True)
    assert open_folder(services, "txt2img", path) == data / opened


def test_folders_are_not_opened_for_others(services: Services) -> None:
    with pytest.raises(Refused, match="txt2img-images"):
        open_folder(replace(services, flags=replace(services.flags, listen=True)))


@pytest.mark.parametrize("content", ["prompt\ncafé\n".encode("latin-1"), b"\xff\xfe\x00", "x\n".encode("utf-16")])
def test_a_log_that_cannot_be_read_is_left_as_it_is(
    services: Services, result: GenerationResult, content: bytes
) -> None:
    log = services.paths.data / "log" / "images" / "log.csv"
    log.parent.mkdir(parents=True, exist_ok=True)
    log.write_bytes(content)
    with pytest.raises(NotSaved, match=r"pictures are saved; .*log\.csv can't be read"):
        save_pictures(services, result, 1)
    assert log.read_bytes() == content
    assert len(list(log.parent.iterdir())) == 2
