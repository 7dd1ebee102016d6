"""Which web pages may make a browser send requests here, and read the answers."""

from __future__ import annotations

import re
from collections.abc import Iterable
from urllib.parse import urlsplit

from webui.api.guard.asgi import READS, Headers, Refusal, Scope


class Origins:
    """This server's own pages, and the web origins that were allowed (--cors-allow-origins).

    allowed, pattern: "*" stands for all origins, without cookies.
    """

    def __init__(self, allowed: Iterable[str], pattern: str | None):
        self.allowed = frozenset(origin.strip().rstrip("/").lower() for origin in allowed if origin.strip())
        self._pattern = re.compile(pattern) if pattern else None

    def check(self, scope: Scope, headers: Headers) -> None:
        """Raises: Refusal 403 for a request that another web site made a browser send.

        A write, a websocket and any sub-resource need to come from this server's own page or from an
        allowed origin; following a link to a page from elsewhere is fine.
        """
        origin = headers.get("origin")
        if origin is not None:
            if _is_own(origin, headers) or self._is_allowed(origin):
                return
            raise Refusal(
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
        raise Refusal(403, "Requests that another web site sends are refused (Sec-Fetch-Site).")

    def grants(self, headers: Headers) -> list[tuple[bytes, bytes]]:
        """The CORS headers for an allowed origin; cookies only where the origin itself is named."""
        origin = headers.get("origin")
        if origin is None or _is_own(origin, headers) or not self._is_allowed(origin):
            return []
        grants = [(b"access-control-allow-origin", origin.encode("latin-1")), (b"vary", b"Origin")]
        if "*" not in self.allowed:
            grants.append((b"access-control-allow-credentials", b"true"))
        return grants + (_preflight_grants(headers) if headers.get("access-control-request-method") else [])

    def _is_allowed(self, origin: str) -> bool:
        if origin == "null":
            return False
        if origin.lower() in self.allowed or "*" in self.allowed:
            return True
        return self._pattern is not None and self._pattern.fullmatch(origin) is not None


def is_preflight(scope: Scope, headers: Headers) -> bool:
    """Whether a browser asks beforehand what an allowed origin may send."""
    return scope["method"] == "OPTIONS" and headers.get("access-control-request-method") is not None


def _is_own(origin: str, headers: Headers) -> bool:
    """Whether the origin is this server as the browser addressed it; the scheme is left to a TLS proxy."""
    parts = urlsplit(origin)
    if parts.scheme not in ("http", "https"):
        return False
    default = ":443" if parts.scheme == "https" else ":80"
    host = (headers.get("host") or "").lower()
    return origin.partition("://")[2].lower().removesuffix(default) == host.removesuffix(default)


def _preflight_grants(headers: Headers) -> list[tuple[bytes, bytes]]:
    wanted = headers.get("access-control-request-headers") or "content-type"
    return [
        (b"access-control-allow-methods", b"GET, HEAD, POST, PUT, PATCH, DELETE"),
        (b"access-control-allow-headers", wanted.encode("latin-1")),
        (b"access-control-max-age", b"600"),
    ]
