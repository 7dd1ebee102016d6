"""A temporary public link: the tunnel, and the password in front of everything that comes through it."""

from __future__ import annotations

import secrets
from collections.abc import Sequence

from webui.api.guard import App, Receive, Scope, Send, host_name
from webui.api.login import given_pair
from webui.core.errors import WebuiError
from webui.services.logins import Logins, TooManyTries

ASKED = (b"www-authenticate", b'Basic realm="Easel", charset="UTF-8"')


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
        self._logins: dict[str, Logins] = {}

    def protect(self, host: str, credentials: Sequence[tuple[str, str]]) -> None:
        """Requests for `host` need one of these (user, password) pairs from now on."""
        self._logins[host_name(host) or host] = Logins(credentials)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        host = host_name(headers.get(b"host", b"").decode("latin-1"))  # as the guard reads it, "name." included
        logins = self._logins.get(host or "")
        given = given_pair(headers.get(b"authorization", b"").decode("latin-1"))
        try:
            passes = logins is None or bool(given and logins.user(given, (scope.get("client") or ("",))[0]))
        except TooManyTries as error:
            await _refuse(scope, send, 429, str(error), (b"retry-after", str(error.seconds).encode()))
            return
        if passes:
            await self._app(scope, receive, send)
        else:
            await _refuse(scope, send, 401, "This public link needs a user name and a password.", ASKED)


async def _refuse(scope: Scope, send: Send, status: int, sentence: str, header: tuple[bytes, bytes]) -> None:
    if scope["type"] == "websocket":
        await send({"type": "websocket.close", "code": 1008})
        return
    headers = [
        header,
        (b"content-type", b"text/plain; charset=utf-8"),
        (b"x-content-type-options", b"nosniff"),
        (b"cache-control", b"no-store"),
    ]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": sentence.encode()})
