"""The visitors of one page, put in front of Gradio."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import gradio as gr
from fastapi import APIRouter
from gradio.routes import App
from gradio.utils import get_upload_folder
from starlette.types import Scope

from webui.core.paths import Paths
from webui.ui.visitors.files import VisitorFiles
from webui.ui.visitors.gate import VisitorGate
from webui.ui.visitors.payloads import hand_out_payload
from webui.ui.visitors.sessions import OWNER, PageSessions
from webui.ui.visitors.uploads import upload_routes

if TYPE_CHECKING:
    from webui.ui.blocks import PageBlocks


def owner_of(request: gr.Request) -> str:
    """Whose event this is."""
    assert request.request is not None, "events come by requests"
    return str(request.request.scope[OWNER])


class Visitors:
    """Sessions and files of everyone who uses the page."""

    def __init__(self, paths: Paths, open_to_all: Sequence[Path] = ()):
        """Deletes what an earlier server left in the data folder's own place for temporary files."""
        temporary = Path(get_upload_folder())
        self.sessions = PageSessions(str(paths.data))
        self._files = VisitorFiles(temporary / "visitors", givers=(paths.outputs, paths.log), open_to_all=open_to_all)
        if temporary == paths.tmp / "gradio":
            self._files.sweep()

    def routes(self) -> APIRouter:
        """What is served in place of Gradio's own, to be added before it."""
        return upload_routes(self.sessions, self._files)

    def guard(self, app: App, page: PageBlocks) -> None:
        """Let nothing reach Gradio's app past the gate."""
        page.visitors = self
        app.add_middleware(VisitorGate, page=page, sessions=self.sessions, files=self._files)

    def owner(self, scope: Scope) -> str:
        """Whose request this is."""
        return self.sessions.owner(scope)[0]

    def handed_to(self, scope: Scope) -> frozenset[Path]:
        """The files that events of this request's visitor have returned."""
        return self._files.handed_to(self.owner(scope))

    def hand_out(self, data: object, request: gr.Request) -> None:
        """Let a visitor use the files that their event returns."""
        if request.request is not None:
            hand_out_payload(data, self.owner(request.request.scope), self._files)
