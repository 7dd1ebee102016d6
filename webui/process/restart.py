"""How the page asks the server to end, so that launch.py starts it anew; standard library only."""

from __future__ import annotations

import threading
from collections.abc import Callable

from webui.process.supervision import is_supervised


class Restart:
    """The wish for another start. Safe to use from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._stop: Callable[[], None] | None = None
        self._asked = False

    @property
    def starts_again(self) -> bool:
        """Whether somebody starts the server again once it has ended."""
        return is_supervised()

    @property
    def asked(self) -> bool:
        return self._asked

    def stops_by(self, stop: Callable[[], None]) -> None:
        """stop: ends the server, so that it answers what it has begun."""
        with self._lock:
            self._stop = stop

    def ask(self) -> None:
        """End the server soon. Without one that runs, nothing happens but that it is remembered."""
        with self._lock:
            self._asked = True
            stop = self._stop
        if stop is not None:
            stop()
