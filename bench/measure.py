"""Times, and what may be said of them: medians, ratios of things measured side by side, and bars to hold.

Wall time is what a user waits. CPU time (of all threads of the processes concerned) is shown beside it, because
it changes little when other programs want the same cores; a ratio of CPU times stays true on a busy machine.
"""

from __future__ import annotations

import os
import platform
import statistics
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

QUIET_LOAD = 1.5
"""A load average above this, before anything was started, makes wall times doubtful."""


@dataclass(frozen=True)
class Sample:
    """Seconds of the clock, and of computing on all cores together."""

    wall: float
    cpu: float

    def per(self, count: int) -> Sample:
        return Sample(self.wall / count, self.cpu / count)


class Stopwatch:
    """Times of this process from its making, or from the last lap."""

    def __init__(self) -> None:
        self._wall, self._cpu = time.perf_counter(), time.process_time()

    def lap(self) -> Sample:
        wall, cpu = time.perf_counter(), time.process_time()
        sample = Sample(wall - self._wall, cpu - self._cpu)
        self._wall, self._cpu = wall, cpu
        return sample


@dataclass
class Series:
    """One thing measured once a round. facts: what else is known of it, shown behind the times."""

    title: str
    samples: list[Sample] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)

    @property
    def wall(self) -> float:
        return statistics.median(sample.wall for sample in self.samples)

    @property
    def cpu(self) -> float:
        return statistics.median(sample.cpu for sample in self.samples)

    def ratio(self, other: Series) -> Sample:
        """Median over the rounds of this one's times by the other's of the same round."""
        pairs = list(zip(self.samples, other.samples, strict=True))
        return Sample(
            statistics.median(own.wall / base.wall for own, base in pairs),
            statistics.median(own.cpu / base.cpu for own, base in pairs),
        )


@dataclass(frozen=True)
class Bar:
    """A promise: `value` stays at or below `limit` (None: only told). unit: "s" or "x".

    cpu: the value in CPU time; by_cpu: it decides, as wall times were doubtful.
    """

    what: str
    value: float
    limit: float | None
    unit: str
    cpu: float | None = None
    by_cpu: bool = False

    @property
    def line(self) -> str:
        cpu = f" ({self.cpu:.3f} in CPU time)" if self.cpu is not None else ""
        verdict = ("held" if self.held else "NOT held") + (" in CPU time" if self.by_cpu else "")
        bar = "" if self.limit is None else f", bar {self.limit:g} {self.unit}: {verdict}"
        return f"{self.what}: {self.value:.3f} {self.unit}{cpu}{bar}"

    @property
    def held(self) -> bool:
        value = self.cpu if self.by_cpu and self.cpu is not None else self.value
        return self.limit is None or value <= self.limit


@dataclass
class Report:
    """What one benchmark found. setup: how it was run."""

    name: str
    setup: dict[str, Any]
    conditions: dict[str, Any]
    series: list[Series] = field(default_factory=list)
    bars: list[Bar] = field(default_factory=list)

    def compare(self, what: str, own: Series, base: Series, limit: float | None = None) -> None:
        ratio = own.ratio(base)
        self.bars.append(Bar(what, ratio.wall, limit, "x", ratio.cpu, by_cpu=not self.conditions["quiet"]))

    def lines(self) -> list[str]:
        """The report for a terminal."""
        told = ", ".join(f"{key} {value}" for key, value in {**self.setup, **self.conditions}.items())
        width = max((len(series.title) for series in self.series), default=0)
        rows = [f"{'':{width}}  {'wall s':>9} {'cpu s':>9}  rounds"]
        for series in self.series:
            facts = "  ".join(f"{key} {value}" for key, value in series.facts.items())
            row = f"{series.title:{width}}  {series.wall:9.3f} {series.cpu:9.3f}  {len(series.samples):6}  {facts}"
            rows.append(row.rstrip())
        return [f"{self.name}: {told}", *rows, *(bar.line for bar in self.bars)]

    def record(self) -> dict[str, Any]:
        """The report as JSON has it."""
        medians = [{**asdict(series), "wall": series.wall, "cpu": series.cpu} for series in self.series]
        bars = [{**asdict(bar), "held": bar.held} for bar in self.bars]
        return {"name": self.name, "setup": self.setup, **self.conditions, "series": medians, "bars": bars}


def conditions() -> dict[str, Any]:
    """Of the machine, before anything is measured."""
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else float("nan")
    return {
        "time": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "cores": os.cpu_count(),
        "machine": f"{platform.system()} {platform.machine()}",
        "load before": round(load, 2),
        "quiet": load <= QUIET_LOAD,
    }


def alternating(count: int, rounds: int) -> list[Sequence[int]]:
    """The order of `count` arms in each round: forwards and backwards in turn, so that a drift favours none."""
    forwards = range(count)
    return [forwards if number % 2 == 0 else forwards[::-1] for number in range(rounds)]
