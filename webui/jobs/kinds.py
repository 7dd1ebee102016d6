"""What kinds of jobs there are."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class JobKind:
    """A job that can be asked for.

    id: its name in the store, the same in every version. run: an import path such as "webui.pipeline.generate:run",
    imported in the worker, or a function; called as run(engine, payload, job: JobContext), it returns the result. An
    extension's gets its `Easel` in the engine's place.
    payload, result: the types of what it takes and returns, a `Params` or a dataclass of plain values, pictures as
    bytes; None for nothing.
    title: what the page calls such a job; a submit may give a better one.
    resumable: it goes on from its `save_state` after the server died, and lets shorter jobs pass at pause_point().
    kept: it survives the server's end. Housekeeping doesn't: current(), pending() and an interrupt that names no job
    pass over it.
    """

    id: str
    run: str | Callable[[Any, Any, Any], object]
    payload: type | None = None
    result: type | None = None
    title: str = ""
    resumable: bool = False
    kept: bool = True
