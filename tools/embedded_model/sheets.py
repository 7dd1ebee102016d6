"""Pictures for the docs: labelled grids and the curves of the trainings."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from .config import Preset

PLOT = (420, 220)  # px of one curve
CURVES = (
    ("vae", "l1"),
    ("vae", "mse"),
    ("decoder", "l1"),
    ("decoder", "mse"),
    ("unet", "eps_mse"),
    ("unet", "reading"),
)


def sheet(pictures: np.ndarray, labels: list[str], columns: int, path: Path) -> None:
    """Write a labelled grid as PNG. pictures: (N, S, S, 3) uint8, one label each."""
    side, band = pictures.shape[1], 22
    rows = -(-len(pictures) // columns)
    page = Image.new("RGB", (columns * (side + 4), rows * (side + band)), "white")
    draw, font = ImageDraw.Draw(page), ImageFont.load_default(9)
    for i, (picture, label) in enumerate(zip(pictures, labels, strict=True)):
        x, y = i % columns * (side + 4), i // columns * (side + band)
        page.paste(Image.fromarray(picture & 0xF8 | 4), (x, y))  # 5 bits a colour: nothing to see, half the bytes
        half = label.rfind(" ", 0, 27) if len(label) > 26 else -1
        lines = [label] if half < 0 else [label[:half], label[half + 1 :]]
        for n, line in enumerate(lines[:2]):
            draw.text((x + 1, y + side + 10 * n), line, fill="black", font=font)
    path.parent.mkdir(parents=True, exist_ok=True)
    page.save(path, optimize=True)


def curves(preset: Preset, path: Path) -> None:
    """Plot what the trainings logged, as far as there is any: loss over steps, logarithmic."""
    plots = [plot for stage, column in CURVES if (plot := curve(preset.run / f"{stage}.csv", stage, column))]
    if not plots:
        return
    page = Image.new("RGB", (2 * PLOT[0], -(-len(plots) // 2) * PLOT[1]), "white")
    for i, plot in enumerate(plots):
        page.paste(plot, (i % 2 * PLOT[0], i // 2 * PLOT[1]))
    path.parent.mkdir(parents=True, exist_ok=True)
    page.save(path, optimize=True)


def curve(file: Path, stage: str, column: str) -> Image.Image | None:
    """One plot; None with less than two rows."""
    if not file.exists():
        return None
    with file.open(newline="") as lines:
        rows = [(float(row["step"]), float(row[column])) for row in csv.DictReader(lines)]
    if len(rows) < 2:
        return None
    steps, values = np.array(rows).T
    heights = np.log10(np.maximum(values, 1e-9))
    width, height, edge = PLOT[0] - 70, PLOT[1] - 50, (55, 25)
    low, high = float(heights.min()), float(max(heights.max(), heights.min() + 1e-6))
    x = edge[0] + (steps - steps[0]) / max(steps[-1] - steps[0], 1) * width
    y = edge[1] + (high - heights) / (high - low) * height
    plot = Image.new("RGB", PLOT, "white")
    draw, font = ImageDraw.Draw(plot), ImageFont.load_default(11)
    draw.rectangle((edge[0], edge[1], edge[0] + width, edge[1] + height), outline="gray")
    draw.line(list(zip(x.tolist(), y.tolist(), strict=True)), fill="black")
    draw.text((edge[0], 6), f"{stage}: {column}, {steps[-1]:.0f} steps", fill="black", font=font)
    draw.text((4, edge[1]), f"{10**high:.3g}", fill="black", font=font)
    draw.text((4, edge[1] + height - 12), f"{10**low:.3g}", fill="black", font=font)
    return plot
