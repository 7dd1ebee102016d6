"""The queue, and the one thread that owns the device.

Everything that computes is a job. Jobs run one after another in the order they came, all in one worker thread, so
the device needs no other lock. Handlers and the engine are named by import path and imported in that thread:
whoever submits jobs never imports torch.
"""

from __future__ import annotations

import importlib
import logging
import secrets
import threading
from collections import deque
from typing import Any

from webui.core.errors import InvalidRequest, NotFound, WebuiError
from webui.jobs.context import JobContext, JobRecord
from webui.jobs.errors import JobCancelled, JobFailed, ServerStopping, TooManyJobs
from webui.jobs.progress import JobError, Progress

log = logging.getLogger(__name__)

QUEUE_LIMIT = 1000
RESULTS_KEPT = 16  # pictures are large
OUTCOMES_KEPT = 256  # final Progress, without preview and result
ID_LENGTH = 200


class _Job(JobRecord):
    def __init__(
        self, job_id: str, title: str, changed: threading.Condition, handler: str, payload: object, counts: bool
    ) -> None:
        super().__init__(job_id, title, changed)
        self.handler = handler
        self.payload = payload
        self.counts = counts
        self.result: object = None
        self.failure: WebuiError | None = None
        self.result_kept = True


class JobRunner:
    """One FIFO queue and its worker thread. Every method may be called from any thread.

    build_engine: import path such as "webui.pipeline.engine:build"; called as build(services) in the worker.
    A job's handler is called as handler(engine, payload, job: JobContext) and returns the job's result.
    """

    def __init__(self, build_engine: str, services: object, queue_limit: int = QUEUE_LIMIT) -> None:
        self._build_engine = build_engine
        self._services = services
        self._queue_limit = queue_limit
        self._changed = threading.Condition()
        self._jobs: dict[str, _Job] = {}  # all that are queued, running or remembered
        self._queue: deque[_Job] = deque()
        self._running: _Job | None = None
        self._ended: deque[_Job] = deque()
        self._with_result: deque[_Job] = deque()
        self._closing = False
        self._worker = threading.Thread(target=self._work, name="job worker", daemon=True)

    def start(self) -> None:
        """Start the worker, which builds the engine first. Jobs may be submitted before."""
        self._worker.start()

    def close(self, timeout: float | None = None) -> bool:
        """Cancel the queue, end the running job after its current step, and wait for the worker.

        Returns: whether the worker has ended within `timeout` seconds.
        """
        with self._changed:
            self._closing = True
            for job in tuple(self._queue):
                self._cancel(job)
            if self._running is not None:
                self._flag(self._running, interrupted=True)
            self._changed.notify_all()
        if self._worker.ident is not None:
            self._worker.join(timeout)
        return not self._worker.is_alive()

    def submit(
        self, handler: str, payload: object, *, job_id: str | None = None, title: str, counts: bool = True
    ) -> str:
        """Queue a job and return its id.

        handler: import path such as "webui.pipeline.generate:run".
        job_id: the caller's own, to watch the job under; drawn if None.
        counts: False for housekeeping, such as loading a checkpoint: current(), pending() and an interrupt that
        names no job pass over it.
        Raises: InvalidRequest for an id that is in use, TooManyJobs, ServerStopping.
        """
        job_id = f"task({secrets.token_hex(8)})" if job_id is None else job_id
        if not 0 < len(job_id) <= ID_LENGTH:
            raise InvalidRequest(f"A job id has 1 to {ID_LENGTH} characters; this one has {len(job_id)}.")
        with self._changed:
            if self._closing:
                raise ServerStopping("The server is stopping and takes no more jobs.")
            if job_id in self._jobs:
                raise InvalidRequest(f'There is already a job "{job_id}"; choose another id or leave it out.')
            if len(self._queue) >= self._queue_limit:
                raise TooManyJobs(f"{len(self._queue)} jobs are waiting already; try again when some are done.")
            job = _Job(job_id, title, self._changed, handler, payload, counts)
            self._jobs[job_id] = job
            self._queue.append(job)
            job.publish(queue_position=len(self._queue))
        return job_id

    def progress(self, job_id: str) -> Progress:
        """Raises: NotFound for an id never submitted, or forgotten since."""
        return self._latest(self._job(job_id))

    def current(self) -> Progress | None:
        """The running job, unless it is housekeeping."""
        job = self._running
        return job.progress if job is not None and job.counts else None

    def pending(self) -> tuple[str, ...]:
        """Ids of the waiting jobs without housekeeping, the next to start first."""
        with self._changed:
            return tuple(job.progress.job_id for job in self._queue if job.counts)

    def wait(self, job_id: str, timeout: float | None = None) -> Progress:
        """Block until the job has ended, at most `timeout` seconds (None: no limit); returns its latest Progress."""
        job = self._job(job_id)
        with self._changed:
            self._changed.wait_for(lambda: job.progress.ended, timeout)
        return job.progress

    def wait_for_change(self, job_id: str, since_version: int, timeout: float | None = None) -> Progress:
        """Block until the job's Progress is newer than `since_version`, at most `timeout` seconds."""
        job = self._job(job_id)
        with self._changed:
            self._changed.wait_for(lambda: self._latest(job).version > since_version or job.progress.ended, timeout)
        return job.progress

    def result(self, job_id: str, timeout: float | None = 0) -> object:
        """What the handler returned; waits for it up to `timeout` seconds (None: no limit).

        Raises: the handler's own WebuiError, JobFailed, JobCancelled; InvalidRequest while the job hasn't ended;
        NotFound once the result is forgotten (the last 16 are kept).
        """
        job = self._job(job_id)
        with self._changed:
            self._changed.wait_for(lambda: job.progress.ended, timeout)
            if not job.progress.ended:
                raise InvalidRequest(f'Job "{job_id}" is {job.progress.state}; its result comes when it has ended.')
            if job.failure is not None:
                raise job.failure.with_traceback(None)
            if not job.result_kept:
                raise NotFound(f'The result of job "{job_id}" is no longer kept; saved pictures are in the outputs.')
            return job.result

    def interrupt(self, job_id: str | None = None, after_current: bool = False) -> None:
        """End a job after its current step, or after its current pass; a job that waits is cancelled.

        job_id: None means whichever runs now. No such job, or one that has ended: nothing happens.
        """
        with self._changed:
            job = self._addressed(job_id)
            if job is not None and job.progress.state == "queued":
                self._cancel(job)
            elif job is not None and after_current:
                self._flag(job, stopping=True)
            elif job is not None:
                self._flag(job, interrupted=True)

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
            if job is not None and job.progress.state == "queued":
                self._cancel(job)

    def _job(self, job_id: str) -> _Job:
        job = self._jobs.get(job_id)
        if job is None:
            raise NotFound(f'There is no job "{job_id}"; the last {OUTCOMES_KEPT} are remembered.')
        return job

    def _addressed(self, job_id: str | None) -> _Job | None:
        if job_id is not None:
            return self._jobs.get(job_id)
        return self._running if self._running is not None and self._running.counts else None

    def _flag(self, job: _Job, **flags: bool) -> None:
        """Raise flags of a running job; a repeated wish is no news."""
        progress = job.progress
        if progress.state == "running" and any(not getattr(progress, flag) for flag in flags):
            job.publish(**flags)

    def _cancel(self, job: _Job) -> None:
        self._queue.remove(job)
        self._end(job, state="cancelled")
        job.failure = JobCancelled(f'Job "{job.progress.job_id}" was cancelled before it began.')

    def _latest(self, job: _Job) -> Progress:
        """The job's Progress; its place in the queue is counted when someone looks, as a queue may be long."""
        with self._changed:
            if job.progress.state == "queued":
                position = self._queue.index(job) + 1
                if job.progress.queue_position != position:
                    job.publish(queue_position=position)
            return job.progress

    def _end(self, job: _Job, **changes: Any) -> None:
        """Publish the job's last Progress and forget what is too old to keep."""
        job.payload = None
        job.publish(preview=None, queue_position=0, **changes)
        self._ended.append(job)
        if job.result is not None:
            self._with_result.append(job)
        if len(self._with_result) > RESULTS_KEPT:
            old = self._with_result.popleft()
            old.result, old.result_kept = None, False
        if len(self._ended) > OUTCOMES_KEPT:
            del self._jobs[self._ended.popleft().progress.job_id]

    # The rest runs in the worker thread.

    def _work(self) -> None:
        engine, failure = self._build()
        while (job := self._next()) is not None:
            self._run(job, engine, failure)
            del job  # its result and payload may be large; this thread may wait long for another

    def _build(self) -> tuple[object, WebuiError | None]:
        try:
            return _imported(self._build_engine)(self._services), None
        except BaseException as error:  # whatever it was, the server stays up and says so
            log.exception("The engine could not be built")
            return None, _as_failure(error, "The engine could not start")

    def _next(self) -> _Job | None:
        """The next job, begun; None when the runner closes."""
        with self._changed:
            self._changed.wait_for(lambda: self._queue or self._closing)
            if self._closing:
                return None
            job = self._queue.popleft()
            self._running = job
            job.begin()
            return job

    def _run(self, job: _Job, engine: object, engine_failure: WebuiError | None) -> None:
        result: object = None
        failure = engine_failure
        if engine_failure is None:
            try:
                result = _imported(job.handler)(engine, job.payload, JobContext(job))
            except BaseException as error:  # SystemExit and MemoryError too: the worker outlives every job
                if not isinstance(error, WebuiError):
                    log.exception("Job %s (%s) failed", job.progress.job_id, job.progress.title)
                failure = _as_failure(error, f"{job.progress.title} failed")
        with self._changed:
            self._running = None
            job.result, job.failure = result, failure
            if failure is None:
                self._end(job, state="done")
            else:
                self._end(job, state="failed", error=JobError(_text(failure), not isinstance(failure, JobFailed)))


def _imported(path: str) -> Any:
    module, _, name = path.partition(":")
    return getattr(importlib.import_module(module), name)


def _as_failure(error: BaseException, what: str) -> WebuiError:
    """The error as it is kept: without the frames of its traceback, which hold tensors."""
    if isinstance(error, WebuiError):
        error.__cause__ = error.__context__ = None
        return error.with_traceback(None)
    return JobFailed(f"{what}: {_reason(error)}")


def _reason(error: BaseException) -> str:
    text = _text(error)
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError" or "allocate memory" in text:
        return "out of memory. Try a smaller picture or batch."
    if isinstance(error, SystemExit):
        return f"something called sys.exit({text}). The log has the details."
    shown = text.rstrip(".") if len(text) <= 300 else text[:299] + "…"
    return f"{type(error).__name__}: {shown}. The log has the details." if text else f"{type(error).__name__}."


def _text(error: BaseException) -> str:
    """The error's words on one line; some errors fail even at that."""
    try:
        return " ".join(str(error).split())
    except Exception:  # noqa: BLE001  an error whose __str__ fails is still an error
        return type(error).__name__
