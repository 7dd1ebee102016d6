"""Line drawings. Maps are (H, W, 3) uint8, white on black; the networks draw black on white."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor, nn

from ..drawing import as_rgb
from .loading import filled, quietly, tensor_of

Picture = Any
Detect = Callable[[Picture, float, float], Picture]


def load_lineart(files: Sequence[Path], device: Any) -> Detect:
    """Chan et al. 2022, "Learning to generate line drawings". sk_model draws finely, sk_model2 coarsely."""
    with quietly():
        from controlnet_aux.lineart import Generator
    network = filled(Generator(3, 1, 3), files[0], device)

    def detect(picture: Picture, _a: float, _b: float) -> Picture:
        with torch.inference_mode():
            line = network(tensor_of(picture, device) / 255)[0, 0].cpu().numpy()
        return as_rgb(255 - (line * 255).clip(0, 255).astype(np.uint8))

    return detect


ANIME_MULTIPLE = 256


def load_anime(files: Sequence[Path], device: Any) -> Detect:
    """Anime2Sketch (Xiang et al. 2021): a U-Net of 8 levels."""
    with quietly():
        from controlnet_aux.lineart_anime import UnetGenerator
    norm = functools.partial(nn.InstanceNorm2d, affine=False, track_running_stats=False)
    network = filled(UnetGenerator(3, 1, 8, 64, norm_layer=norm, use_dropout=False), files[0], device)

    def detect(picture: Picture, _a: float, _b: float) -> Picture:
        height, width = picture.shape[:2]
        larger = tuple(-(-side // ANIME_MULTIPLE) * ANIME_MULTIPLE for side in (width, height))
        scaled = cv2.resize(picture, larger, interpolation=cv2.INTER_CUBIC)
        with torch.inference_mode():
            line = network(tensor_of(scaled, device) / 127.5 - 1)[0, 0].cpu().numpy() * 127.5 + 127.5
        line = cv2.resize(line, (width, height), interpolation=cv2.INTER_CUBIC)
        return as_rgb(255 - line.clip(0, 255).astype(np.uint8))

    return detect


def load_manga(files: Sequence[Path], device: Any) -> Detect:
    """Li et al. 2017, "Deep extraction of manga structural lines"."""
    network = filled(MangaLines(), files[0], device)

    def detect(picture: Picture, _a: float, _b: float) -> Picture:
        grey = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)
        with torch.inference_mode():
            line = network(torch.from_numpy(grey).to(device).float()[None, None])[0, 0].cpu().numpy()
        return as_rgb(255 - line.clip(0, 255).astype(np.uint8))

    return detect


class MangaLines(nn.Module):
    """Residual blocks down to a 16th and up again. (1, 1, H, W) to the same, 0 to 255; sides multiples of 16.

    The names of its parts are those of the file erika.pth.
    """

    def __init__(self) -> None:
        super().__init__()
        self.block0 = _Stage(1, 24, 2)
        self.block1 = _Stage(24, 48, 3, last_stride=2)
        self.block2 = _Stage(48, 96, 5, last_stride=2)
        self.block3 = _Stage(96, 192, 7, last_stride=2)
        self.block4 = _Stage(192, 384, 12, last_stride=2)
        self.block5 = _Stage(384, 192, 7, enlarges=True)
        self.block6 = _Stage(192, 96, 5, enlarges=True)
        self.block7 = _Stage(96, 48, 3, enlarges=True)
        self.block8 = _Stage(48, 24, 2, enlarges=True)
        self.block9 = _Stage(24, 16, 2)
        self.conv15 = _Convolution(16, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        kept = [self.block0(x)]
        for stage in (self.block1, self.block2, self.block3):
            kept.append(stage(kept[-1]))
        h = self.block4(kept[-1])
        for stage in (self.block5, self.block6, self.block7, self.block8):
            h = stage(h) + kept.pop()
        return self.conv15(self.block9(h))


class _Convolution(nn.Module):
    """Normalised, then convolved, then enlarged if need be."""

    def __init__(self, inner: int, outer: int, size: int, stride: int = 1, *, enlarges: bool = False) -> None:
        super().__init__()
        layers: list[nn.Module] = [
            nn.BatchNorm2d(inner, eps=1e-3),
            nn.LeakyReLU(0.2),
            nn.Conv2d(inner, outer, size, stride, padding=size // 2),
        ]
        self.model = nn.Sequential(*layers, *([nn.Upsample(scale_factor=2)] if enlarges else []))

    def forward(self, x: Tensor) -> Tensor:
        return self.model(x)


class _Shortcut(nn.Module):
    def __init__(self, inner: int, outer: int, stride: int, *, enlarges: bool) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        if inner != outer or stride != 1 or enlarges:
            layers = [nn.Conv2d(inner, outer, 1, stride), *([nn.Upsample(scale_factor=2)] if enlarges else [])]
        self.model = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        return self.model(x)


class _Block(nn.Module):
    def __init__(self, inner: int, outer: int, stride: int = 1, *, enlarges: bool = False) -> None:
        super().__init__()
        self.conv1 = _Convolution(inner, outer, 3, stride, enlarges=enlarges)
        self.residual = _Convolution(outer, outer, 3)
        self.shortcut = _Shortcut(inner, outer, stride, enlarges=enlarges)

    def forward(self, x: Tensor) -> Tensor:
        return self.shortcut(x) + self.residual(self.conv1(x))


class _Stage(nn.Module):
    def __init__(self, inner: int, outer: int, count: int, *, last_stride: int = 1, enlarges: bool = False) -> None:
        super().__init__()
        self.model = nn.Sequential(
            *(
                _Block(
                    inner if number == 0 else outer,
                    outer,
                    last_stride if number == count - 1 else 1,
                    enlarges=enlarges and number == 0,
                )
                for number in range(count)
            )
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.model(x)
