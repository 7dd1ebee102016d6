"""A temporary public link: the tunnel, and the password in front of everything that comes through it."""

from __future__ import annotations

import base64
import hmac
import secrets
from collections.abc import Sequence

from webui.api.guard import App, Receive, Scope, Send, host_name
from webui.core.errors import WebuiError


class NoTunnel(WebuiError):
    """The public link can't be had now."""

    status = 502


def generated_credentials() -> tuple[str, str]:
    """A user name and a password that can't be guessed, for this run."""
    return "easel", secrets.token_urlsafe(12)


def open_tunnel(port: int) -> str:
    """The public address of a tunnel to this port, by Gradio's sharing service.

    Raises: NoTunnel with the reason: no network, no tunnel program for this system, service down.
    """
    from gradio.networking import setup_tunnel

    try:
        return str(setup_tunnel("127.0.0.1", port, secrets.token_urlsafe(32), None, None))
    except Exception as error:  # the service's client raises many kinds; each of them means no link
        cause = error.__cause__ or error
        raise NoTunnel(f"the sharing service can't be reached ({type(cause).__name__}: {cause}).") from error


class PasswordGate:
    """ASGI layer that asks for a password on the host names given to `protect`, and only there."""

    def __init__(self, app: App) -> None:
        self._app = app
        self._accepted: dict[str, tuple[bytes, ...]] = {}

    def protect(self, host: str, credentials: Sequence[tuple[str, str]]) -> None:
        """Requests for `host` need one of these (user, password) pairs from now on."""
        pairs = (base64.b64encode(f"{user}:{password}".encode()) for user, password in credentials)
        self._accepted[host_name(host) or host] = tuple(pairs)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket") or self._may_pass(scope):
            await self._app(scope, receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
        else:
            headers = [
                (b"www-authenticate", b'Basic realm="Easel", charset="UTF-8"'),
                (b"content-type", b"text/plain; charset=utf-8"),
                (b"x-content-type-options", b"nosniff"),
                (b"cache-control", b"no-store"),
            ]
            await send({"type": "http.response.start", "status": 401, "headers": headers})
            await send({"type": "http.response.body", "body": b"This public link needs a user name and a password."})

    def _may_pass(self, scope: Scope) -> bool:
        headers = dict(scope["headers"])
        host = host_name(headers.get(b"host", b"").decode("latin-1"))  # as the guard reads it, "name." included
        accepted = self._accepted.get(host or "")
        if accepted is None:
            return True
        kind, _, given = headers.get(b"authorization", b"").partition(b" ")
        matches = [hmac.compare_digest(given.strip(), pair) for pair in accepted]
        return kind.lower() == b"basic" and any(matches)
