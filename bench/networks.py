"""Two ways to run the same U-Net over the same steps: Easel's pipeline, and diffusers' own."""

from __future__ import annotations

import itertools
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
    DiffusionPipeline,
    EulerDiscreteScheduler,
    StableDiffusionControlNetPipeline,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from PIL import Image
from torch import Tensor, nn

from bench.engines import build_engine
from bench.measure import Sample, Series, alternating
from webui.core.params import title_of
from webui.core.request import GenerationRequest
from webui.jobs.context import JobContext
from webui.models.families.base import LoadedModel
from webui.pipeline.generate import Job, Report, run_pass
from webui.pipeline.saving.saver import Saver

T = TypeVar("T")
CFG_SCALE = 7.0
TEXT_TOKENS = 77


Moment = float | torch.cuda.Event


def mark(device: torch.device) -> Moment:
    """This moment of the device's work. A card is not waited for: it notes the moment when its work gets there."""
    if device.type != "cuda":
        return time.perf_counter()
    event = torch.cuda.Event(enable_timing=True)
    event.record()
    return event


def seconds_between(first: Moment, last: Moment) -> float:
    """Of two moments that are over."""
    if isinstance(first, float):
        assert isinstance(last, float)
        return last - first
    assert not isinstance(last, float)
    return first.elapsed_time(last) / 1000


def wait_for(device: torch.device) -> None:
    """Until all that was asked of the device is done."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


class InsideNetwork:
    """Moments between which a module's calls compute; one pair a call."""

    def __init__(self, module: nn.Module, device: torch.device) -> None:
        self.calls: list[tuple[Moment, Moment]] = []
        self._device = device
        self._entered: Moment = 0.0
        module.register_forward_pre_hook(self._enter)
        module.register_forward_hook(self._leave)

    def _enter(self, module: nn.Module, arguments: Any) -> None:
        self._entered = mark(self._device)

    def _leave(self, module: nn.Module, arguments: Any, output: Any) -> None:
        self.calls.append((self._entered, mark(self._device)))


class Laps:
    """The ends of steps, from its making."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._moments = [mark(device)]
        self._cpu = [time.process_time()]

    def lap(self) -> None:
        self._moments.append(mark(self._device))
        self._cpu.append(time.process_time())

    def samples(self) -> list[Sample]:
        """Of each step. The device's work is over."""
        walls = [seconds_between(*pair) for pair in itertools.pairwise(self._moments)]
        return [
            Sample(wall, last - first) for wall, (first, last) in zip(walls, itertools.pairwise(self._cpu), strict=True)
        ]


class Arm:
    """One way to sample. `outside`: seconds of each step, by the device's clock, that the network had no part in."""

    def __init__(self, unet: nn.Module, device: torch.device) -> None:
        self.device = device
        self._inside = InsideNetwork(unet, device)
        self.outside: list[float] = []

    def sample(self, steps: int) -> Sample:
        """Run `steps` Euler steps from noise with guidance; returns the mean of their times."""
        self._inside.calls.clear()
        wait_for(self.device)
        timed = self._laps(steps)
        wait_for(self.device)
        laps, inside = timed.samples(), [seconds_between(*call) for call in self._inside.calls]
        assert len(laps) == len(inside) == steps, "one call of the network with both rows a step"
        self.outside += [lap.wall - call for lap, call in zip(laps, inside, strict=True)]
        return Sample(statistics.mean(lap.wall for lap in laps), statistics.mean(lap.cpu for lap in laps))

    @property
    def facts(self) -> dict[str, str]:
        return {"outside the network": f"{statistics.median(self.outside) * 1000:.1f} ms a step"}

    def _laps(self, steps: int) -> Laps:
        raise NotImplementedError


def sample_in_turn(arms: Mapping[str, Arm], rounds: int, steps: int, warm: int = 1) -> dict[str, Series]:
    """Steps of each arm, `rounds` times in turn, by title; the first `warm` steps of each are not counted."""
    series = {title: Series(title) for title in arms}
    for arm in arms.values():
        arm.sample(warm)
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

    laps: Laps

    def time_on(self, device: torch.device) -> None:
        self._device = device

    def steps(self, steps: Sequence[T]) -> Iterator[T]:
        self.laps = Laps(self._device)
        begun = False
        for step in super().steps(steps):
            if begun:
                self.laps.lap()
            begun = True
            yield step
        self.laps.lap()


class EaselArm(Arm):
    """The pipeline up to the latents, with the settings' defaults (live preview and all)."""

    def __init__(
        self,
        checkpoint: Path,
        size: int,
        flags: Sequence[str],
        folder: Path | None = None,
        *,
        device: str = "cpu",
        batch: int = 1,
    ) -> None:
        """folder: its data, which is kept; None for one that is there only until all is built. batch: pictures."""
        with tempfile.TemporaryDirectory(prefix="easel-bench-") as passing:
            own = ("--ckpt", str(checkpoint), "--device", device)
            self.services, self.engine = build_engine(folder or Path(passing), *own, *flags)
        self.batch = batch
        self.request = GenerationRequest(
            prompt="a red apple on a blue background",
            width=size,
            height=size,
            sampler="Euler",
            cfg_scale=CFG_SCALE,
            seed=1,
            overrides={"sd_model_checkpoint": self.services.checkpoints.find(checkpoint.stem).title},
        )
        with self.engine.models.lease(self.engine.plan(self.request).first.checkpoint) as model:
            self.model: LoadedModel = model
        super().__init__(self.model.unet, self.model.device)

    def extend(self, title: str, arguments: dict[str, Any]) -> None:
        """Have an extension take part from now on. arguments: values of its parameters."""
        group = next(group for group in self.engine.host.params if title_of(group) == title)
        self.request = self.request.replace(extensions={group.__name__: group(**arguments)})

    def _laps(self, steps: int) -> Laps:
        plan = self.engine.plan(self.request.replace(steps=steps, batch_size=self.batch))
        progress = TimedJob.alone()
        progress.time_on(self.device)
        job = Job(self.engine, plan, progress, Saver(plan, self.engine.paths, ""), Report())
        with ExitStack() as models:
            run_pass(job, "first", range(self.batch), models)
        return progress.laps


class Timed(DiffusionPipeline):
    """A pipeline of diffusers that tells when its loop begins."""

    unet: UNet2DConditionModel

    def progress_bar(self, iterable: Any = None, total: int | None = None) -> Any:
        self.laps = Laps(self.unet.device)
        return super().progress_bar(iterable, total)


class TimedPipeline(Timed, StableDiffusionPipeline):
    pass


class TimedControlPipeline(Timed, StableDiffusionControlNetPipeline):
    pass


class TimedXLPipeline(Timed, StableDiffusionXLPipeline):
    pass


class DiffusersArm(Arm):
    """The plain pipeline on the weights of `model`: shared memory, so the same dtype and layout too."""

    def __init__(self, model: LoadedModel, size: int, *, batch: int = 1, channels_last: bool = False) -> None:
        """channels_last: its own weights in that layout, and nothing shared."""
        with torch.device("meta"):
            unet = UNet2DConditionModel.from_config(model.unet.config)
        unet.load_state_dict(model.unet.state_dict(), assign=True)
        unet.eval().requires_grad_(False)
        if channels_last:
            unet.to(memory_format=torch.channels_last)
        scheduler = EulerDiscreteScheduler(
            beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", steps_offset=1
        )
        self.is_xl = unet.config.addition_embed_type == "text_time"
        self.pipeline = self._pipeline(unet=unet, scheduler=scheduler)
        self.pipeline.set_progress_bar_config(disable=True)
        self.unet = unet
        self.size, self.batch = size, batch
        generator = torch.Generator().manual_seed(1)
        shape = (2, TEXT_TOKENS, model.capabilities.context_width)
        texts = torch.randn(shape, generator=generator).to(model.device, model.dtype).split(1)
        self.more: dict[str, Any] = dict(zip(("prompt_embeds", "negative_prompt_embeds"), texts, strict=True))
        if self.is_xl:
            width = unet.add_embedding.linear_1.in_features - 6 * unet.config.addition_time_embed_dim
            pooled = torch.randn(2, width, generator=generator).to(model.device, model.dtype).split(1)
            self.more |= zip(("pooled_prompt_embeds", "negative_pooled_prompt_embeds"), pooled, strict=True)
        super().__init__(unet, model.device)

    def _pipeline(self, **parts: Any) -> Any:
        absent = ["vae", "text_encoder", "tokenizer", "feature_extractor"]
        if self.is_xl:
            return TimedXLPipeline(**dict.fromkeys((*absent, "text_encoder_2", "tokenizer_2")), **parts)
        return TimedPipeline(**dict.fromkeys((*absent, "safety_checker")), requires_safety_checker=False, **parts)

    def _laps(self, steps: int) -> Laps:
        def done(pipeline: Timed, index: int, timestep: Tensor, state: dict[str, Any]) -> dict[str, Any]:
            pipeline.laps.lap()
            return state

        self.pipeline(
            width=self.size,
            height=self.size,
            guidance_scale=CFG_SCALE,
            num_inference_steps=steps,
            num_images_per_prompt=self.batch,
            output_type="latent",
            generator=torch.Generator().manual_seed(1),
            callback_on_step_end=done,
            **self.more,
        )
        laps: Laps = self.pipeline.laps
        return laps


class ControlArm(DiffusersArm):
    """The same with a control network, in its own pipeline."""

    def __init__(self, model: LoadedModel, network: ControlNetModel, picture: Image.Image, size: int) -> None:
        self.network = network.to(model.dtype).eval().requires_grad_(False)
        super().__init__(model, size)
        self.more["image"] = picture

    def _pipeline(self, **parts: Any) -> Any:
        absent = dict.fromkeys(("vae", "text_encoder", "tokenizer", "safety_checker", "feature_extractor"))
        return TimedControlPipeline(controlnet=self.network, requires_safety_checker=False, **absent, **parts)
