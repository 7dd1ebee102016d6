"""Random numbers: recorded values, and independence of the batch."""

from __future__ import annotations

import pytest
import torch

from webui.diffusion.noise import BrownianNoise, ImageNoise, PhiloxSource, RandomSource, TorchSource, centred, slerp

CPU = torch.device("cpu")
SHAPE = (4, 8, 8)


def test_cpu_numbers_are_those_of_the_seed() -> None:
    values = TorchSource(1234, CPU).randn(SHAPE).flatten()[:4].tolist()
    assert values == pytest.approx([-0.11171857, -0.49659011, 0.16307370, -0.88168776], abs=1e-7)


def test_philox_numbers_are_those_of_a_cuda_device() -> None:
    values = PhiloxSource(0).randn((3, 4))[0].tolist()
    assert values == pytest.approx([-0.92466259, -0.42534415, -2.6438457, 0.14518388], abs=1e-6)


def test_philox_draws_differ_and_repeat() -> None:
    first, again = PhiloxSource(7), PhiloxSource(7)
    a, b = first.randn((1000,)), first.randn((1000,))
    assert not torch.equal(a, b)
    assert torch.equal(again.randn((1000,)), a)
    assert abs(float(a.mean())) < 0.15
    assert abs(float(a.std()) - 1) < 0.1
    assert not torch.equal(PhiloxSource(7 + (1 << 32)).randn((10,)), a[:10])


@pytest.mark.parametrize("kind", ["CPU", "NV"])
def test_a_batch_draws_what_its_images_would_draw_alone(kind: str) -> None:
    source = RandomSource(kind, CPU)
    options = {"subseeds": (5, 6, 7), "strength": 0.3, "seed_delta": 31337}
    batch = ImageNoise(SHAPE, (1, 2, 3), source, **options)
    single = ImageNoise(SHAPE, (2,), source, subseeds=(6,), strength=0.3, seed_delta=31337)
    for _ in range(3):
        assert torch.equal(batch.next()[1], single.next()[0])


def test_seed_delta_changes_all_but_the_first_draw() -> None:
    source = RandomSource("CPU", CPU)
    plain, moved = ImageNoise(SHAPE, (1,), source), ImageNoise(SHAPE, (1,), source, seed_delta=10)
    assert torch.equal(plain.next(), moved.next())
    assert not torch.equal(plain.next(), moved.next())


def test_noise_of_another_size_is_centred() -> None:
    source = RandomSource("CPU", CPU)
    small = source.seeded(3).randn((4, 4, 6))
    noise = ImageNoise(SHAPE, (3,), source, resize_from=(4, 6)).next()[0]
    assert torch.equal(noise[:, 2:6, 1:7], small)


def test_larger_noise_is_cut_to_its_middle() -> None:
    big = torch.arange(4 * 10 * 10, dtype=torch.float32).view(4, 10, 10)
    assert torch.equal(centred(big, torch.zeros(SHAPE)), big[:, 1:9, 1:9])


def test_slerp_keeps_the_norm_along_height() -> None:
    generator = torch.Generator().manual_seed(0)
    low, high = torch.randn(SHAPE, generator=generator), torch.randn(SHAPE, generator=generator)
    assert torch.allclose(slerp(0.0, low, high), low, atol=1e-6)
    assert torch.allclose(slerp(1.0, low, high), high, atol=1e-6)
    low, high = low / low.norm(dim=1, keepdim=True), high / high.norm(dim=1, keepdim=True)
    assert torch.allclose(slerp(0.4, low, high).norm(dim=1), torch.ones(4, 8), atol=1e-5)


def test_brownian_noise_has_the_recorded_values() -> None:
    path = BrownianNoise(torch.zeros(1, *SHAPE), 0.0291675, 14.6146421, [1234])
    values = path.between(5.0, 3.0).flatten()[:4].tolist()
    assert values == pytest.approx([-1.0069702, -1.4797777, -0.9213346, 0.0853047], abs=1e-5)


def test_a_brownian_path_is_one_path() -> None:
    path = BrownianNoise(torch.zeros(2, *SHAPE), 0.03, 14.6, [1, 2])
    whole = path.between(5.0, 1.0) * (5.0 - 1.0) ** 0.5
    parts = path.between(5.0, 2.0) * 3.0**0.5 + path.between(2.0, 1.0)
    assert torch.allclose(whole, parts, atol=1e-4)
