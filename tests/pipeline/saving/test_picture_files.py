"""Formats, names and copies of saved pictures, by the settings."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from webui.core.errors import InvalidRequest, WebuiError
from webui.core.pictures import read_infotext
from webui.core.settings import Settings, SettingsStore
from webui.core.settings_table import SETTINGS
from webui.pipeline.saving.picture_files import encoded, free_path, next_number, write_jpg_copy, write_picture

IMAGE = Image.effect_noise((96, 64), 80).convert("RGB")
TEXTS = {"parameters": "a cat\nSteps: 1, Sampler: Euler, Seed: 1", "easel": "{}"}


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return SettingsStore(tmp_path / "config.json", SETTINGS).snapshot()


@pytest.mark.parametrize("format", ["png", "jpg", "jpeg", "webp", "avif", "gif"])
def test_each_format_of_the_setting_carries_the_infotext(settings: Settings, format: str) -> None:
    made = encoded(IMAGE, TEXTS, settings.replace(samples_format=format))
    infotext, items = read_infotext(made.data)
    assert infotext == TEXTS["parameters"]
    assert items == ({} if format == "gif" else {"easel": "{}"})
    bare = encoded(IMAGE, TEXTS, settings.replace(samples_format=format, enable_pnginfo=False))
    assert read_infotext(bare.data) == (None, {})


def test_quality_and_lossless_are_obeyed(settings: Settings) -> None:
    def size(**changes: object) -> int:
        return len(encoded(IMAGE, {}, settings.replace(**changes)).data)

    for format in ("jpg", "webp", "avif"):
        assert size(samples_format=format, jpeg_quality=20) < size(samples_format=format, jpeg_quality=95)
    lossless = encoded(IMAGE, {}, settings.replace(samples_format="webp", webp_lossless=True))
    assert size(samples_format="webp") < len(lossless.data)


def test_numbers_go_on_and_names_give_way(settings: Settings, tmp_path: Path) -> None:
    folder = tmp_path / "out"
    picture = encoded(IMAGE, TEXTS, settings)
    names = [write_picture(folder, "-7", picture, settings, numbered=True).name for _ in range(2)]
    assert names == ["00000-7.png", "00001-7.png"]
    assert write_picture(folder, "", picture, settings, numbered=True, basename="grid").name == "grid-0000.png"
    keep = settings.replace(save_images_replace_action="Add number suffix")
    names = [write_picture(folder, "same", picture, chosen, numbered=False).name for chosen in (settings, keep)]
    assert names == ["same.png", "same-1.png"]
    assert write_picture(folder, "same", picture, settings, numbered=False).name == "same.png"
    assert next_number(folder, "") == 2
    assert free_path(folder / "new.png").name == "new.png"


def test_a_folder_that_is_a_file_is_named(settings: Settings, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(WebuiError, match="can't be saved in .*file"):
        write_picture(tmp_path / "file", "", encoded(IMAGE, {}, settings), settings, numbered=True)


def test_a_large_picture_gets_a_smaller_jpg_beside_it(settings: Settings, tmp_path: Path) -> None:
    picture = encoded(IMAGE, TEXTS, settings)
    path = write_picture(tmp_path, "large", picture, settings, numbered=False)
    assert write_jpg_copy(path, IMAGE, picture, settings) is None
    copy = write_jpg_copy(path, IMAGE, picture, settings.replace(target_side_length=48))
    assert copy == tmp_path / "large.jpg"
    with Image.open(copy) as small:
        assert (small.format, small.size) == ("JPEG", (48, 32))
    assert read_infotext(copy.read_bytes())[0] == TEXTS["parameters"]
    by_length = settings.replace(img_downscale_threshold=0.001)
    copy = write_jpg_copy(path, IMAGE, picture, by_length)
    with Image.open(tmp_path / "large.jpg") as same_size:
        assert same_size.size == IMAGE.size
    assert write_jpg_copy(path, IMAGE, picture, by_length.replace(export_for_4chan=False)) is None
    jpg = encoded(IMAGE, TEXTS, settings, format="jpg")
    assert write_jpg_copy(tmp_path / "x.jpg", IMAGE, jpg, by_length) is None


def test_a_picture_too_large_for_its_format_becomes_a_png(settings: Settings) -> None:
    wide = Image.new("L", (16_400, 1))
    assert encoded(wide, {}, settings.replace(samples_format="webp")).format == "png"
    with pytest.raises(InvalidRequest):
        encoded(IMAGE, {}, settings, format="tiff")
