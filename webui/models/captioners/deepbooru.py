"""DeepDanbooru: a residual network that scores tags. Its proportions are read from the sizes of its tensors.

Written after the network's description, for weights in the layout of TorchDeepDanbooru (MIT), which numbers the
convolutions in the order in which they are computed. Source: KichangKim/DeepDanbooru (MIT), He et al. 2015.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from webui.core.errors import BadModelFile
from webui.models.pickle_file import PickleFile
from webui.models.weights import WeightsFile, open_weights

SIDE = 512
_NAME = "n_Conv_{}"


@dataclass(frozen=True)
class Block:
    """Three convolutions and the shortcut beside them, by number; shortcut: None where the input itself is it."""

    convolutions: tuple[int, int, int]
    shortcut: int | None
    stride: int


class DeepBooru:
    """Raises: BadModelFile for a file of another network."""

    def __init__(self, path: Path, device: torch.device) -> None:
        file = open_weights(path)
        self.tags = _tags(file)
        count = next(number for number in itertools.count() if f"{_NAME.format(number)}.weight" not in file.shapes)
        names = [_NAME.format(number) for number in range(count)]
        sizes = [tuple(file.shapes[f"{name}.weight"]) for name in names]
        self._blocks = list(_blocks(sizes, path.name))
        if sizes[-1][0] != len(self.tags):
            raise BadModelFile(f"{path.name} scores {sizes[-1][0]} tags and names {len(self.tags)}.")
        self._device = device
        self._weights = [_on_device(file, name, device) for name in names]

    @torch.inference_mode()
    def score(self, pixels: Any) -> list[tuple[str, float]]:
        """Each tag with its score, 0 to 1. pixels: (512, 512, 3) uint8."""
        x = torch.from_numpy(pixels.copy()).to(self._device, torch.float32).permute(2, 0, 1)[None] / 255
        x = F.relu(self._convolved(F.pad(x, (2, 3, 2, 3)), 0, 2))
        x = F.max_pool2d(F.pad(x, (0, 1, 0, 1), value=float("-inf")), 3, 2)
        for block in self._blocks:
            first, second, third = block.convolutions
            shortcut = x if block.shortcut is None else self._convolved(x, block.shortcut, block.stride)
            inner = F.relu(self._convolved(x, first, 1))
            inner = F.pad(inner, (1, 1, 1, 1) if block.stride == 1 else (0, 1, 0, 1))
            inner = F.relu(self._convolved(inner, second, block.stride))
            x = F.relu(self._convolved(inner, third, 1) + shortcut)
        scores = self._convolved(x, len(self._weights) - 1, 1).mean((2, 3))[0].sigmoid().cpu()
        return list(zip(self.tags, scores.tolist(), strict=True))

    def _convolved(self, x: Tensor, number: int, stride: int) -> Tensor:
        weight, bias = self._weights[number]
        return F.conv2d(x, weight, bias, stride)


def _on_device(file: WeightsFile, name: str, device: torch.device) -> tuple[Tensor, Tensor | None]:
    weight = file.tensor(f"{name}.weight").float().to(device)
    bias = file.tensor(f"{name}.bias").float().to(device) if f"{name}.bias" in file.shapes else None
    return weight.clone(), bias if bias is None else bias.clone()


def _blocks(sizes: list[tuple[int, ...]], file: str) -> Iterator[Block]:
    """The blocks between the first convolution and the last one. Raises: BadModelFile for other proportions."""
    wrong = BadModelFile(f"{file} is no DeepDanbooru of a kind that is known here.")
    if len(sizes) < 6 or any(len(size) != 4 for size in sizes) or sizes[0][1:] != (3, 7, 7):
        raise wrong
    channels, at, last = sizes[0][0], 1, len(sizes) - 1
    while at < last:
        begins_stage = at + 1 < last and sizes[at][1:] == sizes[at + 1][1:] == (channels, 1, 1)
        shortcut = at if begins_stage else None
        first = at + 1 if begins_stage else at
        if first + 2 >= last:
            raise wrong
        inner = sizes[first][0]
        out = sizes[at][0] if begins_stage else channels
        if [sizes[first][1:], sizes[first + 1], sizes[first + 2]] != [
            (channels, 1, 1),
            (inner, inner, 3, 3),
            (out, inner, 1, 1),
        ]:
            raise wrong
        yield Block((first, first + 1, first + 2), shortcut, 2 if begins_stage and at > 1 else 1)
        channels, at = out, first + 3
    if sizes[last][1:] != (channels, 1, 1):
        raise wrong


def _tags(file: WeightsFile) -> tuple[str, ...]:
    """The tags that the file names, or the lines of tags.txt beside it. Raises: BadModelFile."""
    content = file.content if isinstance(file, PickleFile) else None
    for place in (content, content.get("state_dict") if isinstance(content, dict) else None):
        tags = place.get("tags") if isinstance(place, dict) else None
        if isinstance(tags, list | tuple) and all(isinstance(tag, str) for tag in tags):
            return tuple(tags)
    beside = file.path.with_name("tags.txt")
    try:
        return tuple(beside.read_text("utf-8", "replace").split())
    except OSError as error:
        raise BadModelFile(f"{file.path.name} names no tags, and there is no tags.txt beside it.") from error
