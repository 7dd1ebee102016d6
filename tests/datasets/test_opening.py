"""Training sets from folders on the disk, by the door the training loop uses."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from webui.core.errors import InvalidRequest
from webui.core.training_data import DataFolder, DataRequest, Dataset, Item, TrainingData
from webui.datasets.opening import open_data
from webui.datasets.reading import look_at


def picture(place: Path, size: tuple[int, int] = (64, 64), seed: int = 0, **options: Any) -> Path:
    place.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), np.uint8)
    Image.fromarray(pixels).save(place, **options)
    return place


def request(folder: Path, every: DataFolder | None = None, **values: Any) -> DataRequest:
    small = {"resolution": "64", "min_bucket_reso": 64, "max_bucket_reso": 128, "bucket_reso_steps": 16}
    return DataRequest.checked(train_data_dir=str(folder), every=every or DataFolder(), **{**small, **values})


def opened(wanted: DataRequest, batch_size: int = 1, **options: Any) -> TrainingData:
    return open_data(wanted, batch_size=batch_size, seed=3, **options)


def items(data: TrainingData, epoch: int = 0) -> list[Item]:
    return [item for batch in data.batches(epoch) for item in batch.items]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two parts: 2 x 3 pictures, one with a caption, and 5 x 1."""
    for index in range(3):
        picture(tmp_path / "2_sks man" / f"{index}.png", (80, 64), index)
    (tmp_path / "2_sks man" / "0.txt").write_text("sks man, hat\nsecond line", "utf-8")
    picture(tmp_path / "5_sks cat" / "cat.jpg", (64, 80), 9)
    (tmp_path / "5_sks cat" / "cat.caption").write_bytes("\ufeffsks cat, grün".encode())
    return tmp_path


def test_repeats_and_captions_come_from_folders_and_files(folder: Path) -> None:
    data = opened(request(folder, resolution="96"), batch_size=4)
    assert (data.facts.pictures, data.facts.prior_pictures) == (11, 0)
    assert data.batches_in(0) == 4  # 6 and 5 pictures in two buckets, four at a time
    captions = sorted(item.caption for item in items(data))
    assert captions == sorted(["sks man, hat"] * 2 + ["sks man"] * 4 + ["sks cat, grün"] * 5)


def test_items_are_what_the_loop_needs(folder: Path) -> None:
    for item in items(opened(request(folder))):
        width, height = item.size
        pixels = item.read()
        assert (pixels.shape, pixels.dtype) == ((height, width, 3), np.uint8)
        assert width % 8 == height % 8 == 0
        assert item.mask is None
        assert item.weight == 1
        assert not item.is_prior
        assert item.original in ((80, 64), (64, 80))


def test_the_same_place_gives_the_same_items_wherever_one_begins(folder: Path) -> None:
    every = DataFolder(shuffle_caption=True, flip_aug=True, color_aug=True, random_crop=True)
    wanted = request(folder, every, resolution="96")
    whole, later = opened(wanted, 2), opened(wanted, 2)
    from_there = list(later.batches(3, start=2))
    for one, other in zip(list(whole.batches(3))[2:], from_there, strict=True):
        for first, second in zip(one.items, other.items, strict=True):
            assert first.caption == second.caption
            assert first.path == second.path
            assert (first.read() == second.read()).all()


def test_keys_tell_pixels_apart_and_nothing_else(folder: Path) -> None:
    seen: dict[str, bytes] = {}
    for epoch in range(4):
        for item in items(opened(request(folder, DataFolder(flip_aug=True))), epoch):
            pixels = item.read().tobytes()
            assert seen.setdefault(item.key, pixels) == pixels
    assert len(seen) == 8  # four pictures, mirrored or not
    assert len(set(seen.values())) == 8


@pytest.mark.parametrize("option", ["color_aug", "random_crop"])
def test_what_varies_has_no_key(folder: Path, option: str) -> None:
    assert {item.key for item in items(opened(request(folder, DataFolder().replace(**{option: True}))))} == {""}


def test_half_of_the_drawings_are_mirrored(tmp_path: Path) -> None:
    picture(tmp_path / "200_x" / "a.png")
    found = items(opened(request(tmp_path, DataFolder(flip_aug=True))))
    plain = np.asarray(Image.open(tmp_path / "200_x" / "a.png"))
    mirrored = sum((item.read() == plain[:, ::-1]).all() for item in found)
    assert sum((item.read() == plain).all() for item in found) == 200 - mirrored
    assert 70 < mirrored < 130


def test_colours_vary_a_little_in_a_third_of_the_drawings(tmp_path: Path) -> None:
    picture(tmp_path / "300_x" / "a.png")
    plain = np.asarray(Image.open(tmp_path / "300_x" / "a.png")).astype(int)
    found = [item.read().astype(int) for item in items(opened(request(tmp_path, DataFolder(color_aug=True))))]
    changed = [pixels for pixels in found if (pixels != plain).any()]
    assert 0.25 < len(changed) / 300 < 0.42
    assert all(abs(pixels.mean() - plain.mean()) < 16 for pixels in changed)


def test_random_crops_move(tmp_path: Path) -> None:
    picture(tmp_path / "40_x" / "a.png", (200, 80))
    wanted = request(tmp_path, DataFolder(random_crop=True), enable_bucket=False)
    found = items(opened(wanted))
    assert len({item.crop for item in found}) > 10
    assert len({item.read().tobytes() for item in found}) > 10


def test_shrinking_takes_the_mean_of_the_area(tmp_path: Path) -> None:
    pixels = np.random.default_rng(1).integers(0, 256, (128, 128, 3), np.uint8)
    (tmp_path / "1_x").mkdir()
    Image.fromarray(pixels).save(tmp_path / "1_x" / "a.png")
    (item,) = items(opened(request(tmp_path)))
    means = pixels.reshape(64, 2, 64, 2, 3).astype(float).mean((1, 3))
    assert np.abs(item.read() - means).max() <= 0.5


@pytest.mark.parametrize("how", ["nearest", "bilinear", "bicubic", "lanczos", "area", "box"])
def test_how_pictures_are_resized_can_be_chosen(tmp_path: Path, how: str) -> None:
    picture(tmp_path / "1_x" / "a.png", (150, 150))
    (plain,), (other,) = (items(opened(request(tmp_path, resize_interpolation=way))) for way in ("", how))
    assert other.read().shape == (64, 64, 3)
    assert ((plain.read() == other.read()).all()) == (how == "area")
    assert plain.key != other.key


def test_alpha_weighs_the_loss(tmp_path: Path) -> None:
    (tmp_path / "1_x").mkdir()
    pixels = np.zeros((64, 64, 4), np.uint8)
    pixels[:, 32:, 3] = 255
    Image.fromarray(pixels).save(tmp_path / "1_x" / "a.png")
    (item,) = items(opened(request(tmp_path, DataFolder(alpha_mask=True))))
    assert item.mask is not None
    assert (item.mask() == (pixels[:, :, 3] / 255).astype(np.float32)).all()


def test_exif_turns_pictures(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    picture(tmp_path / "1_x" / "a.jpg", (96, 64), exif=exif)
    (item,) = items(opened(request(tmp_path, resolution="96")))
    assert item.original == (64, 96)
    assert item.size[0] < item.size[1]


def test_class_pictures_mixed_and_in_pairs(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    classes = tmp_path_factory.mktemp("classes")
    for index in range(4):
        picture(classes / "1_man" / f"{index}.png", (100, 100), index)
    mixed = opened(request(folder, reg_data_dir=str(classes)), prior_loss_weight=0.5)
    assert (mixed.facts.pictures, mixed.facts.prior_pictures) == (11, 11)
    assert {(item.is_prior, item.weight) for item in items(mixed)} == {(False, 1.0), (True, 0.5)}
    paired = opened(request(folder, reg_data_dir=str(classes), prior="paired"), 2, prior_loss_weight=0.5)
    for batch in paired.batches(0):
        half = len(batch.items) // 2
        assert [item.is_prior for item in batch.items] == [False] * half + [True] * half
        assert len({item.size for item in batch.items}) == 1
        assert {item.read().shape for item in batch.items} == {(*batch.items[0].size[::-1], 3)}
        assert {item.weight for item in batch.items} == {1.0}


def test_captions_of_file_names(tmp_path: Path) -> None:
    picture(tmp_path / "pictures" / "sks man (7).jpg")
    (tmp_path / "pictures" / "sks man (7).txt").write_text("on a beach")
    by_name = request(tmp_path / "pictures", caption_from="name")
    assert items(opened(by_name))[0].caption == "sks man"
    assert items(opened(by_name.replace(name_and_file=True)))[0].caption == "sks man on a beach"


@pytest.mark.parametrize(
    ("name", "told", "options", "caption"),
    [
        ("00012-0-a red_hat", None, {}, "a red_hat"),
        ("12 cat", None, {}, "cat"),
        ("7-a red hat", None, {"word_regex": "[a-z]{2,}", "word_join": ", "}, "red, hat"),
        ("7-a red hat", "a cat\non a mat", {}, "a cat on a mat"),
    ],
)
def test_words_of_file_names(tmp_path: Path, name: str, told: str | None, options: Any, caption: str) -> None:
    picture(tmp_path / "pictures" / f"{name}.jpg")
    if told:
        (tmp_path / "pictures" / f"{name}.txt").write_text(told)
    assert items(opened(request(tmp_path / "pictures", caption_from="words", **options)))[0].caption == caption


def test_a_broken_expression_for_words_is_told(tmp_path: Path) -> None:
    picture(tmp_path / "pictures" / "a.jpg")
    assert '"[" is no regular expression' in refusal(
        request(tmp_path / "pictures", caption_from="words", word_regex="[")
    )


def test_a_plain_folder_is_a_training_set(tmp_path: Path) -> None:
    picture(tmp_path / "a.png"), picture(tmp_path / "b.png", seed=1)
    data = opened(request(tmp_path, DataFolder(num_repeats=10, class_tokens="sks")))
    assert data.facts.pictures == 20
    assert {item.caption for item in items(data)} == {"sks"}


def test_further_folders_have_options_of_their_own(tmp_path: Path) -> None:
    picture(tmp_path / "one" / "a.png"), picture(tmp_path / "other" / "b.png", seed=1)
    (tmp_path / "other" / "b.cap").write_text("told")
    parts = (
        DataFolder(image_dir=str(tmp_path / "one"), num_repeats=3, class_tokens="x"),
        DataFolder(image_dir=str(tmp_path / "other"), caption_extension="cap", caption_prefix="so"),
    )
    data = opened(DataRequest(folders=parts, resolution="64", min_bucket_reso=64))
    assert sorted(item.caption for item in items(data)) == ["so told", "x", "x", "x"]


def test_datasets_have_sizes_of_their_own_and_share_an_epoch(folder: Path) -> None:
    cats = DataFolder(image_dir=str(folder / "5_sks cat"), num_repeats=7)
    large = Dataset(
        resolution="128", min_bucket_reso=64, max_bucket_reso=192, bucket_reso_steps=16, batch_size=3, folders=(cats,)
    )
    wanted = request(folder, datasets=(large,))
    data = opened(wanted, batch_size=2)
    assert data.batches_in(0) == 3 + 3 + 3  # 6 and 5 by two, 7 by three
    assert data.facts.pictures == 18
    rows = [[(item.path, item.size) for item in batch.items] for batch in data.batches(1)]
    places = [place for place, row in enumerate(rows) if min(row[0][1]) > 80]
    assert sorted(len(rows[place]) for place in places) == [1, 3, 3]
    assert places not in ([0, 1, 2], [6, 7, 8])
    again = [[(item.path, item.size) for item in batch.items] for batch in opened(wanted, 2).batches(1, start=4)]
    assert again == rows[4:]
    assert [one["num_train_images"] for one in data.facts.metadata["datasets"]] == [11, 7]
    assert opened(wanted.replace(train_data_dir="")).facts.pictures == 7


def test_mistakes_in_a_dataset_are_told(folder: Path) -> None:
    nowhere = Dataset(folders=(DataFolder(image_dir=str(folder / "nowhere")),))
    assert 'There is no folder "' in " ".join(look_at(request(folder, datasets=(nowhere,))).errors)
    assert "Name the folder" in " ".join(look_at(request(folder, datasets=(Dataset(),))).errors)


def test_facts_are_what_a_lora_tells_of_its_data(folder: Path) -> None:
    facts = opened(request(folder, resolution="96")).facts.metadata
    assert facts["num_train_images"] == 11
    assert facts["dataset_dirs"] == {
        "2_sks man": {"n_repeats": 2, "img_count": 3},
        "5_sks cat": {"n_repeats": 5, "img_count": 1},
    }
    assert facts["tag_frequency"]["2_sks man"] == {"sks man": 3, "hat": 1}
    assert facts["bucket_info"]["buckets"]["0"] == {"resolution": [80, 112], "count": 5}
    assert facts["resolution"] == "(96, 96)"


def test_focal_crops_are_asked_for(tmp_path: Path) -> None:
    picture(tmp_path / "1_x" / "a.png", (128, 64))
    wanted = request(tmp_path, enable_bucket=False, crop="focal")
    assert opened(wanted).facts.pictures == 1
    with pytest.raises(InvalidRequest, match="choose the middle"):
        items(opened(wanted))
    (item,) = items(
        opened(wanted, focus=lambda image, size: image.crop((image.width - size[0], 0, image.width, size[1])))
    )
    plain = np.asarray(Image.open(tmp_path / "1_x" / "a.png"))
    assert (item.read() == plain[:, 64:]).all()


# What is wrong is told, in sentences, before anything starts


def refusal(wanted: DataRequest, **options: Any) -> str:
    with pytest.raises(InvalidRequest) as refused:
        opened(wanted, **options)
    return str(refused.value)


def test_no_folder_an_absent_one_an_empty_one(tmp_path: Path) -> None:
    assert refusal(DataRequest()) == "Name the folder with the pictures to train on."
    assert f'There is no folder "{tmp_path / "no"}"' in refusal(request(tmp_path / "no"))
    assert "holds no pictures to train on (png, jpg" in refusal(request(tmp_path))
    (tmp_path / "10_sks").mkdir()
    assert 'The folder "10_sks" holds no pictures.' in refusal(request(tmp_path))
    picture(tmp_path / "sks" / "a.png")
    assert 'The folder "sks" is left out: only folders called like "10_name"' in refusal(request(tmp_path))


def test_broken_pictures_and_captions_are_named_all_at_once(folder: Path) -> None:
    (folder / "2_sks man" / "broken.png").write_bytes(b"not a picture")
    (folder / "2_sks man" / "1.txt").write_bytes("grün".encode("latin-1"))
    picture(folder / "5_sks cat" / "tiny.png", (20, 300))
    told = refusal(request(folder))
    assert "2_sks man/broken.png: This isn't a picture that can be read" in told
    assert "the caption 1.txt isn't written in UTF-8 (byte 2)" in told
    assert "5_sks cat/tiny.png is only 20x300, too small" in told


def test_a_picture_that_ends_too_early_is_found_when_all_is_decoded(folder: Path) -> None:
    whole = (folder / "5_sks cat" / "cat.jpg").read_bytes()
    (folder / "5_sks cat" / "cat.jpg").write_bytes(whole[: len(whole) // 2])
    assert not look_at(request(folder)).errors
    (told,) = look_at(request(folder), decode=True).errors
    assert "cat.jpg is damaged and can't be read whole" in told


def test_what_is_left_out_or_odd_is_told(folder: Path) -> None:
    picture(folder / "notes" / "x.png")
    picture(folder / "loose.png")
    picture(folder / "0_never" / "x.png")
    picture(folder / "2_sks man" / "0.webp", (40, 40))
    warnings = " ".join(opened(request(folder)).facts.comments)
    assert 'The folder "notes" is left out' in warnings
    assert "1 pictures directly in" in warnings
    assert 'The folder "0_never" is left out' in warnings
    assert "0.png and 0.webp in 2_sks man share one caption" in warnings
    assert "1 of 5 pictures are smaller than they are trained at" in warnings


def test_captions_with_another_ending_are_told(tmp_path: Path) -> None:
    picture(tmp_path / "1_x" / "a.png")
    (tmp_path / "1_x" / "a.caption").write_text("words")
    (told,) = opened(request(tmp_path, DataFolder(caption_extension=".txt"))).facts.comments
    assert "no caption ending in .txt, but there are others, such as a.caption" in told
    data = opened(request(tmp_path))
    assert not data.facts.comments
    assert items(data)[0].caption == "words"


def test_pictures_without_any_words_are_told(tmp_path: Path) -> None:
    picture(tmp_path / "a.png")
    (told,) = opened(request(tmp_path)).facts.comments
    assert "1 pictures in" in told
    assert "give a trigger word, or describe them" in told


def test_options_that_have_no_effect_are_refused(folder: Path) -> None:
    assert "aren't made here" in refusal(request(folder, DataFolder(face_crop_aug_range="2.0,4.0")))
    assert "neither with random crops" in refusal(request(folder, DataFolder(random_crop=True), crop="focal"))
    assert "only be shuffled" in refusal(request(folder, DataFolder(shuffle_caption=True, caption_separator="")))
    assert "only class pictures" in refusal(DataRequest(reg_data_dir=str(folder)))


def test_a_picture_that_goes_away_meanwhile_is_told(tmp_path: Path) -> None:
    (item,) = items(opened(request(picture(tmp_path / "1_x" / "a.png").parent)))
    (tmp_path / "1_x" / "a.png").unlink()
    with pytest.raises(InvalidRequest, match=r"a\.png can't be read any more"):
        item.read()


def test_no_torch_is_needed() -> None:
    code = "import sys, webui.datasets.opening; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
