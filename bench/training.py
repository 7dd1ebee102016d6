"""A subject the embedded model doesn't know: 20 pictures of it, a LoRA or DreamBooth, and how surely it is painted."""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from bench.measure import Report, Series, Stopwatch, conditions
from bench.programs import ROOT

SIDE = 128
WORD = "zorb"
COLOURS = {"white": (250, 250, 250), "blue": (40, 90, 220), "green": (40, 170, 70), "yellow": (250, 210, 60)}
KNOWN = ROOT / "docs" / "embedded-model" / "subjects.png"
TILE, BAND = SIDE + 4, SIDE + 22


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--kinds", nargs="+", default=["lora", "dreambooth"], choices=("lora", "dreambooth"))
    parser.add_argument("--steps", type=int, default=150)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--pictures", type=int, default=6, help="painted before and after")
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


def known_pictures() -> np.ndarray:
    """(42, S, S, 3) what the model paints of the subjects that it knows."""
    sheet = np.asarray(Image.open(KNOWN).convert("RGB"))
    rows, columns = sheet.shape[0] // BAND, sheet.shape[1] // TILE
    tiles = [
        sheet[row * BAND : row * BAND + SIDE, column * TILE : column * TILE + SIDE]
        for row in range(rows)
        for column in range(columns)
    ]
    return np.stack([tile for tile in tiles if tile.std() > 5])


def judge() -> Callable[[np.ndarray], np.ndarray]:
    """A small classifier that has seen the subject, and what the model knows: pictures -> how surely each shows it."""
    import torch
    import torch.nn.functional as F

    from tools.embedded_model.judge import Judge, small
    from tools.embedded_model.vae import to_tensor

    torch.manual_seed(0)
    random, device = np.random.default_rng(2), torch.device("cpu")
    known, court = known_pictures(), Judge(2, 1)
    optimizer = torch.optim.AdamW(court.parameters(), 1e-3)
    for _ in range(120):
        shown = np.stack([np.asarray(zorb(random, tuple(random.integers(0, 256, 3)))) for _ in range(12)])
        others = known[random.integers(0, len(known), 20)]
        pictures = np.roll(np.concatenate([shown, others]), tuple(random.integers(-12, 12, 2)), (1, 2))
        wanted = torch.tensor([1] * len(shown) + [0] * len(others))
        loss = F.cross_entropy(court(small(to_tensor(pictures, device)))[0], wanted)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    court.eval()

    def ask(pictures: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            return court(small(to_tensor(pictures, device)))[0].softmax(1)[:, 1].numpy()

    return ask


def run(options: argparse.Namespace) -> Report:
    from webui.app import build_services
    from webui.core.flags import parse_flags
    from webui.core.request import GenerationRequest
    from webui.core.training import DreamBoothOptions, LoraOptions, Optimization, TrainingRequest
    from webui.core.training_data import DataRequest
    from webui.jobs.context import JobContext
    from webui.pipeline.engine import build
    from webui.services.training import plan_training
    from webui.training.job import run as train

    report = Report("training", {"steps": options.steps, "batch": options.batch}, conditions())
    sure = judge()
    with tempfile.TemporaryDirectory(prefix="easel-bench-") as folder:
        services = build_services(parse_flags(["--data-dir", folder, "--no-half", "--device", "cpu"], {})[0])
        engine = build(services)
        write_pictures(Path(folder) / "train" / f"1_{WORD}")

        def paint(kind: str, prompt: str, checkpoint: str) -> np.ndarray:
            painted = []
            for number in range(options.pictures):
                background = list(COLOURS)[number % len(COLOURS)]
                request = GenerationRequest(
                    prompt=prompt.format(background),
                    steps=12,
                    width=SIDE,
                    height=SIDE,
                    seed=number,
                    cfg_scale=5,
                    overrides={"sd_model_checkpoint": checkpoint},
                )
                picture = engine.generate(request, JobContext.alone(engine=engine)).pictures[0]
                painted.append(np.asarray(picture.convert("RGB")))
                if options.keep:
                    options.keep.mkdir(parents=True, exist_ok=True)
                    picture.save(options.keep / f"{kind}-{number}.png")
            return np.stack(painted)

        plain = f"a {WORD}, {{}} background"
        before = float(sure(paint("before", plain, "easel-emoji")).mean())
        data = DataRequest(train_data_dir=str(Path(folder) / "train"), resolution=str(SIDE), min_bucket_reso=64)
        groups: dict[str, dict[str, object]] = {
            "lora": {
                "lora": LoraOptions(network_dim=16, network_alpha=16),
                "optimization": Optimization(
                    learning_rate=2e-3, max_train_steps=options.steps, train_batch_size=options.batch, seed=1
                ),
            },
            "dreambooth": {
                "dreambooth": DreamBoothOptions(
                    te_steps=options.steps // 5,
                    te_learning_rate=2e-4,
                    unet_steps=options.steps,
                    unet_learning_rate=2e-4,
                    te_phase_unet=False,
                ),
                "optimization": Optimization(train_batch_size=options.batch, seed=1),
            },
        }
        for kind in options.kinds:
            request = TrainingRequest(kind=kind, name=kind, checkpoint="easel-emoji", data=data, **groups[kind])
            watch = Stopwatch()
            result = train(engine, plan_training(services, request), JobContext.alone(engine=engine))
            series = Series(f"{kind}, a step", [watch.lap().per(result.steps)])
            services.networks.loras.refresh()
            services.checkpoints.refresh()
            prompts: Sequence[str] = (f"{plain} <lora:lora:1>", "easel-emoji") if kind == "lora" else (plain, kind)
            after = float(sure(paint(kind, *prompts)).mean())
            series.facts = {"sure before": round(before, 3), "sure after": round(after, 3), "loss": result.loss}
            report.series.append(series)
        services.checkpoints.close()
    return report
