"""What every sampler costs outside of the network: its arithmetic, its noise, and guidance, at 512x512."""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from bench.measure import Bar, Report, Series, Stopwatch, alternating, conditions
from tools.random_checkpoint import TINY, write_checkpoint

MOST = 0.03
"""Share of the network's call that a sampler may take."""
CALLS = {"a bf16 call on 2 cores": 6.2, "a call on a graphics card": 0.05}
"""Seconds that a call of SD 1.5 at this size takes, with both rows. A card works by itself: what the processor does
between two calls, such as drawing noise, it mostly does while the card computes."""


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--pixels", type=int, default=512, help="edge of the picture")
    parser.add_argument("--noise", choices=("CPU", "NV"), default="CPU", help="random number source")


def run(options: argparse.Namespace) -> Report:
    """The network is replaced by one that answers at once; the times are those of a call, over whole passes."""
    from bench.passes import free_passes, torch  # after the environment is set

    setup = {"rounds": options.rounds, "steps": options.steps, "pixels": options.pixels, "noise": options.noise}
    report = Report("samplers", setup, conditions())
    report.setup |= {"torch": torch.__version__, "threads": torch.get_num_threads()}
    with tempfile.TemporaryDirectory(prefix="easel-bench-") as folder:
        checkpoint = Path(folder) / "tiny.safetensors"
        write_checkpoint(checkpoint, TINY)
        passes = free_passes(checkpoint, options.pixels, options.steps, options.noise)
    report.series = [Series(each.name) for each in passes]
    for each in passes:
        each.sample()
    for order in alternating(len(passes), options.rounds):
        for index in order:
            watch = Stopwatch()
            calls = passes[index].sample()
            report.series[index].samples.append(watch.lap().per(calls))
    quiet = report.conditions["quiet"]
    for series in report.series:
        spent = series.wall if quiet else series.cpu
        shares = {f"of {name}": f"{spent / seconds:.2%}" for name, seconds in CALLS.items()}
        series.facts = {"ms": f"{1000 * spent:.2f}", **shares}
    slowest = max(report.series, key=lambda series: series.cpu)
    for (name, seconds), limit in zip(CALLS.items(), (MOST, None), strict=True):
        what = f"{slowest.title} by {name} of {seconds:g} s"
        report.bars.append(Bar(what, slowest.wall / seconds, limit, "x", slowest.cpu / seconds, by_cpu=not quiet))
    return report
