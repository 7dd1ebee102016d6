"""A job's own hand on its progress, and what it may ask of the program around it."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol, TypeVar

from PIL.Image import Image
from typing_extensions import Self

from webui.core.errors import NoSpace, WebuiError
from webui.core.request import GenerationRequest, GenerationResult
from webui.core.settings import Settings
from webui.jobs.progress import Preview, Progress

T = TypeVar("T")


class Surroundings(Protocol):
    """What the worker does for a job that runs."""

    def generate(
        self, request: GenerationRequest, job: JobContext, settings: Settings | None = None
    ) -> GenerationResult: ...
    def save_grid(
        self,
        image: Image,
        request: GenerationRequest,
        job: JobContext,
        settings: Settings | None,
        name: str,
        infotext: str,
    ) -> GenerationResult: ...
    def save_picture(
        self, image: Image, request: GenerationRequest, job: JobContext, settings: Settings | None, infotext: str
    ) -> GenerationResult: ...
    def enlarge(
        self, image: Image, upscaler: str, scale: float, job: JobContext, settings: Settings | None
    ) -> Image: ...
    def describe(self, image: Image, captioner: str, settings: Settings | None) -> str: ...
    def frames_between(self, engine: str) -> AbstractContextManager[Any]: ...
    def save_state(self, job_id: str, state: bytes) -> None: ...
    def load_state(self, job_id: str) -> bytes | None: ...
    def let_others_pass(self, job_id: str) -> None: ...


class JobRecord:
    """The one place where a job's latest Progress lives.

    put_back: the server goes down, and the job will run again.
    `progress` is read without a lock (one reference); every replacement happens under `changed`, and wakes those
    who wait on it.
    """

    def __init__(self, job_id: str, title: str, changed: threading.Condition, **known: Any) -> None:
        """known: further fields of its Progress."""
        self.changed = changed
        self.progress = Progress(job_id=job_id, title=title, **known)
        self.put_back = False
        self._started: float | None = None

    def begin(self, attempt: int = 1) -> None:
        """Start the clocks; the job runs from here on."""
        self._started = time.monotonic()
        timestamp = time.strftime("%Y%m%d%H%M%S")
        self.publish(
            state="running", queue_position=0, started_at=time.time(), job_timestamp=timestamp, attempt=attempt
        )

    def publish(self, **changes: Any) -> None:
        with self.changed:
            elapsed = 0.0 if self._started is None else time.monotonic() - self._started
            version = self.progress.version + 1
            self.progress = replace(self.progress, **changes, elapsed_seconds=elapsed, version=version)
            self.changed.notify_all()


class Alone:
    """The surroundings of a job outside any queue. engine: makes pictures, if any are wanted."""

    def __init__(self, engine: Any = None) -> None:
        self._engine = engine
        self._state: bytes | None = None

    def generate(
        self, request: GenerationRequest, job: JobContext, settings: Settings | None = None
    ) -> GenerationResult:
        result: GenerationResult = self._engine.generate(request, job, settings)
        return result

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

    def save_state(self, job_id: str, state: bytes) -> None:
        self._state = state

    def load_state(self, job_id: str) -> bytes | None:
        return self._state

    def let_others_pass(self, job_id: str) -> None:
        """There are no others."""


class JobContext:
    """Given to the handler as `job`: it counts steps and passes, shows previews and says when to stop.

    A handler calls begin_passes() once, walks each pass through steps(), and calls next_pass() after each. It looks
    at `interrupted` and `stopping` before it begins another pass, and returns what it has. A job of several parts
    gives each a `child` of its own.
    """

    def __init__(
        self,
        record: JobRecord,
        surroundings: Surroundings,
        start: float = 0.0,
        share: float = 1.0,
        settings: Settings | None = None,
    ) -> None:
        """start, share: which part of the whole job this is, in [0, 1]. settings: those that it was asked for under."""
        self.settings = settings
        self._record = record
        self._surroundings = surroundings
        self._start, self._share = start, share
        self._given = 0.0  # how much of this part its children have got

    @classmethod
    def alone(cls, title: str = "job", engine: Any = None) -> Self:
        """A running job outside any queue, for the benchmark and for tests of a handler."""
        record = JobRecord("task(alone)", title, threading.Condition())
        record.begin()
        return cls(record, Alone(engine))

    def child(self, share: float) -> JobContext:
        """For the next `share` of this part, in (0, 1]: its passes fill that much of the progress."""
        start = self._start + self._share * self._given
        self._given += share
        return JobContext(self._record, self._surroundings, start, self._share * share, self.settings)

    def with_settings(self, settings: Settings) -> Self:
        """The same job, whose pictures are made under these settings."""
        return type(self)(self._record, self._surroundings, self._start, self._share, settings)

    def generate(
        self, request: GenerationRequest, *, save: bool = True, settings: Settings | None = None
    ) -> GenerationResult:
        """Make pictures within this job; its passes are this part's.

        The result's `pictures` are those made, without loss, whatever format they are saved in.
        save: whether they are saved as the request says, or only handed back. settings: None for the job's own, or
        those of now where it has none.
        Give the request its seed: what is drawn here is drawn anew when the job has to run again.
        Raises: WebuiError.
        """
        if not save:
            request = request.replace(save_samples=False, save_grid=False)
        return self._surroundings.generate(request, self, settings or self.settings)

    def save_grid(
        self, image: Image, request: GenerationRequest, name: str = "grid", infotext: str = ""
    ) -> GenerationResult:
        """A picture of many pictures, saved as settings and request say.

        Returns: a result of it alone, without facts, to be `joined` with the others; without pictures where the setting
        `return_grid` is off. name: the beginning of its file's name. infotext: its text, "" for that of the request's
        first picture.
        """
        return self._surroundings.save_grid(image, request, self, self.settings, name, infotext)

    def save_picture(self, image: Image, request: GenerationRequest, infotext: str) -> GenerationResult:
        """A picture put together of others, saved as one of the request's, with that text.

        Returns: a result of it alone, without facts.
        """
        return self._surroundings.save_picture(image, request, self, self.settings, infotext)

    def enlarge(self, image: Image, upscaler: str, scale: float) -> Image:
        """The picture at `scale` times its size by the upscaler of that name, each side a multiple of 8 pixels.

        An interrupted job gets it by Lanczos. Raises: InvalidRequest for one that can't be used.
        """
        return self._surroundings.enlarge(image, upscaler, scale, self, self.settings)

    def describe(self, image: Image, captioner: str) -> str:
        """What the picture shows, in words. captioner: by name or alias, such as "CLIP" or "DeepBooru".

        Raises: NotFound for an unknown one; InvalidRequest, which says what to do, for one whose files aren't there.
        """
        return self._surroundings.describe(image, captioner, self.settings)

    def frames_between(self, engine: str) -> AbstractContextManager[Any]:
        """Inside, a `webui.video.Between` for `webui.video.interpolated`: "Optical flow", or a network's.

        Raises: InvalidRequest for an engine that isn't there or lacks its weights, BadModelFile.
        """
        return self._surroundings.frames_between(engine)

    def spawn(self, requests: Iterable[GenerationRequest], *, save: bool = True) -> list[GenerationResult]:
        """Make the pictures of many requests, one after the other; fewer when the job is told to stop.

        One that fails loses none of the others: its result has no pictures, and a comment that says why.
        Raises: WebuiError when all of them fail.
        """
        todo, made, failures = list(requests), list[GenerationResult](), list[WebuiError]()
        for request in todo:
            if made and (self.interrupted or self.stopping or made[-1].out_of_space):
                break
            try:
                made.append(self.child(1 / len(todo)).generate(request, save=save))
            except NoSpace:
                raise  # the queue rests then, and the job runs again
            except WebuiError as error:
                failures.append(error)
                made.append(GenerationResult((), {}, (str(error),)))
            self.pause_point()
        if failures and len(failures) == len(made):
            raise failures[0]
        return made

    def save_state(self, state: Any) -> None:
        """Keep what a resumable job needs to go on from here, should the server die: small, as JSON takes it.

        It replaces the state before at once or not at all. Raises: TypeError, NoSpace, StoreUnavailable.
        """
        self._surroundings.save_state(self._record.progress.job_id, json.dumps(state).encode())

    def load_state(self) -> Any:
        """What `save_state` kept last, None for a job that begins."""
        state = self._surroundings.load_state(self._record.progress.job_id)
        return None if state is None else json.loads(state)

    def artifact(self, path: Path) -> Path:
        """Tell of a file that the job has made beside its result; it is listed with the job. Returns: the path."""
        with self._record.changed:
            self._publish(artifacts=(*self.progress.artifacts, str(path)))
        return path

    def pause_point(self) -> None:
        """A resumable job's offer to let shorter ones pass that wait; call it while no model is leased.

        Returns when they are done; at once in a job of another kind, which keeps its turn.
        """
        self._surroundings.let_others_pass(self._record.progress.job_id)

    @property
    def server_stops(self) -> bool:
        """It was interrupted because the server goes down: save what there is, the job will run again."""
        return self._record.put_back

    @property
    def progress(self) -> Progress:
        return self._record.progress

    @property
    def interrupted(self) -> bool:
        """Asked to end at once."""
        return self.progress.interrupted

    @property
    def skipped(self) -> bool:
        """Asked to leave this pass; next_pass() clears it."""
        return self.progress.skipped

    @property
    def completes_pass(self) -> bool:
        """Neither of these: the running pass goes to its end."""
        return not (self.interrupted or self.skipped)

    @property
    def stopping(self) -> bool:
        """Asked to end after this pass."""
        return self.progress.stopping

    def begin_passes(self, count: int) -> None:
        """Tell how many passes there will be; also mends an earlier estimate. count: at least 1."""
        assert count >= 1, f"{count=}"
        if (self._start, self._share) == (0.0, 1.0):
            self._publish(job_count=count)
            return
        with self._record.changed:
            done = self.progress.job_no
            estimate = done + max(round(count * (1 - self._start) / self._share), count)
            part = {"part_start": self._start, "part_share": self._share, "part_no": done, "part_passes": count}
            self._publish(job_count=estimate, **part)

    def steps(self, steps: Sequence[T]) -> Iterator[T]:
        """Yield each of `steps` and count it as done when the next is asked for.

        Ends early, before any further step, once the job is interrupted or this pass is skipped.
        """
        self._publish(step=0, steps=len(steps))
        for done, step in enumerate(steps, start=1):
            if self.interrupted or self.skipped:
                return
            yield step
            self._publish(step=done)

    def next_pass(self) -> None:
        """The running pass is behind us."""
        self._publish(job_no=self.progress.job_no + 1, step=0, steps=0, skipped=False)

    def again_from(self, job_no: int) -> None:
        """What was done since pass `job_no` is to be done again."""
        self._publish(job_no=job_no, step=0, steps=0)

    def text(self, text: str) -> None:
        """Words for the progress bar, such as "Decoding"; "" for none."""
        self._publish(text=text)

    def show(self, data: bytes, mime: str) -> None:
        """Publish a preview. data: an encoded picture of the type `mime`, such as "image/png"."""
        with self._record.changed:
            shown = self.progress.preview
            self._publish(preview=Preview(shown.number + 1 if shown else 1, mime, data))

    def _publish(self, **changes: Any) -> None:
        with self._record.changed:
            if self.progress.state == "running":  # else: a thread that outlived its job
                self._record.publish(**changes)
