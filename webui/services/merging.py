"""Starting a merge of checkpoints, and what their files say about themselves."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from webui.catalog.safetensors_header import read_header
from webui.core.errors import BadModelFile
from webui.core.merging import MergeRequest
from webui.services.kinds import MERGE
from webui.services.services import Services


def submit_merge(services: Services, request: MergeRequest, job_id: str | None = None) -> str:
    """Queue the merge; returns the job's id. Its result is a `MergeResult`. Raises: InvalidRequest, TooManyJobs."""
    return services.jobs.submit(MERGE, request, job_id=job_id)


def read_metadata(services: Services, names: Sequence[str]) -> str:
    """The metadata of the named checkpoints together, the later ones winning, as JSON to edit.

    Raises: NotFound.
    """
    together: dict[str, Any] = {}
    for name in names:
        if name:
            path = services.checkpoints.find(name).path
            try:
                found = read_header(path).metadata
            except BadModelFile:
                continue  # pickles and folders carry none
            together |= {key: _plain(value) for key, value in found.items()}
    return json.dumps(together, indent=4, ensure_ascii=False)


def _plain(value: str) -> Any:
    """JSON objects that are kept as text, as objects."""
    if not value.startswith("{"):
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        return value
