"""From the command to the first HTTP 200 of the page, beside a bare Gradio page."""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from bench.first_picture import a_checkpoint
from bench.measure import Bar, Report, Series, alternating, conditions
from bench.programs import free_port, running

READY_WITHIN = 6.0


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--rounds", type=int, default=5)


def run(options: argparse.Namespace) -> Report:
    """Start each program once a round, in turn; one start of each before that warms the disk cache."""
    report = Report("start", {"rounds": options.rounds}, conditions())
    python = sys.executable
    with tempfile.TemporaryDirectory(prefix="easel-bench-") as data:
        checkpoint = a_checkpoint(Path(data))
        report.setup["model"] = checkpoint.name
        easel = ["--data-dir", data, "--port"]
        commands = {
            "bare Gradio page": [python, "-m", "bench.bare_gradio"],
            "python -m webui.app": [python, "-m", "webui.app", *easel],
            "python launch.py": [python, "launch.py", "--skip-venv", "--skip-install", *easel],
        }
        series = [Series(title) for title in commands]
        for number, order in enumerate(alternating(len(series), options.rounds + 1)):
            for arm in order:
                port = free_port()
                with running([*commands[series[arm].title], str(port)], port) as program:
                    sample = program.wait_for_page()
                if number:
                    series[arm].samples.append(sample)
    bare, server, launcher = report.series = series
    report.bars.append(Bar("page ready, python -m webui.app", server.wall, READY_WITHIN, "s"))
    report.bars.append(Bar("page ready, python launch.py", launcher.wall, READY_WITHIN, "s"))
    report.compare("webui.app by bare Gradio", server, bare)
    report.compare("launch.py by bare Gradio", launcher, bare)
    return report
