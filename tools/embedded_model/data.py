"""Stage `data`: render the emoji art to arrays. And the arrays: loaded, looked up, their hues measured."""

from __future__ import annotations

import io
import json
import multiprocessing
import os
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path

import numpy as np
from PIL import Image

from .config import STYLES, Preset
from .scenes import Subjects
from .sources import install_renderer, load_sources

SATURATED = 0.35  # HSV saturation from which a pixel has a hue worth turning
# A picture may be recoloured if so much of it is saturated, and its hues agree so well (1: all the same).
RECOLOURABLE_AREA, RECOLOURABLE_AGREEMENT = 0.6, 0.93


@dataclass(frozen=True)
class Art:
    """All pictures of a preset. pixels: (N, S, S, 4) uint8 RGBA, not premultiplied. rows: (style, hexcode) -> row.

    hues: (N,) degrees, of the picture's one hue; NaN where it has none or several.
    """

    pixels: np.ndarray
    rows: dict[tuple[str, str], int]
    hues: np.ndarray

    @property
    def recolourable(self) -> frozenset[tuple[str, str]]:
        return frozenset(key for key, row in self.rows.items() if not np.isnan(self.hues[row]))

    def subjects(self, preset: Preset) -> Subjects:
        return Subjects(preset, set(self.rows), self.recolourable)


def draw(size: int, source: bytes) -> np.ndarray | None:
    """Returns: (size, size, 4) uint8 RGBA, centred; None where the renderer gives up."""
    if source.lstrip().startswith(b"<svg"):
        import resvg_py

        try:
            source = resvg_py.svg_to_bytes(svg_string=source.decode(), width=size, height=size, skip_system_fonts=True)
        except ValueError:
            return None
    image = Image.open(io.BytesIO(source)).convert("RGBA")
    if max(image.size) != size:
        # Pillow resizes RGBA premultiplied, so transparent pixels bleed no colour into the edge.
        image = image.resize((size, size), Image.Resampling.LANCZOS)
    frame = Image.new("RGBA", (size, size))
    frame.paste(image, ((size - image.width) // 2, (size - image.height) // 2))
    return np.asarray(frame)


def render_style(style: str, pictures: dict[str, bytes], size: int, out: Path) -> None:
    codes = sorted(pictures)
    processes = min(16, os.cpu_count() or 1)
    if processes == 1 or len(codes) < 64:
        drawn = [draw(size, pictures[code]) for code in codes]
    else:
        with multiprocessing.get_context("fork").Pool(processes) as pool:
            drawn = pool.map(partial(draw, size), [pictures[code] for code in codes], chunksize=16)
    kept = [(code, picture) for code, picture in zip(codes, drawn, strict=True) if picture is not None]
    np.save(out / f"{style}.npy", np.stack([picture for _, picture in kept]))
    (out / f"{style}.json").write_text(json.dumps([code for code, _ in kept]))


def art_folder(preset: Preset) -> Path:
    return preset.data / f"art-{preset.native_size}"


def run(preset: Preset, packages: Path | None = None) -> None:
    """packages: a node_modules folder that has the art already."""
    out = art_folder(preset)
    missing = [style for style in preset.styles if not (out / f"{style}.json").exists()]
    if not missing and (preset.data / "emoji.json").exists():
        return
    sources = load_sources(preset, packages)
    if any(not STYLES[style].raster for style in missing):
        install_renderer(preset)
    out.mkdir(parents=True, exist_ok=True)
    for style in missing:
        render_style(style, sources.pictures[style], preset.native_size, out)
        print(f"{style}: {len(json.loads((out / f'{style}.json').read_text()))} pictures", flush=True)
    (preset.data / "emoji.json").write_text(json.dumps(sources.emoji))


def load_art(preset: Preset) -> Art:
    return load_styles(art_folder(preset), preset.styles)


@lru_cache(maxsize=1)
def load_styles(folder: Path, styles: tuple[str, ...]) -> Art:
    rows: dict[tuple[str, str], int] = {}
    arrays: list[np.ndarray] = []
    for style in styles:
        first = sum(map(len, arrays))
        for place, code in enumerate(json.loads((folder / f"{style}.json").read_text())):
            rows.setdefault((style, code), first + place)  # a code may occur twice, with and without its selector
        arrays.append(np.load(folder / f"{style}.npy", mmap_mode="r"))
    pixels = np.concatenate(arrays)
    return Art(pixels, rows, measure_hues(pixels))


def shrunk(art: Art, side: int) -> Art:
    """The same art at `side` px, which must divide its own, averaged with alpha so that edges keep their colour."""
    factor, rows = art.pixels.shape[1] // side, []
    for start in range(0, len(art.pixels), 256):
        x = art.pixels[start : start + 256].astype(np.float32)
        x[..., :3] *= x[..., 3:] / 255
        x = x.reshape(len(x), side, factor, side, factor, 4).mean((2, 4))
        x[..., :3] *= 255 / np.maximum(x[..., 3:], 1)
        rows.append(x.round().clip(0, 255).astype(np.uint8))
    return Art(np.concatenate(rows), art.rows, art.hues)


def measure_hues(pixels: np.ndarray) -> np.ndarray:
    """The one hue of each picture by the rule above, from a thumbnail of at most 32 x 32. Returns: (N,) degrees or NaN.

    A picture qualifies if RECOLOURABLE_AREA of its opaque pixels are saturated and the mean of their hues, as unit
    vectors, is at least RECOLOURABLE_AGREEMENT long.
    """
    step = max(1, pixels.shape[1] // 32)
    small = pixels[:, step // 2 :: step, step // 2 :: step].astype(np.float32) / 255
    colour, opaque = small[..., :3], small[..., 3] > 0.5
    high, low = colour.max(-1), colour.min(-1)
    range_ = high - low
    saturated = opaque & (range_ > SATURATED * high) & (high > 0.2)
    r, g, b = np.moveaxis(colour, -1, 0)
    safe = np.where(range_ > 0, range_, 1)
    sixth = np.where(high == r, (g - b) / safe, np.where(high == g, 2 + (b - r) / safe, 4 + (r - g) / safe))
    turn = np.exp(1j * sixth * np.pi / 3) * saturated
    count = saturated.sum((1, 2))
    mean = turn.sum((1, 2)) / np.maximum(count, 1)
    good = (count >= RECOLOURABLE_AREA * np.maximum(opaque.sum((1, 2)), 1)) & (np.abs(mean) >= RECOLOURABLE_AGREEMENT)
    return np.where(good, np.degrees(np.angle(mean)) % 360, np.nan)
