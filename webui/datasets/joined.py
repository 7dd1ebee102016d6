"""Several training sets as one: their batches in one shuffled row, each of one size."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from functools import cached_property

from webui.core.training_data import Batch, DataFacts, TrainingData


class JoinedData:
    """The `TrainingData` of several parts; see there. An epoch has each part's once, in an order of its own."""

    def __init__(self, parts: Sequence[TrainingData], seed: int) -> None:
        self._parts = parts
        self._seed = seed

    @cached_property
    def facts(self) -> DataFacts:
        facts = [part.facts for part in self._parts]
        largest = max((one.largest for one in facts), key=lambda size: size[0] * size[1])
        told = [one.metadata for one in facts]
        counts = "num_train_images", "num_reg_images", "num_batches_per_epoch"
        sums = {key: sum(one[key] for one in told) for key in counts}
        joined = {
            key: {name: value for one in told for name, value in one[key].items()}
            for key in ("dataset_dirs", "reg_dataset_dirs", "tag_frequency")
        }
        return DataFacts(
            sum(one.pictures for one in facts),
            sum(one.prior_pictures for one in facts),
            largest,
            {**told[0], **sums, **joined, "datasets": told},
            tuple(dict.fromkeys(comment for one in facts for comment in one.comments)),
        )

    def batches_in(self, epoch: int) -> int:
        return sum(part.batches_in(epoch) for part in self._parts)

    def batches(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        row = [number for number, part in enumerate(self._parts) for _ in range(part.batches_in(epoch))]
        random.Random(f"{self._seed} {epoch}").shuffle(row)
        walks = [part.batches(epoch, row[:start].count(number)) for number, part in enumerate(self._parts)]
        for number in row[start:]:
            yield next(walks[number])
