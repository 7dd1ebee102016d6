"""A step of a 16-frame clip with motion modules: Easel beside diffusers' motion U-Net, its time and its peak memory."""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from typing import Any

from bench.measure import Bar, Report, Sample, Series, Stopwatch, alternating, conditions
from bench.memory import peak_memory
from bench.programs import ROOT

MORE_THAN_DIFFUSERS = 1.05
ARMS = ("Easel", "diffusers")
TOKENS, CONTEXT = 77, 768


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=1, help="of each arm in a round, after one that isn't counted")
    parser.add_argument("--pixels", type=int, default=256, help="edge of the picture")
    parser.add_argument("--frames", type=int, default=16)
    parser.add_argument("--width", type=int, default=320, help="channels of the first level; SD 1.5's 320")
    parser.add_argument("--arm", choices=ARMS, help=argparse.SUPPRESS)


def run(options: argparse.Namespace) -> Report:
    setup = {key: getattr(options, key) for key in ("rounds", "steps", "pixels", "frames", "width")}
    report = Report("clips", setup, conditions())
    report.series = [Series(title, facts={}) for title in ARMS]
    peaks: list[list[float]] = [[], []]
    for order in alternating(len(ARMS), options.rounds):
        for index in order:
            found = _asked(ARMS[index], setup)
            report.series[index].samples.append(Sample(found["wall"], found["cpu"]))
            peaks[index].append(found["peak MiB"])
    own, base = report.series
    for series, peak in zip(report.series, peaks, strict=True):
        series.facts["peak MiB"] = round(statistics.median(peak))
    report.compare("a step of a clip, by diffusers'", own, base, MORE_THAN_DIFFUSERS)
    ratio = statistics.median(peaks[0]) / statistics.median(peaks[1])
    report.bars.append(Bar("peak memory, by diffusers'", ratio, MORE_THAN_DIFFUSERS, "x"))
    return report


def _asked(arm: str, setup: dict[str, Any]) -> dict[str, float]:
    """One arm in a process of its own, whose peak memory is then its alone."""
    words = [word for key, value in setup.items() for word in (f"--{key}", str(value))]
    command = [sys.executable, "-m", "bench.clips", *words, "--arm", arm]
    answer: dict[str, float] = json.loads(subprocess.run(command, cwd=ROOT, capture_output=True, check=True).stdout)
    return answer


def _measured(options: argparse.Namespace) -> dict[str, float]:
    import torch

    torch.set_num_threads(1)
    torch.manual_seed(0)
    with torch.inference_mode():
        step = (_easel if options.arm == ARMS[0] else _diffusers)(options)
        step()
        watch = Stopwatch()
        for _ in range(options.steps):
            step()
    sample = watch.lap().per(options.steps)
    return {"wall": sample.wall, "cpu": sample.cpu, "peak MiB": peak_memory() / (1 << 20)}


def _sizes(options: argparse.Namespace) -> dict[str, Any]:
    width = options.width
    return {
        "block_out_channels": (width, 2 * width, 4 * width, 4 * width),
        "cross_attention_dim": CONTEXT,
        "attention_head_dim": 8,
    }


def _adapter(options: argparse.Namespace) -> Any:
    from diffusers.models.unets.unet_motion_model import MotionAdapter

    return MotionAdapter(block_out_channels=_sizes(options)["block_out_channels"], use_motion_mid_block=True).eval()


def _easel(options: argparse.Namespace) -> Callable[[], object]:
    """Prompts and negative prompts of all frames in one call, through the hook that makes a batch a clip."""
    import torch
    from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel

    from extensions.animatediff.clip import ClipHook
    from extensions.animatediff.motion.layers import built
    from extensions.animatediff.motion.names import family_of, placed_all
    from extensions.animatediff.motion.network import Motion
    from extensions.animatediff.windows import Context
    from webui.core.hooks import Row
    from webui.diffusion.denoiser import Cond

    unet = UNet2DConditionModel(**_sizes(options)).eval()
    places = placed_all(_adapter(options).state_dict())
    family = family_of({place: {n: t.shape for n, t in part.items()} for place, part in places.items()})
    motion = Motion("", family, {place: built(part, family.positions) for place, part in places.items()})
    del places
    frames = options.frames
    hook = ClipHook(
        partial(nullcontext, motion), Context(frames, frames), last_wins=False, free=False, over_clip=False, loras=(),
        sparse=None, remark=print,
    )  # fmt: skip
    x, context = _inputs(options)
    rows = tuple(Row(frame, sign) for sign in (1, -1) for frame in range(frames))  # type: ignore[arg-type]
    cond = Cond(context.repeat_interleave(frames, dim=0), rows=rows)
    call = hook.wrap_call(lambda x, t, cond: unet(x, t, cond.context).sample)
    timesteps = torch.full((len(rows),), 500.0)

    def step() -> object:
        with hook.attached(unet):
            return call(torch.cat([x, x]), timesteps, cond)

    return step


def _diffusers(options: argparse.Namespace) -> Callable[[], object]:
    import torch
    from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
    from diffusers.models.unets.unet_motion_model import UNetMotionModel

    unet = UNetMotionModel.from_unet2d(UNet2DConditionModel(**_sizes(options)), _adapter(options)).eval()
    x, context = _inputs(options)
    clip = x.transpose(0, 1)[None]
    prompts = context.repeat_interleave(options.frames, dim=0)
    return lambda: unet(torch.cat([clip, clip]), torch.tensor(500), encoder_hidden_states=prompts).sample


def _inputs(options: argparse.Namespace) -> tuple[Any, Any]:
    import torch

    edge = options.pixels // 8
    return torch.randn(options.frames, 4, edge, edge), torch.randn(2, TOKENS, CONTEXT)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    add_options(parser)
    print(json.dumps(_measured(parser.parse_args())))
