"""HTTP Basic for /sdapi (--api-auth)."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Awaitable, Callable

from fastapi import HTTPException, Request

from webui.core.flags import Flags
from webui.services.logins import Logins, TooManyTries


def credentials_of(flags: Flags) -> tuple[tuple[str, str], ...]:
    """Who may call the API: --api-auth, or those of the page where others than this machine can reach it."""
    if flags.api_credentials or flags.is_local:
        return flags.api_credentials
    return flags.credentials


def login_required(logins: Logins) -> Callable[[Request], Awaitable[None]]:
    """A dependency that lets through who has a login, everyone where none is asked for."""

    async def check(request: Request) -> None:
        if not logins.required:
            return
        address = request.client.host if request.client else ""
        given = given_pair(request.headers.get("authorization", ""))
        try:
            user = logins.user(given, address) if given else None
        except TooManyTries as error:
            raise HTTPException(429, str(error), {"Retry-After": str(error.seconds)}) from error
        if user is None:
            raise HTTPException(401, "Incorrect username or password", {"WWW-Authenticate": "Basic"})

    return check


def given_pair(header: str) -> bytes:
    """The "user:password" in an Authorization header, b"" if it holds none."""
    kind, _, encoded = header.partition(" ")
    if kind.lower() != "basic":
        return b""
    try:
        return base64.b64decode(encoded.strip(), validate=True)
    except (binascii.Error, ValueError):
        return b""
