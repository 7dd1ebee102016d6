"""Single steps on a picture: anti-blur, contrast, noise, colours, masks, guides, file numbers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from extensions.deforum.antiblur import sharpen
from extensions.deforum.colors import grayscale, match_colors, scale_contrast
from extensions.deforum.flow import agreement, along, optical_flow
from extensions.deforum.frames import Resume, frame_name, frames_in, resume_point
from extensions.deforum.hybrid import Composite, composite
from extensions.deforum.looper import guide_at, guide_places, guide_share
from extensions.deforum.masks import compose, overlay, prepare
from extensions.deforum.noise import Perlin, add_noise, gaussian
from webui.extensions.api import InvalidRequest


def row(*values: int) -> np.ndarray:
    return np.repeat(np.array(values, dtype=np.uint8)[None, :, None], 3, axis=2)


def test_antiblur() -> None:
    step = row(100, 100, 100, 150, 150)
    assert sharpen(step, 1, 5, 1, 0)[0, :, 0].tolist() == [100, 97, 85, 165, 155]
    assert sharpen(step, 0.1, 5, 1, 0)[0, :, 0].tolist() == [100, 100, 99, 152, 150]
    assert (sharpen(step, 0, 5, 1, 0) == step).all()
    assert sharpen(step, 1, 5, 1, 10)[0, :, 0].tolist() == [100, 100, 85, 165, 150]
    assert sharpen(step, 1, 5, 1, 10, original=True)[0, :, 0].tolist() == [100, 97, 85, 165, 150]
    masked = sharpen(step, 1, 5, 1, 0, mask=np.array([[1, 1, 0, 0, 1.0]]))
    assert masked[0, :, 0].tolist() == [100, 97, 100, 150, 155]
    assert sharpen(step, 1, 4, 1, 0).shape == step.shape


def test_contrast() -> None:
    assert scale_contrast(row(0, 100, 200), 1.5)[0, :, 0].tolist() == [0, 150, 255]
    assert scale_contrast(row(0, 100, 200), 1.5, original=True)[0, :, 0].tolist() == [0, 150, 44]


def test_noise() -> None:
    assert gaussian(64, 64, 0)[0, :3, 0] == pytest.approx([-1.1258, -1.1524, -0.2506], abs=1e-4)
    flat = np.full((64, 64, 3), 77, dtype=np.uint8)
    for perlin in (None, Perlin()):
        assert (add_noise(flat, 0, 1, perlin) == flat).all()
        pure = add_noise(flat, 1, 1, perlin)
        assert (pure == add_noise(255 - flat, 1, 1, perlin)).all()
        assert (pure != add_noise(flat, 1, 2, perlin)).any()
        assert abs(pure.mean() - 127) < 5
    half = np.zeros((64, 64))
    half[:, :32] = 1
    masked = add_noise(flat, 0.5, 1, None, half)
    assert (masked[:, 32:] == 102).all()  # half of it gray
    assert (masked[:, :32] == add_noise(flat, 0.5, 1)[:, :32]).all()
    assert torch.initial_seed() != 1


@pytest.mark.parametrize("size", [(64, 64), (72, 136), (8, 8)])
def test_perlin_of_any_size(size: tuple[int, int]) -> None:
    assert gaussian(*size, 5, Perlin(octaves=7)).shape == (*size, 3)


@pytest.mark.parametrize("space", ["RGB", "HSV", "LAB"])
def test_colours_of_a_flat_sample(space: str) -> None:
    flat = np.full((16, 16, 3), (30, 120, 200), dtype=np.uint8)
    other = np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    assert np.abs(match_colors(other, flat, space).astype(int) - flat).max() <= 4
    assert (match_colors(flat, flat, space) == flat).mean() > 0.3


def test_grayscale_weighs_channels() -> None:
    assert grayscale(np.full((1, 1, 3), (255, 0, 0), dtype=np.uint8)).tolist() == [[[29, 29, 29]]]


@pytest.mark.parametrize("method", ["DIS Medium", "DIS Fine", "Farneback"])
def test_flow_leads_from_one_picture_to_the_other(method: str) -> None:
    import cv2

    scene = cv2.GaussianBlur(np.random.default_rng(1).integers(0, 256, (96, 96, 3), dtype=np.uint8), (0, 0), 2)
    scene = cv2.normalize(scene, None, 0, 255, cv2.NORM_MINMAX)
    first, second = scene[16:80, 16:80].copy(), scene[16:80, 14:78].copy()
    flow = optical_flow(first, second, method)
    assert np.median(flow[..., 0]) == pytest.approx(2, abs=0.3)
    error = np.abs(along(first, flow).astype(int) - second)[8:-8, 8:-8].mean()
    assert error < 0.3 * np.abs(first.astype(int) - second)[8:-8, 8:-8].mean()
    both = agreement(flow, optical_flow(second, first, method), blur=1)
    assert both[16:-16, 16:-16].mean() > 0.9


def test_raft_without_weights_is_one_sentence(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    with pytest.raises(InvalidRequest, match="RAFT"):
        optical_flow(row(1, 2), row(2, 1), "RAFT")


def test_unknown_flow() -> None:
    with pytest.raises(InvalidRequest, match="Magic"):
        optical_flow(row(1, 2), row(2, 1), "Magic")


MASKS = {
    "{a}": np.array([[True, True, False, False]]),
    "[b.png]": np.array([[True, False, True, False]]),
    "<sky>": np.array([[False, False, True, True]]),
}


@pytest.mark.parametrize(
    ("formula", "expected"),
    [
        ("{a}", [1, 1, 0, 0]),
        ("!{a}", [0, 0, 1, 1]),
        ("{a} & [b.png]", [1, 0, 0, 0]),
        ("{a} | [b.png]", [1, 1, 1, 0]),
        ("{a} ^ [b.png]", [0, 1, 1, 0]),
        (r"{a} \ [b.png]", [0, 1, 0, 0]),
        ("({a} | <sky>) & ![b.png]", [0, 1, 0, 1]),
        ("!!{a}", [1, 1, 0, 0]),
        ("{a} & [b.png] | <sky>", [1, 0, 1, 1]),
    ],
)
def test_composed_masks(formula: str, expected: list[int]) -> None:
    assert compose(formula, MASKS.__getitem__).astype(int).tolist() == [expected]


@pytest.mark.parametrize(
    "formula",
    ["", "{a} &", "& {a}", "({a}", "{a})", "{a} {a}", "sky", "!" * 1999, "(" * 1900, "{a}" * 1000, "__import__"],
)
def test_mask_formulas_that_are_none(formula: str) -> None:
    with pytest.raises(InvalidRequest, match="mask formula"):
        compose(formula, MASKS.__getitem__)


def test_prepared_masks() -> None:
    gray = Image.fromarray(np.array([[0, 255], [128, 255]], dtype=np.uint8))
    assert prepare(gray, 2, 2)[0].tolist() == [0, 1]
    assert prepare(gray, 2, 2, invert=True)[0].tolist() == [1, 0]
    assert prepare(gray, 8, 4).shape == (4, 8)
    clear = Image.new("RGBA", (2, 2), (255, 255, 255, 0))
    clear.putpixel((0, 0), (0, 0, 0, 255))
    assert prepare(clear, 2, 2, use_alpha=True).tolist() == [[1, 0], [0, 0]]
    with pytest.raises(InvalidRequest, match="black"):
        prepare(Image.new("L", (4, 4)), 4, 4)


def test_overlay() -> None:
    assert overlay(row(10, 10, 10), row(90, 90, 90), np.array([[1, 0.5, 0]]))[0, :, 0].tolist() == [10, 50, 90]


def test_composite_masks() -> None:
    top, bottom = row(200, 200, 0, 0), row(100, 0, 100, 200)
    assert (composite(top, bottom, Composite(alpha=0)) == top).all()
    assert (composite(top, bottom, Composite(alpha=1)) == bottom).all()
    assert composite(top, bottom, Composite(alpha=0.5))[0, :, 0].tolist() == [150, 100, 50, 100]
    for kind in ("Blend", "Difference", "Depth"):
        for equalize in ("None", "Before", "After", "Both"):
            how = Composite(1, kind, inverse=True, equalize=equalize, contrast=1.5, cutoffs=(5, 90))
            assert composite(top, bottom, how, depth=np.array([[1, 1.5, 2, 1.2]])).shape == top.shape
    near = composite(top, bottom, Composite(1, "Depth"), depth=np.array([[1, 1, 2, 2]]))
    assert near[0, :, 0].tolist() == [200, 200, 100, 200]


def test_guides() -> None:
    assert [guide_share([0], frame, 20, 0.35, 0.25) for frame in (0, 5, 10, 15, 19)] == pytest.approx(
        [0.1, 0.130604, 0.214924, 0.332316, 0.430822], abs=1e-6
    )
    assert guide_share([0], 22, 20, 0.35, 0.25) == 0.07
    assert guide_share([0, 4], 3, 2, 0.35, 0.25) == 0.07
    assert [guide_at([0, 4], frame) for frame in (0, 3, 4, 9)] == [0, 0, 4, 4]
    assert guide_at([5], 0) == 5
    places = guide_places('{"max_f/4-5": "b", "0": "a", "max_f-200": "never"}', 121, 0)
    assert places == {0: "a", 25: "b"}
    for bad in ("", "[]", "{}", '{"0": 1}', '{"q": "a"}', "[" * 100_000):
        with pytest.raises(InvalidRequest, match="init_images"):
            guide_places(bad, 10, 0)


@pytest.mark.parametrize(
    ("count", "cadence", "expected"),
    [
        (23, 5, Resume(15, 19, 20)),
        (10, 1, Resume(9, 9, 10)),
        (7, 2, Resume(4, 5, 6)),
        (60, 12, Resume(48, 59, 60)),
        (1, 1, None),
        (3, 5, None),
    ],
)
def test_where_a_run_goes_on(count: int, cadence: int, expected: Resume | None) -> None:
    assert resume_point(count, cadence) == expected


def test_frames_of_a_run(tmp_path: Path) -> None:
    for name in (frame_name("2026", 0), frame_name("2026", 12), "2026_depth_000000001.png", frame_name("x2026", 3)):
        (tmp_path / name).touch()
    assert frames_in(tmp_path, "2026") == [0, 12]
    assert frames_in(tmp_path / "none", "2026") == []
