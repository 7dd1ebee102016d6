"""What stands in front of every route: page, API, files, uploads, websockets.

A browser carries requests of any web page it shows to this server, so the server asks of each request
for which host name it was meant (DNS rebinding) and which page sent it (cross-site requests), and it
looks at the body before a parser does. Clients that are no browser send neither Origin nor Sec-Fetch-*
headers and are let through. Plain ASGI, so that nothing behind it can be reached around it.
"""

from __future__ import annotations

import asyncio
import ipaddress
import json
import logging
import math
import re
import socket
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any, Final
from urllib.parse import urlsplit

log = logging.getLogger(__name__)

Message = MutableMapping[str, Any]
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

MiB: Final = 2**20
MAX_JSON: Final = 128 * MiB
MAX_UPLOAD: Final = 1024 * MiB
MAX_DEPTH: Final = 100  # of nested JSON
MAX_VALUES: Final = 1_000_000  # in one body, or commas in its texts
SMALL_BODY: Final = MiB // 4  # what may be parsed without leaving the event loop
ORIGINS_LOGGED: Final = 100

READS: Final = frozenset({"GET", "HEAD", "OPTIONS"})
FORMS: Final = frozenset({"multipart/form-data", "application/x-www-form-urlencoded", "application/octet-stream"})
JSON_ONLY: Final = re.compile(r"/(sdapi|internal|easel)/")
FILES: Final = re.compile(r"(/gradio_api)?/file[=/]|/sd_extra_networks/thumb")
DOCS: Final = re.compile(r"/(docs|redoc)\b")
MARKUP: Final = frozenset({"text/html", "application/xhtml+xml", "text/xml", "application/xml"})
LONE_SURROGATE: Final = re.compile(rb"\\u[dD][89a-fA-F]")

# Gradio compiles event handlers in the page ('unsafe-eval') and starts itself by inline scripts.
PAGE_POLICY: Final = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; media-src 'self' data: blob:; font-src 'self' data:; "
    "connect-src 'self' data: blob:; worker-src 'self' blob:; object-src 'none'; base-uri 'self'; "
    "form-action 'self'; frame-ancestors 'self'"
)
DOCS_POLICY: Final = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' https://cdn.jsdelivr.net; worker-src 'self' blob:; "
    "style-src 'self' 'unsafe-inline' https://cdn.jsdelivr.net https://fonts.googleapis.com; "
    "font-src https://fonts.gstatic.com; img-src 'self' data: https://fastapi.tiangolo.com https://cdn.redoc.ly; "
    "object-src 'none'; base-uri 'self'; frame-ancestors 'self'"
)
FILE_POLICY: Final = (
    "sandbox; default-src 'none'; img-src 'self' data:; media-src 'self'; style-src 'unsafe-inline'; "
    "frame-ancestors 'self'"
)
SAFE_HEADERS: Final = {
    b"x-content-type-options": b"nosniff",
    b"x-frame-options": b"SAMEORIGIN",
    b"referrer-policy": b"same-origin",
    b"cross-origin-opener-policy": b"same-origin",
    b"cross-origin-resource-policy": b"same-origin",
    b"permissions-policy": b"camera=(self), microphone=(self), geolocation=(), usb=(), serial=(), payment=()",
}


class _Refusal(Exception):
    """A request that goes no further. status: HTTP; `str()` is the sentence the client gets."""

    def __init__(self, status: int, sentence: str):
        super().__init__(sentence)
        self.status = status


class Guard:
    """ASGI middleware that lets a request through only if host, sender and body are acceptable.

    hosts: further host names to answer to (--server-name, names of a reverse proxy). Always answered:
        localhost, *.localhost and loopback addresses.
    listen: the server is reachable from the network: also answer to any address written as a number
        (which no DNS rebinding can forge) and to this machine's own name.
    origins, origin_regex: web origins that may use the server from elsewhere (--cors-allow-origins), or under
        which a reverse proxy shows it: their host names are answered too. "*" stands for all origins, without cookies.
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
        self._listen = listen
        self._origins = frozenset(origin.strip().rstrip("/").lower() for origin in origins if origin.strip())
        self._hosts = frozenset(name for host in (*hosts, *self._origins) if (name := host_name(host)))
        if listen:
            self._hosts |= own_names()
        self._origin_regex = re.compile(origin_regex) if origin_regex else None
        self._subpath = "/" + subpath.strip("/") if subpath.strip("/") else ""
        self._max_json = max_json
        self._max_upload = max_upload
        self._logged: set[str] = set()

    def allow_host(self, host: str) -> None:
        """Answer to one more host name from now on: the share tunnel's, once it is known."""
        if name := host_name(host):
            self._hosts |= {name}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        headers = _Headers(scope)
        path = self._local_path(scope)
        try:
            self._check_host(headers)
            self._check_sender(scope, headers)
            if "\0" in path:
                raise _Refusal(404, "No path holds a NUL character.")
            if scope["type"] == "websocket":
                await self._app(scope, receive, send)
                return
            if _is_preflight(scope, headers):
                await _send(self._with_headers(send, path, headers), 204)
                return
            receive, cap = await self._checked_body(scope, path, headers, receive)
        except _Refusal as refusal:
            self._note(refusal, headers, path)
            if scope["type"] == "websocket":
                await send({"type": "websocket.close", "code": 1008, "reason": str(refusal)[:120]})
            else:
                await _send_refusal(self._with_headers(send, path, headers), refusal.status, str(refusal))
            return
        await self._pass_on(scope, receive, self._with_headers(send, path, headers), cap)

    async def _pass_on(self, scope: Scope, receive: Receive, send: Send, cap: _Cap | None) -> None:
        """Let the routes answer; a body that grew too large is answered 413 whatever they make of its end."""
        if cap is None:
            await self._app(scope, receive, send)
            return
        started = False

        async def sending(message: Message) -> None:
            nonlocal started
            if not cap.exceeded:
                started = True
                await send(message)

        try:
            await self._app(scope, cap.receive, sending)
        except Exception:
            if not cap.exceeded:
                raise
        if cap.exceeded and not started:
            await _send_refusal(send, 413, cap.sentence)

    def _local_path(self, scope: Scope) -> str:
        path: str = scope["path"]
        if self._subpath and (path + "/").startswith(self._subpath + "/"):
            return path[len(self._subpath) :] or "/"
        return path

    def _check_host(self, headers: _Headers) -> None:
        """Raises: _Refusal 421 unless the request was meant for a name or address this server goes by."""
        given = headers.all("host")
        name = host_name(given[0]) if len(given) == 1 else None
        if name is None:
            raise _Refusal(400, "The request needs exactly one valid Host header.")
        if name in self._hosts or name == "localhost" or name.endswith(".localhost"):
            return
        address = ip_address(name)
        if address is not None and (self._listen or is_loopback(address)):
            return
        raise _Refusal(
            421,
            f'This server does not answer to the name "{name[:100]}". Start it with --server-name, '
            "or with --cors-allow-origins and the address it has there, to add a name.",
        )

    def _check_sender(self, scope: Scope, headers: _Headers) -> None:
        """Raises: _Refusal 403 for a request that another web site made a browser send.

        A write, a websocket and any sub-resource need to come from this server's own page or from an
        allowed origin; following a link to a page from elsewhere is fine.
        """
        origin = headers.get("origin")
        if origin is not None:
            if self._is_own(origin, headers) or self._is_allowed(origin):
                return
            raise _Refusal(
                403,
                f"Requests from {origin[:100]} are refused: only this server's own page may send them. "
                "Start it with --cors-allow-origins to allow a site; a reverse proxy must pass the Host header on.",
            )
        site = headers.get("sec-fetch-site")
        if site in (None, "same-origin", "none"):
            return
        reads = scope["type"] == "http" and scope["method"] in READS
        if (
            reads
            and headers.get("sec-fetch-mode") == "navigate"
            and headers.get("sec-fetch-dest") in (None, "document")
        ):
            return
        raise _Refusal(403, "Requests that another web site sends are refused (Sec-Fetch-Site).")

    def _is_own(self, origin: str, headers: _Headers) -> bool:
        """Whether the origin is this server as the browser addressed it; the scheme is left to a TLS proxy."""
        parts = urlsplit(origin)
        if parts.scheme not in ("http", "https"):
            return False
        default = ":443" if parts.scheme == "https" else ":80"
        host = (headers.get("host") or "").lower()
        return origin.partition("://")[2].lower().removesuffix(default) == host.removesuffix(default)

    def _is_allowed(self, origin: str) -> bool:
        if origin == "null":
            return False
        if origin.lower() in self._origins or "*" in self._origins:
            return True
        return self._origin_regex is not None and self._origin_regex.fullmatch(origin) is not None

    async def _checked_body(
        self, scope: Scope, path: str, headers: _Headers, receive: Receive
    ) -> tuple[Receive, _Cap | None]:
        """Refuse a body of the wrong type, size or shape; give back what reads it on behalf of the routes."""
        length = headers.get("content-length")
        if not headers.get("transfer-encoding") and length in (None, "0"):
            return receive, None
        kind = (headers.get("content-type") or "").partition(";")[0].strip().lower()
        is_json = kind == "application/json" or (kind.startswith("application/") and kind.endswith("+json"))
        if not is_json and scope["method"] not in READS and (JSON_ONLY.match(path) or kind not in FORMS):
            raise _Refusal(415, f'The body has the content type "{kind[:50]}"; send application/json.')
        cap = _Cap(receive, self._max_json if is_json else self._max_upload)
        if length is not None and (not length.isdecimal() or int(length) > cap.limit):
            raise _Refusal(413, cap.sentence)
        if not is_json:
            return cap.receive, cap
        body = await cap.read()
        if len(body) <= SMALL_BODY:
            check_json(body)
        else:
            await asyncio.to_thread(check_json, body)
        return _replay(body, receive), None

    def _with_headers(self, send: Send, path: str, headers: _Headers) -> Send:
        """`send`, putting the safe headers on the answer and our own word on cross-origin access."""
        policy = FILE_POLICY if FILES.match(path) else DOCS_POLICY if DOCS.match(path) else PAGE_POLICY
        grants = self._grants(headers)

        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start":
                kept = [
                    (name, value)
                    for name, value in message.get("headers", ())
                    if name.lower() not in SAFE_HEADERS and not name.lower().startswith(b"access-control-")
                ]
                if policy is FILE_POLICY:
                    kept = _harmless(kept)
                if not any(name.lower() == b"content-security-policy" for name, _ in kept):
                    kept.append((b"content-security-policy", policy.encode()))
                message = {**message, "headers": [*kept, *SAFE_HEADERS.items(), *grants]}
            await send(message)

        return sending

    def _grants(self, headers: _Headers) -> list[tuple[bytes, bytes]]:
        """The CORS headers for an allowed origin; cookies only where the origin itself is named."""
        origin = headers.get("origin")
        if origin is None or self._is_own(origin, headers) or not self._is_allowed(origin):
            return []
        grants = [(b"access-control-allow-origin", origin.encode("latin-1")), (b"vary", b"Origin")]
        if "*" not in self._origins:
            grants.append((b"access-control-allow-credentials", b"true"))
        return grants + (_preflight_grants(headers) if headers.get("access-control-request-method") else [])

    def _note(self, refusal: _Refusal, headers: _Headers, path: str) -> None:
        """One line in the log for each origin or host name that is refused, not for each request."""
        if refusal.status not in (403, 421):
            return
        sender = (headers.get("origin") or headers.get("host") or "?")[:100]
        if sender not in self._logged and len(self._logged) < ORIGINS_LOGGED:
            self._logged.add(sender)
            log.warning("Refused %r (shown once for %r): %s", path[:100], sender, refusal)


class _Headers:
    """The request's headers by lower-case name."""

    def __init__(self, scope: Scope):
        self._pairs = [(name.lower().decode("latin-1"), value.decode("latin-1")) for name, value in scope["headers"]]

    def all(self, name: str) -> list[str]:
        return [value for key, value in self._pairs if key == name]

    def get(self, name: str) -> str | None:
        values = self.all(name)
        return values[0] if values else None


def host_name(host: str) -> str | None:
    """The name or address in a Host header or URL, lower-case, without port, brackets and final dot; None if broken."""
    if "://" in host:
        host = host.partition("://")[2].partition("/")[0]
    match = re.fullmatch(r"(\[[0-9a-fA-F:.]+(?:%[\w.-]+)?\]|[\w.-]+)(:\d{0,5})?", host.strip(), re.ASCII)
    if match is None:
        bare = host.strip()  # an IPv6 address as a flag gives it, without brackets
        return bare.lower() if ip_address(bare) is not None else None
    name = match[1].lower().strip("[]")
    return name.removesuffix(".") or None


def ip_address(name: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """The address that a host name is, or None for a real name."""
    try:
        return ipaddress.ip_address(name)
    except ValueError:
        return None


def is_loopback(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    """Whether an address, or the IPv4 address inside an IPv6 one, is this machine talking to itself."""
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return (mapped or address).is_loopback


def own_names() -> frozenset[str]:
    """The names this machine goes by: its host name, without and with domain, and that in .local."""
    name = socket.gethostname().lower()
    short = name.partition(".")[0]
    return frozenset({name, short, f"{short}.local"} - {""})


def check_json(body: bytes) -> None:
    """Raises: _Refusal 422 for what is no JSON, or holds something that no later step could handle.

    That is numbers that aren't finite (1e309, NaN), nesting beyond MAX_DEPTH, more than MAX_VALUES values, and
    halves of characters.
    """
    if body.count(b",") > MAX_VALUES:
        raise _Refusal(422, f"The body holds more than {MAX_VALUES} values.")
    try:
        content = json.loads(body, parse_float=_finite, parse_constant=_finite)
        if body.count(b"[") + body.count(b"{") > MAX_DEPTH:
            _check_depth(content)
        if LONE_SURROGATE.search(body):
            json.dumps(content, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise _Refusal(422, "The body holds half a character (a lone surrogate).") from None
    except UnicodeDecodeError:
        raise _Refusal(422, "The body is not UTF-8.") from None
    except RecursionError:
        raise _Refusal(422, f"The body is nested deeper than {MAX_DEPTH} levels.") from None
    except json.JSONDecodeError as error:
        raise _Refusal(422, f"The body is not valid JSON: {error.msg} at character {error.pos}.") from None
    except ValueError:
        raise _Refusal(422, "The body holds a number that is not finite, or too long to be read.") from None


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


def _is_preflight(scope: Scope, headers: _Headers) -> bool:
    return scope["method"] == "OPTIONS" and headers.get("access-control-request-method") is not None


def _preflight_grants(headers: _Headers) -> list[tuple[bytes, bytes]]:
    wanted = headers.get("access-control-request-headers") or "content-type"
    return [
        (b"access-control-allow-methods", b"GET, HEAD, POST, PUT, PATCH, DELETE"),
        (b"access-control-allow-headers", wanted.encode("latin-1")),
        (b"access-control-max-age", b"600"),
    ]


async def _send_refusal(send: Send, status: int, sentence: str) -> None:
    """A refusal in the shape of the API's errors."""
    await _send(send, status, {"error": "Refused", "detail": sentence, "body": "", "errors": sentence})


async def _send(send: Send, status: int, content: object = None) -> None:
    body = b"" if content is None else json.dumps(content).encode()
    headers = [] if content is None else [(b"content-type", b"application/json")]
    if content is not None:
        headers.append((b"content-length", str(len(body)).encode()))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


class _Cap:
    """A body that breaks off after `limit` bytes, as if the client had gone."""

    def __init__(self, receive: Receive, limit: int):
        self._receive = receive
        self._size = 0
        self.limit = limit
        self.sentence = f"The body is larger than {limit // MiB} MiB."

    @property
    def exceeded(self) -> bool:
        return self._size > self.limit

    async def receive(self) -> Message:
        message = await self._receive()
        self._size += len(message.get("body", b""))
        return {"type": "http.disconnect"} if self.exceeded else message

    async def read(self) -> bytes:
        """The whole body. Raises: _Refusal 413 beyond the limit, 400 when the client goes away."""
        parts: list[bytes] = []
        while True:
            message = await self.receive()
            if message["type"] == "http.disconnect":
                raise _Refusal(413, self.sentence) if self.exceeded else _Refusal(400, "The body did not arrive whole.")
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


def _harmless(headers: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """A served file's headers, with markup turned into a download: it could act as a page of this server."""
    kind = next((value for name, value in headers if name.lower() == b"content-type"), b"")
    if kind.decode("latin-1").partition(";")[0].strip().lower() not in MARKUP:
        return headers
    kept = [(name, value) for name, value in headers if name.lower() not in (b"content-type", b"content-disposition")]
    return [*kept, (b"content-type", b"application/octet-stream"), (b"content-disposition", b"attachment")]
