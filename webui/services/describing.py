"""Having pictures described in words."""

from __future__ import annotations

from webui.core.describing import DescribePlan, Description
from webui.core.extras import PictureSource
from webui.core.pictures import size_of
from webui.services.extras import pictures_in
from webui.services.folders import folder_of
from webui.services.kinds import DESCRIBE
from webui.services.services import Services


def describe(services: Services, picture: bytes, captioner: str) -> str:
    """What the picture shows; waits for its turn among the jobs.

    captioner: its name. Raises: NotFound for an unknown one, InvalidRequest without its weights or for what is no
    picture, BadModelFile.
    """
    size_of(picture)
    return _described(services, (PictureSource("The picture", picture),), captioner).texts[0]


def describe_folder(services: Services, folder: str, captioner: str, output: str = "") -> Description:
    """A text file for each picture of a folder, in the folder `output`, "" for beside them. Raises: as `describe`."""
    sources = pictures_in(services, folder, videos=False)
    return _described(services, sources, captioner, output or folder)


def _described(
    services: Services, sources: tuple[PictureSource, ...], captioner: str, folder: str | None = None
) -> Description:
    name = services.choices.find_captioner(captioner).name
    place = folder_of(services, folder) if folder is not None else None
    plan = DescribePlan(sources, name, services.settings.snapshot(), place)
    job_id = services.jobs.submit(DESCRIBE, plan)
    services.jobs.wait(job_id)
    described = services.jobs.result(job_id)
    assert isinstance(described, Description)
    return described
