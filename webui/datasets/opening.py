"""A training set as the loop walks it."""

from __future__ import annotations

import hashlib
import random
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from webui.core.errors import InvalidRequest
from webui.core.training_data import Batch, DataFacts, DataRequest, Item, TrainingData
from webui.datasets.buckets import BucketRules
from webui.datasets.captions import draw_caption, first_line, split_tags
from webui.datasets.epochs import Order, Placed, mixed_order, paired_order
from webui.datasets.folders import Picture
from webui.datasets.joined import JoinedData
from webui.datasets.pixels import Focus, Prepared, Variation, prepare, vary
from webui.datasets.reading import look_at


def open_data(
    request: DataRequest,
    *,
    batch_size: int,
    seed: int,
    sdxl: bool = False,
    prior_loss_weight: float = 1.0,
    total_batches: int = 1,
    focus: Focus | None = None,
) -> TrainingData:
    """The training set of a request, whose folders are absolute.

    total_batches: of the whole training, for what grows with it. focus: finds the place of crops, for "focal" ones;
    without it nothing but the facts can be asked of them.
    Raises: InvalidRequest with a sentence about each thing that can't be trained on.
    """
    findings = look_at(request, sdxl=sdxl)
    findings.require()
    orders = [
        order_of(part.request, pictures, part.batch_size or batch_size, seed, sdxl=sdxl)
        for part, pictures in findings.parts
    ]
    an_epoch = sum(order.batches_per_epoch for order in orders)
    opened = [
        FolderData(
            part.request,
            order,
            findings.warnings,
            prior_loss_weight,
            max(total_batches * order.batches_per_epoch // an_epoch, 1),
            focus,
        )
        for (part, _), order in zip(findings.parts, orders, strict=True)
    ]
    return opened[0] if len(opened) == 1 else JoinedData(opened, seed)


def order_of(
    request: DataRequest, pictures: Sequence[Picture], batch_size: int, seed: int = 0, *, sdxl: bool = False
) -> Order:
    """In which batches the pictures come. Raises: InvalidRequest."""
    rules = BucketRules.of(request, sdxl=sdxl)
    paired = request.prior == "paired" and any(picture.subset.options.is_reg for picture in pictures)
    return (paired_order if paired else mixed_order)(pictures, rules, batch_size, seed)


class FolderData:
    """The `TrainingData` of folders; see there."""

    def __init__(
        self,
        request: DataRequest,
        order: Order,
        warnings: tuple[str, ...],
        prior_loss_weight: float,
        total_batches: int,
        focus: Focus | None,
    ) -> None:
        self.order = order
        self._request = request
        self._warnings = warnings
        self._prior_loss_weight = prior_loss_weight
        self._total_batches = total_batches
        self._focus = focus if request.crop == "focal" else None

    @cached_property
    def facts(self) -> DataFacts:
        order = self.order
        largest = max(order.buckets, key=lambda size: size[0] * size[1])
        own, classes = order.count(classes=False), order.count(classes=True)
        return DataFacts(own, classes, largest, self._metadata(own, classes), self._warnings)

    def batches_in(self, epoch: int) -> int:
        return self.order.batches_per_epoch

    def batches(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        for place, units in enumerate(self.order.epoch(epoch + 1)):
            if place >= start:
                drawn = (placed for column in zip(*units, strict=True) for placed in column)
                yield Batch(tuple(self._item(placed, epoch, place, index) for index, placed in enumerate(drawn)))

    def _item(self, placed: Placed, epoch: int, place: int, index: int) -> Item:
        rng = random.Random(f"{self.order.seed} {epoch} {place} {index}")
        picture, placement = placed.picture, placed.placement
        options = picture.subset.options
        if self._request.crop == "focal" and self._focus is None:
            raise InvalidRequest("Crops where there is most to see can't be made here; choose the middle.")
        variation = vary(options, placement, rng, self._focus)
        step = epoch * self.order.batches_per_epoch + place
        caption = draw_caption(picture.caption, options, rng, epoch=epoch, step=step, steps=self._total_batches)
        read = self._reader(placed, variation)
        left, top = variation.crop
        left = placement.excess[0] - left if variation.flipped else left
        mixed = self._request.prior == "mixed" or len(self.order.units[0]) == 1
        return Item(
            key="" if picture.subset.varies else self._key(placed, variation),
            read=lambda: read().pixels,
            caption=caption,
            path=str(picture.path),
            size=placement.bucket,
            weight=self._prior_loss_weight if placed.is_class and mixed else 1.0,
            is_prior=placed.is_class,
            mask=(lambda: _weights(read())) if options.alpha_mask else None,
            original=picture.size,
            crop=(left, top),
        )

    def _reader(self, placed: Placed, variation: Variation) -> Callable[[], Prepared]:
        """Reads the picture once for its pixels and its mask."""
        kept: list[Prepared] = []

        def read() -> Prepared:
            if not kept:
                data = _content(placed.picture)
                interpolation = self._request.resize_interpolation
                kept.append(prepare(data, placed.placement, variation, interpolation, placed.picture.path.name))
            return kept[0]

        return read

    def _key(self, placed: Placed, variation: Variation) -> str:
        placement = placed.placement
        where = "focal" if variation.focus is not None else str(variation.crop)
        told = (
            *(placed.picture.digest, placement.bucket, placement.resized, where, variation.flipped),
            self._request.resize_interpolation,
        )
        return hashlib.sha256(repr(told).encode()).hexdigest()

    def _metadata(self, own: int, classes: int) -> Mapping[str, Any]:
        """kohya's keys without "ss_"."""
        request, order, every = self._request, self.order, self._request.every
        sizes = enumerate(order.buckets.items())
        rules = BucketRules.of(request)
        return {
            "num_train_images": own,
            "num_reg_images": classes,
            "num_batches_per_epoch": order.batches_per_epoch,
            "resolution": str(rules.resolution),
            "enable_bucket": request.enable_bucket,
            "bucket_no_upscale": request.bucket_no_upscale,
            "min_bucket_reso": request.min_bucket_reso,
            "max_bucket_reso": request.max_bucket_reso,
            "bucket_info": {
                "buckets": {str(at): {"resolution": list(size), "count": len(units)} for at, (size, units) in sizes},
                "mean_img_ar_error": order.mean_ratio_error,
            },
            "dataset_dirs": self._folders(classes=False),
            "reg_dataset_dirs": self._folders(classes=True),
            "tag_frequency": self._tags(),
            "shuffle_caption": every.shuffle_caption,
            "keep_tokens": every.keep_tokens,
            "caption_dropout_rate": every.caption_dropout_rate,
            "caption_dropout_every_n_epochs": every.caption_dropout_every_n_epochs,
            "caption_tag_dropout_rate": every.caption_tag_dropout_rate,
            "color_aug": every.color_aug,
            "flip_aug": every.flip_aug,
            "random_crop": every.random_crop,
            "face_crop_aug_range": None,
            "resize_interpolation": request.resize_interpolation or None,
        }

    def _folders(self, *, classes: bool) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for placed in self.order.pictures:
            subset = placed.picture.subset
            if placed.is_class == classes:
                of = found.setdefault(subset.folder.name, {"n_repeats": subset.options.num_repeats, "img_count": 0})
                of["img_count"] += 1
        return found

    def _tags(self) -> dict[str, dict[str, int]]:
        found: dict[str, Counter[str]] = {}
        for placed in self.order.pictures:
            if not placed.is_class:
                options = placed.picture.subset.options
                tags = split_tags(first_line(placed.picture.caption), options.caption_separator)
                found.setdefault(placed.picture.subset.folder.name, Counter()).update(tag.lower() for tag in tags)
        return {folder: dict(tags.most_common()) for folder, tags in found.items()}


def _content(picture: Picture) -> bytes:
    try:
        return Path(picture.path).read_bytes()
    except OSError as error:
        raise InvalidRequest(f"The picture {picture.path} can't be read any more: {error.strerror}.") from error


def _weights(prepared: Prepared) -> np.ndarray:
    """(height, width) float32 in [0, 1], 1 where the picture is opaque."""
    if prepared.alpha is None:
        return np.ones(prepared.pixels.shape[:2], np.float32)
    return prepared.alpha.astype(np.float32) / 255
