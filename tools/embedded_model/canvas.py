"""Painting scenes in batches, on the processor or the accelerator."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from .config import HUES
from .data import Art
from .loop import to_device
from .scenes import FIGURES, LANDSCAPES, Box, Scene, boxes, rgb

# Landscapes from top to bottom: colours at heights, 0 to 1; two at one height make an edge.
BANDS: dict[str, tuple[tuple[float, tuple[int, int, int]], ...]] = {
    "meadow": ((0.0, (90, 170, 250)), (0.6, (190, 228, 255)), (0.6, (120, 200, 80)), (1.0, (60, 150, 50))),
    "night": ((0.0, (10, 14, 50)), (0.75, (38, 44, 110)), (0.75, (18, 34, 40)), (1.0, (10, 20, 26))),
    "beach": (
        (0.0, (130, 205, 250)), (0.42, (205, 236, 255)), (0.42, (30, 130, 200)), (0.66, (70, 190, 215)),
        (0.66, (244, 224, 170)), (1.0, (226, 196, 130)),
    ),
    "snow": ((0.0, (170, 195, 225)), (0.6, (220, 232, 244)), (0.6, (250, 252, 255)), (1.0, (226, 234, 244))),
    "sunset": ((0.0, (110, 60, 150)), (0.4, (240, 100, 90)), (0.68, (255, 190, 90)), (0.68, (80, 44, 70)),
               (1.0, (40, 24, 48))),
}  # fmt: skip
LEVELS = 3  # pictures are halved up to twice before they are pasted smaller


@dataclass
class Paste:
    """Pictures to lay over the composites at once: no composite twice.

    scene, row: (n,) which composite and which picture. box: (n, 4) side and centre over the frame's side, and degrees.
    turned: (m,) which of the n are recoloured; by: (m,) degrees. level: how often they are halved first.
    """

    scene: np.ndarray
    row: np.ndarray
    box: np.ndarray
    turned: np.ndarray
    by: np.ndarray
    level: int


@dataclass
class Plan:
    """A batch of scenes as numbers: made by a worker process, handed over as plain arrays, painted on the device.

    colours: (B, 2, 3) in 0..1. shape: (B, 3) angle, frequency and phase of a background.
    grounds, faults: which scenes have each kind. pastes: in the order of laying.
    """

    colours: np.ndarray
    shape: np.ndarray
    grounds: dict[str, np.ndarray]
    faults: dict[str, np.ndarray]
    pastes: list[Paste]


def by_kind(kinds: list[str], skip: str) -> dict[str, np.ndarray]:
    """Kind -> the places in the list that have it."""
    found: dict[str, list[int]] = {}
    for place, kind in enumerate(kinds):
        if kind != skip:
            found.setdefault(kind, []).append(place)
    return {kind: np.array(places) for kind, places in sorted(found.items())}


def plan_batch(art: Art, scenes: list[Scene]) -> Plan:
    """Raises: KeyError where there is no picture of a scene's emoji in its style."""
    layers: dict[tuple[int, int], list[tuple[int, int, Box, float]]] = {}
    shape, colours = [], []
    for number, scene in enumerate(scenes):
        rng = random.Random(scene.detail)
        shape.append((rng.uniform(0, 2 * math.pi), rng.uniform(3, 7), rng.uniform(0, 2 * math.pi)))
        colours.append([rgb(scene.background), rgb(scene.second or scene.background)])
        for layer, box in enumerate(boxes(scene)):
            row = art.rows[scene.style, box.hexcode]
            by = HUES[box.colour] - float(art.hues[row]) if box.colour else 0.0
            level = 0 if box.scale >= 0.6 else 1 if box.scale >= 0.3 else 2
            layers.setdefault((layer, level), []).append((number, row, box, by))
    pastes = []
    for (_, level), items in sorted(layers.items()):
        numbers, rows, laid, turns = zip(*items, strict=True)
        turned = [i for i, by in enumerate(turns) if by]
        by = np.array([turns[i] for i in turned], np.float32)
        places = np.array([(box.scale, box.x, box.y, box.angle) for box in laid], np.float32)
        turned_ = np.array(turned, np.int64)
        pastes.append(Paste(np.array(numbers), np.array(rows), places, turned_, by, level))
    return Plan(
        np.array(colours, np.float32) / 255,
        np.array(shape, np.float32),
        by_kind([scene.ground for scene in scenes], "plain"),
        by_kind([scene.fault for scene in scenes], ""),
        pastes,
    )


class Canvas:
    """The art on a device, and what paints with it."""

    def __init__(self, art: Art, device: torch.device):
        self.art, self.device = art, device
        self.pixels = torch.from_numpy(art.pixels).to(device)
        self.size = self.pixels.shape[1]
        middle = (torch.arange(self.size, device=device) + 0.5) / self.size
        self.v, self.u = torch.meshgrid(middle, middle, indexing="ij")

    def moved(self, array: np.ndarray) -> Tensor:
        return to_device(array, self.device)

    def paint_scenes(self, scenes: list[Scene]) -> Tensor:
        """Returns: (B, 3, S, S) in [-1, 1], channels last."""
        return self.paint(plan_batch(self.art, scenes))

    def pictures(self, scenes: list[Scene]) -> np.ndarray:
        """Returns: (B, S, S, 3) uint8."""
        rows = [self.paint_scenes(scenes[start : start + 32]) for start in range(0, len(scenes), 32)]
        return ((torch.cat(rows) + 1) * 127.5).round().byte().permute(0, 2, 3, 1).cpu().numpy()

    @torch.no_grad()
    def paint(self, plan: Plan) -> Tensor:
        """Returns: (B, 3, S, S) in [-1, 1], channels last."""
        colours, shape = self.moved(plan.colours), self.moved(plan.shape)
        x = colours[:, 0, :, None, None].expand(-1, -1, self.size, self.size).clone()
        for kind, places in plan.grounds.items():
            index = self.moved(places)
            x[index] = self.ground(kind, colours[index], shape[index])
        for paste in plan.pastes:
            index = self.moved(paste.scene)
            picture, alpha = self.pasted(paste)
            x[index] = picture + x[index] * (1 - alpha)
        for fault, places in plan.faults.items():
            index = self.moved(places)
            x[index] = FAULT_FUNCTIONS[fault](x[index])
        return (2 * x - 1).contiguous(memory_format=torch.channels_last)

    def pasted(self, paste: Paste) -> tuple[Tensor, Tensor]:
        """The pictures at their places on empty frames. Returns: (n, 3, S, S) times its alpha, and (n, 1, S, S)."""
        rgba = self.pixels[self.moved(paste.row)].permute(0, 3, 1, 2).float() / 255
        if len(paste.by):
            turned = self.moved(paste.turned)
            rgba[turned, :3] = turn_hue(rgba[turned, :3], self.moved(paste.by))
        rgba[:, :3] *= rgba[:, 3:]
        if paste.level:
            rgba = F.avg_pool2d(rgba, 2**paste.level)
        scale, x, y, angle = self.moved(paste.box).T
        cos, sin = angle.deg2rad().cos(), angle.deg2rad().sin()
        x, y = 1 - 2 * x, 1 - 2 * y
        across = torch.stack([cos, sin, cos * x + sin * y], 1)
        along = torch.stack([-sin, cos, cos * y - sin * x], 1)
        theta = torch.stack([across, along], 1) / scale[:, None, None]
        grid = F.affine_grid(theta, [len(scale), 4, self.size, self.size], align_corners=False)
        placed = F.grid_sample(rgba, grid, mode="bicubic", align_corners=False).clamp(0, 1)
        return placed[:, :3], placed[:, 3:]

    def ground(self, kind: str, colours: Tensor, shape: Tensor) -> Tensor:
        """colours: (n, 2, 3). shape: (n, 3). Returns: (n, 3, S, S) in [0, 1]."""
        if kind in LANDSCAPES:
            return self.landscape(kind, shape)
        angle, frequency, phase = shape[:, :, None, None].unbind(1)
        if kind == "gradient":
            quarter = (angle / (math.pi / 2)).round() * (math.pi / 2)
            mix = (quarter.cos() * (self.u - 0.5) + quarter.sin() * (self.v - 0.5) + 0.5).clamp(0, 1)
        else:
            mix = self.figure(kind, angle, frequency, phase)
        first, second = colours[:, 0, :, None, None], colours[:, 1, :, None, None]
        return torch.lerp(first.expand(-1, -1, self.size, self.size), second, mix[:, None])

    def figure(self, kind: str, angle: Tensor, frequency: Tensor, phase: Tensor) -> Tensor:
        """All arguments (n, 1, 1). Returns: (n, S, S), 0 for the first colour, 1 for the second."""
        assert kind in FIGURES, kind
        sharp = self.size
        if kind == "stripes":
            across = angle.cos() * self.u + angle.sin() * self.v
            return (sharp / frequency * torch.sin(2 * math.pi * frequency * across + phase)).sigmoid()
        count = frequency.round()
        if kind == "checkers":
            waves = torch.sin(math.pi * count * self.u) * torch.sin(math.pi * count * self.v)
            return (2 * sharp / frequency * waves).sigmoid()
        u, v = (count * self.u) % 1 - 0.5, (count * self.v) % 1 - 0.5
        return (2 * sharp / frequency * (0.28 - (u * u + v * v).sqrt())).sigmoid()

    def landscape(self, kind: str, shape: Tensor) -> Tensor:
        """shape: (n, 3). Returns: (n, 3, S, S)."""
        phase = shape[:, 2, None, None]
        v = self.v + 0.025 * torch.sin(2 * math.pi * self.u + phase)
        bands = BANDS[kind]
        x = v.new_tensor(bands[0][1]).view(3, 1, 1).expand(len(v), 3, self.size, self.size) / 255
        for (start, _), (end, colour) in zip(bands, bands[1:], strict=False):
            mix = ((v - start) / max(end - start, 1 / self.size)).clamp(0, 1)[:, None]
            x = torch.lerp(x, (v.new_tensor(colour) / 255).view(1, 3, 1, 1).expand_as(x), mix)
        if kind == "night":
            x = torch.maximum(x, (self.stars(phase) * (v < bands[1][0]))[:, None])
        return x

    def stars(self, phase: Tensor) -> Tensor:
        """One bright dot somewhere in each of 7 x 7 cells. phase: (n, 1, 1). Returns: (n, S, S) in [0, 1]."""
        u, v = 7 * self.u, 7 * self.v
        column, row = u.floor(), v.floor()
        across = (torch.sin(column * 12.9 + row * 78.2 + phase * 9.1) * 43758.5) % 1
        along = (torch.sin(column * 39.3 + row * 11.1 + phase * 5.7) * 24634.6) % 1
        away = ((u - column - 0.15 - 0.7 * across) ** 2 + (v - row - 0.15 - 0.7 * along) ** 2).sqrt()
        return ((0.07 + 0.06 * across - away) * self.size / 7).sigmoid()


def turn_hue(colour: Tensor, degrees: Tensor) -> Tensor:
    """Turn the colour wheel; saturation and value of HSV stay. colour: (n, 3, h, w) in [0, 1]. degrees: (n,)."""
    value, low = colour.amax(1), colour.amin(1)
    range_ = value - low
    r, g, b = colour.unbind(1)
    safe = range_.clamp(min=1e-6)
    sixth = torch.where(value == r, (g - b) / safe, torch.where(value == g, 2 + (b - r) / safe, 4 + (r - g) / safe))
    sixth = sixth + degrees[:, None, None] / 60
    channels = []
    for start in (5, 3, 1):
        k = (start + sixth) % 6
        channels.append(value - range_ * torch.minimum(k, 4 - k).clamp(0, 1))
    return torch.stack(channels, 1)


def blurred(x: Tensor) -> Tensor:
    """x: (n, 3, S, S) in [0, 1]; so the other faults."""
    small = F.avg_pool2d(x, max(3, x.shape[-1] // 24))
    return F.interpolate(small, x.shape[-2:], mode="bicubic", align_corners=False).clamp(0, 1)


def pixelated(x: Tensor) -> Tensor:
    return F.interpolate(F.avg_pool2d(x, max(2, x.shape[-1] // 24)), x.shape[-2:], mode="nearest")


def jpeg(x: Tensor) -> Tensor:
    """The blocks and ripples of a strongly quantised 8 x 8 cosine transform."""
    n, c, height, width = x.shape
    k = torch.arange(8, device=x.device, dtype=x.dtype)
    basis = torch.cos(math.pi / 8 * (k + 0.5) * k[:, None]) * torch.where(k == 0, 0.5**0.5, 1.0)[:, None] / 2
    blocks = x.reshape(n, c, height // 8, 8, width // 8, 8).permute(0, 1, 2, 4, 3, 5)
    waves = basis @ blocks @ basis.T
    step = 0.12 + 0.06 * (k + k[:, None])
    blocks = basis.T @ ((waves / step).round() * step) @ basis
    return blocks.permute(0, 1, 2, 4, 3, 5).reshape(x.shape).clamp(0, 1)


FAULT_FUNCTIONS = {"blurred": blurred, "pixelated": pixelated, "jpeg": jpeg}
