"""Starting the job of the Extras tab, and which pictures a folder holds."""

from __future__ import annotations

from pathlib import Path

from webui.core.errors import InvalidRequest, NotFound, Refused
from webui.core.extras import MOST_PICTURES, ExtrasRequest, PictureSource
from webui.desk.services import Services

EXTRAS = "webui.pipeline.extras:run"
SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".avif", ".gif", ".bmp", ".tif", ".tiff")


def submit_extras(services: Services, request: ExtrasRequest, job_id: str | None = None) -> str:
    """Queue the request; returns the job's id. Raises: InvalidRequest for a taken id, TooManyJobs."""
    return services.jobs.submit(EXTRAS, request, job_id=job_id, title="extras")


def pictures_in(services: Services, folder: str) -> tuple[PictureSource, ...]:
    """The pictures of a folder, by name. Raises: as `folder_of`, InvalidRequest when it holds none, or too many."""
    place = folder_of(services, folder)
    if not place.is_dir():
        raise NotFound(f'There is no folder "{folder}" on the machine that runs Easel.')
    try:
        files = sorted(file for file in place.iterdir() if file.suffix.lower() in SUFFIXES and file.is_file())
    except OSError as error:
        raise InvalidRequest(f"The folder {place} can't be read: {error.strerror}.") from error
    if not files:
        raise InvalidRequest(f"The folder {place} holds no pictures ({', '.join(SUFFIXES)}).")
    if len(files) > MOST_PICTURES:
        raise InvalidRequest(f"The folder {place} holds {len(files)} pictures; at most {MOST_PICTURES} go at once.")
    return tuple(PictureSource(file.name, path=file) for file in files)


def folder_of(services: Services, folder: str) -> Path:
    """A folder on the server that a visitor named; relative ones lie in the data folder.

    Raises: InvalidRequest for none, Refused where visitors may not choose: with --hide-ui-dir-config, and outside
    the data folder when others than this machine can reach the server.
    """
    flags, data = services.flags, services.paths.data
    if flags.hide_ui_dir_config:
        raise Refused("Folders can't be chosen here: Easel was started with --hide-ui-dir-config.")
    if not folder.strip() or "\0" in folder:
        raise InvalidRequest("Name a folder on the machine that runs Easel.")
    try:
        place = (data / folder.strip()).resolve()
    except (OSError, RuntimeError) as error:
        raise InvalidRequest(f'"{folder[:100]}" can\'t be the name of a folder.') from error
    if not flags.is_local and not place.is_relative_to(data.resolve()):
        raise Refused("On a server that others can reach, folders must lie inside Easel's data folder.")
    return place
