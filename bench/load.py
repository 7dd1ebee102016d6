"""Time and peak memory of loading SD 1.5 from one file: Easel beside diffusers' single-file loader."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import psutil

from bench.measure import Report, Sample, Series, Stopwatch, alternating, conditions
from bench.memory import peak_memory
from bench.programs import ROOT
from bench.step import SMALL, a_model, add_model_options
from tools.random_checkpoint import FULL, Layout

MIB = 1 << 20


def add_options(parser: argparse.ArgumentParser) -> None:
    add_model_options(parser)
    parser.add_argument("--rounds", type=int, default=3)


def run(options: argparse.Namespace) -> Report:
    """Each load is a process of its own; its imports and one load before that warms the disk cache don't count."""
    report = Report("load", {"rounds": options.rounds, "small": options.small}, conditions())
    loaders = [f"{program} {dtype}" for dtype in ("fp32", "bf16", "fp16") for program in ("Easel", "diffusers")]
    series = [Series(title) for title in loaders]
    peaks: dict[str, list[float]] = {title: [] for title in loaders}
    with a_model(options) as checkpoint:
        _load_in_process(loaders[0], checkpoint, options.small)
        for order in alternating(len(loaders), options.rounds):
            for arm in order:
                found = _load_in_process(loaders[arm], checkpoint, options.small)
                series[arm].samples.append(Sample(found["wall"], found["cpu"]))
                peaks[loaders[arm]].append(found["peak"])
    for one in series:
        one.facts = {"peak": f"{max(peaks[one.title]):,.0f} MiB"}
    report.series = series
    for own, plain in zip(series[::2], series[1::2], strict=True):
        report.compare(f"{own.title} by diffusers", own, plain)
    return report


def _load_in_process(loader: str, checkpoint: Path, small: bool) -> dict[str, float]:
    environ = {**os.environ, "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, "-m", "bench.load", loader, str(checkpoint), "small" if small else "full"]
    answer = subprocess.run(command, cwd=ROOT, env=environ, check=True, stdout=subprocess.PIPE).stdout
    found: dict[str, float] = json.loads(answer.splitlines()[-1])
    return found


def _measured(load: Callable[[], object]) -> dict[str, float]:
    """wall, cpu: seconds. peak: MiB of memory in use at most, mapped parts of the file included, above the start's."""
    before = psutil.Process().memory_info().rss
    watch = Stopwatch()
    model = load()
    sample = watch.lap()
    peak = peak_memory()
    del model
    return {"wall": sample.wall, "cpu": sample.cpu, "peak": (peak - before) / MIB}


def _main(loader: str, checkpoint: Path, layout: Layout) -> None:
    import torch

    program, dtype_name = loader.split()
    dtype = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[dtype_name]
    with tempfile.TemporaryDirectory(prefix="easel-bench-") as folder, torch.no_grad():
        prepare = _easel if program == "Easel" else _diffusers
        print(json.dumps(_measured(prepare(checkpoint, dtype, layout, Path(folder)))))


def _easel(checkpoint: Path, dtype, layout: Layout, folder: Path) -> Callable[[], object]:
    from webui.catalog.checkpoints import CheckpointCatalog
    from webui.catalog.hashes import HashCache
    from webui.models.devices import placement_on_cpu
    from webui.models.registry import open_checkpoint

    with HashCache(folder / "hashes.sqlite", enabled=False) as hashes:
        described = CheckpointCatalog([], hashes, [checkpoint]).default()
    return lambda: open_checkpoint(described).load(placement_on_cpu(dtype))


def _diffusers(checkpoint: Path, dtype, layout: Layout, folder: Path) -> Callable[[], object]:
    import torch
    from diffusers import AutoencoderKL, EulerDiscreteScheduler, StableDiffusionPipeline, UNet2DConditionModel
    from diffusers.utils import logging
    from transformers import CLIPTextConfig, CLIPTextModel

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    levels = len(layout.vae_widths)
    with torch.device("meta"):
        unet = UNet2DConditionModel(
            sample_size=layout.native_size // 8,
            block_out_channels=layout.unet_widths,
            cross_attention_dim=layout.text_width,
            attention_head_dim=layout.unet_heads,
            norm_num_groups=layout.unet_groups,
        )
        vae = AutoencoderKL(
            block_out_channels=layout.vae_widths,
            down_block_types=("DownEncoderBlock2D",) * levels,
            up_block_types=("UpDecoderBlock2D",) * levels,
            layers_per_block=2,
            latent_channels=4,
            norm_num_groups=layout.vae_groups,
        )
    text = CLIPTextConfig(
        vocab_size=layout.vocabulary,
        hidden_size=layout.text_width,
        intermediate_size=4 * layout.text_width,
        num_hidden_layers=layout.text_layers,
        num_attention_heads=layout.text_heads,
        architectures=[CLIPTextModel.__name__],
    )
    unet.save_config(folder / "unet")
    vae.save_config(folder / "vae")
    text.save_pretrained(folder / "text_encoder")
    EulerDiscreteScheduler(steps_offset=1).save_config(folder / "scheduler")
    absent = dict.fromkeys(("tokenizer", "safety_checker", "feature_extractor", "image_encoder"))
    index = {
        "_class_name": "StableDiffusionPipeline",
        "unet": ["diffusers", "UNet2DConditionModel"],
        "vae": ["diffusers", "AutoencoderKL"],
        "text_encoder": ["transformers", CLIPTextModel.__name__],
        "scheduler": ["diffusers", "EulerDiscreteScheduler"],
        **dict.fromkeys(absent, [None, None]),
    }
    (folder / "model_index.json").write_text(json.dumps(index))
    return lambda: StableDiffusionPipeline.from_single_file(
        str(checkpoint), config=str(folder), torch_dtype=dtype, local_files_only=True, **absent
    )


if __name__ == "__main__":
    _main(sys.argv[1], Path(sys.argv[2]), SMALL if sys.argv[3] == "small" else FULL)
