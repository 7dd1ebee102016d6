"""Trains: steps of LoRA and DreamBooth at SD 1.5's size, beside a plain loop over diffusers' U-Net."""

from __future__ import annotations

import threading
import time
from dataclasses import replace
from typing import Any

import torch
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel

from bench.device.fast import peak, reset_peak, weights_of
from bench.device.part import Setup
from bench.device.pictures import Easel, an_easel
from bench.device.rows import Found, Rows
from bench.networks import wait_for
from bench.plain_training import PlainLoop, encoded_before
from bench.training_speed import KINDS, checked, request_for, write_pictures
from webui.core.training import TrainingRequest
from webui.jobs.context import Alone, JobContext, JobRecord
from webui.models.manager import release_memory
from webui.services.training import plan_training
from webui.training.job import run as train

AS_FAST_AS_PLAIN = 0.9
BASE = "sd1"


class StepClock(JobRecord):
    """A job's record that notes when each step was done."""

    def __init__(self) -> None:
        super().__init__("task(training)", "training", threading.Condition())
        self.moments: list[float] = []
        self.begin()

    def publish(self, **changes: Any) -> None:
        super().publish(**changes)
        if changes.get("step"):
            self.moments.append(time.perf_counter())


def run(setup: Setup, rows: Rows) -> None:
    edge, steps = (64, 4) if setup.small else (512, 100)
    weights_of(replace(setup, checkpoint=None), rows, BASE)
    folder = setup.data / "train"
    write_pictures(folder / "1_thing", edge)
    easel = an_easel(setup, "trainer", "--ckpt-dir", str(setup.weights), *(() if setup.on_card else ("--no-half",)))
    for kind in KINDS:
        precision = "bf16" if setup.on_card else "no"
        request = request_for(kind, BASE, folder, edge, steps, mixed_precision=precision)
        Comparison(setup, rows, easel, request, edge, steps).run()
    easel.close()


class Comparison:
    """Easel's training of one kind, between two runs of a plain loop."""

    def __init__(self, setup: Setup, rows: Rows, easel: Easel, request: TrainingRequest, edge: int, steps: int) -> None:
        self.setup, self.rows, self.easel, self.request = setup, rows, easel, request
        self.edge, self.steps = edge, steps
        self.plain_speeds: list[float] = []

    def run(self) -> None:
        title = f"{self.request.kind}, {self.edge} px"
        self.rows.measure(f"{title}: a plain loop", self.plain)
        found = self.rows.measure(f"{title}: Easel", self.own)
        self.rows.measure(f"{title}: a plain loop once more", self.plain)
        if found is not None and self.plain_speeds:
            least = AS_FAST_AS_PLAIN if self.setup.on_card else None
            ratio = Found(found.value / (sum(self.plain_speeds) / len(self.plain_speeds)), "x", least=least)
            self.rows.measure(f"{title}: Easel's speed by the plain loop's", lambda: ratio)

    def own(self) -> Found:
        """The job as a user starts it; the first tenth of its steps isn't counted, nor what is around them."""
        easel, steps = self.easel, self.steps
        reset_peak(self.setup)
        clock = StepClock()
        result = train(
            easel.engine, plan_training(easel.services, self.request), JobContext(clock, Alone(easel.engine))
        )
        loss = checked(result, steps)
        counted = clock.moments[max(steps // 10, 1) - 1 :]
        speed = (len(counted) - 1) / (counted[-1] - counted[0])
        return Found(speed, "steps/s", facts={"loss": round(loss, 4), "peak": peak(self.setup)})

    def plain(self) -> Found:
        release_memory()
        reset_peak(self.setup)
        self.plain_speeds.append(self._plain_speed(self.steps // 2))
        return Found(self.plain_speeds[-1], "steps/s", facts={"peak": peak(self.setup)})

    def _plain_speed(self, steps: int) -> float:
        """What a script would do with latents and text at hand."""
        device, on_card = self.setup.device, self.setup.on_card
        half = on_card and self.request.kind == "lora"
        unet = plain_unet(self.easel, device, torch.bfloat16 if half else torch.float32)
        encode = encoded_before(1, self.edge, unet.config.cross_attention_dim, device)
        loop = PlainLoop(unet, self.request.kind, encode, mixed=on_card)
        for _ in range(max(steps // 10, 1)):
            loop.step()
        wait_for(device)
        began = time.perf_counter()
        for _ in range(steps):
            loop.step()
        wait_for(device)
        return steps / (time.perf_counter() - began)


def plain_unet(easel: Easel, device: torch.device, dtype: torch.dtype) -> UNet2DConditionModel:
    with easel.model(BASE) as model:
        unet = UNet2DConditionModel.from_config(model.unet.config)
        unet.load_state_dict(model.unet.state_dict())
    easel.engine.models.unload()
    return unet.to(device, dtype)
