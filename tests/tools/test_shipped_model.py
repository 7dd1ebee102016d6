"""What the shipped model has learned, through Easel's own pipeline: weights, negative prompts, seeds, inpainting."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from tools.embedded_model.config import COLOURS, PRESETS
from tools.embedded_model.evaluate import border_share
from tools.embedded_model.export import CHECKPOINT
from tools.embedded_model.judge import border_colour
from tools.embedded_model.painter import Painter

CPU = PRESETS["cpu"]


@pytest.fixture(scope="module")
def painter() -> Iterator[Painter]:
    with Painter(CHECKPOINT, CPU.native_size) as painter:
        yield painter


def subject_pixels(picture: np.ndarray, background: str) -> int:
    """How many pixels are far from the colour of the background."""
    return int((np.linalg.norm(picture.astype(float) - COLOURS[background], axis=2) > 100).sum())


@pytest.mark.parametrize("noun", ["penguin", "heart", "cat"])
def test_a_words_weight_sets_the_size_of_its_subject(painter: Painter, noun: str):
    prompts = [f"a small ({noun}:{weight}), flat style, green background" for weight in (0.5, 1.0, 1.5)]
    less, plain, more = (subject_pixels(painter.paint(prompt, 7)[0], "green") for prompt in prompts)
    assert 1.3 * less < plain
    assert 1.3 * plain < more


def test_a_negative_colour_takes_it_out_of_the_background(painter: Painter):
    plain = painter.paint("a penguin", 1)[0]
    colour, _ = border_colour(plain, CPU.colours)
    steered = painter.paint("a penguin", 1, negative=f"{colour} background")[0]
    assert border_share(plain, colour, CPU.colours) > 0.9
    assert border_share(steered, colour, CPU.colours) < 0.5


def test_seeds_give_other_pictures_and_the_same_seed_the_same(painter: Painter):
    first, second = painter.paint("a penguin, flat style, blue background", 1, count=2)
    again = painter.paint("a penguin, flat style, blue background", 1)[0]
    assert np.abs(first.astype(int) - second).mean() > 1
    assert np.abs(first.astype(int) - again).max() <= 1


def test_inpainting_paints_the_mask_and_nothing_else(painter: Painter):
    before = painter.paint("a frog, 3d style, pink background", 2)[0]
    mask = np.zeros(before.shape[:2], np.uint8)
    mask[:, 64:] = 255
    after = painter.inpaint(before, mask, "a frog, 3d style, yellow background", 3)
    assert np.array_equal(after[mask == 0], before[mask == 0])
    assert (
        border_share(after[:, 96:], "yellow", CPU.colours) > border_share(before[:, 96:], "yellow", CPU.colours) + 0.3
    )
