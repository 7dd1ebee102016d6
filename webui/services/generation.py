"""Starting a generation, stopping it, and telling how it ended: what page and API do alike."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from webui.core.errors import InvalidRequest, NotFound
from webui.core.request import GenerationRequest, GenerationResult
from webui.planning.script import make_script_plan
from webui.services.kinds import GENERATE, LOAD, SCRIPT
from webui.services.services import Services


def submit_generation(services: Services, request: GenerationRequest, job_id: str | None = None) -> str:
    """Decide what will happen and queue it; returns the job's id.

    Raises: InvalidRequest for what can't be done and for a taken id, NotFound, TooManyJobs.
    """
    if request.script:
        many = make_script_plan(request, services.planner)
        return services.jobs.submit(SCRIPT, many, job_id=job_id, title=request.mode)
    return services.jobs.submit(GENERATE, services.planner.plan(request), job_id=job_id, title=request.mode)


def generation_result(services: Services, job_id: str) -> GenerationResult:
    """What the job made. Raises: the job's own WebuiError, NotFound for one forgotten or of another kind."""
    result = services.jobs.result(job_id)
    if not isinstance(result, GenerationResult):
        raise NotFound(f'Job "{job_id}" made no pictures.')
    return result


def choose_checkpoint(services: Services, name: str) -> str:
    """Make a checkpoint the current one and start loading it; returns the loading job's id.

    Raises: NotFound naming the nearest checkpoint, WebuiError when the settings can't be saved.
    """
    title = services.checkpoints.find(name).title
    services.settings.update({"sd_model_checkpoint": title})
    return services.jobs.submit(LOAD, title, title=f"Loading {title}")


def stop(services: Services, job_id: str | None) -> None:
    """Interrupt a job as A1111's button does: of several passes the running one is finished first, if so set.

    A second call ends it at once. job_id: None for the one that runs.
    """
    jobs = services.jobs
    try:
        progress = jobs.progress(job_id) if job_id else jobs.current()
    except NotFound:
        progress = None
    several = progress is not None and progress.job_count > 1 and not progress.stopping
    after_current = several and services.settings.snapshot()["interrupt_after_current"]
    jobs.interrupt(job_id, after_current=bool(after_current))


def seed_of_picture(info: Mapping[str, Any], index: int, *, variation: bool = False) -> int:
    """The seed that picture `index` of a gallery was made with; the first one's for the grid.

    info: `GenerationResult.info`. Raises: InvalidRequest when there is no such picture.
    """
    seeds = info.get("all_subseeds" if variation else "all_seeds") or ()
    number = max(index - int(info.get("index_of_first_image", 0)), 0)
    if number >= len(seeds):
        raise InvalidRequest("There is no picture to take the seed from; generate one first.")
    return int(seeds[number])
