"""The job that gives the memory of motion modules back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from webui.extensions.api import JobKind

LOANS, SPARSE_LOANS = "animatediff", "animatediff.sparse"
"""The first part of the keys that motion modules and SparseCtrl's networks are borrowed under."""


@dataclass(frozen=True)
class Unload:
    """to_cpu: keep them in main memory; else nothing of them stays."""

    to_cpu: bool


@dataclass(frozen=True)
class Freed:
    """sentence: what was done, for the user."""

    sentence: str


def run(easel: Any, asked: Unload, job: Any) -> Freed:
    if asked.to_cpu:
        import torch

        loaded = easel.models.borrowed(LOANS)
        for motion in loaded:
            motion.move(torch.device("cpu"))
        return Freed(f"{_counted(len(loaded))} in main memory.")
    count = easel.models.forget(LOANS) + easel.models.forget(SPARSE_LOANS)
    return Freed(f"{_counted(count)} removed from memory.")


def _counted(count: int) -> str:
    return "No motion module is" if count == 0 else f"{count} motion module{'s are' if count > 1 else ' is'}"


KIND = JobKind("animatediff.unload", run, Unload, Freed, "Unloading motion modules", kept=False)
