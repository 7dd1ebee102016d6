"""The rows of the table: what was measured, whether it is as it should be, and what failed."""

from __future__ import annotations

import json
import logging
import time
import traceback
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

log = logging.getLogger(__name__)

Status = Literal["ok", "NOT held", "failed", "left out"]
LAST_FRAMES = 6
"""Of a failure's traceback."""


@dataclass(frozen=True)
class Found:
    """A measured value. most, least: the bars it has to keep to, None for those that it doesn't have."""

    value: float
    unit: str
    most: float | None = None
    least: float | None = None
    facts: dict[str, Any] = field(default_factory=dict)

    @property
    def held(self) -> bool:
        too_much = self.most is not None and not self.value <= self.most  # NaN keeps to nothing
        too_little = self.least is not None and not self.value >= self.least
        return not (too_much or too_little)


@dataclass(frozen=True)
class Row:
    """found: None when nothing was measured; `why` then says why. seconds: what measuring took."""

    part: str
    name: str
    status: Status
    found: Found | None = None
    why: str = ""
    seconds: float = 0.0

    @classmethod
    def of(cls, record: dict[str, Any]) -> Row:
        found = record["found"]
        return cls(**{**record, "found": Found(**found) if found else None})

    @property
    def line(self) -> str:
        said = self.why.strip().splitlines()[-1] if self.why else ""
        if self.found is not None:
            bars = [f"{word} {bar:g}" for word, bar in (("at most", self.found.most), ("at least", self.found.least))
                    if bar is not None]  # fmt: skip
            facts = [f"{key} {value}" for key, value in self.found.facts.items()]
            said = f"{self.found.value:10.4g} {self.found.unit:11} {'; '.join([', '.join(bars), *facts])}"
        return f"{self.part}  {self.name:58} {self.status:8} {said}".rstrip(" ;")


class Rows:
    """Measures one thing after the other and tells each at once; what fails costs its own row alone."""

    def __init__(self, part: str, path: Path, seconds: float) -> None:
        """path: file that every row is added to, as a line of JSON. seconds: after which nothing more is begun."""
        self.part = part
        self.path = path
        self.until = time.monotonic() + seconds

    def measure(self, name: str, measure: Callable[[], Found]) -> Found | None:
        """Add a row of what `measure` finds. Returns: that, None when it failed or there is no time left."""
        if time.monotonic() > self.until:
            self._add(Row(self.part, name, "left out", why="no time left"))
            return None
        started = time.monotonic()
        try:
            found = measure()
        except Exception:
            log.exception("%s failed", name)  # whatever it is, it costs this row alone
            why = traceback.format_exc(limit=-LAST_FRAMES)
            self._add(Row(self.part, name, "failed", why=why, seconds=time.monotonic() - started))
            return None
        self._add(Row(self.part, name, "ok" if found.held else "NOT held", found, seconds=time.monotonic() - started))
        return found

    def _add(self, row: Row) -> None:
        with self.path.open("a", encoding="utf-8") as rows:
            rows.write(json.dumps(asdict(row)) + "\n")
