"""Five thousand LoRAs: what they cost at the start, on the page, and until their cards are there and searched."""

from __future__ import annotations

import argparse
import json
import struct
import sys
import tempfile
import time
from contextlib import AbstractContextManager
from pathlib import Path
from urllib.parse import urlencode

from bench.first_picture import a_checkpoint
from bench.measure import Bar, Report, Sample, Series, alternating, conditions
from bench.programs import Program, free_port, running

START = 1.0
HTML = 300_000
LAYERS = 264
"""Modules of a LoRA for SD 1.5 that covers attention, feed-forward and the text encoder."""


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--files", type=int, default=5000)


def run(options: argparse.Namespace) -> Report:
    """Start with an empty and with a full folder in turn and ask for cards; every start is a first one."""
    report = Report("cards", {"rounds": options.rounds, "files": options.files}, conditions())
    empty, full = Series("page, empty folder"), Series("page, all files")
    questions: dict[str, dict[str, object]] = {
        "first cards": {},
        "next cards": {"start": 60},
        "first search": {"search": "style 17"},
        "next search": {"search": "anna v4"},
        "by date": {"sort": "date_modified", "descending": "true"},
    }
    asked = {title: Series(title) for title in questions}
    size = 0
    for number, order in enumerate(alternating(2, options.rounds + 1)):
        for arm in order:
            with tempfile.TemporaryDirectory(prefix="easel-bench-") as data:
                a_checkpoint(Path(data))
                if arm:
                    write_loras(Path(data) / "models" / "Lora", options.files)
                with start(data) as program:
                    sample = program.wait_for_page()
                    if number and arm:
                        size = len(program.ask("GET", "/")[1])
                        for title, question in questions.items():
                            asked[title].samples.append(timed(program, question))
            if number:
                (full if arm else empty).samples.append(sample)
    report.series = [empty, full, *asked.values()]
    extra = Sample(full.wall - empty.wall, full.cpu - empty.cpu)
    busy = not report.conditions["quiet"]
    report.bars.append(Bar("start-up cost of the files", extra.wall, START, "s", extra.cpu, by_cpu=busy))
    report.bars.append(Bar("HTML of the page", size / 1000, HTML / 1000, "kB"))
    for series in asked.values():
        report.bars.append(Bar(series.title, series.wall, START, "s", series.cpu, by_cpu=busy))
    return report


def start(data: str) -> AbstractContextManager[Program]:
    port = free_port()
    flags = ["--data-dir", data, "--port", str(port), "--skip-load-model-at-start"]
    return running([sys.executable, "-m", "webui.app", *flags], port)


def timed(program: Program, question: dict[str, object]) -> Sample:
    """Times of one question for cards."""
    wall, cpu = time.perf_counter(), program.cpu()
    status, body = program.ask("GET", f"/easel/v1/cards?{urlencode({'kind': 'lora', **question})}")
    assert status == 200, f"the cards answered {status}: {body[:200]!r}"
    return Sample(time.perf_counter() - wall, program.cpu() - cpu)


def write_loras(folder: Path, count: int) -> None:
    """Files with the header of a true LoRA, whose tensors are holes; every second with notes, in 40 folders."""
    for number in range(count):
        place = folder / f"group {number % 40}"
        place.mkdir(parents=True, exist_ok=True)
        path = place / f"{('style', 'anna', 'ink')[number % 3]} {number} v{number % 7}.safetensors"
        header, length = lora_header(number)
        with path.open("wb") as file:
            file.write(struct.pack("<Q", len(header)) + header)
            file.truncate(8 + len(header) + length)
        if number % 2:
            path.with_suffix(".json").write_text(
                json.dumps({"description": f"Notes on {number}", "activation text": "x"})
            )


def lora_header(number: int) -> tuple[bytes, int]:
    """The header, and the bytes of tensors behind it."""
    tensors: dict[str, object] = {
        "__metadata__": {"ss_output_name": f"alias{number}", "ss_base_model_version": "sd_v1-5"}
    }
    at = 0
    for layer in range(LAYERS):
        for part, shape in (("lora_down", [16, 768]), ("lora_up", [768, 16]), ("alpha", [])):
            size = 2 * 16 * 768 if shape else 2
            name = f"lora_unet_down_blocks_{layer}_attentions_0_transformer_blocks_0_attn1_to_q.{part}.weight"
            tensors[name] = {"dtype": "F16", "shape": shape, "data_offsets": [at, at + size]}
            at += size
    return json.dumps(tensors).encode(), at
