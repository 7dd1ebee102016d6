"""Stage `steering`: write the ControlNet that was trained, and measure how far pictures follow edges by it."""

from __future__ import annotations

import hashlib
import json
import random

import numpy as np

from . import control, data
from .canvas import Canvas
from .captions import Captioner
from .card import OUT
from .config import CFG_SCALE, Preset
from .control import edge_f1, edges, moved_scene, untold
from .export import CHECKPOINT
from .networks import pick_device
from .painter import SAMPLER, STEPS, Painter
from .sheets import sheet

COUNT, SHOWN = 32, 8


def run(preset: Preset) -> None:
    """Writes the model file, control.json and control.png."""
    control.export(preset)
    art = data.load_art(preset)
    scenes = [moved_scene(art.subjects(preset), "steering", number) for number in range(COUNT)]
    originals = Canvas(art, pick_device()).pictures(scenes)
    writer, rng = Captioner(preset), random.Random(1)
    captions = [writer.write(untold(scene), rng) for scene in scenes]
    with Painter(CHECKPOINT, preset.native_size) as painter:
        pairs = [painter.steer(picture, captions[seed], seed) for seed, picture in enumerate(originals)]
        plain = np.stack([painter.paint(caption, seed)[0] for seed, caption in enumerate(captions)])
    steered, maps = (np.stack(column) for column in zip(*pairs, strict=True))
    figures = {
        "sha256": hashlib.sha256(control.CONTROL.read_bytes()).hexdigest(),
        "pictures": COUNT,
        "sampler": f"{SAMPLER}, {STEPS} steps, CFG {CFG_SCALE:g}",
        "with": agreement(steered, maps),
        "without": agreement(plain, maps),
        "another_picture_s_map": agreement(steered, np.roll(maps, 1, axis=0)),
    }
    print(json.dumps(figures))
    (OUT / "control.json").write_text(json.dumps(figures, indent=2) + "\n")
    rows = {"original": originals, "its edges": maps, "with them": steered, "without them": plain}
    shown = np.concatenate([pictures[:SHOWN] for pictures in rows.values()])
    sheet(shown, [label for label in rows for _ in range(SHOWN)], SHOWN, OUT / "control.png")


def agreement(pictures: np.ndarray, maps: np.ndarray) -> float:
    """Mean F1 of the pictures' edges and the maps, both (B, S, S, 3) uint8."""
    scores = [edge_f1(found, wanted) for found, wanted in zip(edges(pictures), maps[..., 0], strict=True)]
    return round(float(np.mean(scores)), 3)
