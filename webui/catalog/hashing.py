"""Hashes that someone will want to see, computed while nothing else is to be done."""

from __future__ import annotations

import logging
import os
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable
from pathlib import Path

from webui.catalog.hashes import HashCache
from webui.core.errors import WebuiError

log = logging.getLogger(__name__)

REST = 0.5
"""Seconds between two looks at whether the jobs are done."""
NICE = 15

Done = Callable[[Path, str], None]


class BackgroundHasher:
    """One file at a time, in a thread of low priority that rests while jobs run and ends when nothing is left.

    rest_while: says whether something more important is going on.
    """

    def __init__(self, hashes: HashCache, rest_while: Callable[[], bool] = lambda: False):
        self.hashes = hashes
        self._rest_while = rest_while
        self._wake = threading.Condition()
        self._waiting: deque[tuple[Path, str, Done | None]] = deque()
        self._wanted: set[tuple[Path, str]] = set()
        self._thread: threading.Thread | None = None
        self._closed = threading.Event()

    def rest_while(self, busy: Callable[[], bool]) -> None:
        """Ask this from now on before each piece of work."""
        self._rest_while = busy

    def want(self, paths: Iterable[Path], kind: str = "sha256", done: Done | None = None) -> None:
        """Queue files; those already waiting are not queued twice.

        done: called in the thread with the path and the hash; not for files that can't be read.
        """
        with self._wake:
            if self._closed.is_set() or not self.hashes.enabled:
                return
            for path in paths:
                if (path, kind) not in self._wanted:
                    self._wanted.add((path, kind))
                    self._waiting.append((path, kind, done))
            if self._waiting and self._thread is None:
                self._thread = threading.Thread(target=self._work, name="hashes", daemon=True)
                self._thread.start()

    def wait(self, timeout: float | None = None) -> bool:
        """Until nothing is left; returns whether that came within `timeout` seconds."""
        with self._wake:
            return self._wake.wait_for(lambda: self._thread is None, timeout)

    def close(self) -> None:
        """Leave what is waiting; returns when the thread has ended."""
        self._closed.set()
        with self._wake:
            thread = self._thread
        if thread:
            thread.join()

    def _work(self) -> None:
        if sys.platform == "linux":  # there the number of a thread can be given for a process's
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICE)
        while True:
            with self._wake:
                if not self._waiting or self._closed.is_set():
                    self._waiting.clear()
                    self._wanted.clear()
                    self._thread = None
                    self._wake.notify_all()
                    return
                path, kind, done = self._waiting.popleft()
                self._wanted.discard((path, kind))
            try:
                value = self.hashes.compute(path, kind, keep_going=self._may_go_on)
                if value and done:
                    done(path, value)
            except (OSError, WebuiError) as error:
                log.info("No hash of %s: %s", path.name, error)

    def _may_go_on(self) -> bool:
        """Asked before each few megabytes: rests as long as jobs run, False once closed."""
        while self._rest_while():
            if self._closed.wait(REST):
                return False
        return not self._closed.is_set()
