"""Clips as data: one subject that moves, what captions call it, and how optical flow tells its direction."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass, replace
from typing import Any

import cv2
import numpy as np

from webui.prompts.tokenizer import ClipTokenizer

from .captions import Captioner
from .control import untold
from .scenes import Scene, Subjects, draw_scene
from .tokens import frame

FRAMES = 16
# What captions call a move. The text encoder is frozen and knows few words, all others are one to it. It has learned
# where "left", "right", "top" and "bottom" are, and the denoiser's layers tell them far apart; "up" and "down" alone
# they hardly do.
WORDS = {
    "left": ("moving left", "moving to the left"),
    "right": ("moving right", "moving to the right"),
    "up": ("moving to the top", "moving up to the top"),
    "down": ("moving to the bottom", "moving down to the bottom"),
    "in": ("zooming in",),
    "out": ("zooming out",),
    "turn": ("turning",),
    "bounce": ("bouncing up and down",),
}
OPPOSITE = {"left": "right", "right": "left", "up": "down", "down": "up", "in": "out", "out": "in"}
DIRECTIONS = {"left": (-1, 0), "right": (1, 0), "up": (0, -1), "down": (0, 1)}
SHARES = {"left": 0.17, "right": 0.17, "up": 0.17, "down": 0.17, "in": 0.08, "out": 0.08, "turn": 0.08, "bounce": 0.08}
TOLD = 0.92  # of captions that say the move
TURN = 50.0  # degrees to either side
LEAST_MOVE = 0.5  # px from one frame to the next, below which nothing moved


@dataclass(frozen=True)
class Moving:
    """frames: a scene each, alike but for size, place and angle. move: a key of WORDS."""

    frames: tuple[Scene, ...]
    move: str


def draw_moving(subjects: Subjects, stream: str, number: int, move: str = "") -> Moving:
    """Clip `number` of a stream: always the same one. move: for one that is wanted."""
    rng = random.Random(f"{subjects.preset.seed} {stream} moving {number}")
    scene = draw_scene(subjects, stream, number)
    scene = replace(scene, layout="", other="", fault="", emphasis=1.0)
    drawn = rng.choices(list(SHARES), list(SHARES.values()))[0]
    move = move or drawn
    return Moving(tuple(replace(scene, **place) for place in path(move, rng)), move)


def backwards(moving: Moving) -> Moving:
    """The clip from its end, one that only turns or bounces as it is."""
    if moving.move not in OPPOSITE:
        return moving
    return Moving(moving.frames[::-1], OPPOSITE[moving.move])


def path(move: str, rng: random.Random) -> list[dict[str, Any]]:
    """Size, centre and angle of the subject in each frame."""
    scale, reach = rng.uniform(0.55, 0.75), rng.uniform(0.12, 0.2)
    x, y = (0.5 + rng.uniform(-0.05, 0.05) for _ in range(2))
    places = []
    for number in range(FRAMES):
        along = 2 * number / (FRAMES - 1) - 1
        place = {"scale": scale, "x": x, "y": y, "angle": 0.0}
        if move in DIRECTIONS:
            right, down = DIRECTIONS[move]
            place |= {"x": x + right * reach * along, "y": y + down * reach * along}
        elif move in ("in", "out"):
            place["scale"] = scale * (1 + (0.3 if move == "in" else -0.3) * along)
        elif move == "turn":
            place["angle"] = TURN * along
        else:
            place["y"] = y + reach - 2 * reach * abs(math.sin(2 * math.pi * number / FRAMES))
        places.append(place)
    return places


def caption(writer: Captioner, moving: Moving, rng: random.Random, words: str) -> str:
    """The subject's caption with the words for its move anywhere behind its head; "" for none."""
    parts = writer.write(untold(moving.frames[0]), rng).split(", ")
    if words:
        parts.insert(rng.randint(1, len(parts)), words)
    return ", ".join(parts)


def framed_caption(tokenizer: ClipTokenizer, writer: Captioner, moving: Moving, rng: random.Random) -> list[int]:
    """77 CLIP ids of a caption of the clip, now and then of one without its move, or of no caption at all."""
    if rng.random() < writer.shares.empty:
        return frame([])
    words = rng.choice(WORDS[moving.move]) if rng.random() < TOLD else ""
    return frame(tokenizer.encode(caption(writer, moving, rng, words)))


def movement(pictures: np.ndarray) -> tuple[float, float]:
    """How far the subject moves to the right and down from one frame to the next, in px, the mean over the clip.

    pictures: (F, S, S, 3) uint8. By Farneback's flow, its fastest places counting most, which are the subject's.
    """
    grey = [cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY) for picture in pictures]
    moves = []
    for before, after in zip(grey, grey[1:], strict=False):
        flow = cv2.calcOpticalFlowFarneback(before, after, None, 0.5, 3, 15, 3, 5, 1.2, 0)  # type: ignore[call-overload]
        weight = np.linalg.norm(flow, axis=2, keepdims=True)
        moves.append((flow * weight).sum((0, 1)) / max(float(weight.sum()), 1e-6))
    right, down = np.mean(moves, axis=0).tolist()
    return right, down


def direction(pictures: np.ndarray) -> str:
    """The key of DIRECTIONS that the clip follows, "" where it moves too little to tell."""
    right, down = movement(pictures)
    if max(abs(right), abs(down)) < LEAST_MOVE:
        return ""
    if abs(right) > abs(down):
        return "right" if right > 0 else "left"
    return "down" if down > 0 else "up"
