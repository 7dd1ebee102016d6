"""Animations: each frame is the one before, moved by a camera and painted again."""

from __future__ import annotations

from typing import Any

from webui.extensions.api import Tab, hookimpl

from . import depth, job, routes, tab


@hookimpl
def register_jobs() -> list[Any]:
    return [job.KIND, depth.FETCH]


@hookimpl
def tabs(easel: Any) -> list[Tab]:
    return [Tab("Deforum", tab.NAME, tab.build)]


@hookimpl
def api_routes(app: Any, easel: Any) -> None:
    routes.add_routes(app, easel)
