from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace

import pytest

from tests.tiny import tiny_checkpoint
from webui.core.errors import InvalidRequest, NotFound
from webui.jobs.kinds import JobKind
from webui.jobs.runner import JobRunner
from webui.services.generation import choose_checkpoint, generation_result, seed_of_picture, stop
from webui.services.services import Services


@pytest.fixture
def running(services: Services) -> Iterator[Services]:
    jobs = JobRunner("tests.services.work:build", None)
    jobs.start()
    yield replace(services, jobs=jobs)
    assert jobs.close(timeout=60)


def started(services: Services, passes: int) -> str:
    job = services.jobs.submit(JobKind("passes", "tests.services.work:passes"), passes, title="txt2img")
    while services.jobs.progress(job).job_count == 0:
        time.sleep(0.001)
    return job


def test_of_several_passes_the_running_one_is_finished_first(running: Services) -> None:
    job = started(running, 3)
    stop(running, job)
    progress = running.jobs.progress(job)
    assert (progress.stopping, progress.interrupted) == (True, False)
    stop(running, job)
    assert running.jobs.wait(job, timeout=60).state == "done"
    assert running.jobs.result(job) == 1


def test_a_single_pass_is_stopped_at_once(running: Services) -> None:
    job = started(running, 1)
    stop(running, None)
    assert running.jobs.wait(job, timeout=60).interrupted


def test_the_setting_stops_at_once_always(running: Services) -> None:
    running.settings.update({"interrupt_after_current": False})
    job = started(running, 3)
    stop(running, job)
    assert running.jobs.wait(job, timeout=60).interrupted


def test_stopping_what_does_not_run_is_nothing(running: Services) -> None:
    stop(running, None)
    stop(running, "task(nobody)")


def test_a_job_without_pictures_has_no_pictures(running: Services) -> None:
    made = running.jobs.submit(JobKind("picture", "tests.services.work:picture"), None)
    other = running.jobs.submit(JobKind("nothing", "tests.services.work:nothing"), None)
    running.jobs.wait(other, timeout=60)
    assert generation_result(running, made).info == {"all_seeds": [1]}
    with pytest.raises(NotFound, match="made no pictures"):
        generation_result(running, other)


def test_choosing_a_checkpoint_sets_and_loads_it(services: Services) -> None:
    tiny_checkpoint(services.paths.checkpoints[0], "one")
    services.checkpoints.refresh()
    job = choose_checkpoint(services, "one")
    assert services.settings.snapshot()["sd_model_checkpoint"].startswith("one.safetensors")
    assert services.jobs.progress(job).state == "queued"
    with pytest.raises(NotFound, match='matches "two"'):
        choose_checkpoint(services, "two")
    assert services.settings.snapshot()["sd_model_checkpoint"].startswith("one.safetensors")


def test_the_seed_of_a_picture() -> None:
    info = {"all_seeds": [5, 6], "all_subseeds": [8, 9], "index_of_first_image": 1}
    assert [seed_of_picture(info, index) for index in range(3)] == [5, 5, 6]
    assert seed_of_picture(info, 2, variation=True) == 9
    with pytest.raises(InvalidRequest, match="no picture"):
        seed_of_picture({}, 0)
