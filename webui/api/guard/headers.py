"""The headers that every answer gets."""

from __future__ import annotations

import re
from typing import Final

from webui.api.guard.asgi import Message, Send

FILES: Final = re.compile(r"(/gradio_api)?/file[=/]|/sd_extra_networks/thumb")
DOCS: Final = re.compile(r"/(docs|redoc)\b")
MARKUP: Final = frozenset({"text/html", "application/xhtml+xml", "text/xml", "application/xml"})

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


def with_safe_headers(send: Send, path: str, grants: list[tuple[bytes, bytes]]) -> Send:
    """`send`, putting the safe headers on the answer and our own word on cross-origin access."""
    policy = FILE_POLICY if FILES.match(path) else DOCS_POLICY if DOCS.match(path) else PAGE_POLICY

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


def _harmless(headers: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """A served file's headers, with markup turned into a download: it could act as a page of this server."""
    kind = next((value for name, value in headers if name.lower() == b"content-type"), b"")
    if kind.decode("latin-1").partition(";")[0].strip().lower() not in MARKUP:
        return headers
    kept = [(name, value) for name, value in headers if name.lower() not in (b"content-type", b"content-disposition")]
    return [*kept, (b"content-type", b"application/octet-stream"), (b"content-disposition", b"attachment")]
