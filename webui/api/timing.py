"""How long an answer took: the X-Process-Time header, and a line for each API call with --api-log."""

from __future__ import annotations

import logging
import time

from webui.api.guard import App, Message, Receive, Scope, Send

log = logging.getLogger(__name__)


class ProcessTime:
    """ASGI middleware. log_calls: write a line for every /sdapi call."""

    def __init__(self, app: App, log_calls: bool = False):
        self._app = app
        self._log_calls = log_calls

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = time.perf_counter()

        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start":
                seconds = time.perf_counter() - started
                header = (b"x-process-time", f"{seconds:.4f}".encode())
                message = {**message, "headers": [*message.get("headers", ()), header]}
                if self._log_calls and "/sdapi/" in scope["path"]:
                    client = (scope.get("client") or ("?",))[0]
                    log.info(
                        "API %s %s %s from %s, %.4f s",
                        message["status"],
                        scope["method"],
                        scope["path"],
                        client,
                        seconds,
                    )
            await send(message)

        await self._app(scope, receive, sending)
