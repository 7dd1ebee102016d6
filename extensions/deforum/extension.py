"""Animations: each frame is the one before, moved by a camera and painted again."""

from __future__ import annotations

from typing import Any

from webui.extensions.api import Section, Setting, Tab, hookimpl

from . import depth, job, routes, tab

PRESETS = ("ultrafast", "superfast", "veryfast", "faster", "fast", "medium", "slow", "slower", "veryslow")


@hookimpl
def register_jobs() -> list[Any]:
    return [job.KIND]


@hookimpl
def register_choices(choices: Any) -> None:
    choices.add(*(estimator.fetchable for estimator in (depth.DPT, depth.ZOE, depth.DEPTH_ANYTHING)))


@hookimpl
def register_settings() -> list[Setting]:
    section = Section("deforum", "Deforum", "other")
    return [
        Setting(job.CRF, 17, "Quality of videos (crf), 0 best to 51", ge=0, le=51, step=1, section=section),
        Setting(job.PRESET, "slow", "Preset of x264", choices=PRESETS, section=section),
        Setting(job.SUBTITLES, False, "Save the values of each frame as subtitles (.srt)", section=section),
    ]


@hookimpl
def tabs(easel: Any) -> list[Tab]:
    return [Tab("Deforum", tab.NAME, tab.build)]


@hookimpl
def api_routes(app: Any, easel: Any) -> None:
    routes.add_routes(app, easel)
