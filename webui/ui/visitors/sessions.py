"""Telling apart the browsers that have loaded the page."""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from collections import OrderedDict
from http.cookies import CookieError, SimpleCookie

from starlette.datastructures import Headers
from starlette.types import Scope

MAX_HASHES = 100_000
"""Gradio sessions that are remembered; the oldest are forgotten first."""
ANONYMOUS = "from-"
OWNER = "easel.owner"
"""Under which the scope of a request for Gradio says whose it is."""


class PageSessions:
    """The signed cookie that a browser gets with the page, and which of Gradio's sessions it opened.

    A cookie is good for one run of the server: after a restart the page loads itself again and gets a new one.
    """

    def __init__(self, place: str):
        """place: tells this server from others on the same machine, whose cookies a browser sends along."""
        self._key = secrets.token_bytes(32)
        self.cookie = f"easel-page-{hmac.digest(b'place', place.encode(), 'sha256').hex()[:8]}"
        self._owners: OrderedDict[str, str] = OrderedDict()

    def new_cookie(self, scope: Scope, user: str | None = None) -> str:
        """The Set-Cookie header that makes a browser a visitor of this page.

        user: who has logged in; all their browsers are one visitor.
        """
        nonce = secrets.token_hex(16)
        named = f"{nonce}.{owner_of_user(user) if user else nonce}"
        return cookie_header(self.cookie, f"{named}.{self._signed(named)}", scope)

    def owner(self, scope: Scope) -> tuple[str, bool]:
        """Whose request this is, and whether they have loaded the page; others go by their address."""
        cookies = (value for name, value in scope["headers"] if name == b"cookie")
        header = "; ".join(value.decode("latin-1") for value in cookies)
        try:
            morsel = SimpleCookie(header).get(self.cookie)
        except CookieError:
            morsel = None
        named, _, signature = (morsel.value if morsel else "").rpartition(".")
        if re.fullmatch(r"[0-9a-f]{32}\.[0-9a-f]{32}", named) and hmac.compare_digest(
            signature.encode(), self._signed(named).encode()
        ):
            return named.partition(".")[2], True
        host = (scope.get("client") or ("nowhere", 0))[0]
        return ANONYMOUS + hmac.digest(self._key, host.encode(), "sha256").hex()[:32], False

    def belongs(self, session_hash: str, owner: str) -> bool:
        """Whether a Gradio session is this visitor's; the first who uses one keeps it."""
        holder = self._owners.setdefault(session_hash, owner)
        while len(self._owners) > MAX_HASHES:
            self._owners.popitem(last=False)
        return holder == owner

    def _signed(self, text: str) -> str:
        return hmac.digest(self._key, text.encode(), "sha256").hex()


def owner_of_user(user: str) -> str:
    """The visitor that a user is, in every browser and after every restart."""
    return hashlib.sha256(b"user " + user.encode()).hexdigest()[:32]


def cookie_header(name: str, value: str, scope: Scope) -> str:
    """A Set-Cookie header that no script reads and no other site's request carries; over https for https alone."""
    secure = scope["scheme"] == "https" or Headers(scope=scope).get("x-forwarded-proto") == "https"
    return f"{name}={value}; Path=/; HttpOnly; SameSite=Lax{'; Secure' if secure else ''}"
