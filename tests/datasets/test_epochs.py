"""Batches and steps, against the counts of kohya's runs."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from webui.core.errors import InvalidRequest
from webui.core.training_data import DataFolder
from webui.datasets.buckets import BucketRules, Size
from webui.datasets.epochs import mixed_order, paired_order
from webui.datasets.folders import Picture, Subset


def pictures(count: int, repeats: int, size: Size = (1024, 1024), *, is_class: bool = False) -> list[Picture]:
    subset = Subset(Path("class" if is_class else "own"), DataFolder(num_repeats=repeats, is_reg=is_class))
    return [Picture(Path(f"{size[0]}x{size[1]}-{index}.png"), size, "", subset) for index in range(count)]


@pytest.mark.parametrize(
    ("count", "repeats", "batch", "an_epoch"), [(20, 10, 3, 67), (50, 10, 3, 167), (20, 1, 1, 20), (7, 1, 8, 1)]
)
def test_batches_an_epoch(count: int, repeats: int, batch: int, an_epoch: int) -> None:
    dataset = mixed_order(pictures(count, repeats), BucketRules(), batch)
    assert dataset.batches_per_epoch == len(dataset.epoch(1)) == an_epoch


def test_steps_of_the_reference_run() -> None:
    assert mixed_order(pictures(20, 10), BucketRules(), 3).batches_per_epoch * 25 == 1675
    assert mixed_order(pictures(50, 10), BucketRules(), 3).batches_per_epoch * 25 == 4175


def test_every_bucket_ends_with_its_own_partial_batch() -> None:
    mixed = [*pictures(4, 1), *pictures(4, 1, (1920, 1080)), *pictures(4, 1, (1080, 1920))]
    dataset = mixed_order(mixed, BucketRules(), 3)
    assert dataset.batches_per_epoch == 6
    for batch in dataset.epoch(1):
        assert len({unit[0].placement.bucket for unit in batch}) == 1


def test_every_epoch_draws_each_picture_as_often_as_it_repeats_in_another_order() -> None:
    dataset = mixed_order([*pictures(5, 3), *pictures(2, 7, (1920, 1080))], BucketRules(), 2, seed=4)
    epochs = [dataset.epoch(number) for number in (1, 2, 3)]
    for epoch in epochs:
        drawn = Counter(placed.picture.path for batch in epoch for (placed,) in batch)
        assert drawn == {placed.picture.path: placed.repeats for placed in dataset.pictures}
    orders = [[placed.picture.path for batch in epoch for (placed,) in batch] for epoch in epochs]
    assert len(set(map(tuple, orders))) == 3


def test_an_epochs_order_hangs_on_seed_and_epoch_alone() -> None:
    together = pictures(9, 2)
    one, other = (mixed_order(together, BucketRules(), 2, seed=7) for _ in range(2))
    one.epoch(1), one.epoch(2)
    assert one.epoch(3) == other.epoch(3)
    assert mixed_order(together, BucketRules(), 2, seed=8).epoch(3) != one.epoch(3)


def test_class_pictures_are_drawn_as_often_as_the_others() -> None:
    for many in (3, 40, 100):
        dataset = mixed_order([*pictures(4, 10), *pictures(many, 1, is_class=True)], BucketRules(), 1)
        repeats = [placed.repeats for placed in dataset.pictures if placed.is_class]
        assert sum(repeats) == 40
        assert max(repeats) - min(repeats) <= 1
    assert repeats.count(0) == 60  # surplus ones aren't used


def test_pairs_have_one_size_and_an_epoch_is_as_long_as_the_longer_list() -> None:
    own = [*pictures(2, 2), *pictures(1, 1, (1920, 1080))]
    for many in (3, 12):
        order = paired_order([*own, *pictures(many, 1, (700, 500), is_class=True)], BucketRules(), 2)
        assert len(order.units) == max(5, many)
        assert order.count(classes=True) == order.count(classes=False) == max(5, many)
        for unit in order.units:
            assert [placed.is_class for placed in unit] == [False, True]
            assert unit[0].placement.bucket == unit[1].placement.bucket
        drawn = Counter(unit[1].picture.path for unit in order.units)
        assert set(drawn) == {picture.path for picture in pictures(many, 1, (700, 500))}


def test_pairs_need_class_pictures() -> None:
    with pytest.raises(InvalidRequest, match="no class pictures"):
        paired_order(pictures(2, 1), BucketRules())


def test_a_picture_too_small_for_any_bucket_is_named() -> None:
    with pytest.raises(InvalidRequest, match=r"40x300-0\.png can't be used: it is 40x300"):
        mixed_order(pictures(1, 1, (40, 300)), BucketRules(no_upscale=True))


def test_how_far_shapes_are_from_their_buckets() -> None:
    assert mixed_order(pictures(3, 1), BucketRules()).mean_ratio_error == 0
    error = mixed_order(pictures(1, 1, (1920, 1080)), BucketRules()).mean_ratio_error
    assert error == pytest.approx(1920 / 1080 - 640 / 384)
