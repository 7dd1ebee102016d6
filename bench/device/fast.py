"""Fast: SD 1.5 and SDXL beside diffusers' own pipelines, and what a card's other ways to compute would bring."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from bench.device.part import Setup
from bench.device.rows import Found, Rows
from bench.loras import write_lora
from bench.measure import Series
from bench.networks import DiffusersArm, EaselArm, mark, sample_in_turn, seconds_between, wait_for
from tools.random_checkpoint import FULL_SIZES, TINY_SIZES, Layout, write_checkpoint
from webui.core.request import GenerationRequest
from webui.jobs.context import JobContext
from webui.models.families.base import LoadedModel
from webui.models.manager import release_memory
from webui.prompts.networks import cut_networks

ANCHORS = {"SD 1.5": 105.0, "SDXL": 21.6}
"""Steps a second that a picture alone in fp16 is to come to on an H100."""
BACKENDS = (SDPBackend.FLASH_ATTENTION, SDPBackend.CUDNN_ATTENTION, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH)
CALLS, WARM = 10, 3
FILES = 5


@dataclass(frozen=True)
class Size:
    """A model and how it is timed. steps: of each arm in a round, after one of `warm` steps that isn't counted."""

    title: str
    family: str
    pixels: int
    steps: int
    rounds: int
    warm: int = 3


def sizes(setup: Setup) -> tuple[Size, ...]:
    if setup.small:
        return Size("SD 1.5", "sd1", 64, 2, 1, 1), Size("SDXL", "sdxl", 64, 2, 1, 1)
    return Size("SD 1.5", "sd1", 512, 20, 4), Size("SDXL", "sdxl", 1024, 10, 3)


def weights_of(setup: Setup, rows: Rows, family: str) -> Path:
    """A checkpoint of that family for all parts, written by the first that wants it."""
    if family == "sd1" and setup.checkpoint:
        return setup.checkpoint
    path = setup.weights / f"{family}.safetensors"
    if not path.exists():
        rows.measure(f"{family}: random weights written", partial(written, setup, path, layout_of(setup, family)))
    return path


def layout_of(setup: Setup, family: str) -> Layout:
    return replace(TINY_SIZES[family], native_size=64) if setup.small else FULL_SIZES[family]


def run(setup: Setup, rows: Rows) -> None:
    loaded: dict[Size, Path] = {}
    for size in sizes(setup):
        checkpoint = weights_of(setup, rows, size.family)
        if rows.measure(f"{size.title}: the model", partial(first_load, setup, size, checkpoint)) is None:
            continue
        loaded[size] = checkpoint
        for dtype in (torch.float16, torch.bfloat16) if setup.on_card else (torch.float32,):
            beside_diffusers(setup, rows, size, checkpoint, dtype)
        services(setup, rows, size, checkpoint)
    for size, checkpoint in loaded.items():
        calls(setup, rows, size, checkpoint)


class DeviceNumbers:
    """numpy's generator of normal numbers, as far as the random checkpoint asks for it, drawn by the card."""

    def __init__(self, device: torch.device, seed: int) -> None:
        self._generator = torch.Generator(device).manual_seed(seed)

    def standard_normal(self, shape: tuple[int, ...], dtype: type[np.float32]) -> np.ndarray:
        drawn = torch.randn(shape, generator=self._generator, device=self._generator.device)
        numbers: np.ndarray = drawn.cpu().numpy()
        return numbers


def written(setup: Setup, path: Path, layout: Layout, seed: int = 0) -> Found:
    half_done = path.with_suffix(".part")
    took = timed(setup.device, lambda: write_checkpoint(half_done, layout, random=DeviceNumbers(setup.device, seed)))
    half_done.replace(path)
    return Found(took, "s", facts={"size": f"{path.stat().st_size / 1e9:.2f} GB"})


def timed(device: torch.device, work: Callable[[], object]) -> float:
    """Seconds until the device is done with it."""
    wait_for(device)
    first = mark(device)
    work()
    last = mark(device)
    wait_for(device)
    return seconds_between(first, last)


def easel_flags(setup: Setup) -> tuple[str, ...]:
    return () if setup.on_card else ("--no-half",)


def an_arm(setup: Setup, size: Size, checkpoint: Path, *flags: str, batch: int = 1) -> EaselArm:
    own = (*easel_flags(setup), *flags)
    return EaselArm(checkpoint, size.pixels, own, device=str(setup.device), batch=batch)


def first_load(setup: Setup, size: Size, checkpoint: Path) -> Found:
    """The file is in the disk's cache."""
    arm = an_arm(setup, size, checkpoint)
    arm.engine.models.unload()
    took = timed(setup.device, lambda: leased(arm))
    loaded = f"{sum(part.nbytes for module in arm.model.parts for part in module.parameters()) / 1e9:.2f} GB"
    close(arm)
    return Found(took, "s to load", facts={"weights": loaded, "in": dtype_name(arm.model.dtype)})


def leased(arm: EaselArm) -> None:
    with arm.engine.models.lease(arm.engine.plan(arm.request).first.checkpoint) as model:
        arm.model = model


def close(arm: EaselArm) -> None:
    arm.engine.models.unload()
    arm.services.checkpoints.close()


def dtype_name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


class Arms:
    """Easel's as it starts by itself, and with its other layout; diffusers' in both layouts."""

    def __init__(self, setup: Setup, size: Size, checkpoint: Path, dtype: torch.dtype) -> None:
        self.easel = an_arm(setup, size, checkpoint)
        self._easels = [self.easel]
        if setup.on_card:
            self._easels.append(an_arm(setup, size, checkpoint, "--opt-channelslast"))
        for easel in self._easels:
            if easel.model.dtype != dtype:  # which no flag asks for
                easel.model.unet.to(dtype)
                easel.model.placement = replace(easel.model.placement, unet=dtype)
        self.plain = [DiffusersArm(self.easel.model, size.pixels)]
        if setup.on_card:
            self.plain.append(DiffusersArm(self.easel.model, size.pixels, channels_last=True))

    @property
    def all(self) -> dict[str, EaselArm | DiffusersArm]:
        layouts = ("", ", channels_last")
        named = [("Easel", self._easels), ("diffusers", self.plain)]
        return {f"{title}{layout}": arm for title, arms in named for layout, arm in zip(layouts, arms, strict=False)}

    def close(self) -> None:
        for easel in self._easels:
            close(easel)


def beside_diffusers(setup: Setup, rows: Rows, size: Size, checkpoint: Path, dtype: torch.dtype) -> None:
    """Rows of steps a second for every arm, and of Easel's by the better of diffusers'."""
    opened: list[Arms] = []

    def open_arms() -> Found:
        took = timed(setup.device, lambda: opened.append(Arms(setup, size, checkpoint, dtype)))
        return Found(took, "s")

    if rows.measure(f"{size.title}, {dtype_name(dtype)}: pipelines of Easel and diffusers", open_arms) is None:
        return
    arms = opened.pop()
    for batch in (1, 4):
        steps_of_all(setup, rows, size, arms, dtype, batch)
    arms.close()


def steps_of_all(setup: Setup, rows: Rows, size: Size, arms: Arms, dtype: torch.dtype, batch: int) -> None:
    name = f"{size.title}, {size.pixels} px, batch {batch}, {dtype_name(dtype)}"
    series: dict[str, Series] = {}

    def measured() -> Found:
        for arm in arms.all.values():
            arm.batch = batch
        series.update(sample_in_turn(arms.all, size.rounds, size.steps, size.warm))
        best = min((one for title, one in series.items() if "diffusers" in title), key=lambda one: one.wall)
        bar = 1.0 if setup.on_card else None
        return Found(1 / series["Easel"].ratio(best).wall, "x", least=bar, facts={"its best": best.title})

    if rows.measure(f"{name}: Easel's speed by diffusers' best", measured) is None:
        return
    anchored = setup.on_card and not setup.small and batch == 1 and dtype == torch.float16
    for title, one in series.items():
        least = ANCHORS[size.title] if anchored and title == "Easel" else None
        facts = {**one.facts, "spread": spread(one)}
        rows.measure(f"{name}: {title}", partial(Found, 1 / one.wall, "it/s", least=least, facts=facts))


def spread(series: Series) -> str:
    walls = [sample.wall for sample in series.samples]
    return f"{100 * (max(walls) / min(walls) - 1):.1f} %"


def services(setup: Setup, rows: Rows, size: Size, checkpoint: Path) -> None:
    """What a user waits for beside steps."""
    loras = setup.data / f"loras-{checkpoint.stem}"
    loras.mkdir()
    other = setup.weights / f"{size.family}-other.safetensors"
    arms: list[EaselArm] = []

    def opened() -> Found:
        arms.append(an_arm(setup, size, checkpoint, "--lora-dir", str(loras)))
        reset_peak(setup)
        took = timed(setup.device, lambda: picture(arms[0], steps=size.steps))
        return Found(took, "s", facts={"steps": size.steps, "peak": peak(setup)})

    if rows.measure(f"{size.title}: the first picture", opened) is None:
        return
    arm = arms[0]
    for batch in (1, 4):

        def whole(batch: int = batch) -> Found:
            reset_peak(setup)
            took = timed(setup.device, lambda: picture(arm, steps=size.steps, batch_size=batch))
            return Found(took, "s", facts={"steps": size.steps, "peak": peak(setup)})

        rows.measure(f"{size.title}: pictures, batch {batch}", whole)
    rows.measure(f"{size.title}: VAE decodes a picture", partial(decoding, arm.model, size.pixels))
    lora_sets(rows, size, arm, loras)
    if size.title == "SD 1.5" and not setup.checkpoint:

        def switched() -> Found:
            written(setup, other, layout_of(setup, size.family), seed=1)
            easel = an_arm(setup, size, checkpoint, "--ckpt-dir", str(other.parent))
            easel.services.checkpoints.refresh()
            one, two = (easel.services.checkpoints.find(path.stem) for path in (checkpoint, other))
            took = [timed(setup.device, partial(easel.engine.models.preload, each)) for each in (two, one, two)]
            close(easel)
            return Found(statistics.median(took), "s", facts={"each": [round(each, 2) for each in took]})

        rows.measure(f"{size.title}: another checkpoint", switched)
    close(arm)


def picture(arm: EaselArm, **asked: Any) -> None:
    request: GenerationRequest = arm.request.replace(save_samples=False, save_grid=False, **asked)
    arm.engine.generate(request, JobContext.alone(engine=arm.engine))


def decoding(model: LoadedModel, pixels: int) -> Found:
    latents = torch.randn(1, model.capabilities.latent_channels, pixels // 8, pixels // 8, device=model.device)

    def decode() -> None:
        with torch.inference_mode():
            model.decode(latents)

    decode()
    took = statistics.median(timed(model.device, decode) for _ in range(WARM))
    return Found(1000 * took, "ms", facts={"in": dtype_name(model.vae.dtype)})


def lora_sets(rows: Rows, size: Size, arm: EaselArm, folder: Path) -> None:
    """Five rank-16 files, five others, and the first again."""
    shelf, settings = arm.engine.networks, arm.engine.settings.snapshot()

    def use(first: int) -> None:
        tags = cut_networks("".join(f"<lora:l{number}:0.2>" for number in range(first, first + FILES))).tags
        with shelf.used(arm.model, tags, [], settings, print):
            pass

    def switched() -> Found:
        for number in range(2 * FILES):
            write_lora(folder / f"l{number}.safetensors", arm.model, number)
        shelf.catalogs.loras.refresh()
        read = [timed(arm.model.device, partial(use, first)) for first in (0, FILES)]
        again = [timed(arm.model.device, partial(use, first)) for first in (0, FILES, 0)]
        return Found(statistics.median(again), "s", facts={"with reading": [round(each, 2) for each in read]})

    rows.measure(f"{size.title}: five other LoRAs", switched)


def calls(setup: Setup, rows: Rows, size: Size, checkpoint: Path) -> None:
    """One call of the network for prompt and negative prompt of one picture, computed in several ways.

    On diffusers' module over the model's weights, so that nothing of it stays behind.
    """
    dtype = torch.float16 if setup.on_card else torch.float32
    opened: list[Arms] = []
    if rows.measure(
        f"{size.title}: networks for single calls",
        lambda: Found(timed(setup.device, lambda: opened.append(Arms(setup, size, checkpoint, dtype))), "s"),
    ) is None:  # fmt: skip
        return
    arms = opened.pop()
    named = dict(zip(("", ", channels_last"), arms.plain, strict=False))
    made = {layout: a_call(arm, arms.easel.model, size.pixels) for layout, arm in named.items()}
    for layout, call in made.items():
        rows.measure(f"{size.title}: a call{layout}", partial(call_time, setup, call))
    if setup.on_card:
        call = made[""]
        for backend in BACKENDS:
            way = partial(sdpa_kernel, [backend])
            rows.measure(f"{size.title}: a call, SDPA {backend.name.lower()}", partial(call_time, setup, call, way))
        for layout, other in made.items():
            rows.measure(f"{size.title}: a call{layout}, CUDA graph", partial(graph_time, setup, other))

        def compiled() -> Found:
            arms.plain[0].unet.compile_repeated_blocks()
            with torch.inference_mode():
                took = timed(setup.device, call)
            return replace(call_time(setup, call), facts={"compiled in": f"{took:.0f} s"})

        if rows.measure(f"{size.title}: a call, blocks compiled", compiled) is not None:
            rows.measure(f"{size.title}: a call, blocks compiled, CUDA graph", partial(graph_time, setup, call))
    arms.close()


def a_call(arm: DiffusersArm, model: LoadedModel, pixels: int) -> Callable[[], Tensor]:
    device, dtype = model.device, model.dtype
    edge = pixels // 8
    x = torch.randn(2, model.capabilities.latent_channels, edge, edge, device=device, dtype=dtype)
    text = torch.cat([arm.more["prompt_embeds"], arm.more["negative_prompt_embeds"]])
    timestep = torch.tensor(500.0, device=device)
    added: dict[str, Tensor] | None = None
    if arm.is_xl:
        pooled = torch.cat([arm.more["pooled_prompt_embeds"], arm.more["negative_pooled_prompt_embeds"]])
        added = {"text_embeds": pooled, "time_ids": torch.full((2, 6), float(pixels), device=device, dtype=dtype)}
    return lambda: arm.unet(x, timestep, text, added_cond_kwargs=added, return_dict=False)[0]


@torch.inference_mode()
def call_time(
    setup: Setup, call: Callable[[], object], way: Callable[[], AbstractContextManager[object]] = nullcontext
) -> Found:
    """Calls one after the other, as many as are in flight."""
    count = 1 if setup.small else CALLS
    with way():
        for _ in range(1 if setup.small else WARM):
            call()
        took = [timed(setup.device, lambda: [call() for _ in range(count)]) / count for _ in range(WARM)]
    return Found(1000 * statistics.median(took), "ms")


@torch.inference_mode()
def graph_time(setup: Setup, call: Callable[[], object]) -> Found:
    """The same kernels, launched at once from a recording."""
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(WARM):
            call()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        call()
    found = call_time(setup, graph.replay)
    del graph
    release_memory()
    return found


def reset_peak(setup: Setup) -> None:
    if setup.on_card:
        torch.cuda.reset_peak_memory_stats(setup.device)


def peak(setup: Setup) -> str:
    return f"{torch.cuda.max_memory_allocated(setup.device) / 1e9:.2f} GB" if setup.on_card else "not known"
