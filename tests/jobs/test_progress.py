import dataclasses

import pytest

from webui.jobs.progress import Progress

RUNNING = Progress(job_id="a", title="t", state="running", steps=20, job_count=4, elapsed_seconds=30.0)


def test_fraction_counts_passes_and_steps() -> None:
    progress = dataclasses.replace(RUNNING, job_no=1, step=10)
    assert progress.fraction == pytest.approx(1 / 4 + 10 / (4 * 20))
    assert progress.eta_seconds == pytest.approx(30 / 0.375 - 30)


def test_api_fraction_is_a_hundredth_ahead() -> None:
    progress = dataclasses.replace(RUNNING, job_no=1, step=10)
    assert progress.api_fraction == pytest.approx(0.385)
    assert progress.api_eta_seconds == pytest.approx(30 / 0.385 - 30)


def test_fractions_never_pass_one() -> None:
    progress = dataclasses.replace(RUNNING, job_no=4, step=20)
    assert progress.fraction == progress.api_fraction == 1
    assert progress.eta_seconds == 0


def test_nothing_known_yet_is_zero_without_eta() -> None:
    progress = Progress(job_id="a", title="t", state="running", elapsed_seconds=3)
    assert (progress.fraction, progress.eta_seconds) == (0, None)
    assert (progress.api_fraction, progress.api_eta_seconds) == (0, None)


def test_done_is_whole_even_when_cut_short() -> None:
    assert dataclasses.replace(RUNNING, state="done", job_no=1).fraction == 1


def test_progress_is_immutable() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        RUNNING.step = 3  # type: ignore[misc]
