"""Trains: steps of LoRA and DreamBooth at SD 1.5's size, beside a plain loop over diffusers' U-Net."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from PIL import Image
from torch import Tensor, nn

from bench.device.fast import peak, reset_peak, weights_of
from bench.device.part import Setup
from bench.device.pictures import Easel, an_easel
from bench.device.rows import Found, Rows
from bench.networks import wait_for
from webui.core.training import DreamBoothOptions, LoraOptions, Numerics, Optimization, Saving, TrainingRequest
from webui.core.training_data import DataRequest
from webui.jobs.context import Alone, JobContext, JobRecord
from webui.models.manager import release_memory
from webui.services.training import plan_training
from webui.training.job import run as train

AS_FAST_AS_PLAIN = 0.9
BASE = "sd1"
RANK = 16
RATE = 1e-5
PICTURES = 8
NEVER = 1_000_000


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
    folder = setup.data / "train" / "1_thing"
    write_pictures(folder, edge)
    easel = an_easel(setup, "trainer", "--ckpt-dir", str(setup.weights), *(() if setup.on_card else ("--no-half",)))
    for kind, options in KINDS.items():
        request = TrainingRequest(
            kind=kind,
            name=kind,
            checkpoint=BASE,
            data=DataRequest(train_data_dir=str(folder.parent), resolution=str(edge), min_bucket_reso=64),
            numerics=Numerics(mixed_precision="bf16" if setup.on_card else "no", cache_text_encoder_outputs=True),
            saving=Saving(save_state_every=NEVER),
            **options(steps),
        )
        speeds: list[float] = []

        def own(request: TrainingRequest = request) -> Found:
            return by_easel(setup, easel, request, steps)

        def plain(kind: str = kind, speeds: list[float] = speeds) -> Found:
            release_memory()
            reset_peak(setup)
            speeds.append(plain_speed(setup, easel, kind, edge, steps // 2))
            return Found(speeds[-1], "steps/s", facts={"peak": peak(setup)})

        rows.measure(f"{kind}, {edge} px: a plain loop", plain)
        found = rows.measure(f"{kind}, {edge} px: Easel", own)
        rows.measure(f"{kind}, {edge} px: a plain loop once more", plain)
        if found is not None and speeds:
            least = AS_FAST_AS_PLAIN if setup.on_card else None
            ratio = Found(found.value / (sum(speeds) / len(speeds)), "x", least=least)
            rows.measure(f"{kind}, {edge} px: Easel's speed by the plain loop's", lambda ratio=ratio: ratio)  # type: ignore[misc]
    easel.close()


def lora_options(steps: int) -> dict[str, Any]:
    return {
        "lora": LoraOptions(network_dim=RANK, network_alpha=RANK, network_train_unet_only=True),
        "optimization": Optimization(
            optimizer_type="AdamW", learning_rate=RATE, max_train_steps=steps, train_batch_size=1, seed=1
        ),
    }


def dreambooth_options(steps: int) -> dict[str, Any]:
    return {
        "dreambooth": DreamBoothOptions(te_steps=0, unet_steps=steps, unet_learning_rate=RATE),
        "optimization": Optimization(optimizer_type="AdamW", train_batch_size=1, seed=1),
    }


KINDS: dict[str, Callable[[int], dict[str, Any]]] = {"lora": lora_options, "dreambooth": dreambooth_options}


def write_pictures(folder: Path, edge: int) -> None:
    folder.mkdir(parents=True)
    random = np.random.default_rng(0)
    for number in range(PICTURES):
        few = random.integers(0, 256, (8, 8, 3), np.uint8)
        Image.fromarray(few).resize((edge, edge)).save(folder / f"{number}.png")
        (folder / f"{number}.txt").write_text(f"a thing, number {number}", encoding="utf-8")


def by_easel(setup: Setup, easel: Easel, request: TrainingRequest, steps: int) -> Found:
    """The job as a user starts it; the first tenth of its steps isn't counted, nor what is around them."""
    reset_peak(setup)
    clock = StepClock()
    result = train(easel.engine, plan_training(easel.services, request), JobContext(clock, Alone(easel.engine)))
    assert result.steps == steps, f"{result.steps} of {steps} steps: {result.message}"
    assert result.loss is not None, "a training of some steps has a loss"
    assert np.isfinite(result.loss), f"{result.loss=}"
    counted = clock.moments[max(steps // 10, 1) - 1 :]
    speed = (len(counted) - 1) / (counted[-1] - counted[0])
    return Found(speed, "steps/s", facts={"loss": round(result.loss, 4), "peak": peak(setup)})


def plain_speed(setup: Setup, easel: Easel, kind: str, edge: int, steps: int) -> float:
    """What a script would do: latents and text are there, the whole U-Net or matrices beside its layers learn."""
    unet = plain_unet(
        easel, setup.device, torch.float32 if kind == "dreambooth" or not setup.on_card else torch.bfloat16
    )
    weights = [*unet.parameters()] if kind == "dreambooth" else with_matrices(unet)
    optimizer = torch.optim.AdamW(weights, RATE)
    unet.train()
    width = unet.config.cross_attention_dim
    latents = torch.randn(1, 4, edge // 8, edge // 8, device=setup.device)
    text = torch.randn(1, 77, width, device=setup.device)
    shares = torch.linspace(0.999, 0.005, 1000, device=setup.device)

    def step() -> float:
        noise, timesteps = torch.randn_like(latents), torch.randint(0, 1000, (1,), device=setup.device)
        share = shares[timesteps].view(-1, 1, 1, 1)
        with torch.autocast(setup.device.type, torch.bfloat16, enabled=setup.on_card):
            answer = unet(share.sqrt() * latents + (1 - share).sqrt() * noise, timesteps, text).sample
        loss = F.mse_loss(answer.float(), noise)
        loss.backward()
        nn.utils.clip_grad_norm_(weights, 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return float(loss.detach())

    for _ in range(max(steps // 10, 1)):
        step()
    wait_for(setup.device)
    began = time.perf_counter()
    for _ in range(steps):
        step()
    wait_for(setup.device)
    return steps / (time.perf_counter() - began)


def plain_unet(easel: Easel, device: torch.device, dtype: torch.dtype) -> UNet2DConditionModel:
    with easel.model(BASE) as model:
        unet = UNet2DConditionModel.from_config(model.unet.config)
        unet.load_state_dict(model.unet.state_dict())
    easel.engine.models.unload()
    return unet.to(device, dtype)


def with_matrices(unet: UNet2DConditionModel) -> list[nn.Parameter]:
    """Low-rank matrices beside the linear layers of attention, which alone learn. Returns: them."""
    unet.requires_grad_(False)
    device = unet.device
    learned: list[nn.Parameter] = []
    for name, module in [*unet.named_modules()]:
        if "attentions" not in name or not isinstance(module, nn.Linear):
            continue
        down = nn.Linear(module.in_features, RANK, bias=False, device=device)
        up = nn.Linear(RANK, module.out_features, bias=False, device=device)
        nn.init.zeros_(up.weight)

        def add(
            _: nn.Module, given: tuple[Tensor, ...], out: Tensor, down: nn.Linear = down, up: nn.Linear = up
        ) -> Tensor:
            return out + up(down(given[0]))

        module.register_forward_hook(add)
        learned += [down.weight, up.weight]
    return learned
