"""HTTP Basic for /sdapi (--api-auth)."""

from __future__ import annotations

import base64
import binascii
import hmac
from collections.abc import Awaitable, Callable, Sequence

from fastapi import HTTPException, Request

from webui.core.flags import Flags


def credentials_of(flags: Flags) -> tuple[tuple[str, str], ...]:
    """Who may call the API: --api-auth, or those of the page where others than this machine can reach it."""
    if flags.api_credentials or flags.is_local:
        return flags.api_credentials
    return flags.credentials


def login_required(credentials: Sequence[tuple[str, str]]) -> Callable[[Request], Awaitable[None]]:
    """A dependency that lets through one of these (user, password) pairs, everyone if there are none.

    Every pair is compared in full, so that the time tells neither names nor passwords.
    """
    known = [spelling for user, password in credentials for spelling in _spellings(f"{user}:{password}")]

    async def check(request: Request) -> None:
        given = _given(request.headers.get("authorization", ""))
        matches = [hmac.compare_digest(given, pair) for pair in known]
        if known and not any(matches):
            raise HTTPException(401, "Incorrect username or password", {"WWW-Authenticate": "Basic"})

    return check


def _spellings(pair: str) -> set[bytes]:
    """The pair as clients encode it: in UTF-8, or in Latin-1 where that can be."""
    latin = all(ord(letter) < 256 for letter in pair)
    return {pair.encode(), pair.encode("latin-1")} if latin else {pair.encode()}


def _given(header: str) -> bytes:
    """The pair in an Authorization header, b"" if it holds none."""
    kind, _, encoded = header.partition(" ")
    if kind.lower() != "basic":
        return b""
    try:
        return base64.b64decode(encoded.strip(), validate=True)
    except (binascii.Error, ValueError):
        return b""
