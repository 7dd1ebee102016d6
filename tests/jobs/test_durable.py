"""Kept jobs on a real disk: what a second queue on the same folder finds."""

from __future__ import annotations

import errno
import json
import sqlite3
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from webui.core.errors import InvalidRequest, NoSpace, NotFound, WebuiError
from webui.core.stored import Codec
from webui.jobs.blobs import BlobStore
from webui.jobs.context import JobContext
from webui.jobs.errors import JobParked, ServerStopping, StoreUnavailable
from webui.jobs.kinds import JobKind
from webui.jobs.outcomes import RESULTS_KEPT, Disk
from webui.jobs.queue import OUTCOMES_KEPT, JobQueue
from webui.jobs.runner import JobRunner
from webui.jobs.store import JobStore

HERE = __name__
SOON = 60.0


@dataclass(frozen=True)
class Work:
    """number: handed back. seconds: how long that takes. picture: waits as a blob."""

    number: int
    seconds: float = 0.0
    picture: bytes = b""


@dataclass(frozen=True)
class Made:
    number: int
    picture: bytes = b""


FULL = threading.Event()
DONE: list[int] = []


def build(services: object) -> object:
    return object()


def run(engine: object, work: Work, job: JobContext) -> Made:
    job.begin_passes(1)
    for _ in job.steps(range(max(int(work.seconds / 0.005), 1))):
        time.sleep(0.005 if work.seconds else 0)
    job.next_pass()
    if FULL.is_set():
        try:
            raise OSError(errno.ENOSPC, "No space left on device", "/outputs/a.png")
        except OSError as error:
            raise WebuiError("The picture can't be saved in /outputs.") from error
    DONE.append(work.number)
    return Made(work.number, work.picture)


def run_long(engine: object, work: Work, job: JobContext) -> Made:
    """Counts to `number` and goes on where it was; lets others pass after each."""
    first = job.load_state() or 0
    for number in range(first, work.number):
        DONE.append(-number)
        job.save_state(number + 1)
        job.pause_point()
        if job.interrupted:
            break
    return Made(first)


SHORT = JobKind("short", f"{HERE}:run", Work, Made, "Short")
LONG = JobKind("long", f"{HERE}:run_long", Work, Made, "Long", resumable=True)


def opened(folder: Path) -> Disk:
    blobs = BlobStore(folder / "blobs")
    return Disk(JobStore(folder / "queue.sqlite"), blobs, Codec(blobs, dict))


def queue_on(folder: Path, *kinds: JobKind, **options: Any) -> JobRunner:
    return JobRunner(f"{HERE}:build", None, kinds or (SHORT, LONG), opened(folder), **options)


@pytest.fixture(autouse=True)
def nothing_done() -> Iterator[None]:
    FULL.clear()
    DONE.clear()
    yield
    FULL.clear()


def ended(queue: JobQueue, job_id: str) -> str:
    return queue.wait(job_id, SOON).state


def test_what_waits_is_there_in_its_order(tmp_path: Path) -> None:
    first = queue_on(tmp_path)
    for number in range(4):
        first.submit(SHORT, Work(number, picture=b"picture %d" % number), job_id=f"task({number})")
    first.cancel("task(1)")
    first.move("task(3)", before="task(0)")
    second = queue_on(tmp_path)
    assert second.pending() == ("task(3)", "task(0)", "task(2)")
    assert second.progress("task(1)").state == "cancelled"
    with pytest.raises(WebuiError, match="before it began"):
        second.result("task(1)")
    second.start()
    assert ended(second, "task(2)") == "done"
    assert DONE == [3, 0, 2]
    assert second.result("task(2)") == Made(2, b"picture 2")
    assert second.close(SOON)


def test_results_and_failures_are_there_after_the_next_start(tmp_path: Path) -> None:
    first = queue_on(tmp_path)
    first.start()
    first.submit(SHORT, Work(1, picture=b"one"), job_id="good")
    FULL.clear()
    assert ended(first, "good") == "done"
    first.close(SOON)
    second = queue_on(tmp_path)
    assert second.result("good") == Made(1, b"one")
    assert second.progress("good").title == "Short"
    with pytest.raises(InvalidRequest, match='"good"'):
        second.submit(SHORT, Work(1), job_id="good")


def test_a_job_at_which_the_server_died_runs_again_first_and_is_parked_after_two_deaths(tmp_path: Path) -> None:
    for name in ("dies", "waits"):
        queue_on(tmp_path).submit(SHORT, Work(7), job_id=name)
    store = JobStore(tmp_path / "queue.sqlite")
    assert store.begin("dies") == 1
    again = queue_on(tmp_path)
    assert again.pending() == ("dies", "waits")
    assert store.begin("dies") == 2
    parked = queue_on(tmp_path)
    assert parked.pending() == ("waits",)
    assert parked.progress("dies").state == "parked"
    with pytest.raises(JobParked, match="the server ended 2 times"):
        parked.result("dies")
    parked.run_again("dies")
    assert parked.pending() == ("waits", "dies")
    parked.start()
    assert ended(parked, "dies") == "done"
    assert parked.progress("dies").attempt == 1
    assert parked.close(SOON)


def test_a_clean_stop_puts_the_running_job_back_and_counts_no_death(tmp_path: Path) -> None:
    for _ in range(3):
        queue = queue_on(tmp_path)
        if not queue.pending():
            queue.submit(SHORT, Work(1, seconds=30), job_id="long")
            queue.submit(SHORT, Work(2), job_id="next")
        queue.start()
        while queue.progress("long").step < 1:
            time.sleep(0.005)
        waiter = threading.Thread(target=lambda queue=queue: _waits_in_vain(queue, "long"))
        waiter.start()
        assert queue.close(SOON)
        waiter.join(SOON)
        assert not waiter.is_alive()
    assert queue_on(tmp_path).pending() == ("long", "next")
    assert DONE == [1, 1, 1]  # each made what it had so far


def _waits_in_vain(queue: JobQueue, job_id: str) -> None:
    with pytest.raises(ServerStopping, match="is kept and runs when it is up again"):
        queue.wait(job_id, SOON)


def test_a_resumable_job_goes_on_and_lets_short_ones_pass(tmp_path: Path) -> None:
    queue = queue_on(tmp_path)
    queue.submit(LONG, Work(4), job_id="long")
    queue.submit(LONG, Work(1), job_id="long too")
    queue.submit(SHORT, Work(100), job_id="short")
    store = JobStore(tmp_path / "queue.sqlite")
    store.begin("long")
    store.save_state("long", b"2")
    again = queue_on(tmp_path)
    again.start()
    assert ended(again, "long too") == "done"
    assert DONE == [-2, 100, -3, 0]
    assert again.result("long") == Made(2)
    assert again.close(SOON)


def test_a_full_disk_fails_the_job_rests_the_queue_and_loses_nothing(tmp_path: Path) -> None:
    space = threading.Event()
    queue = queue_on(tmp_path, has_space=lambda needed: space.is_set())
    FULL.set()
    names = [queue.submit(SHORT, Work(number), job_id=f"task({number})") for number in range(3)]
    queue.start()
    assert ended(queue, names[0]) == "failed"
    with pytest.raises(NoSpace, match="no space"):
        queue.result(names[0])
    assert "The disk is full" in queue.trouble
    assert queue.pending() == tuple(names[1:])
    FULL.clear()
    space.set()
    assert ended(queue, names[2]) == "done"
    assert DONE == [0, 1, 2]
    assert queue.trouble == ""
    assert queue.close(SOON)


def test_old_jobs_and_their_pictures_are_let_go(tmp_path: Path) -> None:
    queue = queue_on(tmp_path)
    queue.start()
    for number in range(OUTCOMES_KEPT + 3):
        queue.submit(SHORT, Work(number, picture=b"%d" % number), job_id=str(number))
    last = str(OUTCOMES_KEPT + 2)
    assert ended(queue, last) == "done"
    assert queue.close(SOON)
    assert len(queue_on(tmp_path).listing()) == OUTCOMES_KEPT
    disk = opened(tmp_path)
    assert len(list(disk.blobs.folder.iterdir())) == OUTCOMES_KEPT
    assert queue.result(str(OUTCOMES_KEPT + 2 - RESULTS_KEPT)) is not None  # from the disk
    with pytest.raises(NotFound):
        queue.progress("0")


def test_results_go_where_the_blobs_are_too_many_the_oldest_first(tmp_path: Path) -> None:
    disk = opened(tmp_path)
    for number in range(3):
        disk.store.add(str(number), number, "short", "Short", "{}")
        disk.store.end(str(number), "done", None, json.dumps(disk.codec.dump(Made(number, bytes([number]) * 100))))
    disk.blobs.put(b"nobody's")
    (disk.blobs.folder / ".half.tmp").write_bytes(b"cut short")
    disk.tidy(250, ["0", "1", "2"])
    assert [disk.store.result(str(number)) is None for number in range(3)] == [True, False, False]
    assert len(list(disk.blobs.folder.iterdir())) == 2
    with disk.blobs.held():
        digest = disk.blobs.put(b"about to be used")
        disk.tidy(0, [])
        assert disk.blobs.get(digest) == b"about to be used"


def test_a_damaged_blob_is_not_handed_out(tmp_path: Path) -> None:
    blobs = BlobStore(tmp_path)
    digest = blobs.put(b"one")
    (tmp_path / digest).write_bytes(b"two")
    for bad in (digest, "../../etc/passwd", "", "0" * 64):
        with pytest.raises(NotFound, match="no longer kept"):
            blobs.get(bad)


@pytest.mark.parametrize("damage", ["garbage", "truncated", "empty page"])
def test_a_damaged_queue_comes_back_from_its_backup(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "queue.sqlite"
    queue = queue_on(tmp_path)
    for number in range(50):
        queue.submit(SHORT, Work(number), job_id=str(number))
    disk = queue._disk
    assert disk is not None
    disk.store.back_up(at_most_every=0)
    disk.store.close()
    data = path.read_bytes()
    damaged = {
        "garbage": b"no database" * 1000,
        "truncated": data[: len(data) // 2],
        "empty page": data[:4096] + bytes(len(data) - 4096),
    }
    path.write_bytes(damaged[damage])
    again = queue_on(tmp_path)
    assert len(again.pending()) == 50
    (problem,) = again.problems
    assert "was damaged" in problem
    assert "its last backup" in problem
    assert (tmp_path / "queue.sqlite.broken-1").exists()


def test_without_a_backup_a_damaged_queue_is_a_new_one(tmp_path: Path) -> None:
    (tmp_path / "queue.sqlite").write_bytes(b"no database" * 1000)
    queue = queue_on(tmp_path)
    assert queue.pending() == ()
    assert "jobs that waited are lost" in queue.problems[0]
    assert (tmp_path / "queue.sqlite.broken-1").read_bytes() == b"no database" * 1000


def test_a_locked_queue_refuses_new_jobs_goes_on_with_others_and_recovers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("webui.jobs.store.WAIT_FOR_LOCK", 0.2)
    queue = queue_on(tmp_path)
    queue.submit(SHORT, Work(1), job_id="before")
    other = sqlite3.connect(tmp_path / "queue.sqlite", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreUnavailable, match="New jobs are refused"):
        queue.submit(SHORT, Work(2), job_id="refused")
    assert "can't be written" in queue.trouble
    queue.start()
    assert ended(queue, "before") == "done"
    other.execute("ROLLBACK")
    queue.submit(SHORT, Work(3), job_id="refused")
    assert ended(queue, "refused") == "done"
    assert queue.trouble == ""
    assert queue.close(SOON)
    other.close()


def test_a_kind_that_is_gone_parks_its_jobs(tmp_path: Path) -> None:
    queue_on(tmp_path).submit(SHORT, Work(1), job_id="orphan")
    queue = queue_on(tmp_path, LONG)
    progress = queue.progress("orphan")
    assert progress.state == "parked"
    assert progress.error is not None
    assert '"short"' in progress.error.message


def test_a_job_runs_again_with_the_same_payload(tmp_path: Path) -> None:
    queue = queue_on(tmp_path)
    queue.start()
    queue.submit(SHORT, Work(5), job_id="x")
    assert ended(queue, "x") == "done"
    queue.run_again("x")
    assert ended(queue, "x") == "done"
    assert DONE == [5, 5]
    with pytest.raises(NotFound):
        queue.run_again("unknown")
    assert queue.close(SOON)


def test_a_submit_takes_milliseconds(tmp_path: Path) -> None:
    queue = queue_on(tmp_path)
    times = []
    for number in range(50):
        started = time.perf_counter()
        queue.submit(SHORT, Work(number))
        times.append(time.perf_counter() - started)
    assert sorted(times)[25] < 0.1
