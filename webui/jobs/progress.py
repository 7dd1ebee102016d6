"""What a watcher may know of a job: one immutable snapshot, replaced as the job goes on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

JobState = Literal["queued", "running", "done", "failed", "cancelled", "parked"]


@dataclass(frozen=True)
class Preview:
    """A picture of the unfinished work.

    number: 1, 2, ... within its job, so that a page fetches each picture once. mime: such as "image/png".
    """

    number: int
    mime: str
    data: bytes


@dataclass(frozen=True)
class JobError:
    """Why a job failed. message: one sentence. is_user_error: the user can mend it (a WebuiError)."""

    message: str
    is_user_error: bool


@dataclass(frozen=True)
class Progress:
    """A job at one moment.

    A job consists of `job_count` passes (batches, times two with hires fix) of `steps` sampling steps; `job_no`
    passes and `step` steps of the running one are behind it. job_count is 0 until the job knows.

    queue_position: 1 for the next to start, 0 once it has started.
    started_at: seconds since 1970; job_timestamp: the same as local YYYYmmddHHMMSS; None and "" before the start.
    elapsed_seconds: between the start and this snapshot, by a clock that never jumps.
    interrupted, skipped, stopping: asked to end now, to leave this pass, to end after this pass. An interrupted
    job still ends as "done", with what it has; "cancelled" jobs never began; at "parked" ones the server died twice.
    kind: its JobKind's id. attempt: 2 when it runs again because the server died; 0 before it runs.
    ended_at: seconds since 1970.
    part_*: the part of the job that its passes are counted in now: where it starts and how much it is of the whole,
    both in [0, 1], the job_no at its beginning and its passes; 0 passes: the job is one part.
    artifacts: files that the job has made beside its result.
    version: grows by one with every snapshot of the job.
    """

    job_id: str
    title: str
    state: JobState = "queued"
    queue_position: int = 0
    step: int = 0
    steps: int = 0
    job_no: int = 0
    job_count: int = 0
    started_at: float | None = None
    job_timestamp: str = ""
    elapsed_seconds: float = 0.0
    text: str = ""
    preview: Preview | None = None
    interrupted: bool = False
    skipped: bool = False
    stopping: bool = False
    error: JobError | None = None
    part_start: float = 0.0
    part_share: float = 1.0
    part_no: int = 0
    part_passes: int = 0
    artifacts: tuple[str, ...] = ()
    kind: str = ""
    attempt: int = 0
    ended_at: float | None = None
    version: int = 0

    @property
    def ended(self) -> bool:
        return self.state in ("done", "failed", "cancelled", "parked")

    @property
    def fraction(self) -> float:
        """The part done, in [0, 1], as the page shows it: of equal passes job_no/job_count + step/(job_count·steps)."""
        return 1.0 if self.state == "done" else min(self._passes_done(), 1.0)

    @property
    def eta_seconds(self) -> float | None:
        """elapsed/fraction - elapsed, or None before the first step is done."""
        return _remaining(self.elapsed_seconds, self.fraction)

    @property
    def api_fraction(self) -> float:
        """`fraction` as /sdapi/v1/progress tells it: 0.01 ahead once the passes are known."""
        return min(0.01 + self.fraction, 1.0) if self.job_count > 0 else 0.0

    @property
    def api_eta_seconds(self) -> float | None:
        return _remaining(self.elapsed_seconds, self.api_fraction)

    def _passes_done(self) -> float:
        if self.job_count <= 0:
            return 0.0
        this_pass = self.step / self.steps if self.steps > 0 else 0.0
        passes = self.part_passes or self.job_count
        return self.part_start + self.part_share * (self.job_no - self.part_no + this_pass) / passes


def _remaining(elapsed: float, fraction: float) -> float | None:
    return elapsed / fraction - elapsed if fraction > 0 else None
