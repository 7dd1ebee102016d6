"""Colour correction: colours of one picture, lightness of another."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from webui.pipeline.from_image.color_correction import corrected, from_lab, match_histograms, to_lab, with_luminosity

KNOWN = {  # sRGB -> L*a*b* under D65, as tables of colorimetry give it
    (0, 0, 0): (0, 0, 0),
    (255, 255, 255): (100, 0, 0),
    (255, 0, 0): (53.24, 80.09, 67.20),
    (0, 255, 0): (87.73, -86.18, 83.18),
    (0, 0, 255): (32.30, 79.19, -107.86),
    (119, 119, 119): (50.03, 0, 0),
}


def noise(low: int, high: int, seed: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(low, high, (32, 32, 3), dtype=np.uint8))


@pytest.mark.parametrize("rgb", KNOWN)
def test_known_colours(rgb: tuple[int, int, int]) -> None:
    lightness, a, b = KNOWN[rgb]
    found = to_lab(Image.new("RGB", (1, 1), rgb))[0, 0].astype(float)
    assert found == pytest.approx((lightness * 2.55, a + 128, b + 128), abs=1)


def test_there_and_back_is_about_the_same() -> None:
    picture = noise(0, 256, 1)
    apart = np.abs(np.asarray(from_lab(to_lab(picture))).astype(int) - np.asarray(picture))
    assert np.median(apart) <= 1
    assert apart.max() <= 16  # 8 bits of L*a*b* are rough where it is dark


def test_matched_to_itself_nothing_changes_and_histograms_become_the_other_ones() -> None:
    a, b = np.asarray(noise(0, 100, 1)), np.asarray(noise(50, 256, 2))
    assert (match_histograms(a, a) == a).all()
    matched = match_histograms(a, b)
    for channel in range(3):
        ours, theirs = np.sort(matched[..., channel].ravel()), np.sort(b[..., channel].ravel())
        assert np.abs(ours.astype(int) - theirs).max() <= 6  # 100 values can't be 206


def test_ranks_go_over_by_hand() -> None:
    source = np.array([[[1], [1], [2], [9]]], dtype=np.uint8)
    reference = np.array([[[10], [20], [30], [40]]], dtype=np.uint8)
    assert match_histograms(source, reference).ravel().tolist() == [20, 20, 30, 40]


def test_luminosity_comes_from_the_second_picture_and_stays_in_range() -> None:
    colours, brightness = noise(0, 256, 3), noise(0, 256, 4)
    result = with_luminosity(colours, brightness)
    weights = (0.299, 0.587, 0.114)
    apart = np.asarray(result) @ weights - np.asarray(brightness) @ weights
    assert np.abs(apart).max() <= 1.01  # fractions are cut off
    assert with_luminosity(colours, colours).tobytes() == colours.tobytes()


def test_a_grey_target_takes_the_colour_out_and_leaves_the_lightness() -> None:
    picture = noise(60, 200, 5)
    result = np.asarray(corrected(picture, Image.new("RGB", (16, 16), (128, 128, 128)))).astype(int)
    assert np.abs(result[..., 0] - result[..., 1]).max() <= 2
    assert np.abs(result @ (0.299, 0.587, 0.114) - np.asarray(picture) @ (0.299, 0.587, 0.114)).max() <= 2
