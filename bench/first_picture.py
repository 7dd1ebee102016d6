"""The first picture after a fresh start: from the request, sent as soon as the page is up, to the answer."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path

from bench.measure import Bar, Report, Sample, Series, conditions
from bench.programs import ROOT, NoAnswer, Program, free_port, running
from tools.random_checkpoint import TINY, write_checkpoint
from webui.catalog.model_hints import read_hints

PICTURE_WITHIN = 10.0
STEPS = 20
EMBEDDED = ROOT / "models" / "Stable-diffusion" / "easel-emoji.safetensors"


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--checkpoint", type=Path, help="instead of the embedded model")
    parser.add_argument("--size", type=int, help="pixels; the model's native size if left out")


def a_checkpoint(data: Path) -> Path:
    """The embedded model; a tiny one of random weights written into `data` where there is none."""
    if EMBEDDED.exists():
        return EMBEDDED
    path = data / "models" / "Stable-diffusion" / "tiny.safetensors"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_checkpoint(path, TINY)
    return path


def native_size(checkpoint: Path) -> int:
    config = checkpoint.with_suffix(".yaml")
    return read_hints(checkpoint.name, {}, config if config.exists() else None).native_size or 512


def run(options: argparse.Namespace) -> Report:
    """Each round starts Easel anew with a data folder of its own (no hash is known), and asks for two pictures."""
    report = Report("first-picture", {"rounds": options.rounds, "steps": STEPS}, conditions())
    page, first, second = (Series(title) for title in ("page", "first picture", "second picture"))
    for _ in range(options.rounds):
        with tempfile.TemporaryDirectory(prefix="easel-bench-") as data:
            checkpoint = options.checkpoint or a_checkpoint(Path(data))
            size = options.size or native_size(checkpoint)
            report.setup |= {"model": checkpoint.name, "pixels": size}
            port = free_port()
            given = ["--ckpt", str(checkpoint.resolve())] if options.checkpoint else []
            command = [sys.executable, "-m", "webui.app", "--data-dir", data, "--port", str(port), *given]
            with running(command, port) as program:
                page.samples.append(program.wait_for_page())
                first.samples.append(picture(program, checkpoint.stem, size))
                second.samples.append(picture(program, checkpoint.stem, size))
    report.series = [page, first, second]
    report.bars.append(Bar("first picture", first.wall, PICTURE_WITHIN, "s"))
    return report


def picture(program: Program, model: str, size: int) -> Sample:
    """Ask for one picture. Times from the request to the whole answer. Raises: NoAnswer."""
    body = {
        "prompt": "a red apple on a blue background",
        "steps": STEPS,
        "width": size,
        "height": size,
        "seed": 1,
        "override_settings": {"sd_model_checkpoint": model},
    }
    wall, cpu = time.perf_counter(), program.cpu()
    status, content = program.ask("POST", "/sdapi/v1/txt2img", body)
    if status != 200 or not json.loads(content)["images"]:
        raise NoAnswer(f"{status}: {content[:500]!r}\n{program.log.read_text(errors='replace')}")
    return Sample(time.perf_counter() - wall, program.cpu() - cpu)
