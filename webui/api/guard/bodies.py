"""A request's body, looked at before any parser of the routes."""

from __future__ import annotations

import asyncio
import json
import math
import re
import time
from typing import Final

from webui.api.guard.asgi import READS, Headers, Message, Receive, Refusal, Scope

MiB: Final = 2**20
MAX_JSON: Final = 128 * MiB
MAX_UPLOAD: Final = 1024 * MiB
MAX_DEPTH: Final = 100  # of nested JSON
MAX_VALUES: Final = 1_000_000  # in one body, or commas in its texts
PATIENCE: Final = 30.0  # seconds a body may take, and one more for every SLOWEST bytes of it
SLOWEST: Final = 4096
SMALL_BODY: Final = MiB // 4  # what may be parsed without leaving the event loop

FORMS: Final = frozenset({"multipart/form-data", "application/x-www-form-urlencoded", "application/octet-stream"})
JSON_ONLY: Final = re.compile(r"/(sdapi|internal|easel)/")
LONE_SURROGATE: Final = re.compile(rb"\\u[dD][89a-fA-F]")


class Bodies:
    """Refuses a body of the wrong type, size or shape.

    max_json, max_upload: largest body in bytes.
    """

    def __init__(self, max_json: int, max_upload: int):
        self._max_json = max_json
        self._max_upload = max_upload

    async def checked(self, scope: Scope, path: str, headers: Headers, receive: Receive) -> tuple[Receive, Cap | None]:
        """What reads the body on behalf of the routes, and its cap where it has not been read yet. Raises: Refusal."""
        length = headers.get("content-length")
        if not headers.get("transfer-encoding") and length in (None, "0"):
            return receive, None
        kind = (headers.get("content-type") or "").partition(";")[0].strip().lower()
        is_json = kind == "application/json" or (kind.startswith("application/") and kind.endswith("+json"))
        if not is_json and scope["method"] not in READS and (JSON_ONLY.match(path) or kind not in FORMS):
            raise Refusal(415, f'The body has the content type "{kind[:50]}"; send application/json.')
        cap = Cap(receive, self._max_json if is_json else self._max_upload)
        if length is not None and (not length.isdecimal() or int(length) > cap.limit):
            raise cap.too_large
        if not is_json:
            return cap.receive, cap
        body = await cap.read()
        if len(body) <= SMALL_BODY:
            check_json(body)
        else:
            await asyncio.to_thread(check_json, body)
        return _replay(body, receive), None


class Cap:
    """A body that breaks off after `limit` bytes, or when it comes too slowly, as if the client had gone.

    refusal: why it broke off, None so long as it hasn't.
    """

    def __init__(self, receive: Receive, limit: int):
        self._receive = receive
        self._size = 0
        self._is_whole = False
        self._deadline = time.monotonic() + PATIENCE
        self.limit = limit
        self.refusal: Refusal | None = None

    @property
    def too_large(self) -> Refusal:
        return Refusal(413, f"The body is larger than {self.limit // MiB} MiB.")

    async def receive(self) -> Message:
        if self._is_whole:
            return await self._receive()
        patience = self._deadline + self._size / SLOWEST - time.monotonic()
        try:
            message = await asyncio.wait_for(self._receive(), max(patience, 0.01))
        except TimeoutError:
            self.refusal = Refusal(408, "The body arrives too slowly.")
            return {"type": "http.disconnect"}
        self._size += len(message.get("body", b""))
        self._is_whole = not message.get("more_body")
        if self._size > self.limit:
            self.refusal = self.too_large
            return {"type": "http.disconnect"}
        return message

    async def read(self) -> bytes:
        """The whole body. Raises: Refusal 413 beyond the limit, 408 for a slow one, 400 when the client goes away."""
        parts: list[bytes] = []
        while True:
            message = await self.receive()
            if message["type"] == "http.disconnect":
                raise self.refusal or Refusal(400, "The body did not arrive whole.")
            parts.append(message.get("body", b""))
            if not message.get("more_body"):
                return b"".join(parts)


def _replay(body: bytes, receive: Receive) -> Receive:
    """A `receive` that hands out the body once and then what the connection says."""
    waiting = [body]

    async def receiving() -> Message:
        if waiting:
            return {"type": "http.request", "body": waiting.pop(), "more_body": False}
        return await receive()

    return receiving


def check_json(body: bytes) -> None:
    """Raises: Refusal 422 for what is no JSON, or holds something that no later step could handle.

    That is numbers that aren't finite (1e309, NaN), nesting beyond MAX_DEPTH, more than MAX_VALUES values, and
    halves of characters.
    """
    if body.count(b",") > MAX_VALUES:
        raise Refusal(422, f"The body holds more than {MAX_VALUES} values.")
    try:
        content = json.loads(body, parse_float=_finite, parse_constant=_finite)
        if body.count(b"[") + body.count(b"{") > MAX_DEPTH:
            _check_depth(content)
        if LONE_SURROGATE.search(body):
            json.dumps(content, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise Refusal(422, "The body holds half a character (a lone surrogate).") from None
    except UnicodeDecodeError:
        raise Refusal(422, "The body is not UTF-8.") from None
    except RecursionError:
        raise Refusal(422, f"The body is nested deeper than {MAX_DEPTH} levels.") from None
    except json.JSONDecodeError as error:
        raise Refusal(422, f"The body is not valid JSON: {error.msg} at character {error.pos}.") from None
    except ValueError:
        raise Refusal(422, "The body holds a number that is not finite, or too long to be read.") from None


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(text)
    return number


def _check_depth(content: object) -> None:
    level = [content]
    for _ in range(MAX_DEPTH + 1):
        level = [
            item
            for box in level
            if isinstance(box, dict | list)
            for item in (box.values() if isinstance(box, dict) else box)
            if isinstance(item, dict | list)
        ]
        if not level:
            return
    raise RecursionError
