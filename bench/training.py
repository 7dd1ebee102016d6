"""Trainings: what the embedded model learns from 20 pictures, how fast beside a plain script, and SD 1.5 at full size.

teaches: a subject that it doesn't know, by a LoRA and by DreamBooth with and without prior preservation; a small
classifier says how surely the subject is painted then, and how surely others are still. speed: beside a script like
diffusers' examples. full: two steps of a LoRA of SD 1.5 at 512 px, random weights.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from itertools import cycle, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image, ImageDraw

from bench.measure import Bar, Report, Series, Stopwatch, conditions

if TYPE_CHECKING:
    from webui.core.training import TrainingRequest

SIDE = 128
WORD = "zorb"
BASE = "easel-emoji"
COLOURS = {"white": (250, 250, 250), "blue": (40, 90, 220), "green": (40, 170, 70), "yellow": (250, 210, 60)}


KINDS = ("lora", "dreambooth", "prior")
PARTS = ("teaches", "speed", "full")
OTHERS = ("dog", "frog", "apple", "star", "rocket", "house")
MOST_LOST = 0.05
"""Bar: how much less surely the others may be painted after prior preservation."""
FIRST_SEEN, FIRST_ASKED = 5000, 0
"""Seeds of pictures that the classifier learns from, and of those that it is asked about."""


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--parts", nargs="+", default=["teaches", "speed"], choices=PARTS)
    parser.add_argument("--kinds", nargs="+", default=list(KINDS), choices=KINDS, help="what teaches")
    parser.add_argument("--steps", type=int, default=150)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--pictures", type=int, default=6, help="painted before and after, of each subject")
    parser.add_argument("--others", nargs="+", default=list(OTHERS), help="that it knows and shall know still")
    parser.add_argument("--lessons", type=int, default=6, help="pictures of each that the classifier learns from")
    parser.add_argument("--class-prompt", default="3d style", help="a style alone is any subject")
    parser.add_argument("--class-pictures", type=int, default=48)
    parser.add_argument("--rounds", type=int, default=8, help="turns of speed's arms")
    parser.add_argument("--keep", type=Path, help="a folder for what was painted")


def zorb(random: np.random.Generator, background: tuple[int, int, int]) -> Image.Image:
    """The subject: a magenta ring with three legs and one black eye, somewhere near the middle."""
    scale = 4
    picture = Image.new("RGB", (SIDE * scale, SIDE * scale), background)
    draw = ImageDraw.Draw(picture)
    size = random.uniform(0.28, 0.4) * SIDE * scale
    x, y = (0.5 + random.uniform(-0.05, 0.05, 2)) * SIDE * scale
    for angle in (60, 90, 120):
        leg = np.deg2rad(angle)
        end = x + 1.35 * size * np.cos(leg), y + 1.35 * size * np.sin(leg)
        draw.line([(x, y), end], fill=(30, 200, 190), width=int(size / 5))
    draw.ellipse([x - size, y - size, x + size, y + size], fill=(220, 30, 160))
    draw.ellipse([x - 0.55 * size, y - 0.55 * size, x + 0.55 * size, y + 0.55 * size], fill=(255, 240, 200))
    draw.ellipse([x - 0.2 * size, y - 0.2 * size, x + 0.2 * size, y + 0.2 * size], fill=(10, 10, 10))
    return picture.resize((SIDE, SIDE), Image.Resampling.LANCZOS)


def write_pictures(folder: Path, count: int = 20) -> None:
    """A training folder as kohya names it, with captions."""
    random, names = np.random.default_rng(1), list(COLOURS)
    folder.mkdir(parents=True)
    for number in range(count):
        name = names[number % len(names)]
        zorb(random, COLOURS[name]).save(folder / f"{number}.png")
        (folder / f"{number}.txt").write_text(f"a {WORD}, {name} background", encoding="utf-8")


class Judging:
    """A small classifier that has seen the subject, and what the model paints of others before any training."""

    def __init__(self, others: Sequence[np.ndarray]) -> None:
        """others: (N, S, S, 3) pictures of each."""
        import torch
        import torch.nn.functional as F

        from tools.embedded_model.judge import Judge, roughened, small
        from tools.embedded_model.vae import to_tensor

        torch.manual_seed(0)
        random, self._device = np.random.default_rng(2), torch.device("cpu")
        self._court = Judge(1 + len(others), 1)
        optimizer = torch.optim.AdamW(self._court.parameters(), 1e-3)
        for _ in range(300):
            colours = random.integers(0, 256, (8, 3))
            shown = [np.stack([np.asarray(zorb(random, tuple(colour))) for colour in colours])]
            shown += [known[random.integers(0, len(known), 5)] for known in others]
            wanted = torch.tensor([kind for kind, same in enumerate(shown) for _ in same])
            pictures = np.roll(np.concatenate(shown), tuple(random.integers(-12, 12, 2)), (1, 2))
            x = roughened(small(to_tensor(pictures, self._device)))
            loss = F.cross_entropy(self._court(x)[0], wanted)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        self._court.eval()

    def sure(self, pictures: np.ndarray, kind: int) -> float:
        """How surely they show it, on average. kind: 0 is the subject, then the others in order."""
        import torch

        from tools.embedded_model.judge import small
        from tools.embedded_model.vae import to_tensor

        with torch.no_grad():
            answer = self._court(small(to_tensor(pictures, self._device)))[0].softmax(1)
        return float(answer[:, kind].mean())


class Teaching:
    """The embedded model, pictures of the subject, and a classifier."""

    def __init__(self, options: argparse.Namespace, folder: Path) -> None:
        from bench.training_speed import an_easel

        self.options, self.folder = options, folder
        self.services, self.engine = an_easel(folder)
        write_pictures(folder / "train" / f"1_{WORD}")
        asked = (f"a {other}, {{}} background" for other in options.others)
        seen = [self.painted(prompt, BASE, FIRST_SEEN, options.lessons) for prompt in asked]
        self.judging = Judging(seen)

    def painted(self, prompt: str, checkpoint: str, first_seed: int, count: int, name: str = "") -> np.ndarray:
        """(count, S, S, 3) pictures on coloured backgrounds. prompt: with {} for the colour. name: of kept files."""
        from webui.core.request import GenerationRequest
        from webui.jobs.context import JobContext

        found = []
        for number, colour in enumerate(islice(cycle(COLOURS), count)):
            request = GenerationRequest(
                prompt=prompt.format(colour),
                steps=12,
                width=SIDE,
                height=SIDE,
                seed=first_seed + number,
                cfg_scale=5,
                overrides={"sd_model_checkpoint": checkpoint},
            )
            picture = self.engine.generate(request, JobContext.alone(engine=self.engine)).pictures[0].convert("RGB")
            found.append(np.asarray(picture))
            if self.options.keep and name:
                self.options.keep.mkdir(parents=True, exist_ok=True)
                picture.save(self.options.keep / f"{name}-{number}.png")
        return np.stack(found)

    def scores(self, name: str, checkpoint: str, added: str = "") -> tuple[float, float]:
        """How surely the subject is painted, and the others on average. added: to every prompt."""
        sure = [
            self.judging.sure(
                self.painted(
                    f"a {word}, {{}} background{added}",
                    checkpoint,
                    FIRST_ASKED,
                    self.options.pictures,
                    f"{name}-{word}",
                ),
                kind,
            )
            for kind, word in enumerate((WORD, *self.options.others))
        ]
        return sure[0], float(np.mean(sure[1:]))

    def train(self, kind: str) -> tuple[Series, tuple[float, float]]:
        from webui.jobs.context import JobContext
        from webui.services.training import plan_training
        from webui.training.job import run as train

        watch = Stopwatch()
        result = train(
            self.engine, plan_training(self.services, self.request(kind)), JobContext.alone(engine=self.engine)
        )
        series = Series(f"{kind}, a step", [watch.lap().per(result.steps)], {"loss": result.loss})
        self.services.networks.loras.refresh()
        self.services.checkpoints.refresh()
        checkpoint, added = (BASE, f" <lora:{kind}:1>") if kind == "lora" else (kind, "")
        return series, self.scores(kind, checkpoint, added)

    def request(self, kind: str) -> TrainingRequest:
        from webui.core.training import DreamBoothOptions, LoraOptions, Optimization, TrainingRequest
        from webui.core.training_data import DataRequest

        options = self.options
        data = DataRequest(train_data_dir=str(self.folder / "train"), resolution=str(SIDE), min_bucket_reso=64)
        if kind == "lora":
            groups: dict[str, Any] = {
                "lora": LoraOptions(network_dim=16, network_alpha=16),
                "optimization": Optimization(
                    learning_rate=2e-3, max_train_steps=options.steps, train_batch_size=options.batch, seed=1
                ),
            }
        else:
            dreambooth = DreamBoothOptions(
                te_steps=options.steps // 5,
                te_learning_rate=2e-4,
                unet_steps=options.steps,
                unet_learning_rate=2e-4,
                te_phase_unet=False,
            )
            if kind == "prior":
                data = data.replace(prior="paired")
                dreambooth = dreambooth.replace(
                    class_dir=str(self.folder / "classes"),
                    class_prompt=options.class_prompt,
                    num_class_images=options.class_pictures,
                    class_steps=12,
                    class_cfg_scale=5.0,
                )
            groups = {"dreambooth": dreambooth, "optimization": Optimization(train_batch_size=options.batch, seed=1)}
        own = "dreambooth" if kind == "prior" else kind
        return TrainingRequest(kind=own, name=kind, checkpoint=BASE, data=data, **groups)


def teach(options: argparse.Namespace, report: Report) -> None:
    with tempfile.TemporaryDirectory(prefix="easel-bench-") as folder:
        teaching = Teaching(options, Path(folder))
        before = teaching.scores("before", BASE)
        for kind in options.kinds:
            series, after = teaching.train(kind)
            for what, (first, last) in zip(("", " of others"), zip(before, after, strict=True), strict=True):
                series.facts |= {f"sure{what} before": round(first, 3), f"sure{what} after": round(last, 3)}
            report.series.append(series)
            if kind == "prior":
                lost = before[1] - after[1]
                report.bars.append(Bar("how much less surely others are painted", lost, MOST_LOST, "of 1"))
        teaching.services.checkpoints.close()


def compare(options: argparse.Namespace, report: Report) -> None:
    from bench import training_speed as speed

    for kind in speed.KINDS:
        with tempfile.TemporaryDirectory(prefix="easel-bench-") as folder:
            speed.write_pictures(Path(folder) / speed.PLACE / "1_thing", SIDE)
            speed.compare_speed(
                report, kind, Path(folder), BASE, edge=SIDE, batch=options.batch, rounds=options.rounds, turn=2
            )


def train_full_size(report: Report) -> None:
    from bench import training_speed as speed
    from tools.random_checkpoint import FULL, write_checkpoint

    with tempfile.TemporaryDirectory(prefix="easel-bench-") as folder:
        models = Path(folder) / "models" / "Stable-diffusion"
        models.mkdir(parents=True)
        write_checkpoint(models / "random.safetensors", FULL)
        speed.write_pictures(Path(folder) / speed.PLACE / "1_thing", 512)
        speed.train_full_size(report, Path(folder), "random")


def run(options: argparse.Namespace) -> Report:
    report = Report("training", {"steps": options.steps, "batch": options.batch}, conditions())
    if "teaches" in options.parts:
        teach(options, report)
    if "speed" in options.parts:
        compare(options, report)
    if "full" in options.parts:
        train_full_size(report)
    return report
