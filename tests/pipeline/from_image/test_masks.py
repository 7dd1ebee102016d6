"""Masks: what is read from a picture, where "Only masked" paints, and what comes back over the result."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from webui.pipeline.from_image.masks import (
    Box,
    blurred,
    composite,
    covered,
    filled,
    gaussian_kernel,
    laid_over,
    latent_weights,
    only_masked_box,
    read_mask,
    strengthened,
)


def spot(size: tuple[int, int], box: tuple[int, int, int, int]) -> Image.Image:
    """A mask that is 255 inside the box."""
    mask = Image.new("L", size)
    mask.paste(255, box)
    return mask


def noise(width: int, height: int, seed: int = 0) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def test_a_varying_alpha_channel_is_the_mask_and_made_hard() -> None:
    image = Image.new("RGBA", (3, 1), (255, 255, 255, 255))
    image.putpixel((0, 0), (255, 255, 255, 128))
    image.putpixel((1, 0), (255, 255, 255, 129))
    assert list(read_mask(image, rounded=True).getdata()) == [0, 255, 255]
    assert list(read_mask(image, rounded=False).getdata()) == [128, 129, 255]


def test_without_a_varying_alpha_channel_brightness_is_the_mask() -> None:
    opaque = Image.new("RGBA", (1, 1), (200, 200, 200, 255))
    assert read_mask(opaque, rounded=True).getpixel((0, 0)) == 200
    assert read_mask(Image.new("RGB", (1, 1), "white"), rounded=True).getpixel((0, 0)) == 255


def test_the_kernel_is_whole_numbers_of_sum_256() -> None:
    kernel = gaussian_kernel(4)
    assert list(kernel) == [1, 2, 4, 5, 9, 11, 16, 19, 23, 25, 26, 25, 23, 19, 16, 11, 9, 5, 4, 2, 1]
    for sigma in (1, 2, 3, 8, 20, 64):
        assert gaussian_kernel(sigma).sum() == 256
        assert len(gaussian_kernel(sigma)) == 2 * int(2.5 * sigma + 0.5) + 1


def test_blur_goes_each_way_by_itself_and_keeps_what_is_even() -> None:
    mask = spot((40, 40), (20, 20, 21, 21))
    assert blurred(mask, 0, 0).tobytes() == mask.tobytes()
    across = np.asarray(blurred(mask, 3, 0))
    assert (across.sum(axis=1) > 0).sum() == 1
    assert (across == np.asarray(blurred(mask, 0, 3)).T).all()
    for level in (0, 3, 128, 255):
        assert blurred(Image.new("L", (9, 9), level), 5, 2).getextrema() == (level, level)


def test_a_mask_at_the_edge_is_mirrored_there() -> None:
    mask = np.asarray(blurred(spot((60, 8), (0, 0, 30, 8)), 4, 0)).astype(int)
    assert (mask[:, :15] == 255).all()
    assert abs(mask[0, 29] + mask[0, 30] - 255) <= 1  # half way at the border between masked and not


def test_only_masked_paints_the_mask_its_padding_and_what_the_ratio_asks_for() -> None:
    mask = spot((100, 80), (40, 30, 60, 40))
    assert only_masked_box(mask, 0, 64, 64) == Box(40, 25, 60, 45)
    assert only_masked_box(mask, 5, 64, 64) == Box(35, 20, 65, 50)
    assert only_masked_box(mask, 0, 128, 64) == Box(40, 30, 60, 40)
    assert only_masked_box(mask, 0, 64, 128) == Box(40, 15, 60, 55)


def test_a_box_at_the_border_is_moved_inside() -> None:
    assert only_masked_box(spot((100, 80), (0, 0, 30, 4)), 0, 64, 64) == Box(0, 0, 30, 30)
    assert only_masked_box(spot((100, 80), (60, 76, 90, 80)), 0, 64, 64) == Box(60, 50, 90, 80)
    assert only_masked_box(spot((100, 10), (40, 2, 80, 6)), 0, 64, 64) == Box(40, 0, 80, 10)  # cut: no more is there


def test_an_empty_mask_has_no_box() -> None:
    assert only_masked_box(Image.new("L", (20, 20)), 4, 64, 64) is None


@given(
    st.integers(8, 90),
    st.integers(8, 90),
    st.data(),
    st.integers(0, 40),
    st.sampled_from([(64, 64), (128, 64), (64, 192)]),
)
def test_a_box_lies_inside_and_holds_the_mask(
    width: int, height: int, data: st.DataObject, padding: int, size: tuple[int, int]
) -> None:
    left, top = data.draw(st.integers(0, width - 1)), data.draw(st.integers(0, height - 1))
    right, bottom = data.draw(st.integers(left + 1, width)), data.draw(st.integers(top + 1, height))
    box = only_masked_box(spot((width, height), (left, top, right, bottom)), padding, *size)
    assert box is not None
    assert 0 <= box.left <= left
    assert 0 <= box.top <= top
    assert right <= box.right <= width
    assert bottom <= box.bottom <= height


def test_a_strengthened_mask_is_full_where_it_was_half() -> None:
    mask = Image.fromarray(np.array([[0, 1, 60, 127, 128, 255]], dtype=np.uint8))
    assert list(strengthened(mask).getdata()) == [0, 2, 120, 254, 255, 255]


def test_the_original_stays_where_nothing_is_masked() -> None:
    original, painted = noise(32, 16, 1), noise(32, 16, 2)
    overlay = covered(original, spot((32, 16), (8, 0, 32, 16)))
    finished, alone = laid_over(painted, overlay, None)
    assert finished.crop((0, 0, 8, 16)).tobytes() == original.crop((0, 0, 8, 16)).tobytes()
    assert finished.crop((8, 0, 32, 16)).tobytes() == painted.crop((8, 0, 32, 16)).tobytes()
    assert alone is painted


def test_a_part_is_put_back_in_its_place() -> None:
    original, painted = noise(64, 64, 1), Image.new("RGB", (64, 64), "lime")
    box = Box(16, 8, 48, 40)
    overlay = covered(original, spot((64, 64), (20, 12, 40, 30)))
    finished, alone = laid_over(painted, overlay, box)
    outside = np.asarray(finished) == np.asarray(original)
    assert finished.size == (64, 64)
    assert outside[:12].all()
    assert outside[30:].all()
    assert finished.crop((20, 12, 40, 30)).getextrema() == ((0, 0), (255, 255), (0, 0))
    assert alone.getpixel((0, 0)) == (0, 0, 0, 0)
    assert alone.getpixel((16, 8)) == (0, 255, 0, 255)


def test_filling_makes_the_masked_part_of_colours_from_around() -> None:
    image = Image.new("RGB", (64, 64), (200, 30, 60))
    image.paste("white", (24, 24, 40, 40))
    result = filled(image, spot((64, 64), (20, 20, 44, 44)))
    assert result.mode == "RGB"
    apart = np.abs(np.asarray(result).astype(int) - (200, 30, 60))
    assert apart.max() <= 8  # nothing of the white is left; 8 bits of a faint colour are rough
    assert (apart[:20] == 0).all()


def test_latent_weights_follow_the_mask_at_the_latents_size() -> None:
    weights = latent_weights(spot((64, 32), (0, 0, 32, 32)), 8, 4, rounded=True)
    assert weights.shape == (4, 8)
    assert set(np.unique(weights)) == {0.0, 1.0}
    assert (weights[:, :4] == 1).all()
    soft = latent_weights(Image.new("L", (64, 32), 100), 8, 4, rounded=False)
    assert soft == pytest.approx(100 / 255)


def test_a_composite_is_transparent_outside_of_the_mask() -> None:
    cut = composite(noise(32, 16), spot((32, 16), (8, 0, 16, 16)))
    assert cut.mode == "RGBA"
    assert cut.getchannel("A").getbbox() == (8, 0, 16, 16)
