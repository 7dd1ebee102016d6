"""The one thread that owns the device.

Everything that computes is a job. Jobs run one after another, all in this thread, so the device needs no other lock.
Handlers and the engine are named by import path and imported here: whoever submits jobs never imports torch. Another
worker, in a process or on a machine of its own, would call the queue by the same few methods: take, payload, finish.
"""

from __future__ import annotations

import importlib
import logging
import threading
from contextlib import AbstractContextManager
from typing import Any

from PIL.Image import Image

from webui.core.errors import NoSpace, WebuiError
from webui.core.request import GenerationRequest, GenerationResult
from webui.core.settings import Settings
from webui.jobs.context import JobContext
from webui.jobs.errors import JobFailed, is_no_space
from webui.jobs.outcomes import Disk
from webui.jobs.queue import Job, JobQueue

log = logging.getLogger(__name__)


class Worker:
    """Takes jobs from a queue until that closes; the surroundings of every job it runs.

    build_engine: import path such as "webui.pipeline.engine:build"; called as build(services) in the thread.
    """

    def __init__(self, queue: JobQueue, build_engine: str, services: object, disk: Disk | None) -> None:
        self._queue = queue
        self._build_engine = build_engine
        self._services = services
        self._disk = disk
        self._engine: Any = None
        self._engine_failure: WebuiError | None = None
        self._states: dict[str, bytes] = {}  # of jobs that aren't kept on the disk
        self._thread = threading.Thread(target=self._work, name="job worker", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def join(self, timeout: float | None) -> bool:
        """Wait for the end of the thread. Returns: whether it has ended, or never began."""
        if self._thread.ident is not None:
            self._thread.join(timeout)
        return not self._thread.is_alive()

    # The rest runs in the thread.

    def _work(self) -> None:
        try:
            self._engine = _imported(self._build_engine)(self._services)
        except BaseException as error:  # whatever it was, the server stays up and says so
            log.exception("The engine could not be built")
            self._engine_failure = _as_failure(error, "The engine could not start")
        while (job := self._queue.take()) is not None:
            self._run(job)
            del job  # its result and payload may be large; this thread may wait long for another
            self._queue.tidy()

    def _run(self, job: Job) -> None:
        result, failure = None, self._engine_failure
        if failure is None:
            try:
                run = _imported(job.kind.run) if isinstance(job.kind.run, str) else job.kind.run
                result = run(self._engine, self._queue.payload(job), JobContext(job, self))
                _require_saved(result, job.progress.title)
            except BaseException as error:  # SystemExit and MemoryError too: the worker outlives every job
                if not isinstance(error, WebuiError):
                    log.exception("Job %s (%s) failed", job.id, job.progress.title)
                failure = _as_failure(error, f"{job.progress.title} failed")
        self._states.pop(job.id, None)
        self._queue.finish(job, result, failure)

    # What jobs may ask

    def generate(
        self, request: GenerationRequest, job: JobContext, settings: Settings | None = None
    ) -> GenerationResult:
        result: GenerationResult = self._engine.generate(request, job, settings)
        _require_saved(result, job.progress.title)
        return result

    def save_state(self, job_id: str, state: bytes) -> None:
        if self._disk is not None:
            self._disk.store.save_state(job_id, state)
        else:
            self._states[job_id] = state

    def load_state(self, job_id: str) -> bytes | None:
        return self._states.get(job_id) if self._disk is None else self._disk.store.load_state(job_id)

    def save_grid(
        self,
        image: Image,
        request: GenerationRequest,
        job: JobContext,
        settings: Settings | None,
        name: str,
        infotext: str,
    ) -> GenerationResult:
        result: GenerationResult = self._engine.save_grid(image, request, job, settings, name, infotext)
        return result

    def save_picture(
        self, image: Image, request: GenerationRequest, job: JobContext, settings: Settings | None, infotext: str
    ) -> GenerationResult:
        result: GenerationResult = self._engine.save_picture(image, request, job, settings, infotext)
        _require_saved(result, job.progress.title)
        return result

    def enlarge(self, image: Image, upscaler: str, scale: float, job: JobContext, settings: Settings | None) -> Image:
        enlarged: Image = self._engine.enlarge(image, upscaler, scale, job, settings)
        return enlarged

    def describe(self, image: Image, captioner: str, settings: Settings | None) -> str:
        text: str = self._engine.describe(image, captioner, settings)
        return text

    def frames_between(self, engine: str) -> AbstractContextManager[Any]:
        between: AbstractContextManager[Any] = self._engine.frames_between(engine)
        return between

    def let_others_pass(self, job_id: str) -> None:
        while (job := self._queue.take_short(job_id)) is not None:
            self._run(job)


def _require_saved(result: object, title: str) -> None:
    """Raises: NoSpace for pictures that no disk had room for, so that the queue rests and the job runs again."""
    if isinstance(result, GenerationResult) and isinstance(result.unsaved, NoSpace):
        raise NoSpace(f"{title} failed: no space. {result.unsaved}")


def _imported(path: str) -> Any:
    module, _, name = path.partition(":")
    return getattr(importlib.import_module(module), name)


def _as_failure(error: BaseException, what: str) -> WebuiError:
    """The error as it is kept: without the frames of its traceback, which hold tensors."""
    if is_no_space(error) and not isinstance(error, NoSpace):
        return NoSpace(f"{what}: no space. {_text(error).rstrip('.')}.")
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
