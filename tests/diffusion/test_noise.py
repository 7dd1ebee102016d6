"""Random numbers: recorded values, and independence of the batch."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch
import torchsde

from webui.diffusion.noise import (
    BrownianNoise,
    BrownianPath,
    ImageNoise,
    PhiloxSource,
    RandomSource,
    TorchSource,
    centred,
    path_seed_of_batch,
    slerp,
)

CPU = torch.device("cpu")
SHAPE = (4, 8, 8)
SOURCE = RandomSource("CPU", CPU)


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
    path = BrownianNoise(torch.zeros(1, *SHAPE), 0.0291675, 14.6146421, [1234], SOURCE)
    values = path.between(5.0, 3.0).flatten()[:4].tolist()
    assert values == pytest.approx([-1.0069702, -1.4797777, -0.9213346, 0.0853047], abs=1e-6)


def test_a_brownian_path_is_one_path() -> None:
    path = BrownianNoise(torch.zeros(2, *SHAPE), 0.03, 14.6, [1, 2], SOURCE)
    whole = path.between(5.0, 1.0) * (5.0 - 1.0) ** 0.5
    parts = path.between(5.0, 2.0) * 3.0**0.5 + path.between(2.0, 1.0)
    assert torch.allclose(whole, parts, atol=1e-4)
    assert torch.equal(path.between(1.0, 5.0), -path.between(5.0, 1.0))


@pytest.mark.parametrize("seed", [0, 2**32 - 2, 2**40 + 7])
def test_brownian_paths_equal_torchsdes_bit_for_bit(seed: int) -> None:
    low, high = 0.029168, 14.614642
    theirs = torchsde.BrownianTree(low, torch.zeros(1, 2, 3), high, entropy=seed)
    ours = BrownianPath((1, 2, 3), low, high, seed, SOURCE)
    chosen = random.Random(seed)
    for _ in range(30):
        ends = [low, high, chosen.uniform(low, high), low + chosen.random() ** 6]
        start, end = sorted(round(end, 6) for end in chosen.sample(ends, 2))
        if start < end:
            assert torch.equal(ours.increment(start, end), theirs(start, end)), (start, end)


def test_brownian_increments_have_their_variance_and_are_independent() -> None:
    path = BrownianPath((200, 200), 0.0, 8.0, 7, SOURCE)
    first, second = path.increment(1.0, 1.3), path.increment(1.3, 5.3)
    assert float(first.std()) == pytest.approx(0.3**0.5, rel=0.02)
    assert float(second.std()) == pytest.approx(2.0, rel=0.02)
    assert abs(float((first * second).mean())) < 0.02


def test_brownian_times_beyond_the_ends_are_cut_off() -> None:
    path = BrownianPath((4,), 0.5, 8.0, 7, SOURCE)
    assert torch.equal(path.increment(0.0, 8.000001), path.increment(0.5, 8.0))
    assert torch.equal(path.increment(2.0, 2.0000001), torch.zeros(4))
    assert torch.equal(path.increment(8.0, 9.0), torch.zeros(4))


def test_brownian_noise_is_drawn_by_the_chosen_source() -> None:
    x = torch.zeros(1, *SHAPE)
    drawn = [BrownianNoise(x, 0.03, 14.6, [5], RandomSource(kind, CPU)).between(5.0, 3.0) for kind in ("CPU", "NV")]
    assert not torch.equal(*drawn)
    whole = BrownianPath((1, *SHAPE), 0.0, 4.0, 5, RandomSource("NV", CPU)).increment(0.0, 4.0)
    seed = int(np.random.SeedSequence(5, pool_size=24).generate_state(1)[0])
    assert torch.equal(whole, PhiloxSource(seed).randn((1, *SHAPE)) * 2)


def test_one_seed_for_a_batch_gives_one_path_for_all_of_it() -> None:
    together = BrownianNoise(torch.zeros(3, *SHAPE), 0.03, 14.6, [5], SOURCE).between(5.0, 3.0)
    apart = BrownianNoise(torch.zeros(3, *SHAPE), 0.03, 14.6, [5, 6, 7], SOURCE).between(5.0, 3.0)
    assert together.shape == apart.shape == (3, *SHAPE)
    assert not torch.equal(together[1], apart[1])
    single = BrownianNoise(torch.zeros(1, *SHAPE), 0.03, 14.6, [5], SOURCE).between(5.0, 3.0)
    assert torch.equal(apart[:1], single)


def test_without_batch_determinism_one_path_follows_from_the_last_seed() -> None:
    torch.manual_seed(1235)
    assert path_seed_of_batch([1234, 1235]) == int(torch.randint(0, 2**63 - 1, ()))
