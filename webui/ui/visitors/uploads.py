"""Uploads, each visitor's in a folder of their own."""

from __future__ import annotations

import secrets
import shutil

from fastapi import APIRouter, Request
from gradio.route_utils import MultiPartException, upload_fn
from gradio.routes import file_upload_statuses
from starlette.requests import ClientDisconnect
from starlette.types import Message, Receive

from webui.core.errors import InvalidRequest
from webui.ui.visitors.files import MAX_FILE, TooMuch, VisitorFiles
from webui.ui.visitors.sessions import PageSessions

SLACK = 2**20
"""Bytes of a multipart body that aren't its files'."""


def upload_routes(sessions: PageSessions, files: VisitorFiles) -> APIRouter:
    """In place of Gradio's own, which keeps all uploads in one folder and counts nothing."""
    router = APIRouter(tags=["page"])

    @router.post("/gradio_api/upload")
    @router.post("/gradio_api/upload/", include_in_schema=False)
    async def upload(request: Request, upload_id: str | None = None) -> list[str]:
        """Take files (multipart field "files"); gives the path that names each in an event."""
        owner, _ = sessions.owner(request.scope)
        room = files.room_for(owner)
        limit = min(room, MAX_FILE)
        sentence = f"The upload is larger than the {limit / 2**20:,.0f} MiB there is room for."
        if int(request.headers.get("content-length", "0")) > limit + SLACK:
            raise TooMuch(sentence)
        folder = files.uploads_of(owner) / secrets.token_hex(8)
        capped = Request(request.scope, _capped(request.receive, limit + SLACK))
        progress = file_upload_statuses if upload_id else None
        try:
            saved, _, _ = await upload_fn(capped, folder, limit, upload_id, upload_progress=progress)
        except BaseException as error:
            shutil.rmtree(folder, ignore_errors=True)
            if isinstance(error, ClientDisconnect):
                raise TooMuch(sentence) from error
            if isinstance(error, MultiPartException):
                raise (TooMuch(sentence) if "size" in error.message else InvalidRequest(error.message)) from error
            raise
        return [str(path) for path in saved]

    return router


def _capped(receive: Receive, limit: int) -> Receive:
    """`receive`, breaking off after so many bytes as if the client had gone."""
    size = 0

    async def receiving() -> Message:
        nonlocal size
        message = await receive()
        size += len(message.get("body", b""))
        return {"type": "http.disconnect"} if size > limit else message

    return receiving
