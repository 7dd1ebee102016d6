"""Stage `animate`: write the motion module that was trained, and measure by optical flow how clips follow captions."""

from __future__ import annotations

import json
import random
from collections import Counter

import numpy as np

from . import data, motion
from .captions import Captioner
from .card import OUT
from .config import CFG_SCALE, Preset
from .export import CHECKPOINT
from .moves import DIRECTIONS, FRAMES, WORDS, caption, direction, draw_moving
from .painter import SAMPLER, STEPS, Painter
from .sheets import sheet

COUNT, SHOWN = 32, 8


def run(preset: Preset) -> None:
    """Writes the model file, motion.json and motion.png."""
    motion.export(preset)
    subjects, writer = data.load_art(preset).subjects(preset), Captioner(preset)
    right, rows, labels = Counter[str](), [], []
    with Painter(CHECKPOINT, preset.native_size) as painter:
        for number in range(COUNT):
            move = list(DIRECTIONS)[number % len(DIRECTIONS)]
            moving = draw_moving(subjects, "animate", number, move)
            text = caption(writer, moving, random.Random(number), WORDS[move][0])
            pictures = painter.animate(text, number, FRAMES)
            right[move] += direction(pictures) == move
            print(f"{number + 1}: {text!r}: {direction(pictures) or 'still'}; {right.total()} right", flush=True)
            if number < SHOWN:
                rows.append(pictures[:: FRAMES // SHOWN])
                labels += [text, *[""] * (SHOWN - 1)]
    figures = {
        "clips": COUNT,
        "sampler": f"{SAMPLER}, {STEPS} steps, CFG {CFG_SCALE:g}",
        "follow": round(right.total() / COUNT, 3),
        **{move: round(right[move] / (COUNT // len(DIRECTIONS)), 3) for move in DIRECTIONS},
    }
    print(json.dumps(figures))
    (OUT / "motion.json").write_text(json.dumps(figures, indent=2) + "\n")
    sheet(np.concatenate(rows), labels, SHOWN, OUT / "motion.png")
