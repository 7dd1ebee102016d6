"""mov2mov: a video becomes another one, img2img on each frame, with its sound and its length."""

from __future__ import annotations

from webui.extensions.api import Section, Setting, Tab, hookimpl

from . import kinds

SECTION = Section("mov2mov", "mov2mov", "other")


@hookimpl
def register_jobs():
    return [kinds.KIND]


@hookimpl
def register_settings():
    return [
        Setting(
            "mov2mov_outpath_samples",
            "outputs/mov2mov-images",
            "Output directory for mov2mov frames",
            reaches="folder",
            section=SECTION,
        ),
        Setting(
            "mov2mov_output_dir",
            "outputs/mov2mov-videos",
            "Output directory for mov2mov videos",
            reaches="folder",
            section=SECTION,
        ),
    ]


@hookimpl
def tabs(easel):
    from .tab import build_for

    return [Tab("mov2mov", "mov2mov", build_for(easel))]


@hookimpl
def api_routes(app, easel):
    from .routes import router_for

    app.include_router(router_for(easel))
