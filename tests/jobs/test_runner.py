"""The runner with real threads; `Stage` lets a test hold a job at a step and look at it."""

from __future__ import annotations

import gc
import logging
import threading
import time
import weakref
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest

from webui.core.errors import InvalidRequest, NotFound, WebuiError
from webui.jobs.context import JobContext
from webui.jobs.errors import JobCancelled, JobFailed, ServerStopping, TooManyJobs
from webui.jobs.kinds import JobKind
from webui.jobs.outcomes import RESULTS_KEPT
from webui.jobs.queue import OUTCOMES_KEPT
from webui.jobs.runner import JobRunner

HERE = __name__
SOON = 60.0


class Stage:
    """A job that waits at every step until it is let through."""

    def __init__(self, steps: int = 4, passes: int = 1) -> None:
        self.steps, self.passes = steps, passes
        self.at_step = threading.Semaphore(0)
        self.through = threading.Semaphore(0)

    def let(self, steps: int) -> None:
        """Let `steps` steps pass and wait until the job stands at the one after, or in its last one."""
        for _ in range(steps):
            self.through.release()
            assert self.at_step.acquire(timeout=SOON)

    def reach_first_step(self) -> None:
        assert self.at_step.acquire(timeout=SOON)


def build(services: object) -> dict[str, Any]:
    return {"services": services, "thread": threading.current_thread()}


def build_bad(services: object) -> object:
    raise WebuiError("The graphics card is unplugged; plug it in and restart.")


def build_broken(services: object) -> object:
    raise RuntimeError("no kernel image")


def staged(engine: object, stage: Stage, job: JobContext) -> list[list[int]]:
    job.begin_passes(stage.passes)
    done: list[list[int]] = []
    for _ in range(stage.passes):
        done.append([])
        for step in job.steps(range(stage.steps)):
            stage.at_step.release()
            assert stage.through.acquire(timeout=SOON)
            done[-1].append(step)
        job.next_pass()
        if job.interrupted or job.stopping:
            break
    return done


def echo(engine: object, payload: object, job: JobContext) -> object:
    return payload


def report(engine: dict[str, Any], payload: object, job: JobContext) -> Any:
    return engine, threading.current_thread()


def user_error(engine: object, payload: object, job: JobContext) -> None:
    try:
        raise KeyError("sd_xl_bas")
    except KeyError as error:
        raise NotFound('No checkpoint matches "sd_xl_bas".') from error


class Unprintable(Exception):
    def __str__(self) -> str:
        raise RuntimeError("not even this")


FAULTS: dict[str, BaseException] = {
    "plain": ValueError("bad shape"),
    "memory": MemoryError(),
    "exit": SystemExit(3),
    "torch": RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"),
    "ctrl-c": KeyboardInterrupt(),
    "unprintable": Unprintable(),
}


def fault(engine: object, name: str, job: JobContext) -> None:
    raise FAULTS[name]


class Tensor:
    """Stands for something large that must not be kept alive."""


def fails_holding(engine: object, seen: list[weakref.ref[Tensor]], job: JobContext) -> None:
    tensor = Tensor()
    seen.append(weakref.ref(tensor))
    try:
        raise ValueError("inner")
    except ValueError as error:
        raise WebuiError("outer") from error


def shows(engine: object, gate: threading.Event, job: JobContext) -> JobContext:
    job.show(b"png", "image/png")
    assert gate.wait(SOON)
    return job


@pytest.fixture
def runner() -> Iterator[JobRunner]:
    runner = JobRunner(f"{HERE}:build", services="the services")
    runner.start()
    yield runner
    assert runner.close(SOON)


def kind(handler: str) -> JobKind:
    return JobKind(handler, f"{HERE}:{handler}", title=handler)


def submit(runner: JobRunner, handler: str, payload: object = None, job_id: str | None = None, **kwargs: Any) -> str:
    return runner.submit(replace(kind(handler), **kwargs), payload, job_id=job_id)


def test_the_engine_and_the_jobs_live_in_one_other_thread(runner: JobRunner) -> None:
    results = [runner.result(submit(runner, "report"), timeout=SOON) for _ in range(3)]
    for result in results:
        assert isinstance(result, tuple)
        engine, thread = result
        assert engine["services"] == "the services"
        assert engine["thread"] is thread is not threading.current_thread()


def test_jobs_run_in_order(runner: JobRunner) -> None:
    stage = Stage()
    first = submit(runner, "staged", stage)
    second, third = submit(runner, "echo", 2), submit(runner, "echo", 3)
    stage.reach_first_step()
    assert runner.pending() == (second, third)
    assert runner.progress(first).queue_position == 0
    assert [runner.progress(job).queue_position for job in (second, third)] == [1, 2]
    runner.cancel(second)
    assert runner.progress(third).queue_position == 1
    stage.let(3)
    stage.through.release()
    assert runner.result(third, SOON) == 3
    assert runner.result(first) == [[0, 1, 2, 3]]
    assert runner.current() is None


def test_progress_of_a_running_job(runner: JobRunner) -> None:
    stage = Stage(steps=4, passes=2)
    job = submit(runner, "staged", stage, job_id="task(mine)")
    stage.reach_first_step()
    stage.let(5)
    progress = runner.current()
    assert progress is not None
    assert progress.job_id == job == "task(mine)"
    assert (progress.state, progress.job_no, progress.job_count, progress.step) == ("running", 1, 2, 1)
    assert progress.fraction == pytest.approx(1 / 2 + 1 / 8)
    assert progress.eta_seconds is not None
    assert 0 <= progress.eta_seconds < SOON
    runner.interrupt()
    stage.through.release()
    assert runner.wait(job, SOON).state == "done"


def test_interrupt_ends_after_the_step_and_keeps_what_there_is(runner: JobRunner) -> None:
    stage = Stage(steps=4, passes=3)
    job = submit(runner, "staged", stage)
    stage.reach_first_step()
    stage.let(1)
    runner.interrupt(job)
    stage.through.release()
    assert runner.result(job, SOON) == [[0, 1]]
    progress = runner.progress(job)
    assert (progress.state, progress.interrupted, progress.error) == ("done", True, None)


def test_stop_after_current_finishes_the_pass(runner: JobRunner) -> None:
    stage = Stage(steps=2, passes=3)
    job = submit(runner, "staged", stage)
    stage.reach_first_step()
    runner.interrupt(after_current=True)
    assert runner.progress(job).stopping
    stage.let(1)
    stage.through.release()
    assert runner.result(job, SOON) == [[0, 1]]
    assert not runner.progress(job).interrupted


def test_skip_leaves_one_pass(runner: JobRunner) -> None:
    stage = Stage(steps=3, passes=2)
    job = submit(runner, "staged", stage)
    stage.reach_first_step()
    runner.skip(job)
    stage.let(3)
    stage.through.release()
    assert runner.result(job, SOON) == [[0], [0, 1, 2]]
    assert not runner.progress(job).skipped


def test_a_storm_of_interrupts_hits_only_its_job(runner: JobRunner) -> None:
    first, second = Stage(), Stage()
    one, two = submit(runner, "staged", first), submit(runner, "staged", second)
    first.reach_first_step()
    version = runner.progress(one).version
    with ThreadPoolExecutor(8) as pool:
        for _ in range(100):
            pool.submit(runner.interrupt, one)
    assert runner.progress(one).version == version + 1
    first.through.release()
    second.reach_first_step()
    with ThreadPoolExecutor(8) as pool:
        for _ in range(100):
            pool.submit(runner.interrupt, one)
            pool.submit(runner.skip, one)
            pool.submit(runner.cancel, one)
            pool.submit(runner.interrupt, "task(nobody's)")
    second.let(3)
    second.through.release()
    assert runner.result(two, SOON) == [[0, 1, 2, 3]]
    progress = runner.progress(two)
    assert (progress.interrupted, progress.skipped, progress.stopping) == (False, False, False)


def test_with_nothing_running_all_is_a_no_op(runner: JobRunner) -> None:
    runner.interrupt()
    runner.interrupt(after_current=True)
    runner.skip()
    runner.interrupt("unknown")
    runner.skip("unknown")
    runner.cancel("unknown")
    assert runner.result(submit(runner, "echo", 1), SOON) == 1


def test_a_waiting_job_can_be_cancelled(runner: JobRunner) -> None:
    stage = Stage(steps=1)
    running = submit(runner, "staged", stage)
    cancelled, interrupted, last = (submit(runner, "echo", n) for n in range(3))
    stage.reach_first_step()
    runner.cancel(cancelled)
    runner.interrupt(interrupted)
    runner.cancel(running)
    assert runner.pending() == (last,)
    for job in (cancelled, interrupted):
        assert runner.wait(job, SOON).state == "cancelled"
        with pytest.raises(JobCancelled, match="before it began"):
            runner.result(job)
    stage.through.release()
    assert runner.result(last, SOON) == 2
    assert runner.progress(running).state == "done"


def test_housekeeping_stays_out_of_sight(runner: JobRunner) -> None:
    stage = Stage(steps=1)
    job = submit(runner, "staged", stage, kept=False)
    stage.reach_first_step()
    waiting = submit(runner, "echo", kept=False)
    assert runner.current() is None
    assert runner.pending() == ()
    runner.interrupt()
    runner.skip()
    assert not runner.progress(job).interrupted
    stage.through.release()
    assert runner.wait(waiting, SOON).state == "done"


def test_a_users_error_is_shown_as_it_stands(runner: JobRunner) -> None:
    job = submit(runner, "user_error")
    progress = runner.wait(job, SOON)
    assert progress.state == "failed"
    assert progress.error is not None
    assert progress.error.message == 'No checkpoint matches "sd_xl_bas".'
    assert progress.error.is_user_error
    for _ in range(2):
        with pytest.raises(NotFound, match="sd_xl_bas"):
            runner.result(job)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("plain", "fault failed: ValueError: bad shape. The log has the details."),
        ("memory", "fault failed: out of memory. Try a smaller picture or batch."),
        ("torch", "fault failed: out of memory. Try a smaller picture or batch."),
        ("exit", "fault failed: something called sys.exit(3). The log has the details."),
        ("ctrl-c", "fault failed: KeyboardInterrupt."),
        ("unprintable", "fault failed: Unprintable: Unprintable. The log has the details."),
    ],
)
def test_the_worker_survives(runner: JobRunner, name: str, words: str, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR):
        job = submit(runner, "fault", name)
        progress = runner.wait(job, SOON)
    assert progress.error is not None
    assert (progress.state, progress.error.message, progress.error.is_user_error) == ("failed", words, False)
    assert "Traceback" in caplog.text
    with pytest.raises(JobFailed):
        runner.result(job)
    assert runner.result(submit(runner, "echo", 5), SOON) == 5


def test_an_unknown_handler_fails_its_job_only(runner: JobRunner) -> None:
    progress = runner.wait(runner.submit(JobKind("no", "webui.no_such:run", title="Nothing"), None), SOON)
    assert progress.error is not None
    assert "webui.no_such" in progress.error.message
    assert runner.result(submit(runner, "echo", 5), SOON) == 5


def test_a_failed_job_keeps_no_tensors(runner: JobRunner) -> None:
    seen: list[weakref.ref[Tensor]] = []
    runner.wait(submit(runner, "fails_holding", seen), SOON)
    runner.result(submit(runner, "echo", 1), SOON)
    gc.collect()
    assert [ref() for ref in seen] == [None]


@pytest.mark.parametrize(
    ("build", "words", "is_user_error"),
    [("build_bad", "The graphics card is unplugged; plug it in and restart.", True),
     ("build_broken", "The engine could not start: RuntimeError: no kernel image. The log has the details.", False)],
)  # fmt: skip
def test_without_an_engine_every_job_says_why(build: str, words: str, is_user_error: bool) -> None:
    runner = JobRunner(f"{HERE}:{build}", services=None)
    early = submit(runner, "echo")
    runner.start()
    for job in (early, submit(runner, "echo")):
        progress = runner.wait(job, SOON)
        assert progress.error is not None
        assert (progress.error.message, progress.error.is_user_error) == (words, is_user_error)
    assert runner.close(SOON)


def test_ids_are_unique(runner: JobRunner) -> None:
    runner.result(submit(runner, "echo", 1, job_id="twice"), SOON)
    with pytest.raises(InvalidRequest, match='"twice"'):
        submit(runner, "echo", 2, job_id="twice")
    assert runner.result("twice") == 1
    assert submit(runner, "echo") != submit(runner, "echo")
    for bad in ("", "x" * 1000):
        with pytest.raises(InvalidRequest, match="200 characters"):
            submit(runner, "echo", job_id=bad)


def test_the_queue_has_an_end() -> None:
    runner = JobRunner(f"{HERE}:build", services=None, queue_limit=3)
    for _ in range(3):
        submit(runner, "echo")
    with pytest.raises(TooManyJobs, match="3 jobs are waiting"):
        submit(runner, "echo")
    assert TooManyJobs.status == 429
    runner.close()


def test_memory_is_bounded(runner: JobRunner) -> None:
    jobs = [submit(runner, "echo", object()) for _ in range(OUTCOMES_KEPT + 4)]
    runner.wait(jobs[-1], SOON)
    for job in jobs[-RESULTS_KEPT:]:
        assert runner.result(job) is not None
    old = jobs[-RESULTS_KEPT - 1]
    assert runner.progress(old).state == "done"
    with pytest.raises(NotFound, match="no longer kept"):
        runner.result(old)
    with pytest.raises(NotFound, match="There is no job"):
        runner.progress(jobs[0])


def test_wait_for_change_wakes_on_news(runner: JobRunner) -> None:
    stage = Stage(steps=2)
    job = submit(runner, "staged", stage)
    stage.reach_first_step()
    seen = runner.progress(job)
    assert runner.wait_for_change(job, seen.version, timeout=0.01) == seen
    with ThreadPoolExecutor(1) as pool:
        news = pool.submit(runner.wait_for_change, job, seen.version, SOON)
        stage.let(1)
        assert news.result(SOON).step == 1
    stage.through.release()
    ended = runner.wait(job, SOON)
    assert runner.wait_for_change(job, ended.version, SOON) == ended


def test_a_waiting_job_hears_that_it_moved_up(runner: JobRunner) -> None:
    stage = Stage(steps=1)
    running, first, second = submit(runner, "staged", stage), submit(runner, "echo"), submit(runner, "echo")
    stage.reach_first_step()
    seen = runner.progress(second)
    assert seen.queue_position == 2
    with ThreadPoolExecutor(1) as pool:
        news = pool.submit(runner.wait_for_change, second, seen.version, SOON)
        runner.cancel(first)
        assert news.result(SOON).queue_position == 1
    stage.through.release()
    assert runner.wait(second, SOON).queue_position == 0
    assert runner.progress(running).state == "done"


def test_wait_gives_up_and_the_result_is_not_there_yet(runner: JobRunner) -> None:
    stage = Stage(steps=1)
    job = submit(runner, "staged", stage)
    stage.reach_first_step()
    assert runner.wait(job, timeout=0.01).state == "running"
    with pytest.raises(InvalidRequest, match="is running"):
        runner.result(job)
    stage.through.release()
    assert runner.result(job, timeout=None) == [[0]]


def test_an_ended_job_changes_no_more(runner: JobRunner) -> None:
    gate = threading.Event()
    job = submit(runner, "shows", gate)
    while (progress := runner.wait_for_change(job, runner.progress(job).version, 0.1)).preview is None:
        pass
    assert progress.preview.data == b"png"
    gate.set()
    context = runner.result(job, SOON)
    ended = runner.progress(job)
    assert ended.preview is None
    assert isinstance(context, JobContext)
    context.text("a thread that outlived its job")
    assert runner.progress(job) == ended


def test_close_ends_the_running_job_and_cancels_the_rest() -> None:
    runner = JobRunner(f"{HERE}:build", services=None)
    runner.start()
    stage = Stage(passes=3)
    running, waiting = submit(runner, "staged", stage), submit(runner, "echo")
    stage.reach_first_step()
    assert not runner.close(timeout=0.01)
    stage.through.release()
    assert runner.close(SOON)
    assert runner.result(running) == [[0]]
    assert runner.progress(waiting).state == "cancelled"
    with pytest.raises(ServerStopping):
        submit(runner, "echo")


def test_the_clock_may_jump(runner: JobRunner, monkeypatch: pytest.MonkeyPatch) -> None:
    stage = Stage(steps=2)
    job = submit(runner, "staged", stage)
    stage.reach_first_step()
    monkeypatch.setattr(time, "time", lambda: 0.0)
    stage.let(1)
    eta = runner.progress(job).eta_seconds
    assert eta is not None
    assert 0 <= eta < SOON
    stage.through.release()
    runner.wait(job, SOON)


def test_a_thousand_jobs_from_many_threads(runner: JobRunner) -> None:
    with ThreadPoolExecutor(8) as pool:
        jobs = list(pool.map(lambda n: submit(runner, "echo", n), range(200)))
    for job in jobs:
        assert runner.wait(job, SOON).state == "done"
    assert len(set(jobs)) == 200
