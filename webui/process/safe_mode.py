"""Starts without the user's extensions, and the search for the one at fault by halves."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from webui.core.files import write_atomic
from webui.process.supervision import FAILED_START


@dataclass(frozen=True)
class Search:
    """The state of a search. suspects: names of which one is at fault. tried: those of them that are on in this start.

    One suspect that isn't tried any more is the one at fault. Without suspects it is none of them alone.
    """

    suspects: tuple[str, ...]
    tried: tuple[str, ...]

    @classmethod
    def among(cls, names: Iterable[str]) -> Search:
        """The first step. Raises: ValueError without names."""
        suspects = tuple(names)
        if not suspects:
            raise ValueError("there is no extension to look for")
        return cls(suspects, suspects[: (len(suspects) + 1) // 2])

    @property
    def found(self) -> str:
        """The one at fault, "" while there is more than one suspect."""
        return self.suspects[0] if len(self.suspects) == 1 and not self.tried else ""

    @property
    def steps_left(self) -> int:
        """How many more starts are needed at most."""
        return 1 + (len(self.suspects) - 1).bit_length() if self.tried else 0

    def answered(self, faulty: bool) -> Search:
        """The next step. faulty: whether the fault showed while `tried` were on."""
        left = self.tried if faulty else tuple(name for name in self.suspects if name not in self.tried)
        if not left or (faulty and len(left) == 1):
            return Search(left, ())
        return Search.among(left)


@dataclass(frozen=True)
class SafeMode:
    """How this server was started.

    on: without the user's extensions. cause: why the start before failed, "" if it didn't. culprit: the extension that
    was being loaded then, "" where that isn't known. search: the one that goes on, if one does.
    """

    on: bool = False
    cause: str = ""
    culprit: str = ""
    search: Search | None = None

    def left_out(self, name: str) -> bool:
        """Whether an extension of the user's stays out of this start."""
        return self.on or (self.search is not None and name not in self.search.tried)

    def told(self) -> str:
        """A sentence for the page, "" where there is nothing to tell."""
        if self.search is not None:
            return "A search for the extension at fault goes on: the Extensions tab has its next step."
        if self.cause:
            while_loading = f' while the extension "{self.culprit}" was loading' if self.culprit else ""
            return (
                f"The last start failed: {self.cause}{while_loading}. Easel runs in safe mode, without your "
                "extensions; the Extensions tab finds the one at fault."
            )
        if self.on:
            return "Easel runs in safe mode, without your extensions; the Extensions tab finds the one at fault."
        return ""


class SafeModeFiles:
    """What one start leaves for the next, in the data folder's tmp/."""

    def __init__(self, folder: Path):
        self._search = folder / "extension-search.json"
        self._loading = folder / "loading-extension.txt"

    def start(self, wanted: bool, environ: Mapping[str, str]) -> SafeMode:
        """How this server is to start. wanted: by --safe-mode.

        A start that failed in the midst of a search answers its question.
        """
        cause = environ.get(FAILED_START, "")
        culprit = self._read_loading()
        self.loading("")
        search = self._read_search()
        if search is None:
            return SafeMode(wanted, cause, culprit if cause else "")
        if cause and search.tried:
            search = search.answered(faulty=True)
            self.keep(search)
        return SafeMode(bool(cause) or not search.tried, cause, culprit if cause else "", search)

    def loading(self, name: str) -> None:
        """Note which extension is being loaded; "" for none."""
        if name:
            self._loading.write_text(name, encoding="utf-8", errors="replace")
        else:
            self._loading.unlink(missing_ok=True)

    def keep(self, search: Search | None) -> None:
        """Note where the search is; None ends it."""
        if search is None:
            self._search.unlink(missing_ok=True)
        else:
            write_atomic(self._search, json.dumps(asdict(search)).encode())

    def _read_loading(self) -> str:
        try:
            return self._loading.read_text(encoding="utf-8", errors="replace")[:200]
        except OSError:
            return ""

    def _read_search(self) -> Search | None:
        try:
            found = json.loads(self._search.read_text(encoding="utf-8"))
            return Search(tuple(map(str, found["suspects"])), tuple(map(str, found["tried"])))
        except (OSError, ValueError, KeyError, TypeError):
            return None
