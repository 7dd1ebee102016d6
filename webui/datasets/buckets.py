"""Sizes of pictures to train at: each picture is scaled and cropped to the bucket nearest to its shape."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TypeAlias

from webui.core.errors import InvalidRequest
from webui.core.training_data import DataRequest

Size: TypeAlias = tuple[int, int]
"""(width, height) in pixels."""


@dataclass(frozen=True)
class Placement:
    """How a picture comes to its bucket: scaled to `resized`, which covers it, then cropped from `crop` (x, y)."""

    bucket: Size
    resized: Size
    crop: Size

    @property
    def excess(self) -> Size:
        """How many pixels the crop leaves out, across and down; also how far it can be moved."""
        return self.resized[0] - self.bucket[0], self.resized[1] - self.bucket[1]


@dataclass(frozen=True)
class BucketRules:
    """resolution: (width, height), whose area no bucket exceeds. enabled: off, that is the only bucket.

    min_side, max_side: rounded down and up to whole steps. no_upscale: a picture smaller than the resolution keeps its
    size, cut to whole steps; min_side and max_side don't count then. own_sizes: without buckets every picture keeps its
    size, cut to multiples of 8, and the resolution doesn't count.
    """

    resolution: Size = (512, 512)
    enabled: bool = True
    min_side: int = 256
    max_side: int = 1024
    step: int = 64
    no_upscale: bool = False
    own_sizes: bool = False

    @classmethod
    def of(cls, request: DataRequest, *, sdxl: bool = False) -> BucketRules:
        """As a request has them. Raises: InvalidRequest for a resolution that is none, and for contradictions."""
        size = resolution_of(request.resolution)
        own = request.crop == "none"
        if own and request.enable_bucket:
            raise InvalidRequest(
                'Pictures are either sorted into buckets or keep their own size (crop "none"); switch one of them off.'
            )
        step = request.bucket_reso_steps
        if sdxl and request.enable_bucket and step % 32:
            raise InvalidRequest(f"SDXL's bucket sizes go in steps of a multiple of 32, not {step}.")
        sides = request.min_bucket_reso, request.max_bucket_reso
        rules = cls(size, request.enable_bucket, *sides, step, request.bucket_no_upscale, own)
        rules.check()
        return rules

    def check(self) -> None:
        """Raises: InvalidRequest for limits that contradict one another."""
        if self.step < 8 or self.step % 8:
            raise InvalidRequest(f"Bucket sizes go in steps of a multiple of 8, not {self.step}.")
        if min(self.resolution) < 64:
            raise InvalidRequest(f"The resolution {self.resolution[0]}x{self.resolution[1]} is below 64 pixels.")
        if not self.enabled and any(side % 8 for side in self.resolution):
            raise InvalidRequest(
                f"The resolution {self.resolution[0]}x{self.resolution[1]} must be in multiples of 8 pixels."
            )
        if not self.enabled or self.no_upscale:
            return
        low, high = self._limits
        if not low <= min(self.resolution) or not max(self.resolution) <= high:
            raise InvalidRequest(
                f"The resolution {self.resolution[0]}x{self.resolution[1]} must lie between the smallest bucket side "
                f"({self.min_side}) and the largest ({self.max_side})."
            )

    @property
    def _limits(self) -> tuple[int, int]:
        return self.min_side // self.step * self.step, -(-self.max_side // self.step) * self.step

    @cached_property
    def sizes(self) -> tuple[Size, ...]:
        """Every bucket there may be, in order; those of no_upscale depend on the pictures instead."""
        return bucket_sizes(self.resolution, *self._limits, self.step) if self.enabled else (self.resolution,)

    def place(self, size: Size) -> Placement:
        """The bucket for a picture of this size. Raises: InvalidRequest for a picture too small for any."""
        if self.own_sizes:
            resized, bucket = size, (size[0] // 8 * 8, size[1] // 8 * 8)
        elif self.enabled and self.no_upscale:
            resized = _without_upscaling(size, self.resolution, self.step)
            bucket = (resized[0] // self.step * self.step, resized[1] // self.step * self.step)
            if not all(bucket):
                raise InvalidRequest(
                    f"it is {size[0]}x{size[1]}, smaller than a bucket's step of {self.step} pixels, and must not be "
                    "enlarged; allow upscaling or leave it out"
                )
        else:
            return place_into(nearest_bucket(size, self.sizes), size)
        return _centred(bucket, resized)


def resolution_of(text: str) -> Size:
    """(width, height) of "512" or "512,768" or "512x768". Raises: InvalidRequest."""
    match = re.fullmatch(r"\s*(\d{1,5})\s*(?:[,x]\s*(\d{1,5})\s*)?", text)
    if match is None:
        raise InvalidRequest(f'The resolution "{text}" is neither a number nor "width,height"; write 512 or 512,768.')
    return int(match[1]), int(match[2] or match[1])


def place_into(bucket: Size, size: Size) -> Placement:
    """A picture of this size scaled to cover the bucket, and its middle."""
    return _centred(bucket, covering(size, bucket))


def _centred(bucket: Size, resized: Size) -> Placement:
    return Placement(bucket, resized, ((resized[0] - bucket[0]) // 2, (resized[1] - bucket[1]) // 2))


def bucket_sizes(resolution: Size, min_side: int, max_side: int, step: int) -> tuple[Size, ...]:
    """The square of about the resolution's area, and for each width the tallest height within that area; both ways."""
    area = resolution[0] * resolution[1]
    side = int(math.sqrt(area) // step) * step
    found = {(side, side)}
    for width in range(min_side, max_side + 1, step):
        height = min(max_side, area // width // step * step)
        if height >= min_side:
            found |= {(width, height), (height, width)}
    return tuple(sorted(found))


def nearest_bucket(size: Size, buckets: Sequence[Size]) -> Size:
    """The picture's own size where that is a bucket, else the first with the least difference of width/height."""
    if size in buckets:
        return size
    ratio = size[0] / size[1]
    return min(buckets, key=lambda bucket: abs(bucket[0] / bucket[1] - ratio))


def covering(size: Size, bucket: Size) -> Size:
    """The picture's size once one side matches the bucket and the other is no shorter."""
    wider = size[0] / size[1] > bucket[0] / bucket[1]
    scale = bucket[1] / size[1] if wider else bucket[0] / size[0]
    return _half_up(size[0] * scale), _half_up(size[1] * scale)


def _without_upscaling(size: Size, resolution: Size, step: int) -> Size:
    """A picture larger than the resolution's area is scaled down so that one side is whole steps; others stay."""
    area = resolution[0] * resolution[1]
    if size[0] * size[1] <= area:
        return size
    ratio = size[0] / size[1]
    ideal_width = math.sqrt(area * ratio)
    width, height = _floored(ideal_width, step), _floored(area / ideal_width, step)
    by_width = width / max(1, _floored(width / ratio, step))
    by_height = _floored(height * ratio, step) / max(1, height)
    if abs(by_width - ratio) < abs(by_height - ratio):
        return width, _half_up(width / ratio)
    return _half_up(height * ratio), height


def _half_up(value: float) -> int:
    return int(value + 0.5)


def _floored(value: float, step: int) -> int:
    return _half_up(value) // step * step
