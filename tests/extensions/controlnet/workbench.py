"""Easel with a tiny checkpoint on a bench: what a request samples, and what diffusers' pipelines are to be given."""

from __future__ import annotations

import base64
import io
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import EulerDiscreteScheduler, UNet2DConditionModel
from PIL import Image
from torch import Tensor

from tests.tiny import tiny_checkpoint
from tools.random_checkpoint import TINY_SIZES, Layout, write_checkpoint
from webui.api.schema import TextToImageBody, request_of
from webui.core.flags import parse_flags
from webui.core.request import GenerationResult
from webui.jobs.context import JobContext
from webui.pipeline.engine import build
from webui.pipeline.generate import Job, Report, run, run_pass
from webui.pipeline.latents import levels
from webui.pipeline.opening import open_pass
from webui.pipeline.saving.saver import Saver
from webui.services.building import build_services

EDGE = 64
CFG_SCALE = 5.0
STEPS = 4


@dataclass(frozen=True)
class Given:
    """What a pipeline of diffusers needs to sample as the bench does. texts: negative prompt and prompt."""

    noise: Tensor
    sigmas: list[float]
    texts: tuple[Tensor, Tensor]
    pooled: tuple[Tensor, Tensor] | None

    @property
    def arguments(self) -> dict[str, Any]:
        pooled = {}
        if self.pooled is not None:
            pooled = {"negative_pooled_prompt_embeds": self.pooled[0], "pooled_prompt_embeds": self.pooled[1]}
        return {
            "prompt_embeds": self.texts[1],
            "negative_prompt_embeds": self.texts[0],
            "latents": self.noise,
            "sigmas": self.sigmas,
            "guidance_scale": CFG_SCALE,
            "output_type": "latent",
            "height": EDGE,
            "width": EDGE,
            **pooled,
        }


class Bench:
    """family: of TINY_SIZES; its widths are those of a real one's relatives, so that files of both can't be mixed."""

    def __init__(self, data: Path, family: str = "sd1") -> None:
        self.layout: Layout = TINY_SIZES[family]
        self.nets = data / "models" / "ControlNet"
        self.nets.mkdir(parents=True)
        checkpoints = data / "models" / "Stable-diffusion"
        if family == "sd1":
            tiny_checkpoint(checkpoints, dtype="F32")
        else:
            checkpoints.mkdir(parents=True)
            write_checkpoint(checkpoints / "tiny.safetensors", self.layout, "F32", 0)
        flags, _ = parse_flags(["--data-dir", str(data), "--no-half", "--device", "cpu"], {})
        self.services = build_services(flags)
        self.engine = build(self.services)

    def close(self) -> None:
        self.services.checkpoints.close()

    def request(self, *units: dict[str, Any], **more: Any) -> Any:
        body = {
            "prompt": "a cat",
            "negative_prompt": "dog",
            "seed": 7,
            "steps": STEPS,
            "sampler_name": "Euler",
            "cfg_scale": CFG_SCALE,
            "width": EDGE,
            "height": EDGE,
            "alwayson_scripts": {
                "ControlNet": {"args": [{"enabled": True, "module": "none", **unit} for unit in units]}
            },
        }
        return request_of(TextToImageBody(**body | more), self.engine.host.params, self.engine.choices)

    def result(self, *units: dict[str, Any], **more: Any) -> GenerationResult:
        return run(self.engine, self.engine.plan(self.request(*units, **more)), JobContext.alone())

    def latents(self, *units: dict[str, Any]) -> Tensor:
        """(1, 4, h, w) of the first pass."""
        with ExitStack() as models:
            return run_pass(self._job(units), "first", range(1), models)[0]

    def given(self) -> Given:
        with ExitStack() as models:
            job = self._job(())
            this_pass, parts = open_pass(job, "first", range(1), None, models)
            walked = levels(job.plan.first, parts.table, job.plan.settings)
            sigmas = [float(sigma) for sigma in walked.sigmas]
            prompt, negative = parts.conds.positive[0][0].schedule[0], parts.conds.negative[0][0]
            pooled = None
            if prompt.pooled is not None and negative.pooled is not None:
                width = self.layout.projection  # the rest of the vector are sizes, which pipelines make by themselves
                pooled = negative.pooled[None, :width], prompt.pooled[None, :width]
            texts = negative.vectors[None], prompt.vectors[None]
            noise = parts.noise.next() * walked.noise / sigmas[0]  # pipelines scale it by the first sigma
            return Given(noise, sigmas, texts, pooled)

    def _job(self, units: tuple[dict[str, Any], ...]) -> Job:
        plan = self.engine.plan(self.request(*units))
        return Job(self.engine, plan, JobContext.alone(), Saver(plan, self.engine.paths, ""), Report())

    def unet(self) -> UNet2DConditionModel:
        """diffusers' own, with the checkpoint's weights."""
        with self.engine.models.lease(self.engine.plan(self.request()).first.checkpoint) as model:
            unet = UNet2DConditionModel.from_config(model.unet.config)
            unet.load_state_dict(model.unet.state_dict())
        return unet.eval().requires_grad_(False)


def scheduler() -> EulerDiscreteScheduler:
    return EulerDiscreteScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", steps_offset=1)


def picture(seed: int = 0, edge: int = EDGE) -> Image.Image:
    """A picture of smooth colours."""
    small = np.random.default_rng(seed).integers(0, 255, (4, 4, 3), dtype=np.uint8)
    return Image.fromarray(small).resize((edge, edge), Image.Resampling.BICUBIC)


def sent(image: Image.Image) -> str:
    """As clients send it."""
    stream = io.BytesIO()
    image.save(stream, "PNG")
    return base64.b64encode(stream.getvalue()).decode()


def hint(image: Image.Image) -> Tensor:
    """(1, 3, H, W) in 0..1."""
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)[None].float() / 255
