"""From a unit's picture to the map that its network reads."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image

from webui.extensions.api import InvalidRequest, decoded_picture, fit_picture

from . import sizes
from .preprocessors import drawing, poses
from .preprocessors.registry import Preprocessor
from .units import IMAGE_PROMPTS, Unit

Picture = Any
HALF = 127.5
"""Of a mask's 255: from here on it masks."""
Detect = Callable[[Picture, float, float], Any]
"""A network at work: (picture, threshold A, threshold B) -> a map, or a pose."""


@dataclass(frozen=True)
class Request:
    """What a map is made for. width, height: of the picture that is generated. seed: for `shuffle`."""

    width: int
    height: int
    seed: int = 0


def decoded(data: bytes, name: str) -> Image.Image:
    """The picture of a file. Raises: InvalidRequest, which tells in any case which picture it is."""
    try:
        return decoded_picture(data, name)
    except InvalidRequest as error:
        raise InvalidRequest(str(error) if name in str(error) else f"{name}: {error}") from error


def opaque(data: bytes, name: str) -> Picture:
    """(H, W, 3) uint8 of a picture file, transparency on white. Raises: InvalidRequest."""
    return on_white(decoded(data, name))


def on_white(picture: Image.Image) -> Picture:
    if picture.mode == "RGBA":
        white = Image.new("RGBA", picture.size, "white")
        picture = Image.alpha_composite(white, picture)
    return np.asarray(picture.convert("RGB"))


def levels(data: bytes, name: str) -> Picture:
    """(H, W) uint8 of a mask file: its first channel. Raises: InvalidRequest."""
    picture = decoded(data, name)
    return np.asarray(picture.convert("RGB"))[:, :, 0]


def read_input(unit: Unit, number: int, own: Picture | None) -> Picture:
    """(H, W, 3), or (H, W, 4) with the mask for a preprocessor that reads one. own: what img2img starts from.

    A mask for a preprocessor that takes none is the picture itself: a scribble on the canvas.
    """
    name = f"The picture of ControlNet unit {number}"
    if unit.image is None and own is None:
        raise InvalidRequest(f"ControlNet unit {number} has no picture; load one, or disable the unit.")
    picture = own if unit.image is None else opaque(unit.image, name)
    if unit.mask is None:
        return picture
    mask = levels(unit.mask, f"The mask of ControlNet unit {number}")
    if mask.shape != picture.shape[:2]:
        mask = cv2.resize(mask, picture.shape[1::-1], interpolation=cv2.INTER_NEAREST)
    if unit.preprocessor.masked:
        return np.dstack([picture, mask])
    if not ((mask <= 5).all() or (mask >= 250).all()):
        return drawing.as_rgb(mask)
    return picture


def with_mask(picture: Picture, mask: Picture) -> Picture:
    """(H, W, 4): the mask as a fourth channel, when it is of the picture's size."""
    return np.dstack([picture, mask]) if mask.shape == picture.shape[:2] else picture


def cropped(
    picture: Picture, mode: int, size: tuple[int, int], corners: tuple[int, int, int, int], sampling: Any
) -> Picture:
    """The part of the picture that is painted, once the picture is of the original's `size`; each channel by itself."""
    channels = []
    for channel in range(picture.shape[2]):
        image = fit_picture(Image.fromarray(np.ascontiguousarray(picture[:, :, channel])), mode, *size)
        channels.append(np.asarray(fit_picture(image.crop(corners), 2, sampling.width, sampling.height)))
    return np.dstack(channels)


@dataclass(frozen=True)
class Drawn:
    """What a preprocessor made. map: (H, W, 3) or, with a mask, (H, W, 4). pose: what it shows, if it shows people."""

    map: Picture
    pose: Mapping[str, Any] | None = None


def detect(unit: Unit, source: Picture, request: Request, models: Any = None) -> Drawn:
    """What the unit's preprocessor makes of its picture. models: who lends networks, in the worker."""
    preprocessor = unit.preprocessor
    resolution = round(unit.resolution)
    if unit.pixel_perfect and preprocessor.resolution is not None:
        resolution = sizes.pixel_perfect_resolution(source, request.width, request.height, unit.resize_mode)
    files = tuple(Path(line) for line in unit.weights_at.splitlines())

    def make() -> Drawn:
        return draw(preprocessor, source, resolution, unit.a, unit.b, request.seed, files, models)

    if not preprocessor.network:
        return make()  # as quick as looking for it
    seen = hashlib.sha256(np.ascontiguousarray(source)).digest(), source.shape
    with models.borrow("controlnet maps", KeptMaps, 0) as kept:
        found: Drawn = kept.get((preprocessor.id, _states(files), resolution, unit.a, unit.b, *seen), make)
        return found


class KeptMaps:
    """The maps made last, which batches and previews ask for again. Nobody writes to them."""

    MOST = 16

    def __init__(self) -> None:
        self._kept: OrderedDict[Hashable, Drawn] = OrderedDict()

    def get(self, key: Hashable, make: Callable[[], Drawn]) -> Drawn:
        if key not in self._kept:
            self._kept[key] = make()
        self._kept.move_to_end(key)
        while len(self._kept) > self.MOST:
            self._kept.popitem(last=False)
        return self._kept[key]


def _states(files: Sequence[Path]) -> tuple[tuple[str, int, int], ...]:
    """What changes when one of the files does."""
    return tuple((str(file), file.stat().st_size, file.stat().st_mtime_ns) for file in files)


def draw(
    preprocessor: Preprocessor,
    source: Picture,
    resolution: int,
    a: float,
    b: float,
    seed: int = 0,
    files: Sequence[Path] = (),
    models: Any = None,
) -> Drawn:
    """Run a preprocessor. source: (H, W, 3), or (H, W, 4) with a mask. files: of its network, in order.

    models: who lends networks; only in the worker. Raises: InvalidRequest, BadModelFile.
    """
    preprocessor.require_runnable()
    if preprocessor.id in IMAGE_PROMPTS:
        raise InvalidRequest(f'"{preprocessor.label}" makes no map: an IP-Adapter reads the picture itself.')
    if preprocessor.masked and source.shape[2] == 3:
        raise InvalidRequest(f'The preprocessor "{preprocessor.label}" needs a mask beside the picture.')
    if preprocessor.network:
        with lent(preprocessor, files, models) as detect:
            return _by_network(preprocessor, source, resolution or preprocessor.fixed_resolution, a, b, detect)
    if preprocessor.masked:
        return Drawn(source)
    if preprocessor.id == "shuffle":
        random = np.random.RandomState(seed & 0xFFFFFFFF)
        return Drawn(drawing.shuffled(sizes.scaled_to(source, preprocessor.fixed_resolution), random))
    if preprocessor.id == "color":
        return Drawn(drawing.color_grid(source, resolution))
    if preprocessor.draw is None:
        return Drawn(source)
    work = preprocessor.draw
    if preprocessor.sized:
        return Drawn(sizes.at_resolution(source, resolution, lambda picture: work(picture, a, b)))
    return Drawn(work(source, a, b))


def lent(preprocessor: Preprocessor, files: Sequence[Path], models: Any) -> AbstractContextManager[Detect]:
    """The preprocessor's network, within the memory budget; it stays until memory is wanted."""
    device = models.placement.device
    states = _states(files)
    module, _, name = preprocessor.network.partition(":")
    load = getattr(import_module(f"{__package__}.preprocessors.detectors.{module}"), name)
    size = sum(state[1] for state in states)
    loan: AbstractContextManager[Detect] = models.borrow(
        ("controlnet preprocessor", preprocessor.network, *states, str(device)), lambda: load(files, device), size
    )
    return loan


def _by_network(
    preprocessor: Preprocessor, source: Picture, resolution: int, a: float, b: float, detect: Detect
) -> Drawn:
    if preprocessor.gives == "pose":
        padded, height, width = sizes.framed(source, resolution)
        pose = detect(padded, a, b) | {"canvas_width": width, "canvas_height": height}
        return Drawn(poses.draw_poses(pose), pose)
    found = sizes.at_resolution(source, resolution, lambda picture: detect(picture, a, b))
    if preprocessor.finish is not None:
        found = preprocessor.finish(found)
    if preprocessor.masked:
        return Drawn(filled(source, found))
    return Drawn(found)


def filled(source: Picture, colours: Picture) -> Picture:
    """(H, W, 4): the picture with what its mask covers in other colours, which may be of another size."""
    larger = cv2.resize(colours, source.shape[1::-1]).astype(np.float32)
    share = source[:, :, 3:].astype(np.float32) / 255
    mixed = larger * share + source[:, :, :3].astype(np.float32) * (1 - share)
    return np.dstack([mixed.clip(0, 255).astype(np.uint8), source[:, :, 3]])


def fitted(unit: Unit, found: Picture, request: Request) -> Picture:
    """The map at the size of the picture that is generated; an inpainting map isn't rounded, as in the original."""
    if found.shape[2] == 4:
        found = found.astype(np.float32)
    return sizes.fit(found, request.width, request.height, unit.resize_mode)


def hint(found: Picture) -> Any:
    """(1, 3, H, W) float tensor of a map: 0 to 1, and -1 where an inpainting map is masked."""
    import torch

    colors = torch.from_numpy(found[:, :, :3].astype(np.float32)) / 255
    if found.shape[2] == 4:
        masked = torch.from_numpy(found[:, :, 3] >= HALF)
        colors[masked] = -1.0
    return colors.permute(2, 0, 1)[None]


def picture_of(found: Picture) -> Image.Image:
    """The map to be shown; what an inpainting map masks is half transparent."""
    if found.shape[2] == 3:
        return Image.fromarray(found)
    colors = found[:, :, :3].clip(0, 255).astype(np.uint8)
    return Image.fromarray(np.dstack([colors, np.where(found[:, :, 3] >= HALF, 128, 255).astype(np.uint8)]))


def mask_of(found: Picture) -> Picture:
    """(H, W) float32 of an inpainting map: 1 where it is masked, else 0."""
    return (found[:, :, 3] >= HALF).astype(np.float32)
