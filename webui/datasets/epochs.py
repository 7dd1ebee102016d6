"""Which pictures are trained on together, in which order."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TypeAlias

from webui.core.errors import InvalidRequest
from webui.datasets.buckets import BucketRules, Placement, Size, place_into
from webui.datasets.folders import Picture, repeated_to


@dataclass(frozen=True)
class Placed:
    """A picture in its bucket. repeats: drawings an epoch."""

    picture: Picture
    placement: Placement
    repeats: int

    @property
    def is_class(self) -> bool:
        return self.picture.subset.options.is_reg


Unit: TypeAlias = tuple[Placed, ...]
"""What is drawn together: a picture, or a picture and a class picture of the same size."""


@dataclass(frozen=True)
class Order:
    """The batches of every epoch. All pictures of a batch are of one size.

    pictures: each once. units: what is drawn in an epoch. seed: an epoch's order hangs on it and the epoch alone.
    """

    pictures: tuple[Placed, ...]
    units: tuple[Unit, ...]
    batch_size: int = 1
    seed: int = 0

    @cached_property
    def buckets(self) -> Mapping[Size, Sequence[Unit]]:
        """What an epoch draws from each bucket, in the order of the buckets."""
        found: dict[Size, list[Unit]] = {}
        for unit in self.units:
            found.setdefault(unit[0].placement.bucket, []).append(unit)
        return {size: found[size] for size in sorted(found)}

    @property
    def batches_per_epoch(self) -> int:
        return sum(-(-len(bucket) // self.batch_size) for bucket in self.buckets.values())

    def epoch(self, number: int) -> list[tuple[Unit, ...]]:
        """The batches of an epoch, counted from 1, in order; the last one of a bucket may be smaller.

        Source: kohya: with the seed seed + epoch first the batches are shuffled, then the pictures of each bucket.
        """
        rng = random.Random(self.seed + number)
        places = [
            (size, start) for size, bucket in self.buckets.items() for start in range(0, len(bucket), self.batch_size)
        ]
        rng.shuffle(places)
        shuffled = {size: list(bucket) for size, bucket in self.buckets.items()}
        for bucket in shuffled.values():
            rng.shuffle(bucket)
        return [tuple(shuffled[size][start : start + self.batch_size]) for size, start in places]

    def count(self, *, classes: bool) -> int:
        """Drawings an epoch, of class pictures or of the others."""
        return sum(placed.is_class == classes for unit in self.units for placed in unit)

    @property
    def mean_ratio_error(self) -> float:
        """How far the pictures' shapes are from their buckets', as difference of width/height."""
        errors = [abs(_ratio(placed.picture.size) - _ratio(placed.placement.bucket)) for placed in self.pictures]
        return sum(errors) / len(errors) if errors else 0.0


def mixed_order(pictures: Sequence[Picture], rules: BucketRules, batch_size: int = 1, seed: int = 0) -> Order:
    """Class pictures are drawn like others, as often as all of these together; kohya's way.

    Raises: InvalidRequest for a picture that is too small for any bucket.
    """
    training = _training(pictures, rules)
    count = sum(placed.repeats for placed in training)
    classes = [_placed(picture, rules, repeats) for picture, repeats in repeated_to(count, _classes(pictures))]
    together = (*training, *classes)
    return Order(together, tuple((placed,) for placed in together for _ in range(placed.repeats)), batch_size, seed)


def paired_order(pictures: Sequence[Picture], rules: BucketRules, batch_size: int = 1, seed: int = 0) -> Order:
    """A class picture beside every picture, cropped to its size; an epoch is as long as the longer of both lists.

    Source: diffusers' DreamBooth: each list is gone through modulo its length.
    Raises: InvalidRequest for a picture that is too small for any bucket, or without class pictures.
    """
    training = _training(pictures, rules)
    drawn = [placed for placed in training for _ in range(placed.repeats)]
    classes = _classes(pictures)
    if not classes:
        raise InvalidRequest("There are no class pictures to stand beside the others; name their folder.")
    units = []
    for index in range(max(len(drawn), len(classes))):
        own, other = drawn[index % len(drawn)], classes[index % len(classes)]
        units.append((own, Placed(other, place_into(own.placement.bucket, other.size), 1)))
    shown = tuple(_placed(picture, rules, 1) for picture in classes)
    return Order((*training, *shown), tuple(units), batch_size, seed)


def _training(pictures: Sequence[Picture], rules: BucketRules) -> list[Placed]:
    own = [picture for picture in pictures if not picture.subset.options.is_reg]
    return [_placed(picture, rules, picture.subset.options.num_repeats) for picture in own]


def _classes(pictures: Sequence[Picture]) -> list[Picture]:
    """A picture as often as its repeats say."""
    found = [picture for picture in pictures if picture.subset.options.is_reg]
    return [picture for picture in found for _ in range(picture.subset.options.num_repeats)]


def _placed(picture: Picture, rules: BucketRules, repeats: int) -> Placed:
    try:
        return Placed(picture, rules.place(picture.size), repeats)
    except InvalidRequest as error:
        raise InvalidRequest(f"{picture.path.name} can't be used: {error}.") from error


def _ratio(size: Size) -> float:
    return size[0] / size[1]
