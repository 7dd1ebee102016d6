"""Which pictures are trained on together, in which order."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from webui.core.errors import InvalidRequest
from webui.datasets.buckets import BucketRules, Placement, Size
from webui.datasets.folders import Picture, repeated_to


@dataclass(frozen=True)
class Placed:
    """A picture of the training set. index: its place among all. repeats: drawings an epoch."""

    index: int
    picture: Picture
    placement: Placement
    repeats: int


@dataclass(frozen=True)
class Dataset:
    """The pictures that are trained on, each in its bucket. Pictures of one batch are of one bucket.

    seed: of the order of batches; the order of an epoch depends on it and the epoch alone.
    """

    pictures: tuple[Placed, ...]
    rules: BucketRules
    batch_size: int = 1
    seed: int = 0

    @cached_property
    def buckets(self) -> Mapping[Size, Sequence[Placed]]:
        """What each bucket holds, repeats included, by the buckets' order."""
        found: dict[Size, list[Placed]] = {}
        for placed in self.pictures:
            if placed.repeats:
                found.setdefault(placed.placement.bucket, []).extend([placed] * placed.repeats)
        return {size: found[size] for size in sorted(found)}

    @property
    def draws(self) -> int:
        """Pictures an epoch, repeats included."""
        return sum(len(bucket) for bucket in self.buckets.values())

    @property
    def batches_per_epoch(self) -> int:
        return sum(-(-len(bucket) // self.batch_size) for bucket in self.buckets.values())

    def epoch(self, number: int) -> list[tuple[Placed, ...]]:
        """The batches of an epoch, counted from 1, in order; the last one of a bucket may be smaller.

        Source: kohya: with the seed seed + epoch first the batches are shuffled, then the pictures of each bucket.
        """
        rng = random.Random(self.seed + number)  # noqa: S311  # no secret
        places = [
            (size, start)
            for size, bucket in self.buckets.items()
            for start in range(0, len(bucket), self.batch_size)
        ]
        rng.shuffle(places)
        shuffled = {size: list(bucket) for size, bucket in self.buckets.items()}
        for bucket in shuffled.values():
            rng.shuffle(bucket)
        return [tuple(shuffled[size][start : start + self.batch_size]) for size, start in places]

    @property
    def mean_ratio_error(self) -> float:
        """How far the pictures' shapes are from their buckets', as difference of width/height."""
        errors = [abs(_ratio(placed.picture.size) - _ratio(placed.placement.bucket)) for placed in self.pictures]
        return sum(errors) / len(errors) if errors else 0.0


def placed_in_buckets(
    pictures: Sequence[Picture], rules: BucketRules, batch_size: int = 1, seed: int = 0
) -> Dataset:
    """The training set of these pictures. Class pictures are drawn as often as all others together.

    Raises: InvalidRequest for a picture that is too small for any bucket.
    """
    rules.check()
    training = [(picture, picture.subset.repeats) for picture in pictures if not picture.subset.is_class]
    count = sum(repeats for _, repeats in training)
    together = [*training, *repeated_to(count, [picture for picture in pictures if picture.subset.is_class])]
    placed = []
    for index, (picture, repeats) in enumerate(together):
        try:
            placed.append(Placed(index, picture, rules.place(picture.size), repeats))
        except InvalidRequest as error:
            raise InvalidRequest(f"{picture.path.name} can't be used: {error}.") from error
    return Dataset(tuple(placed), rules, batch_size, seed)


def _ratio(size: Size) -> float:
    return size[0] / size[1]
