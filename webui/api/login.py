"""HTTP Basic for /sdapi (--api-auth)."""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable, Sequence

from fastapi import HTTPException, Request
from fastapi.security import HTTPBasic

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
    basic = HTTPBasic(auto_error=False)
    known = [(user.encode(), password.encode()) for user, password in credentials]

    async def check(request: Request) -> None:
        if not known:
            return
        try:
            given = await basic(request)
        except HTTPException:  # a header that is no Basic credentials
            given = None
        user, password = (given.username.encode(), given.password.encode()) if given else (b"", b"")
        matches = [
            secrets.compare_digest(user, name) & secrets.compare_digest(password, secret) for name, secret in known
        ]
        if not any(matches):
            raise HTTPException(401, "Incorrect username or password", {"WWW-Authenticate": "Basic"})

    return check
