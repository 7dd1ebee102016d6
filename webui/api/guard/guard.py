"""The guard: the checks in their order."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Final

from webui.api.guard.asgi import App, Headers, Message, Receive, Refusal, Scope, Send, send_answer, send_refusal
from webui.api.guard.bodies import MAX_JSON, MAX_UPLOAD, Bodies, Cap
from webui.api.guard.crowds import Crowds
from webui.api.guard.headers import with_safe_headers
from webui.api.guard.hosts import Hosts
from webui.api.guard.origins import Origins, is_preflight

log = logging.getLogger(__name__)

ORIGINS_LOGGED: Final = 100


class Guard:
    """ASGI middleware that lets a request through only if host, sender and body are acceptable.

    hosts, listen: see Hosts. origins, origin_regex: web origins that may use the server from elsewhere
        (--cors-allow-origins), or under which a reverse proxy shows it: their host names are answered too.
    subpath: the path below which a reverse proxy shows the server, "" for none.
    max_json, max_upload: largest body in bytes.
    """

    def __init__(
        self,
        app: App,
        *,
        hosts: Iterable[str] = (),
        listen: bool = False,
        origins: Iterable[str] = (),
        origin_regex: str | None = None,
        subpath: str = "",
        max_json: int = MAX_JSON,
        max_upload: int = MAX_UPLOAD,
    ):
        self._app = app
        self._origins = Origins(origins, origin_regex)
        self._hosts = Hosts((*hosts, *self._origins.allowed), listen=listen)
        self._bodies = Bodies(max_json, max_upload)
        self._subpath = "/" + subpath.strip("/") if subpath.strip("/") else ""
        self._crowds = Crowds()
        self._logged: set[str] = set()

    def allow_host(self, host: str) -> None:
        """Answer to one more host name from now on: the share tunnel's, once it is known."""
        self._hosts.allow(host)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        headers = Headers(scope)
        path = self._local_path(scope)
        safely = with_safe_headers(send, path, self._origins.grants(headers))
        try:
            self._hosts.check(headers)
            self._origins.check(scope, headers)
            if "\0" in path:
                raise Refusal(404, "No path holds a NUL character.")
            address = (scope.get("client") or ("",))[0]
            if scope["type"] == "websocket":
                with self._crowds.place_for(address):
                    await self._app(scope, receive, send)
                return
            if is_preflight(scope, headers):
                await send_answer(safely, 204)
                return
            with self._crowds.place_for(address):
                receive, cap = await self._bodies.checked(scope, path, headers, receive)
                await self._pass_on(scope, receive, safely, cap)
        except Refusal as refusal:
            self._note(refusal, headers, path)
            if scope["type"] == "websocket":
                await send({"type": "websocket.close", "code": 1008, "reason": str(refusal)[:120]})
            else:
                await send_refusal(safely, refusal.status, str(refusal))

    async def _pass_on(self, scope: Scope, receive: Receive, send: Send, cap: Cap | None) -> None:
        """Let the routes answer; a body that broke off is refused whatever they make of its end."""
        if cap is None:
            await self._app(scope, receive, send)
            return
        started = False

        async def sending(message: Message) -> None:
            nonlocal started
            if cap.refusal is None:
                started = True
                await send(message)

        try:
            await self._app(scope, cap.receive, sending)
        except Exception:
            if cap.refusal is None:
                raise
        if cap.refusal is not None and not started:
            raise cap.refusal

    def _local_path(self, scope: Scope) -> str:
        path: str = scope["path"]
        if self._subpath and (path + "/").startswith(self._subpath + "/"):
            return path[len(self._subpath) :] or "/"
        return path

    def _note(self, refusal: Refusal, headers: Headers, path: str) -> None:
        """One line in the log for each origin or host name that is refused, not for each request."""
        if refusal.status not in (403, 421):
            return
        sender = (headers.get("origin") or headers.get("host") or "?")[:100]
        if sender not in self._logged and len(self._logged) < ORIGINS_LOGGED:
            self._logged.add(sender)
            log.warning("Refused %r (shown once for %r): %s", path[:100], sender, refusal)
