"""Seconds per step of SD 1.5 with guidance: Easel beside the plain diffusers pipeline, bf16 beside fp32."""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from bench.measure import Report, conditions
from tools.random_checkpoint import FULL, Layout, write_checkpoint

SLOWER_THAN_PLAIN = 1.02
BF16_BY_FP32 = 0.6
SMALL = replace(
    FULL, unet_widths=(128, 256, 512, 512), text_layers=2, vae_widths=(32, 32, 64, 64), vae_groups=16, native_size=256
)
"""A quarter of the work a pixel, and of the pixels."""
DTYPE_FLAGS = {"fp32": ("--no-half",), "bf16": ()}


def add_options(parser: argparse.ArgumentParser) -> None:
    add_step_options(parser)
    parser.add_argument("--dtype", choices=tuple(DTYPE_FLAGS), help="only this one; both if left out")


def add_step_options(parser: argparse.ArgumentParser) -> None:
    add_model_options(parser)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=2, help="of each arm in a round")
    parser.add_argument("--pixels", type=int, help="edge of the picture; 512, or 256 with --small")


def edge_of(options: argparse.Namespace) -> int:
    """The edge of the picture in pixels."""
    edge: int = options.pixels or (256 if options.small else 512)
    return edge


def add_model_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--small", action="store_true", help="a network of a quarter of the work")
    parser.add_argument("--checkpoint", type=Path, help="an SD 1.x file instead of one with random weights")


@contextmanager
def a_model(options: argparse.Namespace) -> Iterator[Path]:
    """The checkpoint asked for; one of random weights (2.1 GB unless --small) that is deleted afterwards."""
    if options.checkpoint:
        yield options.checkpoint.resolve()
        return
    layout: Layout = SMALL if options.small else FULL
    with tempfile.TemporaryDirectory(prefix="easel-bench-") as folder:
        path = Path(folder) / "random.safetensors"
        write_checkpoint(path, layout)
        yield path


def run(options: argparse.Namespace) -> Report:
    from bench.networks import Arm, DiffusersArm, EaselArm, sample_in_turn, torch  # after the environment is set

    pixels = edge_of(options)
    setup = {"rounds": options.rounds, "steps": options.steps, "pixels": pixels, "small": options.small}
    report = Report("step", setup, conditions())
    report.setup |= {"torch": torch.__version__, "threads": torch.get_num_threads()}
    with a_model(options) as checkpoint:
        arms: dict[str, Arm] = {}
        for dtype in [options.dtype] if options.dtype else DTYPE_FLAGS:
            easel = EaselArm(checkpoint, pixels, DTYPE_FLAGS[dtype])
            if dtype == "bf16" and easel.model.dtype != torch.bfloat16:
                continue  # a CPU that doesn't compute in it
            arms[f"Easel {dtype}"] = easel
            arms[f"diffusers {dtype}"] = DiffusersArm(easel.model, pixels)
        series = sample_in_turn(arms, options.rounds, options.steps)
    report.series = list(series.values())
    for dtype in DTYPE_FLAGS:
        if f"Easel {dtype}" in series:
            own, plain = series[f"Easel {dtype}"], series[f"diffusers {dtype}"]
            report.compare(f"Easel by diffusers, {dtype}", own, plain, SLOWER_THAN_PLAIN)
    if len(series) == 2 * len(DTYPE_FLAGS):
        report.compare("bf16 by fp32", series["Easel bf16"], series["Easel fp32"], BF16_BY_FP32)
    return report
