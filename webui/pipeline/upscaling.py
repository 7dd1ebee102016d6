"""Pictures made larger: one function for hires fix, img2img and Extras.

An upscaler is found in the server's `Choices`; its function enlarges by whatever factor it can.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import numpy as np
from PIL import Image

from webui.core.choices import NO_UPSCALER, Upscaler, load_function
from webui.core.settings import Settings
from webui.models.devices import is_out_of_memory
from webui.models.manager import ModelManager, release_memory
from webui.models.stopping import Stopped
from webui.models.upscalers.network import ImageNetwork, load_network
from webui.models.upscalers.tiles import Pixels, enlarge_in_tiles, tiles_of
from webui.pipeline.limits import require_room_for

if TYPE_CHECKING:
    from webui.jobs.context import JobContext

T = TypeVar("T")
LANCZOS = Image.Resampling.LANCZOS
MOST_RUNS = 3
"""How often an upscaler of a fixed factor is applied to its own result."""


@dataclass(frozen=True)
class Enlarger:
    """An upscaler with what a network needs: the settings, the models and the job that waits for it.

    counts: whether the tiles of a picture are the steps of the job; else they are only told.
    """

    upscaler: Upscaler
    settings: Settings
    models: ModelManager
    job: JobContext
    counts: bool = False

    def walk(self, tiles: Sequence[T]) -> Iterator[T]:
        """The tiles, one after the other, until the job is to end."""
        if self.counts:
            yield from self.job.steps(tiles)
            return
        for number, tile in enumerate(tiles, start=1):
            if not self.job.completes_pass:
                return
            self.job.text(f"{self.upscaler.name}: tile {number} of {len(tiles)}" if len(tiles) > 1 else "")
            yield tile
        self.job.text("")


def upscale(image: Image.Image, enlarger: Enlarger, scale: float) -> Image.Image:
    """The picture at `scale` times its size, each side cut down to a multiple of 8 pixels.

    The upscaler runs until the picture is large enough, a network at least once; Lanczos brings it to size, and does
    the rest when the job is to end. Raises: as `Upscaler.require`; Stopped in a job of which the tiles are the steps.
    """
    upscaler = enlarger.upscaler
    width, height = (max(8, int(side * scale) // 8 * 8) for side in image.size)
    if upscaler.function is not None:
        upscaler.require()
        enlarge = load_function(upscaler.function)
        for run in range(MOST_RUNS):
            before = image
            enough = image.width >= width and image.height >= height
            if enough and (run or scale != 1 or upscaler.network is None):
                break
            image = enlarge(image, scale, enlarger)
            if image.size == before.size:
                break
    return image if image.size == (width, height) else image.resize((width, height), LANCZOS)


def resized(image: Image.Image, enlarger: Enlarger | None, width: int, height: int) -> Image.Image:
    """The picture at exactly width x height: enlarged by the upscaler where it has to grow, the rest by Lanczos."""
    if image.size == (width, height):
        return image
    scale = max(width / image.width, height / image.height)
    if scale > 1 and image.mode != "L" and enlarger is not None and enlarger.upscaler != NO_UPSCALER:
        image = upscale(image, enlarger, scale)
    return image if image.size == (width, height) else image.resize((width, height), LANCZOS)


def by_lanczos(image: Image.Image, scale: float, enlarger: Enlarger) -> Image.Image:
    return _scaled(image, scale, LANCZOS)


def by_nearest(image: Image.Image, scale: float, enlarger: Enlarger) -> Image.Image:
    return _scaled(image, scale, Image.Resampling.NEAREST)


def _scaled(image: Image.Image, scale: float, method: Image.Resampling) -> Image.Image:
    return image.resize((int(image.width * scale), int(image.height * scale)), method)


def by_network(image: Image.Image, scale: float, enlarger: Enlarger) -> Image.Image:
    """The picture as the upscaler's network enlarges it, or as it is when the job is to end before.

    Raises: BadModelFile for a file that holds no such network, InvalidRequest when the result is too large, Stopped.
    """
    network = enlarger.upscaler.network
    assert network is not None
    assert network.file is not None, "weights are required before"
    file, placement, stat = network.file, enlarger.models.placement, network.file.stat()
    key = ("upscaler", str(file), stat.st_size, stat.st_mtime_ns, placement.device, placement.unet)
    with enlarger.models.borrow(key, lambda: load_network(file, placement), stat.st_size) as loaded:
        require_room_for(image.width * loaded.scale, image.height * loaded.scale)
        made = _in_tiles(np.asarray(image.convert("RGB")), loaded, enlarger)
    if made is None and enlarger.counts:
        raise Stopped
    return image if made is None else Image.fromarray(made)


def _in_tiles(pixels: Pixels, network: ImageNetwork, enlarger: Enlarger) -> Pixels | None:
    """With the tiles of the settings, and once again with smaller ones when memory runs out."""
    assert enlarger.upscaler.network is not None
    height, width = pixels.shape[:2]
    tile, overlap = (enlarger.settings[key] for key in enlarger.upscaler.network.tiles)
    tiles = tiles_of(width, height, tile, overlap)
    try:
        return enlarge_in_tiles(pixels, network.enlarge, network.scale, tiles, enlarger.walk)
    except Exception as error:
        if not is_out_of_memory(error):
            raise
    release_memory()  # outside of `except`, whose traceback would keep the tensors alive
    smaller = max(32, math.ceil(max(width, height, 1) / 2) if not tile else min(tile, max(width, height)) // 2)
    tiles = tiles_of(width, height, smaller, overlap)
    return enlarge_in_tiles(pixels, network.enlarge, network.scale, tiles, enlarger.walk)
