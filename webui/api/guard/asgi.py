"""Plain ASGI: its types, a request's headers, and a refusal."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Final

Message = MutableMapping[str, Any]
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

READS: Final = frozenset({"GET", "HEAD", "OPTIONS"})


class Refusal(Exception):
    """A request that goes no further. status: HTTP; `str()` is the sentence the client gets."""

    def __init__(self, status: int, sentence: str):
        super().__init__(sentence)
        self.status = status


class Headers:
    """The request's headers by lower-case name."""

    def __init__(self, scope: Scope):
        self._pairs = [(name.lower().decode("latin-1"), value.decode("latin-1")) for name, value in scope["headers"]]

    def all(self, name: str) -> list[str]:
        return [value for key, value in self._pairs if key == name]

    def get(self, name: str) -> str | None:
        values = self.all(name)
        return values[0] if values else None


async def send_refusal(send: Send, status: int, sentence: str) -> None:
    """Answer with a refusal in the shape of the API's errors."""
    await send_answer(send, status, {"error": "Refused", "detail": sentence, "body": "", "errors": sentence})


async def send_answer(send: Send, status: int, content: object = None) -> None:
    """Answer with JSON, or with nothing."""
    body = b"" if content is None else json.dumps(content).encode()
    headers = [] if content is None else [(b"content-type", b"application/json")]
    if content is not None:
        headers.append((b"content-length", str(len(body)).encode()))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
