"""A frame of an animation (warp, colours, noise, state, files) beside the img2img request that paints it."""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.measure import Report, Series, Stopwatch, alternating, conditions
from bench.step import a_model, add_model_options, edge_of

if TYPE_CHECKING:
    from webui.core.request import GenerationRequest, GenerationResult
    from webui.pipeline.engine import Engine

BEYOND = 1.08


def add_options(parser: argparse.ArgumentParser) -> None:
    add_model_options(parser)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--frames", type=int, default=6)
    parser.add_argument("--steps", type=int, default=25)
    parser.add_argument("--pixels", type=int, help="edge of the picture")
    parser.add_argument("--mode", choices=("2D", "3D"), default="3D")


class Noting:
    """An engine that remembers what it was asked for."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.requests: list[GenerationRequest] = []

    def generate(self, request: GenerationRequest, job: Any, settings: Any) -> GenerationResult:
        self.requests.append(request)
        return self.engine.generate(request, job, settings)


def run(options: argparse.Namespace) -> Report:
    """Both arms paint the same pictures and save them as PNG; the video at the end is left out."""
    from bench.engines import build_engine
    from extensions.deforum import job as deforum
    from extensions.deforum.settings import Settings
    from webui.jobs.context import JobContext

    pixels = edge_of(options)
    setup = {name: getattr(options, name) for name in ("rounds", "frames", "steps", "mode", "small")}
    report = Report("animation", {**setup, "pixels": pixels}, conditions())
    animated, painted = Series("a frame of an animation"), Series("the same picture by img2img")
    with a_model(options) as checkpoint, tempfile.TemporaryDirectory(prefix="easel-bench-") as folder:
        _, engine = build_engine(Path(folder), "--ckpt", str(checkpoint), "--device", "cpu")
        noting, easel = Noting(engine), engine.host.easel
        settings = Settings(
            W=pixels, H=pixels, steps=options.steps, seed=1, max_frames=options.frames, diffusion_cadence=1,
            animation_mode=options.mode, skip_video_creation=True, prompts={"0": "a red apple on a blue background"},
        )  # fmt: skip

        def animate() -> None:
            noting.requests.clear()
            deforum.run(easel, deforum.plan(easel, settings), JobContext.alone(engine=noting))

        def paint() -> None:
            for request in noting.requests:
                engine.generate(request.replace(save_samples=True), JobContext.alone(engine=engine), None)

        animate()
        for order in alternating(2, options.rounds):
            for index in order:
                watch = Stopwatch()
                (animate, paint)[index]()
                (animated, painted)[index].samples.append(watch.lap().per(options.frames))
    report.series = [animated, painted]
    report.compare("a frame of an animation, by img2img's", animated, painted, BEYOND)
    return report
