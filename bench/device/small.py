"""Small: what works under a cap of the card's memory and at what speed, and that running out of it leaves no trace."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import torch

from bench.device.fast import dtype_name, peak, reset_peak, timed, weights_of
from bench.device.part import Setup
from bench.device.pictures import Easel, Pictures, an_easel, loras_folder
from bench.device.rows import Found, Rows
from bench.loras import write_lora
from webui.core.errors import WebuiError
from webui.models.devices import is_out_of_memory
from webui.models.manager import release_memory

GIB = 1 << 30
CAPS = (8, 6, 4)
"""GiB."""
MODES = {
    "as it starts by itself": (),
    "--medvram": ("--medvram",),
    "--lowvram": ("--lowvram",),
    "fp8 storage": (),
    "--medvram, fp8 storage": ("--medvram",),
}
ON_ANY_DEVICE = ("as it starts by itself", "fp8 storage")
STEPS = 4
TOO_MANY = 64
"""Pictures at once, which no cap has room for."""
LEFT_BEHIND = 64 / 1024
"""GiB that may still be taken after everything was let go of: the libraries' own workspaces."""


def run(setup: Setup, rows: Rows) -> None:
    sizes = {"sd1": 64 if setup.small else 512, "sdxl": 64 if setup.small else 1024}
    checkpoints = {name: weights_of(setup, rows, name).stem for name in sizes}
    modes = MODES if setup.on_card else {mode: MODES[mode] for mode in ON_ANY_DEVICE}
    for mode, flags in modes.items():
        easel = started(setup, rows, mode, *flags)
        if easel is None:
            continue
        if "fp8" in mode:
            easel.services.settings.update({"fp8_storage": "Enable"})
        for name, pixels in sizes.items():
            checkpoint = checkpoints[name]
            for cap in CAPS if setup.on_card else (None,):
                told = "without a cap" if cap is None else f"{cap} GiB"
                rows.measure(
                    f"{name}, {pixels} px, {told}: {mode}", partial(steps_under, setup, easel, checkpoint, pixels, cap)
                )
            if flags != ("--lowvram",):  # which takes no LoRAs
                rows.measure(f"{name}: a LoRA with {mode}", partial(with_lora, setup, easel, checkpoint, pixels))
            easel.engine.models.unload()
        easel.close()
    easel = started(setup, rows, "for large pictures and jobs")
    if easel is None:
        return
    checkpoint = checkpoints["sd1"]
    rows.measure("VAE: a picture too large for a cap is decoded in pieces", partial(tiled, setup, easel, checkpoint))
    rows.measure("a job that the device can't hold, and the next one", partial(too_many, setup, easel, checkpoint))
    easel.close()
    if setup.on_card:
        rows.measure("memory that is still taken after all that", partial(left_behind, setup))


def started(setup: Setup, rows: Rows, mode: str, *flags: str) -> Easel | None:
    """An engine in that mode, None when it can't start, as its row then says."""
    easels: list[Easel] = []

    def start() -> Found:
        name = mode.replace(" ", "-")
        return Found(timed(setup.device, lambda: easels.append(an_easel(setup, name, *flags, *own_flags(setup)))), "s")

    rows.measure(f"the engine, {mode}", start)
    return easels[0] if easels else None


def own_flags(setup: Setup) -> tuple[str, ...]:
    given = ("--ckpt", str(setup.checkpoint)) if setup.checkpoint else ()
    return (*given, "--ckpt-dir", str(setup.weights), *(() if setup.on_card else ("--no-half",)))


@contextmanager
def capped(setup: Setup, gib: int | None) -> Iterator[None]:
    """No more than that of the card's memory for this process; on a CPU and for None as much as there is."""
    if gib is None or not setup.on_card:
        yield
        return
    release_memory()
    total = torch.cuda.get_device_properties(setup.device).total_memory
    torch.cuda.set_per_process_memory_fraction(min(gib * GIB / total, 1.0), setup.device)
    try:
        yield
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0, setup.device)


def pictures(
    easel: Easel, checkpoint: str, pixels: int, steps: int = STEPS, count: int = 1, prompt: str = ""
) -> Pictures:
    asked = {"width": pixels, "height": pixels, "steps": steps, "batch_size": count}
    made = easel.pictures(checkpoint, **asked, **({"prompt": prompt} if prompt else {}))
    assert len(made) == count, f"{len(made)} of {count} pictures"
    return made


def steps_under(setup: Setup, easel: Easel, checkpoint: str, pixels: int, cap: int | None) -> Found:
    """Seconds of a step: what four more of them take."""
    with capped(setup, cap):
        loaded = timed(setup.device, lambda: pictures(easel, checkpoint, pixels))
        reset_peak(setup)
        few = timed(setup.device, lambda: pictures(easel, checkpoint, pixels))
        many = timed(setup.device, lambda: pictures(easel, checkpoint, pixels, 2 * STEPS))
        with easel.model(checkpoint) as model:
            stored = model.placement.storage or model.dtype
            facts = {"shares": model.placement.sharing, "stored in": dtype_name(stored), "peak": peak(setup)}
    facts |= {"first picture": f"{loaded:.2f} s", "with all else": f"{few:.2f} s"}
    return Found((many - few) / STEPS, "s a step", facts=facts)


def with_lora(setup: Setup, easel: Easel, checkpoint: str, pixels: int) -> Found:
    """On, off and on again: layers that take turns, or are stored in 8 bits, are changed and changed back."""
    with easel.model(checkpoint) as model:
        write_lora(loras_folder(setup) / f"{checkpoint}-patch.safetensors", model, 0)
    easel.services.networks.loras.refresh()
    tagged = f"a red apple <lora:{checkpoint}-patch:8>"
    made = [pictures(easel, checkpoint, pixels, prompt=prompt) for prompt in ("a red apple", tagged) * 2]
    different = abs(made[0][0] - made[1][0]).mean()
    assert different > 0, "it was without effect"
    assert (made[0][0] == made[2][0]).all(), "the picture without it isn't the one before"
    return Found(float(different), "levels", facts={"again": f"{abs(made[1][0] - made[3][0]).mean():.2g} levels away"})


def tiled(setup: Setup, easel: Easel, checkpoint: str) -> Found:
    edge = 32 if setup.small else 384
    latents = torch.randn(1, 4, edge, edge, device=setup.device)
    with capped(setup, CAPS[-1]), easel.model(checkpoint) as model, torch.inference_mode():
        reset_peak(setup)
        took = timed(setup.device, lambda: model.decode(latents))
    return Found(took, "s", facts={"pixels": 8 * edge, "peak": peak(setup)})


def too_many(setup: Setup, easel: Easel, checkpoint: str) -> Found:
    """It ends with a sentence or, made in some cheaper way, with its pictures. The next job is as ever."""
    pixels = 64 if setup.small else 512
    before = pictures(easel, checkpoint, pixels)
    with capped(setup, CAPS[-1]):
        try:
            pictures(easel, checkpoint, pixels if setup.on_card else 8192, 1, TOO_MANY)
            ended = "with its pictures"
        except Exception as error:
            if not (isinstance(error, WebuiError) or is_out_of_memory(error)):
                raise
            ended = f"with a sentence: {error}" if isinstance(error, WebuiError) else "out of memory"
        after = pictures(easel, checkpoint, pixels)
    return Found(float(abs(before[0] - after[0]).mean()), "levels", 1.0, facts={"ended": ended})


def left_behind(setup: Setup) -> Found:
    release_memory()
    taken = torch.cuda.memory_allocated(setup.device) / GIB
    return Found(taken, "GiB", LEFT_BEHIND, facts={"reserved": f"{torch.cuda.memory_reserved(setup.device) / GIB:.2f}"})
