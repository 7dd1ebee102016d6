"""RIFE v4.6: a network that paints the pictures between two others, at any share of the way.

Written after the paper and the sizes of its authors' weights. A picture's movement is found on four levels, each of
which corrects what the coarser one found; both pictures are pulled to the moment that is wanted, and blended.
Source: Huang et al. 2020, arXiv:2011.06294.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TypeAlias

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from webui.core.errors import BadModelFile
from webui.models.weights import open_weights

Picture: TypeAlias = NDArray[np.uint8]
"""(height, width, 3) of sRGB."""
WIDTHS, SCALES = (192, 128, 96, 64), (8, 4, 2, 1)
"""Channels of each level, and how much smaller it sees the pictures."""
STEP = 32
"""Sides are filled up to a multiple of this many pixels."""
WRAPPER = "module."
"""What training on several cards left before every name in the authors' file."""


class Rife(nn.Module):
    """Names and sizes of its weights are those of version 4.6."""

    def __init__(self) -> None:
        super().__init__()
        for level, width in enumerate(WIDTHS):
            self.add_module(f"block{level}", _Level(7 if level == 0 else 12, width))

    def forward(self, first: Tensor, second: Tensor, share: float) -> Tensor:
        """first, second: (N, 3, H, W) in [0, 1], sides divisible by 32. share: 0 is the first, 1 the second.

        Returns: (N, 3, H, W).
        """
        time = torch.full_like(first[:, :1], share)
        flow, mask = self.get_submodule("block0")(torch.cat([first, second, time], dim=1), None, SCALES[0])
        for level, scale in enumerate(SCALES[1:], start=1):
            pulled = pull(first, flow[:, :2]), pull(second, flow[:, 2:])
            more, correction = self.get_submodule(f"block{level}")(torch.cat([*pulled, time, mask], dim=1), flow, scale)
            flow, mask = flow + more, mask + correction
        weight = mask.sigmoid()
        return pull(first, flow[:, :2]) * weight + pull(second, flow[:, 2:]) * (1 - weight)


class _Level(nn.Module):
    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.conv0 = nn.Sequential(_halving(channels, width // 2), _halving(width // 2, width))
        self.convblock = nn.Sequential(*(_Residual(width) for _ in range(8)))
        self.lastconv = nn.Sequential(nn.ConvTranspose2d(width, 24, 4, 2, 1), nn.PixelShuffle(2))

    def forward(self, x: Tensor, flow: Tensor | None, scale: int) -> tuple[Tensor, Tensor]:
        """flow: (N, 4, H, W) so far, in pixels. Returns: what is added to it, and to the mask (N, 1, H, W)."""
        if flow is not None:
            x = torch.cat([_resized(x, 1 / scale), _resized(flow, 1 / scale) / scale], dim=1)
        else:
            x = _resized(x, 1 / scale)
        found = _resized(self.lastconv(self.convblock(self.conv0(x))), scale)
        return found[:, :4] * scale, found[:, 4:5]


class _Residual(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, padding=1)
        self.beta = nn.Parameter(torch.ones(1, width, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return F.leaky_relu(self.conv(x) * self.beta + x, 0.2)


def _halving(channels: int, width: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(channels, width, 3, stride=2, padding=1), nn.LeakyReLU(0.2))


def _resized(x: Tensor, scale: float) -> Tensor:
    return x if scale == 1 else F.interpolate(x, scale_factor=scale, mode="bilinear", align_corners=False)


def pull(picture: Tensor, flow: Tensor) -> Tensor:
    """(N, C, H, W): at each pixel the colour to which its flow (N, 2, H, W) points; the border holds outside."""
    height, width = picture.shape[2:]
    y, x = torch.meshgrid(
        torch.arange(height, device=flow.device), torch.arange(width, device=flow.device), indexing="ij"
    )
    at_x = (x + flow[:, 0]) * (2 / max(width - 1, 1)) - 1
    at_y = (y + flow[:, 1]) * (2 / max(height - 1, 1)) - 1
    return F.grid_sample(picture, torch.stack([at_x, at_y], dim=-1), padding_mode="border", align_corners=True)


def load_rife(path: Path, device: torch.device) -> Rife:
    """The network in a file of the authors' layout, in single precision. Raises: BadModelFile."""
    file = open_weights(path)
    with torch.device("meta"):
        network = Rife()
    names = {name.removeprefix(WRAPPER): name for name in file.shapes}
    wanted = {name: tuple(weight.shape) for name, weight in network.state_dict().items()}
    for name, shape in wanted.items():
        found = tuple(file.shapes[names[name]]) if name in names else None
        if found != shape:
            raise BadModelFile(
                f"{path.name} is no RIFE v4.6: its {name} is {'missing' if found is None else f'{found}, not {shape}'}."
            )
    weights = {name: file.tensor(names[name]).float() for name in wanted}
    network.load_state_dict(weights, assign=True)
    return network.to(device).eval()


@torch.inference_mode()
def pictures_between(network: Rife, first: Picture, second: Picture, shares: Sequence[float]) -> list[Picture]:
    """What the network paints at the shares (0 to 1) of the way."""
    height, width = first.shape[:2]
    filled = (0, -width % STEP, 0, -height % STEP)
    device = next(network.parameters()).device

    def given(picture: Picture) -> Tensor:
        levels = torch.from_numpy(np.ascontiguousarray(picture)).to(device)
        return F.pad(levels.permute(2, 0, 1)[None].float() / 255, filled, mode="replicate")

    both = given(first), given(second)

    def made(share: float) -> Picture:
        levels = network(*both, share)[0, :, :height, :width].clamp(0, 1).mul(255).round()
        return np.asarray(levels.permute(1, 2, 0).byte().cpu().numpy())

    return [made(share) for share in shares]
