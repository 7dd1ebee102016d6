"""Trainings of Easel beside a plain loop: seconds a step and peak memory.

Alone in a process it tells the peak memory of a training: python -m bench.training_speed FOLDER --kind lora ...
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Sequence
from dataclasses import astuple
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from bench.engines import build_engine
from bench.measure import Bar, Report, Sample, Series, Stopwatch
from bench.memory import memory, peak_of_its_own, reset_peak_memory
from bench.plain_training import RANK, RATE, Parts, PlainLoop, encoded_before, save_parts
from bench.programs import ROOT
from webui.core.training import (
    DreamBoothOptions,
    LoraOptions,
    Numerics,
    Optimization,
    Saving,
    TrainingRequest,
    TrainingResult,
)
from webui.core.training_data import DataRequest
from webui.jobs.context import Alone, JobContext, JobRecord
from webui.pipeline.engine import Engine
from webui.services.services import Services
from webui.services.training import plan_training
from webui.training.job import run as train

PICTURES = 8
NEVER = 1_000_000
AS_FAST, AS_SMALL = 1.0, 1.05
"""Bars: a step of Easel's takes at most so many times a script's, and so many times its memory."""
GIB = 1 << 30
PLACE = "train"


def lora_options(steps: int, batch: int = 1) -> dict[str, Any]:
    return {
        "lora": LoraOptions(network_dim=RANK, network_alpha=RANK, network_train_unet_only=True),
        "optimization": Optimization(
            optimizer_type="AdamW", learning_rate=RATE, max_train_steps=steps, train_batch_size=batch, seed=1
        ),
    }


def dreambooth_options(steps: int, batch: int = 1) -> dict[str, Any]:
    return {
        "dreambooth": DreamBoothOptions(te_steps=0, unet_steps=steps, unet_learning_rate=RATE),
        "optimization": Optimization(optimizer_type="AdamW", train_batch_size=batch, seed=1),
    }


KINDS: dict[str, Callable[[int, int], dict[str, Any]]] = {"lora": lora_options, "dreambooth": dreambooth_options}


def request_for(
    kind: str, checkpoint: str, folder: Path, edge: int, steps: int, batch: int = 1, **numerics: Any
) -> TrainingRequest:
    """A training of so many steps that writes nothing on its way. folder: of training folders."""
    return TrainingRequest(
        kind=kind,
        name=kind,
        checkpoint=checkpoint,
        data=DataRequest(train_data_dir=str(folder), resolution=str(edge), min_bucket_reso=64),
        numerics=Numerics(cache_text_encoder_outputs=True, **numerics),
        saving=Saving(save_state_every=NEVER),
        **KINDS[kind](steps, batch),
    )


def write_pictures(folder: Path, edge: int) -> None:
    folder.mkdir(parents=True)
    random = np.random.default_rng(0)
    for number in range(PICTURES):
        few = random.integers(0, 256, (8, 8, 3), np.uint8)
        Image.fromarray(few).resize((edge, edge)).save(folder / f"{number}.png")
        (folder / f"{number}.txt").write_text(f"a thing, number {number}", encoding="utf-8")


class Watched(JobRecord):
    """A job's record that does something once the model is there and the first step is about to begin."""

    def __init__(self, loaded: Callable[[], object]) -> None:
        super().__init__("task(training)", "training", threading.Condition())
        self._loaded = loaded
        self.begin()

    def publish(self, **changes: Any) -> None:
        super().publish(**changes)
        if "artifacts" in changes:
            self._loaded()


class Turns(Alone):
    """After every few steps of a training, others make as many of their own; each turn is timed.

    peak: bytes of memory at most, up to the last step.
    """

    def __init__(self, engine: Engine, own: Series, others: Sequence[tuple[Series, PlainLoop]], turn: int) -> None:
        super().__init__(engine)
        self._own, self._others, self._turn = own, others, turn
        self._steps = self.peak = 0
        self._watch = Stopwatch()

    def begin(self) -> None:
        self._watch.lap()

    def let_others_pass(self, job_id: str) -> None:
        self._steps += 1
        if self._steps % self._turn:
            return
        self._own.samples.append(self._watch.lap().per(self._turn))
        self.peak = peak_of_its_own()
        for series, loop in self._others:
            for _ in range(self._turn):
                loop.step()
            series.samples.append(self._watch.lap().per(self._turn))


def compare_speed(
    report: Report, kind: str, folder: Path, checkpoint: str, *, edge: int, batch: int, rounds: int, turn: int
) -> None:
    """In one run, by turns: Easel, a script that encodes in every step, and one that has all encoded before."""
    services, engine = an_easel(folder)
    parts_folder = saved_parts(services, engine, checkpoint, folder)
    size = f"{kind}, {edge} px, batch {batch}"
    own, script, lean = (Series(f"{size}: {who}") for who in ("Easel", "a script", "a script, all encoded before"))
    first, second = Parts(parts_folder), Parts(parts_folder)
    width = first.unet.config.cross_attention_dim
    loops = [
        (script, PlainLoop(first.unet, kind, first.encode_always(batch, edge))),
        (lean, PlainLoop(second.unet, kind, encoded_before(batch, edge, width))),
    ]
    turns = Turns(engine, own, loops, turn)
    request = request_for(kind, checkpoint, folder / PLACE, edge, (rounds + 1) * turn, batch)
    train(engine, plan_training(services, request), JobContext(Watched(turns.begin), turns))
    services.checkpoints.close()
    for series in (own, script, lean):
        del series.samples[0]  # what is done once is in it
    report.series += [own, script, lean]
    report.compare(f"{size}: Easel's step by the script's", own, script, AS_FAST)
    report.compare(f"{size}: by that of one with all encoded before", own, lean)
    words = [f"--kind={kind}", f"--batch={batch}", f"--pixels={edge}", "--steps=4"]
    ours, theirs = peaks(folder, checkpoint, parts_folder, words)
    for series, found in ((own, ours), (script, theirs)):
        series.facts |= memory_facts(found)
    taken = [found["peak"] - found["before"] for found in (ours, theirs)]
    report.bars.append(
        Bar(f"{size}: peak memory by the script's, above the start's", taken[0] / taken[1], AS_SMALL, "x")
    )


def peaks(
    folder: Path, checkpoint: str, parts_folder: Path, words: Sequence[str]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Easel's and the script's, each in a process of its own: "peak" while training, "before" the model was loaded."""
    theirs = in_process("bench.plain_training", str(parts_folder), *words)
    return in_process("bench.training_speed", str(folder), f"--checkpoint={checkpoint}", *words), theirs


def memory_facts(found: dict[str, Any]) -> dict[str, Any]:
    return {f"{key} GiB": round(found[key] / GIB, 2) for key in ("peak", "before")}


def train_full_size(report: Report, folder: Path, checkpoint: str, steps: int = 2) -> None:
    """A LoRA of SD 1.5 at 512 px, with gradient checkpointing."""
    words = ["--kind=lora", "--batch=1", "--pixels=512", f"--steps={steps}", "--gradient-checkpointing"]
    services, engine = an_easel(folder)
    parts = saved_parts(services, engine, checkpoint, folder)
    services.checkpoints.close()
    ours, theirs = peaks(folder, checkpoint, parts, words)
    title = "LoRA of SD 1.5, 512 px"
    for who, found in (("Easel", ours), ("a script", theirs)):
        samples = [Sample(*took) for took in found["steps"]]
        report.series.append(Series(f"{title}: {who}, a step", samples, memory_facts(found)))
    report.bars.append(Bar(f"{title}: peak memory by the script's", ours["peak"] / theirs["peak"], AS_SMALL, "x"))


def saved_parts(services: Services, engine: Engine, checkpoint: str, folder: Path) -> Path:
    """The folder that a checkpoint's parts are written to for a script."""
    parts = folder / "parts"
    with engine.models.lease(services.checkpoints.find(checkpoint)) as model:
        save_parts(model, parts)
    engine.models.unload()
    return parts


def an_easel(folder: Path) -> tuple[Services, Engine]:
    return build_engine(folder, "--device", "cpu", "--no-half")


def in_process(module: str, *words: str) -> dict[str, Any]:
    """What a process of its own tells, whose peak memory is its alone."""
    environ = {**os.environ, "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, "-m", module, *words]
    answer = subprocess.run(command, cwd=ROOT, env=environ, check=True, stdout=subprocess.PIPE).stdout
    found: dict[str, Any] = json.loads(answer.splitlines()[-1])
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="of data, with the pictures")
    parser.add_argument("--checkpoint", required=True)
    parser.add_argument("--kind", choices=tuple(KINDS), required=True)
    parser.add_argument("--batch", type=int, required=True)
    parser.add_argument("--pixels", type=int, required=True)
    parser.add_argument("--steps", type=int, required=True)
    parser.add_argument("--gradient-checkpointing", action="store_true")
    options = parser.parse_args()
    services, engine = an_easel(options.folder)
    before = memory()
    took = Series("steps")
    turns = Turns(engine, took, (), 1)

    def loaded() -> None:
        reset_peak_memory()
        turns.begin()

    with tempfile.TemporaryDirectory(prefix="easel-bench-") as logs:
        request = request_for(
            options.kind,
            options.checkpoint,
            options.folder / PLACE,
            options.pixels,
            options.steps,
            options.batch,
            gradient_checkpointing=options.gradient_checkpointing,
        )
        request = request.replace(saving=request.saving.replace(log_dir=logs, overwrite=True))
        result = train(engine, plan_training(services, request), JobContext(Watched(loaded), turns))
    checked(result, options.steps)
    steps = [astuple(sample) for sample in took.samples]
    print(json.dumps({"peak": turns.peak, "before": before, "steps": steps}))


def checked(result: TrainingResult, steps: int) -> float:
    """The loss of a training that made all its steps."""
    assert result.steps == steps, f"{result.steps} of {steps} steps: {result.message}"
    assert result.loss is not None, "a training of some steps has a loss"
    assert np.isfinite(result.loss), f"{result.loss=}"
    return result.loss


if __name__ == "__main__":
    torch.manual_seed(0)
    main()
