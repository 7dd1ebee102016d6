"""Starting the job of the Extras tab, and which pictures a folder holds."""

from __future__ import annotations

from webui.core.choices import ExtrasStep
from webui.core.errors import InvalidRequest, NotFound
from webui.core.extras import MOST_PICTURES, VIDEO_SUFFIXES, ExtrasRequest, PictureSource
from webui.core.params import Params
from webui.planning.extras import make_extras_plan
from webui.services.folders import folder_of
from webui.services.kinds import EXTRAS
from webui.services.services import Services

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".avif", ".gif", ".bmp", ".tif", ".tiff")


def submit_extras(services: Services, request: ExtrasRequest, job_id: str | None = None) -> str:
    """Queue the request; returns the job's id.

    Raises: InvalidRequest for what can't be done here and for a taken id, TooManyJobs.
    """
    plan = make_extras_plan(request, services.settings.snapshot(), services.choices)
    return services.jobs.submit(EXTRAS, plan, job_id=job_id)


def further_steps(services: Services) -> list[ExtrasStep]:
    """The operations whose parameters are no part of the request itself, in the order in which they are done."""
    settings = services.settings.snapshot()
    steps = services.choices.extras_steps(settings["postprocessing_operation_order"])
    return [step for step in steps if step.params is not None and not issubclass(ExtrasRequest, step.params)]


def step_groups(services: Services) -> list[type[Params]]:
    """The parameters of further steps, in the order in which they are done."""
    return [step.params for step in further_steps(services) if step.params is not None]


def pictures_in(services: Services, folder: str, *, videos: bool = True) -> tuple[PictureSource, ...]:
    """The pictures of a folder, and its videos, by name.

    Raises: as `folder_of`, InvalidRequest when it holds none, or too many.
    """
    place = folder_of(services, folder)
    if not place.is_dir():
        raise NotFound(f'There is no folder "{folder}" on the machine that runs Easel.')
    suffixes = (*SUFFIXES, *VIDEO_SUFFIXES) if videos else SUFFIXES
    try:
        files = sorted(file for file in place.iterdir() if file.suffix.lower() in suffixes and file.is_file())
    except OSError as error:
        raise InvalidRequest(f"The folder {place} can't be read: {error.strerror}.") from error
    if not files:
        raise InvalidRequest(f"The folder {place} holds no pictures ({', '.join(suffixes)}).")
    if len(files) > MOST_PICTURES:
        raise InvalidRequest(f"The folder {place} holds {len(files)} pictures; at most {MOST_PICTURES} go at once.")
    return tuple(PictureSource(file.name, path=file) for file in files)
