"""Right: pictures of small models beside the CPU's, and that what comes off a model leaves no trace."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor

from bench.device.part import Setup
from bench.device.pictures import (
    EDGE,
    Easel,
    Pictures,
    Stopping,
    an_easel,
    apart,
    checkpoints_folder,
    loras_folder,
)
from bench.device.rows import Found, Rows
from bench.loras import write_lora
from tools.random_checkpoint import TINY_SIZES, Layout, write_checkpoint
from webui.models.vae import in_tiles

EXACT_LEVELS, HALF_LEVELS = 1.0, 8.0
"""Mean difference from the CPU's picture in fp32 that a network of random weights may come to: such a network tells
nothing apart, so what is rounded away in one step grows in the next."""
LOUD = 1e5
"""Times that a VAE's first layer is too loud: in fp16 its weights are numbers, what it computes isn't."""


def layouts(small: bool) -> dict[str, tuple[Layout, str, int]]:
    """Name -> layout, dtype of the file, seed."""
    plain = replace(TINY_SIZES["sd1"], unet_groups=32)  # which diffusers' motion modules count on
    few: dict[str, tuple[Layout, str, int]] = {"sd1": (plain, "F16", 0), "sdxl": (TINY_SIZES["sdxl"], "F16", 1)}
    if small:
        return few
    rest = {name: layout for name, layout in TINY_SIZES.items() if name not in few}
    more = {"sd1-f32": (plain, "F32", 3), "sd1-bf16": (plain, "BF16", 4)}
    return few | {name: (layout, "F16", seed) for seed, (name, layout) in enumerate(rest.items(), start=10)} | more


def run(setup: Setup, rows: Rows) -> None:
    known = layouts(setup.small)
    folder = checkpoints_folder(setup)
    for name, (layout, dtype, seed) in known.items():
        write_checkpoint(folder / f"{name}.safetensors", replace(layout, native_size=EDGE), dtype, seed)
    write_loud(setup)
    cpu = an_easel(setup, "cpu", "--no-half", device=torch.device("cpu"))
    exact, half = an_easel(setup, "exact", "--no-half"), an_easel(setup, "half")
    for name in known:
        reference: Pictures = []

        def beside(easel: Easel, most: float, name: str = name, reference: Pictures = reference) -> Found:
            if not reference:
                reference.extend(cpu.pictures(name))
            return levels(easel.pictures(name), reference, most, **dtype_of(easel, name))

        rows.measure(f"{name}: fp32 beside the CPU's", partial(beside, exact, EXACT_LEVELS))
        rows.measure(f"{name}: half precision beside the CPU's", partial(beside, half, HALF_LEVELS))
    random_numbers(rows, cpu, exact, setup.on_card)
    rows.measure("a batch of three beside three single pictures", partial(batch, exact))
    rows.measure("the picture after an interrupted job", partial(after_interruption, half))
    rows.measure("a VAE that overflows is computed in fp32", partial(loud_vae, half, cpu))
    rows.measure("a VAE in pieces beside the CPU's", partial(pieces, exact, cpu))
    patches(setup, rows, half, cpu)
    for easel in (cpu, exact, half):
        easel.close()


def levels(pictures: Pictures, reference: Pictures, most: float, **facts: Any) -> Found:
    return Found(apart(pictures, reference), "levels", most, facts=facts)


def dtype_of(easel: Easel, name: str) -> dict[str, str]:
    with easel.model(name) as model:
        return {"in": str(model.dtype).removeprefix("torch.")}


def random_numbers(rows: Rows, cpu: Easel, exact: Easel, on_card: bool) -> None:
    """An ancestral sampler, which draws at every step. A card's own numbers are those that NV computes."""

    def drawn(easel: Easel, source: str) -> Pictures:
        return easel.pictures("sd1", sampler="Euler a", settings={"randn_source": source})

    for source in ("CPU", "GPU", "NV"):
        other = "NV" if source == "GPU" and on_card else source
        name = f"random numbers of {source}" + (f" beside {other}'s" if other != source else " beside the CPU's")

        def beside(source: str = source, other: str = other) -> Found:
            return levels(drawn(exact, source), drawn(cpu, other), EXACT_LEVELS)

        rows.measure(name, beside)


def batch(easel: Easel) -> Found:
    together = easel.pictures("sd1", batch_size=3)
    singles = [easel.pictures("sd1", seed=5 + number)[0] for number in range(3)]
    return levels(together, singles, EXACT_LEVELS)


def after_interruption(easel: Easel) -> Found:
    before = easel.pictures("sd1", steps=6)
    stopped = easel.pictures("sd1", Stopping.alone(), steps=6)
    after = easel.pictures("sd1", steps=6)
    assert len(stopped) == 1, "an interrupted job hands back its last prediction"
    return levels(after, before, 0.0, stopped=f"{apart(stopped, before):.1f} levels away")


def write_loud(setup: Setup) -> None:
    folder = checkpoints_folder(setup)
    path = folder / "loud.safetensors"
    write_checkpoint(path, replace(TINY_SIZES["sd1"], native_size=EDGE), "F16", 7)
    tensors = load_file(path)
    tensors["first_stage_model.decoder.conv_in.weight"] *= LOUD / 2
    save_file(tensors, path)


def loud_vae(easel: Easel, cpu: Easel) -> Found:
    with easel.model("loud") as model:
        model.vae.module.half()  # on a CPU, too
        pictures = easel.pictures("loud")
        assert model.vae.dtype == torch.float32, f"it is still in {model.vae.dtype}"
    return levels(pictures, cpu.pictures("loud"), HALF_LEVELS)


def pieces(exact: Easel, cpu: Easel) -> Found:
    latents = torch.randn(1, 4, EDGE, EDGE, generator=torch.Generator().manual_seed(1))
    decoded: list[Tensor] = []
    for easel in (exact, cpu):
        with easel.model("sd1") as model, torch.inference_mode(), in_tiles(model.vae.module, 256):
            decoded.append(model.decode(latents.to(model.device)).cpu())
    with exact.model("sd1") as model, torch.inference_mode():
        whole = model.decode(latents.to(model.device)).cpu()
    in_levels = [float((decoded[0] - other).abs().mean()) * 127.5 for other in (decoded[1], whole)]
    return Found(in_levels[0], "levels", EXACT_LEVELS, facts={"from the whole": f"{in_levels[1]:.2f} levels"})


def patches(setup: Setup, rows: Rows, half: Easel, cpu: Easel) -> None:
    """Each is made, put on, and off again: beside the CPU's picture with it, and the very picture without it."""
    files: dict[str, Callable[[], None]] = {
        "LoRA": partial(write_loras, setup, cpu),
        "ControlNet": partial(write_control_net, setup, cpu),
        "AnimateDiff": partial(write_motion, setup),
    }
    asked: dict[str, Callable[[Easel], dict[str, Any]]] = {
        "LoRA": lambda easel: {"prompt": "a red apple <lora:patch:20>"},
        "ControlNet": lambda easel: {"extensions": easel.group("ControlNet", {"units": [unit()]})},
        "AnimateDiff": lambda easel: {"extensions": easel.group("AnimateDiff", dict(CLIP)), "steps": 2},
    }
    for title in files:
        written: list[bool] = []

        def on_and_off(title: str = title, written: list[bool] = written) -> Found:
            files[title]()
            for easel in (half, cpu):
                easel.services.networks.loras.refresh()
            written.append(True)
            return off_again(half, asked[title](half))

        def beside_cpu(title: str = title) -> Found:
            pictures = half.pictures("sd1", **asked[title](half))
            return levels(pictures, cpu.pictures("sd1", **asked[title](cpu)), HALF_LEVELS, frames=len(pictures))

        rows.measure(f"{title}: put on and off, the weights and the picture are those before", on_and_off)
        if written:
            rows.measure(f"{title}: half precision beside the CPU's", beside_cpu)


def off_again(easel: Easel, asked: dict[str, Any]) -> Found:
    """How far the picture without it, made afterwards, is from the one before. Raises: AssertionError for weights."""
    bare = easel.pictures("sd1")
    with easel.model("sd1") as model:
        before = {key: value.clone() for key, value in model.unet.state_dict().items()}
        changed = easel.pictures("sd1", **asked)
        again = easel.pictures("sd1")
        after = model.unet.state_dict()
        assert before.keys() == after.keys(), "its layers are still in the network"
        differing = [key for key, value in before.items() if not torch.equal(value, after[key])]
    assert not differing, f"{len(differing)} weights differ, such as {differing[0]}"
    effect = apart(changed[:1], bare)
    assert effect > 0, "it was without effect"
    return levels(again, bare, 0.0, effect=f"{effect:.1f} levels")


def write_loras(setup: Setup, cpu: Easel) -> None:
    with cpu.model("sd1") as model:
        write_lora(loras_folder(setup) / "patch.safetensors", model, 0)


def write_control_net(setup: Setup, cpu: Easel) -> None:
    from diffusers import ControlNetModel

    torch.manual_seed(0)
    with cpu.model("sd1") as model:
        network = ControlNetModel.from_unet(model.unet)
    for zero in (*network.controlnet_down_blocks, network.controlnet_mid_block):
        torch.nn.init.normal_(zero.weight, std=0.1)
    folder = setup.data / "models" / "ControlNet"
    folder.mkdir(parents=True, exist_ok=True)
    save_file({name: part.contiguous() for name, part in network.state_dict().items()}, folder / "net.safetensors")


def unit() -> dict[str, Any]:
    stream = io.BytesIO()
    Image.linear_gradient("L").convert("RGB").resize((EDGE, EDGE)).save(stream, "PNG")
    return {"enabled": True, "model": "net", "image": stream.getvalue()}


CLIP = {"model": "motion", "enable": True, "video_length": 4, "batch_size": 4, "format": ("PNG",)}


def write_motion(setup: Setup) -> None:
    from diffusers.models.unets.unet_motion_model import MotionAdapter

    torch.manual_seed(0)
    widths = TINY_SIZES["sd1"].unet_widths
    adapter = MotionAdapter(block_out_channels=widths, motion_max_seq_length=32, use_motion_mid_block=False)
    for name, weight in adapter.named_parameters():
        if name.endswith("weight") and weight.ndim == 2:
            torch.nn.init.normal_(weight, std=weight.shape[1] ** -0.5)
    folder = setup.data / "models" / "AnimateDiff"
    folder.mkdir(parents=True, exist_ok=True)
    save_file({name: part.contiguous() for name, part in adapter.state_dict().items()}, folder / "motion.safetensors")
