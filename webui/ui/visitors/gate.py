"""What stands between the server and Gradio: only the routes in the table, only for whom they are meant.

Gradio itself checks the paths of files only in apps that it launches, and takes any session's and any event's number
from whoever sends one.
"""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import parse_qs

from gradio.blocks import BlockFunction, Blocks
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from webui.core.errors import InvalidRequest, NotFound, Refused, WebuiError
from webui.ui.visitors.files import VisitorFiles
from webui.ui.visitors.payloads import FILE_ADDRESS, check_payload
from webui.ui.visitors.sessions import OWNER, PageSessions
from webui.ui.visitors.tables import GRADIO, PUBLIC, Use, use_of

RELOAD = "Only the page itself may do this: open the page, or load it again after a restart."


class VisitorGate:
    """ASGI layer around Gradio's app."""

    def __init__(self, app: ASGIApp, page: Blocks, sessions: PageSessions, files: VisitorFiles):
        self._app = app
        self._page = page
        self._sessions = sessions
        self._files = files

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await (
                self._app(scope, receive, send) if scope["type"] == "lifespan" else send({"type": "websocket.close"})
            )
            return
        path = local_path(scope)
        owner, is_visitor = self._sessions.owner(scope)
        scope[OWNER] = owner
        try:
            match use_of(scope["method"], path):
                case Use.ABSENT:
                    raise NotFound("Not Found")
                case Use.PAGE if not is_visitor:
                    send = self._with_cookie(scope, send)
                case Use.VISITOR if not is_visitor:
                    raise Refused(RELOAD)
                case Use.FILE:
                    name = path.partition(FILE_ADDRESS)[2] or path.partition(GRADIO + "/file/")[2]
                    self._files.check_given(owner, name)
                case Use.SESSION:
                    receive = await self._check_session(scope, path, receive, owner)
                case Use.EVENT:
                    receive = await self._check_event(scope, path, receive, owner, is_visitor)
        except WebuiError as error:
            content = {"error": str(error), "detail": str(error)}
            await JSONResponse(content, error.status)(scope, receive, send)
            return
        await self._app(scope, receive, send)

    def _with_cookie(self, scope: Scope, send: Send) -> Send:
        cookie = self._sessions.new_cookie(scope)

        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers.append("set-cookie", cookie)
                headers["cache-control"] = "no-store"
            await send(message)

        return sending

    async def _check_session(self, scope: Scope, path: str, receive: Receive, owner: str) -> Receive:
        if scope["method"] == "POST":
            body = await _json_of(scope, receive)
            self._check_hash(body.get("session_hash"), owner)
            return _replaying(body, receive)
        if path.startswith((GRADIO + "/heartbeat/", GRADIO + "/call/")):
            self._check_hash(path.rstrip("/").rpartition("/")[2], owner)
            return receive
        given = parse_qs(scope["query_string"].decode("latin-1")).get("session_hash", [])
        self._check_hash(given[-1] if given else None, owner)
        return receive

    async def _check_event(self, scope: Scope, path: str, receive: Receive, owner: str, is_visitor: bool) -> Receive:
        body = await _json_of(scope, receive)
        fn = self._event(path, body)
        if not is_visitor and (fn is None or fn.api_name not in PUBLIC):
            raise Refused(RELOAD)
        if fn is None:
            raise NotFound("There is no such event.")
        if body.get("session_hash") is not None:
            self._check_hash(body["session_hash"], owner)
        check_payload(fn, body, owner, self._files, Headers(scope=scope).get("host", ""))
        return _replaying(body, receive)

    def _event(self, path: str, body: dict[str, Any]) -> BlockFunction | None:
        """The event that Gradio would run, None where there is none. Raises: InvalidRequest."""
        number = body.get("fn_index")
        if number is None or "/call/" in path:
            name = path.rstrip("/").rpartition("/")[2]
            found = next((fn for fn in self._page.fns.values() if fn.api_name == name), None)
        elif type(number) is int:
            found = self._page.fns.get(number)
        else:
            raise InvalidRequest("fn_index is the number of an event.")
        return None if found is None or found.fn is None else found

    def _check_hash(self, session_hash: object, owner: str) -> None:
        if not isinstance(session_hash, str) or not 0 < len(session_hash) <= 64:
            raise InvalidRequest("session_hash is the name of a session, up to 64 characters.")
        if not self._sessions.belongs(session_hash, owner):
            raise Refused("This session is somebody else's.")


def local_path(scope: Scope) -> str:
    """The request's path below where the server is shown."""
    root, path = scope.get("root_path", ""), str(scope["path"])
    return path[len(root) :] if root and (path + "/").startswith(root + "/") else path


async def _json_of(scope: Scope, receive: Receive) -> dict[str, Any]:
    """The request's body. Raises: InvalidRequest for what is no JSON object."""
    try:
        content = json.loads(await Request(scope, receive).body())
    except ValueError as error:
        raise InvalidRequest("The body is not valid JSON.") from error
    if not isinstance(content, dict):
        raise InvalidRequest("The body is a JSON object.")
    return content


def _replaying(body: dict[str, Any], receive: Receive) -> Receive:
    """A `receive` that hands out the body as it was judged, and then what the connection says."""
    waiting = [json.dumps(body).encode()]

    async def receiving() -> Message:
        if waiting:
            return {"type": "http.request", "body": waiting.pop(), "more_body": False}
        return await receive()

    return receiving
