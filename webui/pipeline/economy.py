"""A batch that ran out of memory is made once more, by ever cheaper plans."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from webui.models.devices import is_out_of_memory
from webui.models.manager import Economy
from webui.pipeline.job import Job

T = TypeVar("T")


def enduring(job: Job, economy: Economy, make: Callable[[], T]) -> T:
    """make(), and again whenever `economy` could tighten after memory ran out; whatever else it raises goes through.

    make: holds no model or tensor between its calls. Raises: what it raised when nothing was left to tighten.
    """
    begun = job.progress.progress.job_no
    while True:
        try:
            return make()
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            job.engine.networks.release()
            saved = economy.tighten()
            if saved is None:
                raise
        job.progress.again_from(begun)  # outside of `except`, whose traceback would keep the tensors alive
        job.report.comment(f"Memory ran out, so {saved} and the batch was made again.")
