"""kohya's dataset files, read and written."""

from __future__ import annotations

import pytest

from webui.core.errors import InvalidRequest
from webui.core.training_data import DataFolder, DataRequest, Dataset
from webui.datasets.kohya_toml import read_toml, write_toml

FILE = """
pretrained_model_name_or_path = "x.safetensors"

[general]
shuffle_caption = true
caption_extension = '.txt'
keep_tokens = 1

[[datasets]]
resolution = [640, 384]
batch_size = 4
keep_tokens = 2
enable_bucket = true
min_bucket_reso = 320

  [[datasets.subsets]]
  image_dir = 'C:\\hoge'
  class_tokens = 'hoge girl'

  [[datasets.subsets]]
  image_dir = '/fuga'
  keep_tokens = 3
  num_repeats = 5
  is_reg = true
  custom_attributes = {}

[optimizer_arguments]
learning_rate = 1e-4
"""


def test_inner_values_win_over_outer_ones() -> None:
    found = read_toml(FILE)
    first, second = found.data.folders
    assert (first.image_dir, first.keep_tokens, first.num_repeats, first.class_tokens) == (
        "C:\\hoge",
        2,
        1,
        "hoge girl",
    )
    assert (second.image_dir, second.keep_tokens, second.num_repeats, second.is_reg) == ("/fuga", 3, 5, True)
    assert all(folder.shuffle_caption and folder.caption_extension == ".txt" for folder in found.data.folders)
    assert (found.data.resolution, found.data.min_bucket_reso, found.batch_size) == ("640,384", 320, 4)
    assert found.arguments == {"pretrained_model_name_or_path": "x.safetensors", "learning_rate": 1e-4}
    assert found.ignored == ("custom_attributes",)


def one_ending(folders: tuple[DataFolder, ...]) -> tuple[DataFolder, ...]:
    """As kohya has it."""
    return tuple(folder.replace(caption_extension=folder.caption_extension.split(",")[0]) for folder in folders)


def test_datasets_of_several_sizes_stay_apart_and_those_of_one_come_together() -> None:
    one = "[[datasets]]\nresolution = {}\n[[datasets.subsets]]\nimage_dir = '/{}'\n"
    text = "[general]\nbatch_size = 2\n" + one.format(512, "a") + one.format(768, "b")
    found = read_toml(text)
    assert [(one.resolution, one.batch_size, one.folders[0].image_dir) for one in found.data.datasets] == [
        ("512", 2, "/a"),
        ("768", 2, "/b"),
    ]
    assert not found.data.folders
    alike = read_toml(text.replace("768", "512"))
    assert [folder.image_dir for folder in alike.data.folders] == ["/a", "/b"]
    assert not alike.data.datasets


@pytest.mark.parametrize(
    "data",
    [
        DataRequest(folders=(DataFolder(image_dir="/a", num_repeats=7),)),
        DataRequest(
            resolution="768,512",
            enable_bucket=False,
            bucket_no_upscale=True,
            resize_interpolation="area",
            folders=(
                DataFolder(image_dir="/a b", class_tokens='say "x"', flip_aug=True, caption_extension=".caption"),
                DataFolder(image_dir="/c", is_reg=True, caption_prefix="é", caption_tag_dropout_rate=0.25),
            ),
        ),
        DataRequest(
            datasets=(
                Dataset(folders=(DataFolder(image_dir="/a", num_repeats=2),), batch_size=3),
                Dataset(resolution="768", max_bucket_reso=1536, folders=(DataFolder(image_dir="/a"),), batch_size=1),
            )
        ),
    ],
)
def test_what_is_written_is_read_again(data: DataRequest) -> None:
    found = read_toml(write_toml(data, 3))
    datasets = tuple(dataset.replace(folders=one_ending(dataset.folders)) for dataset in data.datasets)
    assert found.data == data.replace(folders=one_ending(data.folders), datasets=datasets)
    assert found.batch_size == 3
    assert not found.ignored


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("x = ", "This is no TOML file"),
        ("[datasets]\nx = 1", r"datasets must be a list of tables in this file: write \[\[datasets\]\]"),
        ("general = 3", "general must be a table"),
        ("[[datasets]]\n[[datasets.subsets]]\nnum_repeats = 2", "A subset of dataset 1 names no image_dir"),
        ("[[datasets]]\n[[datasets.subsets]]\nmetadata_file = 'a.json'", "metadata_file"),
        ("[[datasets]]\n[[datasets.subsets]]\nimage_dir = '/a'\nnum_repeats = 0", "Repeats"),
        ("[[datasets]]\nresolution = 512\n[[datasets]]\nmin_bucket_reso = 3", "Smallest side"),
    ],
)
def test_what_is_wrong_is_told(text: str, told: str) -> None:
    with pytest.raises(InvalidRequest, match=told):
        read_toml(text)
