"""Handlers for a job runner whose jobs the tests steer."""

from __future__ import annotations

import time
from typing import Any

from webui.core.request import GenerationResult
from webui.jobs.context import JobContext


def build(services: object) -> None:
    """No engine."""


def passes(engine: object, count: int, job: JobContext) -> int:
    """`count` passes of small steps that last until they are ended; returns how many were begun."""
    job.begin_passes(count)
    for begun in range(1, count + 1):
        for _ in job.steps(range(10**9)):
            time.sleep(0.001)
            if job.stopping:
                break
        job.next_pass()
        if job.interrupted or job.stopping:
            return begun
    return count


def nothing(engine: object, payload: Any, job: JobContext) -> None:
    """A job that makes no pictures."""


def picture(engine: object, payload: Any, job: JobContext) -> GenerationResult:
    return GenerationResult((), {"all_seeds": [1]})
