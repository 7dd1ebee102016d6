"""Whether Easel is right, fast, small, and trains on a graphics card: one command, no server, no network.

Each part runs in a process of its own, so that what a failure does to the card ends with it.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from bench.device.rows import Row
from bench.measure import conditions
from bench.programs import ROOT

PARTS = {"a": "right", "b": "fast", "c": "small", "d": "trains"}
SHARES = {"a": 0.15, "b": 0.5, "c": 0.2, "d": 0.15}
"""Of the time that is left, among the parts still to come; what one leaves over is the others'."""
GRACE = 30.0
"""Seconds that a part may still take for what it has begun."""
LOOK = 0.2


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--parts", default=",".join(PARTS), help="a: right, b: fast, c: small, d: trains (a,b,c,d)")
    parser.add_argument("--budget-minutes", type=float, default=8.0, help="after which nothing more is begun")
    parser.add_argument("--small", action="store_true", help="tiny networks and few of them, for a CPU")
    parser.add_argument("--device", default="auto", help="as Easel's --device")
    parser.add_argument("--checkpoint", type=Path, help="b and c: an SD 1.x file instead of one with random weights")
    parser.add_argument("--out", type=Path, help="folder for device.json, written row by row; $OUT if that is set")


@dataclass
class DeviceReport:
    """All rows so far. out: the file that they are kept in."""

    setup: dict[str, Any]
    conditions: dict[str, Any]
    out: Path | None = None
    rows: list[Row] = field(default_factory=list)

    def add(self, row: Row) -> None:
        self.rows.append(row)
        print(row.line, file=sys.stderr, flush=True)
        if row.status == "failed":
            print(row.why, file=sys.stderr, flush=True)
        if self.out is not None:
            self.out.write_text(json.dumps(self.record(), indent=1), encoding="utf-8")

    def record(self) -> dict[str, Any]:
        return {"name": "device", "setup": self.setup, **self.conditions, "rows": [asdict(row) for row in self.rows]}

    def lines(self) -> list[str]:
        counts = {status: sum(row.status == status for row in self.rows) for status in
                  ("ok", "NOT held", "failed", "left out")}  # fmt: skip
        told = ", ".join(f"{key} {value}" for key, value in {**self.setup, **self.conditions}.items())
        total = ", ".join(f"{count} {status}" for status, count in counts.items())
        return [f"device: {told}", *(row.line for row in self.rows), total]


def run(options: argparse.Namespace) -> DeviceReport:
    asked = [part for part in options.parts.split(",") if part]
    unknown = [part for part in asked if part not in PARTS]
    if unknown or not asked:
        raise SystemExit(f"--parts wants some of {','.join(PARTS)}, not {options.parts!r}.")
    out = options.out or (Path(os.environ["OUT"]) if os.environ.get("OUT") else None)
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
    setup = {"parts": ",".join(asked), "small": options.small, "device": options.device}
    report = DeviceReport(setup, conditions(), out / "device.json" if out else None)
    until = time.monotonic() + 60 * options.budget_minutes
    with tempfile.TemporaryDirectory(prefix="easel-device-") as folder:
        for number, part in enumerate(asked):
            share = SHARES[part] / sum(SHARES[other] for other in asked[number:])
            seconds = max(until - time.monotonic(), 0) * share
            for row in part_rows(part, options, seconds, Path(folder)):
                report.add(row)
    return report


def part_rows(part: str, options: argparse.Namespace, seconds: float, weights: Path) -> Iterator[Row]:
    """What a part measures, as it goes. seconds: after which it begins nothing more. weights: all parts' folder."""
    with tempfile.TemporaryDirectory(prefix="easel-device-") as folder:
        path = Path(folder) / "rows"
        path.touch()
        command = [sys.executable, "-m", "bench.device.part", part, "--rows", str(path), "--seconds", str(seconds)]
        command += ["--device", options.device, "--data", str(Path(folder) / "data"), "--weights", str(weights)]
        command += ["--small"] if options.small else []
        command += ["--checkpoint", str(options.checkpoint.absolute())] if options.checkpoint else []
        began = time.monotonic()
        process = subprocess.Popen(
            command, cwd=ROOT, env={**os.environ, "HF_HUB_OFFLINE": "1"}, stdin=subprocess.DEVNULL, stdout=sys.stderr
        )
        why = ""
        with path.open(encoding="utf-8") as rows:
            try:
                while process.poll() is None:
                    yield from _new(rows)
                    if time.monotonic() - began > seconds + GRACE:
                        process.kill()
                        why = f"ended after {seconds + GRACE:.0f} s, as something in it took too long"
                    time.sleep(LOOK)
            finally:
                process.kill()
                process.wait()
            yield from _new(rows)
        if process.returncode:
            why = why or f"its process ended with status {process.returncode}"
            yield Row(part, f"the part {PARTS[part]!r}", "failed", why=why, seconds=time.monotonic() - began)


def _new(rows: Any) -> Iterator[Row]:
    """The rows that came since the last look; a line that isn't whole yet waits."""
    while True:
        at, line = rows.tell(), rows.readline()
        if not line.endswith("\n"):
            rows.seek(at)
            return
        yield Row.of(json.loads(line))
