"""The queue as people see it: what runs, waits and has ended, and what can be done about each."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

from PIL import Image

from webui.core.errors import NotFound
from webui.core.request import GenerationResult
from webui.jobs.progress import Progress
from webui.services.services import Services

THUMBNAIL = 96
"""Pixels of the longer side."""


def queue_facts(services: Services) -> dict[str, Any]:
    """trouble: why nothing is begun or kept, "" when all is well; jobs: see `Progress`, the running one first."""
    return {"trouble": services.jobs.trouble, "jobs": [_facts(job) for job in services.jobs.listing()]}


def take_out(services: Services, job_id: str) -> None:
    """Cancel a job that waits, end one that runs after its step. Raises: NotFound."""
    services.jobs.progress(job_id)
    services.jobs.interrupt(job_id)


def thumbnail(services: Services, job_id: str) -> bytes:
    """A small JPEG of the first picture that a job made. Raises: NotFound when it made none, or it is gone."""
    result = services.jobs.result(job_id)
    if not isinstance(result, GenerationResult) or not result.images:
        raise NotFound(f'Job "{job_id}" made no pictures.')
    with Image.open(io.BytesIO(result.images[result.index_of_first_image].data)) as image:
        image.draft("RGB", (THUMBNAIL, THUMBNAIL))
        small = image.convert("RGB")
    small.thumbnail((THUMBNAIL, THUMBNAIL))
    small.save(data := io.BytesIO(), "JPEG", quality=80)
    return data.getvalue()


def _facts(job: Progress) -> Mapping[str, Any]:
    return {
        "id": job.job_id,
        "title": job.title,
        "kind": job.kind,
        "state": job.state,
        "progress": round(job.fraction, 4),
        "attempt": job.attempt,
        "error": job.error.message if job.error else None,
        "ended_at": job.ended_at,
        "artifacts": list(job.artifacts),
    }
