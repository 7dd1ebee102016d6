"""Seconds to switch a loaded SD 1.5 from five rank-16 LoRAs to five others, between two jobs.

"switch": to a set that was on before. "new set": to one that has to be computed, its files read before.
"products": the bare matrix products of such a set, into one buffer.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from bench.measure import Bar, Report, Sample, Series, Stopwatch, conditions
from bench.step import DTYPE_FLAGS, a_model, add_model_options

if TYPE_CHECKING:
    import torch

    from webui.models.families.base import LoadedModel

SWITCH = 0.2
NEW_BY_PRODUCTS = 1.25
FILES, RANK = 5, 16


def add_options(parser: argparse.ArgumentParser) -> None:
    add_model_options(parser)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--dtype", choices=tuple(DTYPE_FLAGS), default="bf16")


def run(options: argparse.Namespace) -> Report:
    """Each file changes every layer that kohya's trainer does by default: attention, feed-forward, text encoder."""
    from bench.networks import EaselArm, torch  # after the environment is set
    from webui.pipeline.networks import NetworkShelf
    from webui.prompts.networks import cut_networks

    report = Report("loras", {"rounds": options.rounds, "files": FILES, "rank": RANK}, conditions())
    report.setup |= {"torch": torch.__version__, "threads": torch.get_num_threads(), "small": options.small}
    titles = ("read", "new set", "products", "switch", "same again", "take off", "put on")
    series = {title: Series(title) for title in titles}
    with a_model(options) as checkpoint, tempfile.TemporaryDirectory(prefix="easel-loras-") as folder:
        arm = EaselArm(checkpoint, 256, (*DTYPE_FLAGS[options.dtype], "--lora-dir", folder))
        report.setup["dtype"] = str(arm.model.dtype)
        for number in range(2 * FILES):
            write_lora(Path(folder) / f"l{number}.safetensors", arm.model, number)
        shelf: NetworkShelf = arm.engine.networks
        shelf.catalogs.loras.refresh()
        settings = arm.engine.settings.snapshot()

        def a_set(first: int, strength: float) -> object:
            return cut_networks("".join(f"<lora:l{n}:{strength}>" for n in range(first, first + FILES))).tags

        sets = [a_set(first, 0.2) for first in (0, FILES)]

        def use(tags: object) -> Sample:
            watch = Stopwatch()
            with shelf.used(arm.model, tags, [], settings, print):  # type: ignore[arg-type]
                return watch.lap()

        series["read"].samples = [use(one) for one in sets]
        for number in range(options.rounds):
            series["new set"].samples.append(use(a_set(0, 0.3 + number / 100)))
            series["products"].samples.append(products(arm.model))
            for one in sets:
                series["switch"].samples.append(use(one))
                series["same again"].samples.append(use(one))
            series["take off"].samples.append(use(()))
            series["put on"].samples.append(use(sets[1]))
    report.series = list(series.values())
    report.bars = [Bar("switch", series["switch"].wall, SWITCH, "s")]
    report.compare("new set by products", series["new set"], series["products"], NEW_BY_PRODUCTS)
    return report


def lora_layers(model: LoadedModel) -> Iterator[tuple[str, torch.nn.Module]]:
    """What kohya's trainer changes by default, by the names that it writes."""
    unet, text = model.unet, model.text_encoders[0].module
    first = "lora_te_text_model_" if len(model.text_encoders) == 1 else "lora_te1_text_model_"
    for prefix, part in (("lora_unet_", unet), (first, text)):
        for name, module in part.named_modules():
            weight = getattr(module, "weight", None)
            inside = prefix != "lora_unet_" or "attentions" in name
            if weight is not None and weight.ndim >= 2 and inside and "embedding" not in name:
                yield prefix + name.removeprefix("text_model.").replace(".", "_"), module


def products(model: LoadedModel) -> Sample:
    """All layers' factors multiplied, as one network of the set's rank, with all threads at each."""
    import torch

    dtype, weights = model.dtype, [module.weight for _, module in lora_layers(model)]
    rank = FILES * RANK
    up = torch.ones(max(len(weight) for weight in weights), rank, dtype=dtype)
    down = torch.ones(rank, max(weight[0].numel() for weight in weights), dtype=dtype)
    into = torch.ones(max(weight.numel() for weight in weights), dtype=dtype)
    watch = Stopwatch()
    for weight in weights:
        rows, columns = len(weight), weight[0].numel()
        torch.mm(up[:rows], down[:, :columns], out=into[: rows * columns].view(rows, columns))
    return watch.lap()


def write_lora(path: Path, model: LoadedModel, seed: int) -> None:
    """A LoRA in fp16 for every layer of attention and feed-forward."""
    import torch
    from safetensors.torch import save_file

    random = torch.Generator().manual_seed(seed)
    tensors = {}
    for key, module in lora_layers(model):
        weight = module.weight
        rest = weight.shape[2:]
        tensors[f"{key}.lora_up.weight"] = torch.randn(weight.shape[0], RANK, *[1 for _ in rest], generator=random)
        tensors[f"{key}.lora_down.weight"] = torch.randn(RANK, *weight.shape[1:], generator=random) * 1e-3
        tensors[f"{key}.alpha"] = torch.tensor(float(RANK))
    save_file({key: tensor.half() for key, tensor in tensors.items()}, path)
