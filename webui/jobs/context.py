"""A job's own hand on its progress."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, TypeVar

from typing_extensions import Self

from webui.jobs.progress import Preview, Progress

T = TypeVar("T")


class JobRecord:
    """The one place where a job's latest Progress lives.

    `progress` is read without a lock (one reference); every replacement happens under `changed`, and wakes those
    who wait on it.
    """

    def __init__(self, job_id: str, title: str, changed: threading.Condition) -> None:
        self.changed = changed
        self.progress = Progress(job_id=job_id, title=title)
        self._started: float | None = None

    def begin(self) -> None:
        """Start the clocks; the job runs from here on."""
        self._started = time.monotonic()
        timestamp = time.strftime("%Y%m%d%H%M%S")
        self.publish(state="running", queue_position=0, started_at=time.time(), job_timestamp=timestamp)

    def publish(self, **changes: Any) -> None:
        with self.changed:
            elapsed = 0.0 if self._started is None else time.monotonic() - self._started
            version = self.progress.version + 1
            self.progress = replace(self.progress, **changes, elapsed_seconds=elapsed, version=version)
            self.changed.notify_all()


class JobContext:
    """Given to the handler as `job`: it counts steps and passes, shows previews and says when to stop.

    A handler calls begin_passes() once, walks each pass through steps(), and calls next_pass() after each. It looks
    at `interrupted` and `stopping` before it begins another pass, and returns what it has.
    """

    def __init__(self, record: JobRecord) -> None:
        self._record = record

    @classmethod
    def alone(cls, title: str = "job") -> Self:
        """A running job outside any queue, for the benchmark and for tests of a handler."""
        record = JobRecord("task(alone)", title, threading.Condition())
        record.begin()
        return cls(record)

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
        self._publish(job_count=count)

    def part_of(self, parts: int) -> JobContext:
        """For the first of `parts` equal parts that are still to do: its passes count for all of them."""
        return _Part(self._record, parts)

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


class _Part(JobContext):
    """One of several equal parts of a job, each of which begins its own passes."""

    def __init__(self, record: JobRecord, parts: int) -> None:
        super().__init__(record)
        self._parts = parts

    def begin_passes(self, count: int) -> None:
        super().begin_passes(self.progress.job_no + count * self._parts)
