"""Which jobs there are and which is next; it knows of no worker.

The order, and every job's Progress, are in memory; of kept jobs each change is written to the disk before anyone hears
of it, so the queue of a server that died is there again. The disk is never waited for under `_changed`.
"""

from __future__ import annotations

import json
import logging
import secrets
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

from webui.core.errors import InvalidRequest, NotFound, WebuiError
from webui.jobs.blobs import SIZE_LIMIT
from webui.jobs.context import JobRecord
from webui.jobs.errors import JobCancelled, JobFailed, JobParked, ServerStopping, TooManyJobs, is_no_space
from webui.jobs.kinds import JobKind
from webui.jobs.outcomes import Disk, Outcomes
from webui.jobs.progress import JobError, JobState, Progress
from webui.jobs.store import StoredJob, failure_of

log = logging.getLogger(__name__)

QUEUE_LIMIT = 1000
OUTCOMES_KEPT = 256  # final Progress, without preview
ID_LENGTH = 200
MOST_DEATHS = 2
"""How often the server may die at a job before it is parked."""
PROBE_EVERY = 2.0
"""Seconds between looks whether a full disk has space again."""


class Job(JobRecord):
    """payload: of a job that isn't kept; others have theirs on the disk until they run. place: orders the queue."""

    def __init__(
        self, job_id: str, kind: JobKind, title: str, changed: threading.Condition, place: float, **known: Any
    ) -> None:
        super().__init__(job_id, title, changed, kind=kind.id, **known)
        self.kind = kind
        self.place = place
        self.payload: object = None

    @property
    def id(self) -> str:
        return self.progress.job_id


class JobQueue:
    """One FIFO queue. Every method may be called from any thread.

    kinds: of jobs that may be found on the disk. disk: where kept jobs lie; None for none.
    has_space: whether a full disk has space for so many bytes again.
    """

    def __init__(
        self,
        kinds: Iterable[JobKind] = (),
        disk: Disk | None = None,
        queue_limit: int = QUEUE_LIMIT,
        has_space: Callable[[int], bool] = lambda needed: True,
    ) -> None:
        self._kinds = {kind.id: kind for kind in kinds}
        self._disk = disk
        self._queue_limit = queue_limit
        self._has_space = has_space
        self._outcomes = Outcomes(disk)
        self._changed = threading.Condition()
        self._submitting = threading.Lock()
        self._jobs: dict[str, Job] = {}  # all that are queued, running or remembered
        self._queue: deque[Job] = deque()
        self._running: list[Job] = []  # a paused job, and those that it lets pass
        self._ended: deque[Job] = deque()
        self._closing = False
        self._paused = ""
        self._waits_for_space: list[Job] = []
        self._needed = 1 << 22
        if disk is not None:
            for problem in disk.store.problems:
                log.warning(problem)
            self._recover(disk)

    # For page and API

    def submit(self, kind: JobKind, payload: object, *, job_id: str | None = None, title: str = "") -> str:
        """Queue a job and return its id.

        job_id: the caller's own, to watch the job under; drawn if None. title: the kind's own if "".
        Raises: InvalidRequest for an id that is in use, TooManyJobs, ServerStopping; NoSpace and StoreUnavailable
        when the job can't be kept.
        """
        kind = self._kinds.get(kind.id, kind)
        job_id = f"task({secrets.token_hex(8)})" if job_id is None else job_id
        if not 0 < len(job_id) <= ID_LENGTH:
            raise InvalidRequest(f"A job id has 1 to {ID_LENGTH} characters; this one has {len(job_id)}.")
        with self._submitting:
            with self._changed:
                self._check_room(job_id)
                job = Job(job_id, kind, title or kind.title, self._changed, self._last_place() + 1)
            if kind.kept and self._disk is not None:
                self._write(job, payload, self._disk)
            else:
                job.payload = payload
            with self._changed:
                if self._closing and not kind.kept:
                    raise ServerStopping("The server is stopping and takes no more jobs.")
                self._jobs[job_id] = job
                self._queue.append(job)
                job.publish(queue_position=len(self._queue))
        return job_id

    def progress(self, job_id: str) -> Progress:
        """Raises: NotFound for an id never submitted, or forgotten since."""
        return self._latest(self._job(job_id))

    def current(self) -> Progress | None:
        """The running job, unless it is housekeeping."""
        job = next(iter(self._running[-1:]), None)
        return job.progress if job is not None and job.kind.kept else None

    def pending(self) -> tuple[str, ...]:
        """Ids of the waiting jobs without housekeeping, the next to start first."""
        with self._changed:
            return tuple(job.id for job in self._queue if job.kind.kept)

    def listing(self) -> tuple[Progress, ...]:
        """Every job without housekeeping: what runs, what waits in its order, what has ended, the latest first."""
        with self._changed:
            jobs = (*self._running, *self._queue, *reversed(self._ended))
            return tuple(job.progress for job in jobs if job.kind.kept)

    @property
    def problems(self) -> tuple[str, ...]:
        """What was found wrong on the disk at the start, as sentences."""
        return tuple(self._disk.store.problems) if self._disk else ()

    @property
    def paused(self) -> str:
        """Why no job is begun, as a sentence; "" while the queue goes on."""
        return self._paused

    @property
    def trouble(self) -> str:
        """What is wrong with the queue now, as a sentence, "" when nothing is."""
        return self._paused or (self._disk.store.trouble if self._disk else "")

    def wait(self, job_id: str, timeout: float | None = None) -> Progress:
        """Block until the job has ended, at most `timeout` seconds (None: no limit); returns its latest Progress.

        Raises: ServerStopping when the server goes down before; a kept job runs when it is up again.
        """
        job = self._job(job_id)
        with self._changed:
            self._changed.wait_for(lambda: job.progress.ended or self._closing, timeout)
            if self._closing and not job.progress.ended:
                again = f' Job "{job_id}" is kept and runs when it is up again.' if self._is_on_disk(job) else ""
                raise ServerStopping(f"The server is stopping.{again}")
        return job.progress

    def wait_for_change(self, job_id: str, since_version: int, timeout: float | None = None) -> Progress:
        """Block until the job's Progress is newer than `since_version`, at most `timeout` seconds."""
        job = self._job(job_id)
        with self._changed:
            self._changed.wait_for(lambda: self._latest(job).version > since_version or job.progress.ended, timeout)
        return job.progress

    def result(self, job_id: str, timeout: float | None = 0) -> object:
        """What the handler returned; waits for it up to `timeout` seconds (None: no limit).

        Raises: the handler's own WebuiError, JobFailed, JobCancelled, JobParked; InvalidRequest while the job hasn't
        ended; NotFound once the result is forgotten; ServerStopping.
        """
        job = self._job(job_id)
        if timeout != 0 and not self.wait(job_id, timeout).ended or not job.progress.ended:
            raise InvalidRequest(f'Job "{job_id}" is {job.progress.state}; its result comes when it has ended.')
        return self._outcomes.get(job_id, job.kind)

    def interrupt(self, job_id: str | None = None, after_current: bool = False) -> None:
        """End a job after its current step, or after its current pass; a job that waits is cancelled.

        job_id: None means whichever runs now. No such job, or one that has ended: nothing happens.
        """
        with self._changed:
            job = self._addressed(job_id)
            if job is not None and job in self._running:
                self._flag(job, **{"stopping" if after_current else "interrupted": True})
                return
        if job is not None:
            self.cancel(job.id)

    def skip(self, job_id: str | None = None) -> None:
        """Leave the pass that runs now and go on with the next; without effect on a job that isn't running."""
        with self._changed:
            job = self._addressed(job_id)
            if job is not None:
                self._flag(job, skipped=True)

    def cancel(self, job_id: str) -> None:
        """Take a waiting job out of the queue; without effect on any other."""
        with self._changed:
            job = self._jobs.get(job_id)
            if job is None or job not in self._queue:
                return
            self._queue.remove(job)
        failure = JobCancelled(f'Job "{job_id}" was cancelled before it began.')
        self._finish(job, "cancelled", None, failure)

    def move(self, job_id: str, before: str | None) -> None:
        """Put a waiting job before another waiting one, or to the end (None); without effect on any other."""
        with self._changed:
            job, other = self._jobs.get(job_id), self._jobs.get(before or "")
            if job is None or job is other or job not in self._queue or (before and other not in self._queue):
                return
            self._queue.remove(job)
            self._queue.insert(self._queue.index(other) if other is not None else len(self._queue), job)
            places = sorted(item.place for item in self._queue)
            for item, place in zip(self._queue, places, strict=True):
                item.place = place
            moved = {item.id: item.place for item in self._queue if self._is_on_disk(item)}
            self._changed.notify_all()
        if self._disk is not None:
            self._disk.store.put_at(moved)

    def run_again(self, job_id: str) -> None:
        """Queue a job that has ended once more, with the same plan and seeds; its old result is forgotten.

        Raises: NotFound for one that isn't kept, InvalidRequest for one that hasn't ended.
        """
        job = self._job(job_id)
        if not self._is_on_disk(job):
            raise NotFound(f"Job \"{job_id}\" isn't kept, so it can't run again; ask for it anew.")
        if not job.progress.ended:
            raise InvalidRequest(f'Job "{job_id}" is {job.progress.state}; it can run again when it has ended.')
        self._put_back(job, at_front=False)

    # For a worker

    def take(self) -> Job | None:
        """Wait for the next job and begin it; None when the queue closes."""
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._closing or (self._queue and not self._paused), PROBE_EVERY)
                if self._closing:
                    return None
                if self._queue and not self._paused:
                    job = self._queue.popleft()
                    self._running.append(job)
                    break
            if self._paused and self._has_space(self._needed):
                self._resume()
        self._begin(job)
        return job

    def take_short(self, long_job: str) -> Job | None:
        """The next job that may pass the long one that runs, begun; None when none waits, or it isn't resumable."""
        with self._changed:
            passed = any(job.id == long_job and job.kind.resumable for job in self._running)
            if self._closing or self._paused or not passed:
                return None
            job = next((job for job in self._queue if not job.kind.resumable), None)
            if job is None:
                return None
            self._queue.remove(job)
            self._running.append(job)
        self._begin(job)
        return job

    def payload(self, job: Job) -> object:
        """What the job was submitted with. Raises: WebuiError when that can't be read any more."""
        if not self._is_on_disk(job):
            return job.payload
        assert self._disk is not None
        text = self._disk.store.payload(job.id)
        if text is None or job.kind.payload is None:
            return None
        return self._disk.codec.load(job.kind.payload, json.loads(text))

    def finish(self, job: Job, result: object, failure: WebuiError | None) -> None:
        """The job's handler has returned or failed; failures say why in a sentence."""
        if job.put_back and self._is_on_disk(job):
            self._keep_for_later(job)
            with self._changed:
                self._running.remove(job)
                job.publish(state="queued", preview=None)
            return
        if failure is not None and is_no_space(failure):
            self._pause_for_space(job, failure)
        self._finish(job, "done" if failure is None else "failed", result, failure)

    def close_queue(self) -> None:
        """Begin nothing more and let those who wait go; the running job ends after its step and runs again later."""
        with self._changed:
            self._closing = True
            lost = [job for job in self._queue if not self._is_on_disk(job)]
            for job in lost:
                self._queue.remove(job)
            running = list(self._running)
            for job in running:
                job.put_back = not job.progress.interrupted
                self._flag(job, interrupted=True)
            self._changed.notify_all()
        for job in lost:
            self._finish(job, "cancelled", None, JobCancelled(f'Job "{job.id}" was cancelled before it began.'))
        for job in running:
            if job.put_back:
                self._keep_for_later(job)  # at once, as the process may have to end before the job does

    # Inside

    def _keep_for_later(self, job: Job) -> None:
        """On the disk the job waits as if it had not begun this time."""
        if self._disk is not None and job.kind.kept:
            self._try(self._disk.store.wait_again, job.id, job.place, max(job.progress.attempt - 1, 0))

    def _check_room(self, job_id: str) -> None:
        if self._closing:
            raise ServerStopping("The server is stopping and takes no more jobs.")
        if job_id in self._jobs:
            raise InvalidRequest(f'There is already a job "{job_id}"; choose another id or leave it out.')
        if len(self._queue) >= self._queue_limit:
            raise TooManyJobs(f"{len(self._queue)} jobs are waiting already; try again when some are done.")

    def _last_place(self) -> float:
        return max((job.place for job in (*self._queue, *self._running)), default=0.0)

    def _is_on_disk(self, job: Job) -> bool:
        return self._disk is not None and job.kind.kept

    def _write(self, job: Job, payload: object, disk: Disk) -> None:
        """Raises: NoSpace, StoreUnavailable, InvalidRequest."""
        with disk.blobs.held():
            try:
                text = json.dumps(disk.codec.dump(payload))
                disk.store.add(job.id, job.place, job.kind.id, job.progress.title, text)
            except OSError as error:
                raise failure_of(error, disk.blobs.folder) from error
            except KeyError:
                raise InvalidRequest(f'There is already a job "{job.id}"; choose another id.') from None

    def _job(self, job_id: str) -> Job:
        job = self._jobs.get(job_id)
        if job is None:
            raise NotFound(f'There is no job "{job_id}"; the last {OUTCOMES_KEPT} are remembered.')
        return job

    def _addressed(self, job_id: str | None) -> Job | None:
        if job_id is not None:
            return self._jobs.get(job_id)
        return self._running[-1] if self._running and self._running[-1].kind.kept else None

    def _flag(self, job: Job, **flags: bool) -> None:
        """Raise flags of a running job; a repeated wish is no news."""
        if job in self._running and any(not getattr(job.progress, flag) for flag in flags):
            job.publish(**flags)

    def _latest(self, job: Job) -> Progress:
        """The job's Progress; its place in the queue is counted when someone looks, as a queue may be long."""
        with self._changed:
            if job.progress.state == "queued" and job in self._queue:
                position = self._queue.index(job) + 1
                if job.progress.queue_position != position:
                    job.publish(queue_position=position)
            return job.progress

    def _begin(self, job: Job) -> None:
        attempt = 1
        if self._is_on_disk(job) and self._disk is not None:
            store = self._disk.store
            attempt = self._try(store.begin, job.id) or 1
        job.begin(attempt)

    def _try(self, write: Callable[..., Any], *arguments: object) -> Any:
        """Write to the disk; where that fails the queue goes on in memory, and `trouble` says so."""
        try:
            return write(*arguments)
        except (WebuiError, OSError) as error:
            log.error("The queue could not be written: %s", error)
            if is_no_space(error):
                self._paused = self._paused or NO_SPACE
            return None

    def _finish(self, job: Job, state: JobState, result: object, failure: WebuiError | None) -> None:
        """Keep the outcome, tell it, and forget what is too old to keep."""
        try:
            self._outcomes.keep(job.id, job.kind, state, result, failure)
        except (WebuiError, OSError) as error:
            log.error("What became of job %s could not be kept: %s", job.id, error)
            if is_no_space(error):
                self._paused = self._paused or NO_SPACE
        shown = None
        if failure is not None and state != "cancelled":
            shown = JobError(" ".join(str(failure).split()), not isinstance(failure, JobFailed))
        with self._changed:
            if job in self._running:
                self._running.remove(job)
            job.payload = None
            job.publish(state=state, error=shown, preview=None, queue_position=0, ended_at=time.time())
            self._ended.append(job)
            old = [self._ended.popleft() for _ in range(len(self._ended) - OUTCOMES_KEPT)]
            for gone in old:
                del self._jobs[gone.id]
        for gone in old:
            self._outcomes.forget(gone.id)
            if self._is_on_disk(gone) and self._disk is not None:
                self._try(self._disk.store.forget, gone.id)

    def tidy(self) -> None:
        """Between jobs: let old results go where the blobs are too many, sweep what nobody refers to, back up."""
        if self._disk is None:
            return
        disk = self._disk
        with self._changed:
            oldest = [job.id for job in self._ended if self._is_on_disk(job)]
        self._try(disk.tidy, SIZE_LIMIT, oldest)
        disk.store.back_up()

    def _put_back(self, job: Job, *, at_front: bool) -> None:
        """Queue a job that has ended once more."""
        assert self._disk is not None
        with self._submitting:
            with self._changed:
                if job not in self._ended:
                    return
                first = min((item.place for item in (*self._queue, *self._running)), default=1.0) - 1
                job.place = first if at_front else self._last_place() + 1
            self._disk.store.wait_again(job.id, job.place, 0)
            self._outcomes.forget(job.id)
            with self._changed:
                self._ended.remove(job)
                (self._queue.appendleft if at_front else self._queue.append)(job)
                job.put_back = False
                fresh = Progress(job.id, job.progress.title, kind=job.kind.id, version=job.progress.version)
                job.progress = fresh
                job.publish(queue_position=self._queue.index(job) + 1)

    # A full disk

    def _pause_for_space(self, job: Job, failure: WebuiError) -> None:
        log.error("No space: %s", failure)
        with self._changed:
            if self._is_on_disk(job):
                self._waits_for_space.append(job)
            self._paused = f"The disk is full: {failure} The queue rests and goes on by itself when there is space."

    def _resume(self) -> None:
        with self._changed:
            jobs, self._waits_for_space = self._waits_for_space, []
            self._paused = ""
            self._needed = min(self._needed * 2, 1 << 30)
        for job in reversed(jobs):
            self._try(partial(self._put_back, job, at_front=True))

    # After a restart

    def _recover(self, disk: Disk) -> None:
        for row in disk.store.all():
            kind = self._kinds.get(row.kind)
            job = self._remembered(row, kind or JobKind(row.kind, "", title=row.title))
            self._jobs[row.id] = job
            if row.state in ("queued", "running"):
                reason = _why_parked(row, kind)
                if reason:
                    self._ended.append(job)
                    self._outcomes.keep(row.id, job.kind, "parked", None, JobParked(reason))
                    job.publish(state="parked", error=JobError(reason, is_user_error=True), ended_at=time.time())
                    log.error(reason)
                else:
                    self._queue.append(job)
            else:
                self._ended.append(job)
                if row.error:
                    self._outcomes.recall(row.id, row.error)

    def _remembered(self, row: StoredJob, kind: JobKind) -> Job:
        waits = row.state in ("queued", "running")
        error = None
        if row.error and row.state != "cancelled":
            error = JobError(row.error["message"], not row.error["fault"])
        known = {"state": "queued" if waits else row.state, "error": error, "ended_at": row.ended}
        return Job(row.id, kind, row.title, self._changed, row.place, **known)


NO_SPACE = "The disk is full. The queue rests and goes on by itself when there is space."


def _why_parked(row: StoredJob, kind: JobKind | None) -> str:
    if kind is None:
        return f'Job "{row.id}" can\'t run: what it is for ("{row.kind}") isn\'t installed any more.'
    if row.state == "running" and row.attempts >= MOST_DEATHS:
        return (
            f'Job "{row.id}" is set aside: the server ended {row.attempts} times while it ran. Run it again from the '
            "queue when you know why."
        )
    return ""
