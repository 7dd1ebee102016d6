"""Two ways to run the same U-Net over the same steps: Easel's pipeline, and diffusers' own."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, TypeVar

import torch
from diffusers import (
    ControlNetModel,
    EulerDiscreteScheduler,
    StableDiffusionControlNetPipeline,
    StableDiffusionPipeline,
    UNet2DConditionModel,
)
from PIL import Image
from torch import Tensor, nn

from bench.measure import Sample, Series, Stopwatch, alternating
from webui.app import build_services
from webui.core.flags import parse_flags
from webui.core.params import title_of
from webui.core.request import GenerationRequest
from webui.jobs.context import JobContext
from webui.models.families.base import LoadedModel
from webui.pipeline.engine import build
from webui.pipeline.generate import Job, Report, run_pass
from webui.pipeline.saving.saver import Saver

T = TypeVar("T")
CFG_SCALE = 7.0
TEXT_TOKENS = 77


class InsideNetwork:
    """Seconds spent within a module's calls, by the clock; one entry a call."""

    def __init__(self, module: nn.Module) -> None:
        self.seconds: list[float] = []
        self._entered = 0.0
        module.register_forward_pre_hook(self._enter)
        module.register_forward_hook(self._leave)

    def _enter(self, module: nn.Module, arguments: Any) -> None:
        self._entered = time.perf_counter()

    def _leave(self, module: nn.Module, arguments: Any, output: Any) -> None:
        self.seconds.append(time.perf_counter() - self._entered)


class Arm:
    """One way to sample. `outside`: seconds of each step, by the clock, that the network had no part in."""

    def __init__(self, unet: nn.Module) -> None:
        self._inside = InsideNetwork(unet)
        self.outside: list[float] = []

    def sample(self, steps: int) -> Sample:
        """Run `steps` Euler steps from noise with guidance; returns the mean of their times."""
        self._inside.seconds.clear()
        laps = self._laps(steps)
        assert len(laps) == len(self._inside.seconds) == steps, "one call of the network with both rows a step"
        self.outside += [lap.wall - inside for lap, inside in zip(laps, self._inside.seconds, strict=True)]
        return Sample(statistics.mean(lap.wall for lap in laps), statistics.mean(lap.cpu for lap in laps))

    @property
    def facts(self) -> dict[str, str]:
        return {"outside the network": f"{statistics.median(self.outside) * 1000:.1f} ms a step"}

    def _laps(self, steps: int) -> list[Sample]:
        raise NotImplementedError


def sample_in_turn(arms: Mapping[str, Arm], rounds: int, steps: int) -> dict[str, Series]:
    """Steps of each arm, `rounds` times in turn, by title; the first step of each is not counted."""
    series = {title: Series(title) for title in arms}
    for arm in arms.values():
        arm.sample(1)
        arm.outside.clear()
    titles = list(arms)
    for order in alternating(len(titles), rounds):
        for title in (titles[index] for index in order):
            series[title].samples.append(arms[title].sample(steps))
    for title, arm in arms.items():
        series[title].facts = arm.facts
    return series


class TimedJob(JobContext):
    """A job that stops the time between its steps."""

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        self.laps: list[Sample] = []

    def steps(self, steps: Sequence[T]) -> Iterator[T]:
        watch = Stopwatch()
        begun = False
        for step in super().steps(steps):
            if begun:
                self.laps.append(watch.lap())
            begun = True
            yield step
        self.laps.append(watch.lap())


class EaselArm(Arm):
    """The pipeline up to the latents, with the settings' defaults (live preview and all)."""

    def __init__(self, checkpoint: Path, size: int, flags: Sequence[str], folder: Path | None = None) -> None:
        """folder: its data, which is kept; None for one that is there only until all is built."""
        with tempfile.TemporaryDirectory(prefix="easel-bench-") as passing:
            data = str(folder or passing)
            own = ["--data-dir", data, "--ckpt", str(checkpoint), "--no-hashing", "--device", "cpu"]
            given, _ = parse_flags([*own, *flags], {})
            self.engine = build(services := build_services(given))
        self.request = GenerationRequest(
            prompt="a red apple on a blue background",
            width=size,
            height=size,
            sampler="Euler",
            cfg_scale=CFG_SCALE,
            seed=1,
            overrides={"sd_model_checkpoint": services.checkpoints.find(checkpoint.stem).title},
        )
        with self.engine.models.lease(self.engine.plan(self.request).first.checkpoint) as model:
            self.model: LoadedModel = model
        super().__init__(self.model.unet)

    def extend(self, title: str, arguments: dict[str, Any]) -> None:
        """Have an extension take part from now on. arguments: values of its parameters."""
        group = next(group for group in self.engine.host.params if title_of(group) == title)
        self.request = self.request.replace(extensions={group.__name__: group(**arguments)})

    def _laps(self, steps: int) -> list[Sample]:
        plan = self.engine.plan(self.request.replace(steps=steps))
        progress = TimedJob.alone()
        job = Job(self.engine, plan, progress, Saver(plan, self.engine.paths, ""), Report())
        with ExitStack() as models:
            run_pass(job, "first", range(1), models)
        return progress.laps


class Timed:
    """A pipeline of diffusers that tells when its loop begins."""

    def progress_bar(self, iterable: Any = None, total: int | None = None) -> Any:
        self.watch = Stopwatch()
        return super().progress_bar(iterable, total)  # type: ignore[misc]


class TimedPipeline(Timed, StableDiffusionPipeline):
    pass


class TimedControlPipeline(Timed, StableDiffusionControlNetPipeline):
    pass


class DiffusersArm(Arm):
    """The plain pipeline on the weights of `model`: shared memory, so the same dtype and layout too."""

    def __init__(self, model: LoadedModel, size: int) -> None:
        with torch.device("meta"):
            unet = UNet2DConditionModel.from_config(model.unet.config)
        unet.load_state_dict(model.unet.state_dict(), assign=True)
        unet.eval().requires_grad_(False)
        scheduler = EulerDiscreteScheduler(
            beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", steps_offset=1
        )
        parts = dict.fromkeys(("vae", "text_encoder", "tokenizer", "safety_checker", "feature_extractor"))
        self.pipeline = self._pipeline(unet=unet, scheduler=scheduler, requires_safety_checker=False, **parts)
        self.pipeline.set_progress_bar_config(disable=True)
        self.size = size
        generator = torch.Generator().manual_seed(1)
        shape = (2, TEXT_TOKENS, model.capabilities.context_width)
        self.prompt, self.negative_prompt = torch.randn(shape, generator=generator).to(model.dtype).split(1)
        self.more: dict[str, Any] = {}
        super().__init__(unet)

    def _pipeline(self, **parts: Any) -> Any:
        return TimedPipeline(**parts)

    def _laps(self, steps: int) -> list[Sample]:
        laps: list[Sample] = []

        def done(pipeline: Timed, index: int, timestep: Tensor, state: dict[str, Any]) -> dict[str, Any]:
            laps.append(pipeline.watch.lap())
            return state

        self.pipeline(
            prompt_embeds=self.prompt,
            negative_prompt_embeds=self.negative_prompt,
            width=self.size,
            height=self.size,
            guidance_scale=CFG_SCALE,
            num_inference_steps=steps,
            output_type="latent",
            generator=torch.Generator().manual_seed(1),
            callback_on_step_end=done,
            **self.more,
        )
        return laps


class ControlArm(DiffusersArm):
    """The same with a control network, in its own pipeline."""

    def __init__(self, model: LoadedModel, network: ControlNetModel, picture: Image.Image, size: int) -> None:
        self.network = network.to(model.dtype).eval().requires_grad_(False)
        super().__init__(model, size)
        self.more = {"image": picture}

    def _pipeline(self, **parts: Any) -> Any:
        return TimedControlPipeline(controlnet=self.network, **parts)
