"""The API's own addresses: a slash at the end, other methods and unknown paths are answered as an API does.

The page is mounted at "/", so whatever no route of the API takes would be answered by the page.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from fastapi.responses import JSONResponse
from starlette.routing import BaseRoute, Match, Mount

from webui.api.errors import error_answer
from webui.api.guard import App, Receive, Scope, Send

PREFIXES: Final = ("/sdapi/", "/internal/", "/easel/", "/sd_extra_networks/")
METHODS: Final = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")


class ApiPaths:
    """ASGI middleware. routes: those of the application, which may still grow."""

    def __init__(self, app: App, routes: Sequence[BaseRoute]):
        self._app = app
        self._routes = routes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope["path"].removeprefix(scope.get("root_path", "")) if scope["type"] == "http" else ""
        if not path.startswith(PREFIXES) or self._is_taken(scope):
            await self._app(scope, receive, send)
            return
        if scope["path"].endswith("/"):
            scope = {**scope, "path": scope["path"].rstrip("/"), "raw_path": scope["path"].rstrip("/").encode()}
            if self._is_taken(scope):
                await self._app(scope, receive, send)
                return
        await self._refusal(scope, path)(scope, receive, send)

    def _is_taken(self, scope: Scope) -> bool:
        """Whether a route other than the page takes the request."""
        return any(
            route.matches(scope)[0] is Match.FULL
            for route in self._routes
            if not (isinstance(route, Mount) and route.path == "")
        )

    def _refusal(self, scope: Scope, path: str) -> JSONResponse:
        allowed = [method for method in METHODS if self._is_taken({**scope, "method": method})]
        if allowed:
            sentence = f"{path[:200]} takes {' and '.join(allowed)}, not {scope['method'][:20]}."
            return error_answer(405, "HTTPException", sentence, sentence, {"Allow": ", ".join(allowed)})
        sentence = f"There is nothing at {path[:200]}; /docs lists what there is."
        return error_answer(404, "HTTPException", sentence, sentence)
