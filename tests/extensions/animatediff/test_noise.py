"""Noise levels, FreeInit's filters, and what frames begin with."""

from __future__ import annotations

import pytest
import torch
from diffusers.pipelines.free_init_utils import FreeInitMixin
from diffusers.schedulers.scheduling_ddim import DDIMScheduler

from extensions.animatediff.freeinit import low_pass, mixed
from extensions.animatediff.motion.names import Family
from extensions.animatediff.noise import ClipNoise, alphas_of, reused
from extensions.animatediff.parameters import NOISES, AnimateDiff
from extensions.animatediff.starting import shares
from webui.diffusion.noise import ImageNoise, RandomSource


def family(betas: str) -> Family:
    return Family("", 32, "SD 1.x", betas, False, ())  # type: ignore[arg-type]


def test_levels_are_those_of_the_training() -> None:
    linear = DDIMScheduler(beta_schedule="linear", beta_start=0.00085, beta_end=0.012)
    scaled = DDIMScheduler(beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.020)
    for betas, scheduler in (("linear", linear), ("scaled SDXL", scaled)):
        alphas = alphas_of(family(betas))
        assert alphas is not None
        torch.testing.assert_close(alphas, scheduler.alphas_cumprod, rtol=1e-4, atol=1e-6)
    assert alphas_of(family("checkpoint")) is None


def test_filters_have_the_published_values() -> None:
    shape = (16, 64, 64)
    kinds = {kind: low_pass(kind, shape, 0.25, 0.25) for kind in ("butterworth", "gaussian", "ideal", "box")}
    assert {float(made[8, 32, 32]) for made in kinds.values()} == {1.0}
    assert float(kinds["butterworth"][8, 32, 40]) == pytest.approx(0.5)
    assert float(kinds["gaussian"][8, 32, 40]) == pytest.approx(0.606531)
    assert float(kinds["butterworth"][8, 32, 36]) == pytest.approx(0.996109, abs=1e-6)
    assert float(kinds["gaussian"][8, 32, 36]) == pytest.approx(0.882497, abs=1e-6)
    sums = {kind: float(made.sum()) for kind, made in kinds.items()}
    assert sums["butterworth"] == pytest.approx(681.93, abs=0.01)
    assert sums["gaussian"] == pytest.approx(2015.52, abs=0.01)
    assert sums["box"] == 4 * 16 * 16
    assert not low_pass("butterworth", shape, 0, 0.5).any()


@pytest.mark.parametrize("kind", ["butterworth", "gaussian", "ideal"])
def test_filters_and_mixing_agree_with_diffusers(kind: str) -> None:
    shape = (1, 4, 8, 16, 24)
    theirs = FreeInitMixin()._get_free_init_freq_filter(shape, torch.device("cpu"), kind, 4, 0.5, 0.375)
    ours = low_pass(kind, (8, 16, 24), 0.5, 0.375)
    torch.testing.assert_close(ours.expand(shape), theirs.float(), rtol=1e-4, atol=1e-6)
    slow, quick = torch.randn(2, *shape)
    wanted = FreeInitMixin()._apply_freq_filter(slow, quick, theirs.double())
    made = mixed(slow[0].transpose(0, 1), quick[0].transpose(0, 1), ours)
    torch.testing.assert_close(made.transpose(0, 1), wanted[0].float(), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    ("scale", "power", "wanted"),
    [
        (32, 1, [1, 0.96875, 0.9375]),
        (8, 1, [1, 0.875, 0.75, 0.625, 0.5, 0.375, 0.25, 0.125, 0, 0]),
        (32, 2, [1, 0.96875, 0.875, 0.71875, 0.5, 0.21875, 0]),
    ],
)
def test_the_first_picture_fades(scale: float, power: float, wanted: list[float]) -> None:
    first, last = shares(16, AnimateDiff(latent_scale=scale, latent_power=power))
    assert list(first[: len(wanted)]) == pytest.approx(wanted)
    assert not any(last)


def test_first_and_last_picture_share_the_frames() -> None:
    asked = AnimateDiff(latent_scale=12, latent_scale_last=8, last_frame=b"picture")
    first, last = shares(8, asked)
    assert (first[0], last[0], first[-1], last[-1]) == (1, 0, 0, 1)
    assert all(a + b <= 1 + 1e-6 for a, b in zip(first, last, strict=True))
    assert first[1] == pytest.approx((1 - 1 / 12) / (1 - 1 / 12 + 1 - 6 / 8))


def pass_noise(count: int) -> ImageNoise:
    return ImageNoise((4, 8, 8), range(count), RandomSource("CPU", torch.device("cpu")))


@pytest.mark.parametrize("kind", NOISES)
def test_frames_noises_go_together_as_asked(kind: str) -> None:
    own, later = (lambda noise: (noise.next(), noise.next()))(pass_noise(12))
    noise = ClipNoise(pass_noise(12), kind, 4, seed=1)
    made = noise.next()
    assert made.shape == own.shape
    torch.testing.assert_close(made[0], own[0])
    assert float(made.std()) == pytest.approx(1, abs=0.1)
    torch.testing.assert_close(noise.next(), later)
    if kind == "The same":
        assert all(torch.equal(frame, own[0]) for frame in made)
    elif kind == "Half shared":
        torch.testing.assert_close(made[5], (own[5] + own[0]) / 2**0.5)
    elif kind == "FreeNoise":
        assert torch.equal(made[:4], own[:4])
        assert {frame.sum().item() for frame in made[4:8]} == {frame.sum().item() for frame in own[:4]}


def test_reused_noise_of_a_clip_that_ends_within_a_stride() -> None:
    made = reused(torch.randn(22, 4, 2, 2), 16, 4, 0)
    assert len({frame.sum().item() for frame in made}) == 16
