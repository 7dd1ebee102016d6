"""Names and passwords: compared in constant time, with a pause after wrong ones."""

from __future__ import annotations

import hmac
import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from math import ceil

from webui.core.errors import WebuiError

OF_AN_ADDRESS = 10
"""Wrong passwords in a row that cost an address nothing."""
OF_A_NAME = 20
"""The same for a name, from all addresses together: more, so that strangers can't easily lock somebody out."""
LONGEST = 60.0
"""Seconds of the longest pause."""
FORGOTTEN = 3600.0
"""Seconds after which wrong passwords are forgotten."""
REMEMBERED = 10_000
"""Names and addresses remembered; the oldest are forgotten first."""


class TooManyTries(WebuiError):
    """A login that isn't looked at now. seconds: until one will be."""

    status = 429

    def __init__(self, seconds: int):
        super().__init__(f"Too many wrong passwords. Try again in {seconds} s.")
        self.seconds = seconds


class Backoff:
    """A pause after each failure beyond the free ones: 1 s, then twice as long each time, up to LONGEST."""

    def __init__(self, free: int, clock: Callable[[], float] = time.monotonic):
        self._free = free
        self._clock = clock
        self._failures: OrderedDict[str, tuple[int, float]] = OrderedDict()

    def wait(self, key: str) -> float:
        """Seconds until this key may try again, 0 for now."""
        count, since = self._failures.get(key, (0, 0.0))
        pause = 0.0 if count < self._free else min(2.0 ** min(count - self._free, 30), LONGEST)
        return max(since + pause - self._clock(), 0.0)

    def failed(self, key: str) -> None:
        count, since = self._failures.pop(key, (0, 0.0))
        now = self._clock()
        self._failures[key] = (count + 1 if now - since < FORGOTTEN else 1, now)
        while len(self._failures) > REMEMBERED:
            self._failures.popitem(last=False)

    def succeeded(self, key: str) -> None:
        self._failures.pop(key, None)


class Logins:
    """Who may enter: (user, password) pairs."""

    def __init__(self, credentials: Sequence[tuple[str, str]], clock: Callable[[], float] = time.monotonic):
        self._key = secrets.token_bytes(32)
        self._known = [
            (user, self._digest(pair)) for user, password in credentials for pair in _spellings(user, password)
        ]
        self._addresses = Backoff(OF_AN_ADDRESS, clock)
        self._names = Backoff(OF_A_NAME, clock)
        self._lock = threading.Lock()

    @property
    def required(self) -> bool:
        """Whether anybody is asked at all."""
        return bool(self._known)

    def user(self, pair: bytes, address: str) -> str | None:
        """Whose "user:password" this is; None for a wrong one.

        Every known pair is compared in full, so that the time tells neither names nor passwords.
        Raises: TooManyTries, also for a right pair, while the address or the name has to wait.
        """
        name = pair.partition(b":")[0].decode("latin-1")[:200]
        with self._lock:
            if wait := max(self._addresses.wait(address), self._names.wait(name)):
                raise TooManyTries(ceil(wait))
            given = self._digest(pair)
            matches = [user for user, known in self._known if hmac.compare_digest(given, known)]
            for backoff, key in ((self._addresses, address), (self._names, name)):
                (backoff.succeeded if matches else backoff.failed)(key)
        return matches[0] if matches else None

    def _digest(self, pair: bytes) -> bytes:
        return hmac.digest(self._key, pair, "sha256")


def _spellings(user: str, password: str) -> set[bytes]:
    """The pair as clients encode it: in UTF-8, or in Latin-1 where that can be."""
    pair = f"{user}:{password}"
    latin = all(ord(letter) < 256 for letter in pair)
    return {pair.encode(), pair.encode("latin-1")} if latin else {pair.encode()}
