"""Soft inpainting: laws of the blend, and values worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from webui.core.request import SoftInpainting
from webui.pipeline.from_image.masks import Box
from webui.pipeline.from_image.soft_inpainting import (
    blended,
    change_masks,
    change_opacity,
    mask_at_level,
    ranked_mean,
    tapered_gaussian,
    threshold,
)

PLAIN = SoftInpainting()


def test_hard_masks_take_one_or_the_other_whole() -> None:
    a, b = torch.randn(2, 4, 3, 5), torch.randn(2, 4, 3, 5)
    nothing, everything = torch.zeros(1, 1, 3, 5), torch.ones(1, 1, 3, 5)
    assert torch.allclose(blended(a, b, nothing, 4.0), a, atol=1e-4)
    assert torch.allclose(blended(a, b, everything, 4.0), b, atol=1e-4)


def test_a_blend_of_unlike_vectors_keeps_their_length() -> None:
    a, b = torch.zeros(1, 4, 1, 1), torch.zeros(1, 4, 1, 1)
    a[0, 0], b[0, 1] = 3.0, 3.0
    half = torch.full((1, 1, 1, 1), 0.5)
    assert blended(a, b, half, 4.0).norm() == pytest.approx(3.0, abs=1e-4)
    assert torch.lerp(a, b, half).norm() == pytest.approx(3 / 2**0.5)  # what a plain blend gives
    assert blended(a, 2 * a, half, 1.0)[0, 0] == pytest.approx(4.5, abs=1e-4)  # the mean of the lengths
    assert blended(a, 2 * a, half, 32.0)[0, 0] == pytest.approx(5.87, abs=0.01)  # close to the longer one


def test_the_mask_grows_as_noise_goes() -> None:
    mask = torch.tensor([0.0, 0.25, 1.0])
    assert torch.allclose(mask_at_level(mask, 2.0, PLAIN), mask)  # 0.25 ** (2 * 0.5)
    assert mask_at_level(mask, 14.6, PLAIN)[1] < 1e-4
    assert mask_at_level(mask, 0.03, PLAIN)[1] > 0.97
    assert mask_at_level(mask, 4.0, PLAIN.replace(schedule_bias=0.5))[1] == pytest.approx(0.25)


def test_the_kernel_is_one_in_the_middle_and_fades_to_nothing() -> None:
    kernel = tapered_gaussian()
    floor = np.exp(-9 / 2.25)
    assert kernel.shape == (5, 5)
    assert kernel[2, 2] == 1
    assert kernel[2, 3] == pytest.approx((np.exp(-1 / 2.25) - floor) / (1 - floor))
    assert kernel[0, 0] == pytest.approx((np.exp(-8 / 2.25) - floor) / (1 - floor))
    assert (kernel == kernel.T).all()


def test_ranks_between_mean_median_and_maximum() -> None:
    values = np.array([[0.0, 0, 0], [0, 9, 0], [0, 0, 0]])
    even = np.ones((3, 3))
    middle = (1, 1)
    assert ranked_mean(values, even, 0.0, 1.0)[middle] == pytest.approx(1.0)  # the mean
    assert ranked_mean(values, even, 0.25, 0.75)[middle] == 0  # about the median
    assert ranked_mean(values, even, 0.9, 1.0)[middle] == pytest.approx(9.0)  # 0.9 long: widened to one weight
    assert ranked_mean(values, even, 7 / 9, 1.0)[middle] == pytest.approx(4.5)  # the two highest
    corner = ranked_mean(values, even, 0.0, 1.0)[0, 0]
    assert corner == pytest.approx(9 / 4)  # only what lies inside counts


def test_an_even_picture_stays_as_it_is_under_any_rank() -> None:
    values = np.full((6, 7), 2.5)
    for low, high in ((0.0, 1.0), (0.25, 0.75), (0.9, 1.0)):
        assert ranked_mean(values, tapered_gaussian(), low, high) == pytest.approx(values)


def test_opacity_is_full_without_change_half_at_one_and_falls() -> None:
    change = np.array([0.0, 0.5, 1.0, 2.0, 1e9])
    opacity = change_opacity(change, 2.0)
    assert opacity[0] == 1
    assert opacity[2] == pytest.approx(0.5)
    assert opacity[-1] == pytest.approx(0.0, abs=1e-9)
    assert (np.diff(opacity) < 0).all()


def test_the_mask_moves_the_threshold_only_with_influence() -> None:
    mask = torch.tensor([0.0, 0.5, 1.0]).view(1, 1, 1, 3)
    plain = threshold(mask, PLAIN)
    assert torch.allclose(plain, torch.full((1, 1, 3), 0.5), atol=1e-3)  # 0.5 / (1 - 0.5) = 1 times 0.5
    influenced = threshold(mask, PLAIN.replace(mask_influence=0.5))[0, 0]
    assert influenced[0] > influenced[1] > influenced[2]


@pytest.mark.parametrize("box", [None, Box(32, 0, 96, 64)])
def test_what_has_not_changed_is_covered_by_the_original(box: Box | None) -> None:
    original = torch.zeros(1, 4, 8, 8)
    painted = original.clone()
    painted[:, :, :, 4:] = 3.0
    size = (64, 64) if box is None else (128, 64)
    picture = Image.new("RGBA", size, (10, 200, 30, 255))
    mask = torch.ones(1, 1, 8, 8)
    [(shown, overlay)] = change_masks(original, painted, mask, PLAIN, [picture], (64, 64), box)
    left = 0 if box is None else box.left
    assert shown.size == overlay.size == size
    assert shown.getpixel((left + 4, 30)) < 8
    assert shown.getpixel((left + 60, 30)) > 250
    assert overlay.getpixel((left + 4, 30))[3] > 247
    assert overlay.getpixel((left + 60, 30))[3] < 5
