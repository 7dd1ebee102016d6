"""Noise levels against the recorded ones, and the laws they obey."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from webui.core.capabilities import SDXL_LEVELS
from webui.core.choices import SAMPLERS, SCHEDULERS, Choices, Scheduler
from webui.diffusion.schedules import (
    EdmTable,
    FlowTable,
    NoiseTable,
    ScheduleOptions,
    ddim_timesteps,
    exponential_sigmas,
    karras_sigmas,
    scaled_linear_alphas_cumprod,
    shown_options,
    sigmas_for,
)

CHOICES = Choices()
RECORDED = json.loads((Path(__file__).parents[1] / "fixtures" / "diffusion" / "sigma-tables.json").read_text())
K_SAMPLERS = [sampler.name for sampler in SAMPLERS if not sampler.timesteps]


@pytest.fixture(scope="module")
def table() -> NoiseTable:
    return NoiseTable(scaled_linear_alphas_cumprod())


@pytest.mark.parametrize("sampler_name", [name for name in K_SAMPLERS if name in RECORDED])
@pytest.mark.parametrize("label", [scheduler.label for scheduler in SCHEDULERS])
def test_levels_equal_the_recorded_ones(sampler_name: str, label: str, table: NoiseTable) -> None:
    sampler, scheduler = CHOICES.find_sampler(sampler_name, label)
    options = ScheduleOptions(discard_next_to_last=sampler.discard_next_to_last_sigma)
    for count, recorded in RECORDED[sampler_name][label].items():
        ours = sigmas_for(CHOICES.resolve_schedule(sampler, scheduler), int(count), table, options)
        assert ours.tolist() == recorded, f"{count} steps"


def test_check_values_of_the_table(table: NoiseTable) -> None:
    assert table.sigma_min == pytest.approx(0.0291675, abs=1e-6)
    assert table.sigma_max == pytest.approx(14.614643, abs=1e-5)
    assert table.timestep(5.0) == pytest.approx(795.1731, abs=1e-3)
    assert float(table.sigmas_at(torch.tensor([500.5]))[0]) == pytest.approx(1.620983, abs=1e-5)


def test_a_level_and_its_timestep_give_each_other(table: NoiseTable) -> None:
    for timestep in (0.0, 0.25, 17.5, 500.0, 998.75, 999.0):
        sigma = float(table.sigmas_at(torch.tensor([timestep], dtype=torch.float64))[0])
        assert table.timestep(sigma) == pytest.approx(timestep, abs=1e-4)


def test_quantized_timesteps_are_whole() -> None:
    table = NoiseTable(scaled_linear_alphas_cumprod(), quantize=True)
    assert table.timestep(5.0) == 795.0


@pytest.mark.parametrize("scheduler", SCHEDULERS, ids=lambda scheduler: scheduler.label)
@pytest.mark.parametrize("count", [1, 2, 20, 150])
def test_schedules_fall_to_their_end(scheduler: Scheduler, count: int, table: NoiseTable) -> None:
    sigmas = sigmas_for(scheduler, count, table, ScheduleOptions())
    assert len(sigmas) == count + 1 or scheduler.label == "DDIM"  # its spacing is whole
    assert float(sigmas[0]) <= table.sigma_max * 1.001
    assert float(sigmas[-1]) == (pytest.approx(table.sigma_min) if scheduler.label == "KL Optimal" else 0)
    assert (sigmas.diff() < 0).all()


def test_impossible_ranges_are_refused() -> None:
    for make in (karras_sigmas, exponential_sigmas):
        with pytest.raises(ValueError, match="count"):
            make(0, 0.1, 10.0)
        with pytest.raises(ValueError, match="sigma_min"):
            make(5, 0.0, 10.0)
        with pytest.raises(ValueError, match="sigma_max"):
            make(5, 11.0, 10.0)


def test_options_change_the_range_and_are_shown(table: NoiseTable) -> None:
    karras = CHOICES.find_sampler("DPM++ 2M Karras")[1]
    options = ScheduleOptions(sigma_min=0.1, sigma_max=10.0, rho=5.0)
    sigmas = sigmas_for(karras, 8, table, options)
    assert (float(sigmas[0]), float(sigmas[-2])) == pytest.approx((10.0, 0.1))
    assert shown_options(karras, table, options) == {
        "Schedule min sigma": 0.1,
        "Schedule max sigma": 10.0,
        "Schedule rho": 5.0,
    }
    assert shown_options(karras, table, ScheduleOptions(rho=7.0)) == {}


def test_the_next_to_last_level_is_left_out(table: NoiseTable) -> None:
    karras = CHOICES.find_sampler("DPM++ 2M Karras")[1]
    plain = sigmas_for(karras, 9, table, ScheduleOptions())
    without = sigmas_for(karras, 8, table, ScheduleOptions(discard_next_to_last=True))
    assert without.tolist() == [*plain[:-2].tolist(), 0.0]


def test_zero_terminal_snr_keeps_the_first_level_and_ends_in_noise(table: NoiseTable) -> None:
    changed = table.zero_terminal_snr()
    assert changed.sigma_min == pytest.approx(table.sigma_min, rel=1e-4)
    assert changed.sigma_max == pytest.approx(4518.76, rel=1e-4)


def test_ddim_timesteps() -> None:
    assert ddim_timesteps(20) == list(range(1, 1000, 50))
    assert len(ddim_timesteps(30)) == 31
    assert ddim_timesteps(5000)[-1] == 999


def test_a_flow_ends_in_pure_noise_and_is_told_the_level_itself() -> None:
    even, shifted = FlowTable.of(1.0), FlowTable.of(3.0)
    assert torch.allclose(even.sigmas, torch.arange(1, 1001) / 1000)
    assert shifted.sigma_max == 1
    assert float(shifted.sigmas[499]) == pytest.approx(3 * 0.5 / (1 + 2 * 0.5))
    assert shifted.told(0.75) == 750
    assert shifted.picture(0.75) == 0.25
    assert shifted.zero_terminal_snr() is shifted.downcast() is shifted


@pytest.mark.parametrize("label", [scheduler.label for scheduler in SCHEDULERS if scheduler.name != "align_your_steps"])
def test_every_schedule_of_a_flow_stays_within_its_levels(label: str) -> None:
    table = FlowTable.of(3.0)
    sampler, scheduler = CHOICES.find_sampler("Euler", label)
    levels = sigmas_for(CHOICES.resolve_schedule(sampler, scheduler), 8, table, ScheduleOptions())
    assert float(levels.min()) >= 0
    assert float(levels.max()) <= 1 + 1e-9
    assert (levels.diff() <= 0).all()


def test_edm_levels_are_even_in_their_logarithm() -> None:
    table = EdmTable.of(0.002, 120.0)
    assert (table.sigma_min, table.sigma_max) == pytest.approx((0.002, 120.0), rel=1e-6)
    assert table.log_sigmas.diff().std() < 1e-6
    assert table.told(1.0) == 0


def test_sdxl_has_published_levels_of_its_own(table: NoiseTable) -> None:
    sampler, scheduler = CHOICES.find_sampler("Euler", "Align Your Steps")
    own = NoiseTable(table.alphas_cumprod, published=SDXL_LEVELS)
    assert sigmas_for(scheduler, 11, own, ScheduleOptions()).tolist() == pytest.approx([*SDXL_LEVELS, 0.0])
    assert sigmas_for(scheduler, 11, own.zero_terminal_snr(), ScheduleOptions()).tolist() == pytest.approx(
        [*SDXL_LEVELS, 0.0]
    )
    assert sigmas_for(scheduler, 11, table, ScheduleOptions()).tolist() != [*SDXL_LEVELS, 0.0]
