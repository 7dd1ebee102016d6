"""Stage `evaluate`: measure the exported checkpoint and draw sample sheets into docs/embedded-model/."""

from __future__ import annotations

import hashlib
import json
import os
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from . import data
from .canvas import Canvas
from .card import OUT, update
from .config import CFG_SCALE, COLOURS, Preset
from .export import CHECKPOINT, load_exported, sizes_of
from .judge import Court, border_colour, train_court
from .networks import pick_device
from .painter import SAMPLER, STEPS, Painter
from .scenes import Subjects, draw_scene, general_scene
from .sheets import curves, sheet
from .vae import psnr, reconstruct
from .words import with_article


@dataclass(frozen=True)
class Wish:
    """One prompt whose fulfilment can be measured."""

    noun: str
    style: str
    background: str
    size: str = ""

    def prompt(self, weight: float = 1.0) -> str:
        size = f"{self.size} " if self.size else ""
        noun = self.noun if weight == 1.0 else f"({self.noun}:{weight})"
        article = with_article(size + self.noun).split(" ")[0]
        return f"{article} {size}{noun}, {self.style} style, {self.background} background"


@dataclass(frozen=True)
class Effort:
    """How many pictures each measurement makes, and how long the judge learns."""

    adherence: int = 400
    held_out: int = 60
    weights: int = 50
    negative: int = 24
    inpainting: int = 8
    vae: int = 96
    judge_steps: int = 500
    sheet: int = 48
    natural: int = 16


EFFORTS = {"cpu": Effort(adherence=144, judge_steps=1200), "full": Effort(judge_steps=4000)}


def wishes(subjects: Subjects, count: int) -> list[Wish]:
    """Prompts over the commonest nouns, all styles they come in and all background colours, each as often.

    Pairs of noun and style that were held out don't occur: those are measured on their own.
    """
    rng = np.random.default_rng(subjects.preset.seed + 1)
    styles: dict[str, list[str]] = {noun: [] for noun in subjects.commonest}
    for subject in subjects.trained:
        if subject.noun.name in styles and subject.style not in styles[subject.noun.name]:
            styles[subject.noun.name].append(subject.style)
    nouns = [noun for noun in subjects.commonest if styles[noun]]
    found = []
    for i in range(count):
        noun = nouns[i % len(nouns)]
        style = styles[noun][(i // len(nouns) + i) % len(styles[noun])]
        found.append(Wish(noun, style, str(rng.choice(subjects.preset.colours))))
    return found


def held_out_wishes(subjects: Subjects, nouns: list[str], count: int) -> list[Wish]:
    """Of pairs never trained on, as far as the judge knows their nouns."""
    rng = np.random.default_rng(subjects.preset.seed + 4)
    pairs = {(subjects.nouns[code].name, style) for code, style in subjects.held_out}
    known = sorted(pair for pair in pairs if pair[0] in nouns)
    return [Wish(noun, style, str(rng.choice(subjects.preset.colours))) for noun, style in known[:count]]


def vae_figures(subjects: Subjects, canvas: Canvas, checkpoint: Path, effort: Effort, out: Path) -> dict[str, float]:
    """PSNR through the exported autoencoder, of composites and of emoji that it never saw; and a sheet of those."""
    _, vae, _, _ = load_exported(checkpoint)
    vae.to(canvas.device)
    seen = canvas.pictures([draw_scene(subjects, "evaluate", n) for n in range(effort.vae)])
    unseen = canvas.pictures([general_scene(subjects, "evaluate", n, test=True) for n in range(effort.vae)])
    again = reconstruct(vae, unseen, canvas.device)
    both = np.concatenate([np.stack(pair) for pair in zip(unseen[:12], again[:12], strict=False)])
    sheet(both, ["original", "through the VAE"] * (len(both) // 2), 8, out / "vae.png")
    seen_again = reconstruct(vae, seen, canvas.device)
    return {"subjects": round(psnr(seen, seen_again), 2), "held_out": round(psnr(unseen, again), 2)}


def painted(painter: Painter, asked: list[Wish], first_seed: int = 0, weight: float = 1.0) -> np.ndarray:
    """Returns: (B, S, S, 3) uint8, a picture of each wish, each with the next seed."""
    prompts = [wish.prompt(weight) for wish in asked]
    return np.concatenate([painter.paint(prompt, seed) for seed, prompt in enumerate(prompts, first_seed)])


def adherence(painter: Painter, court: Court, asked: list[Wish], colours: tuple[str, ...]) -> tuple[dict, np.ndarray]:
    """Returns: the shares of pictures with the right subject, style and background, and the pictures."""
    start = time.time()
    pictures = painted(painter, asked)
    seconds = time.time() - start
    hits = court.hits(court.ask(pictures), [wish.noun for wish in asked], [wish.style for wish in asked])
    borders = [border_colour(picture, colours) for picture in pictures]
    right = [name == wish.background for (name, _), wish in zip(borders, asked, strict=True)]
    nouns = np.array([wish.noun for wish in asked])
    figures = {
        "generated": len(asked),
        "subject_top1": share(hits["top1"]),
        "subject_top5": share(hits["top5"]),
        "style": share(hits["style"]),
        "background": share(np.array(right)),
        "background_distance_rgb": round(float(np.mean([distance for _, distance in borders])), 1),
        "pictures_per_s": round(len(asked) / seconds, 2),
        "subject_top1_of_each": {str(noun): share(hits["top1"][nouns == noun]) for noun in dict.fromkeys(nouns)},
    }
    return figures, pictures


def share(hits: np.ndarray) -> float:
    return round(float(hits.mean()), 3)


def held_out_figures(painter: Painter, court: Court, asked: list[Wish]) -> dict[str, float] | None:
    """None where no pair was held out."""
    if not asked:
        return None
    hits = court.hits(
        court.ask(painted(painter, asked, 1000)), [wish.noun for wish in asked], [wish.style for wish in asked]
    )
    return {"pairs": len(asked), **{key: share(hit) for key, hit in hits.items()}}


def weight_figures(painter: Painter, court: Court, asked: list[Wish], plain: np.ndarray) -> dict[str, float]:
    """Mean probability of the subject by the weight of its word. plain: what `painted` makes of them at weight 1."""
    made = {0.5: painted(painter, asked, weight=0.5), 1.0: plain, 1.5: painted(painter, asked, weight=1.5)}
    places = [court.nouns.index(wish.noun) for wish in asked]
    scores = {weight: court.ask(pictures).nouns[range(len(asked)), places] for weight, pictures in made.items()}
    return {str(weight): round(float(score.mean()), 4) for weight, score in scores.items()}


def negative_figures(painter: Painter, asked: list[Wish], colours: tuple[str, ...]) -> dict[str, float]:
    """Prompts that name no background: how much of the border has the colour they tend to, and how much is left of it
    when that colour is the negative prompt, with the same seeds."""
    rows = []
    for seed, wish in enumerate(asked):
        prompt = f"{with_article(wish.noun)}, {wish.style} style"
        plain = painter.paint(prompt, 3000 + seed)[0]
        colour = border_colour(plain, colours)[0]
        steered = painter.paint(prompt, 3000 + seed, negative=f"{colour} background")[0]
        rows.append((border_share(plain, colour, colours), border_share(steered, colour, colours)))
    without, with_it = np.mean(rows, axis=0)
    return {"without": round(float(without), 3), "with": round(float(with_it), 3)}


def border_share(picture: np.ndarray, colour: str, colours: tuple[str, ...]) -> float:
    """Share of the outer 4 px that are nearest to this colour."""
    edges = picture[:4], picture[-4:], picture[:, :4], picture[:, -4:]
    pixels = np.concatenate([edge.reshape(-1, 3) for edge in edges]).astype(np.float64)
    table = np.array([COLOURS[name] for name in colours])
    nearest = np.linalg.norm(pixels[:, None] - table, axis=2).argmin(1)
    return float((nearest == colours.index(colour)).mean())


def inpainting_figures(painter: Painter, asked: list[Wish], plain: np.ndarray) -> dict[str, float]:
    """Paint the right half of pictures anew: how much the rest changes, and how much the half does."""
    mask = np.zeros((painter.side, painter.side), np.uint8)
    mask[:, painter.side // 2 :] = 255
    outside, inside = [], []
    for seed, (before, other) in enumerate(zip(plain, asked[1:] + asked[:1], strict=True)):
        after = painter.inpaint(before, mask, other.prompt(), 4000 + seed)
        change = np.abs(before.astype(np.int16) - after)
        outside.append(int(change[mask == 0].max()))
        inside.append(float(change[mask > 0].mean()))
    return {"outside_max": max(outside), "inside_mean": round(float(np.mean(inside)), 1)}


def seed_distance(painter: Painter, asked: list[Wish], plain: np.ndarray) -> float:
    """Mean absolute difference of levels between two seeds of the same prompt."""
    again = painted(painter, asked, 5000)
    return round(float(np.abs(plain.astype(np.int16) - again).mean()), 1)


def natural_prompts(subjects: Subjects, examples: tuple[str, ...], count: int) -> list[str]:
    """Prompts as people write them, beside the preset's examples."""
    rng = np.random.default_rng(subjects.preset.seed + 5)
    shapes = (
        "{a}", "a photo of {a}", "{a} on a {c} background", "{a}, {s} style, {c} background",
        "masterpiece, {a}, {c} background", "{a} in {s} style",
    )  # fmt: skip
    found = list(examples)
    for i in range(count - len(examples)):
        noun = subjects.commonest[int(rng.integers(len(subjects.commonest)))]
        colour, style = rng.choice(subjects.preset.colours), rng.choice(subjects.preset.styles)
        found.append(shapes[i % len(shapes)].format(a=with_article(noun), c=colour, s=style))
    return found


def file_figures(checkpoint: Path) -> dict[str, Any]:
    """What the file itself tells: its metadata, the networks' widths and their parameters; and its SHA-256, by which
    figures are known to be of this file."""
    *networks, facts = load_exported(checkpoint)
    digest = hashlib.sha256(checkpoint.read_bytes()).hexdigest()
    counts = [sum(p.numel() for p in network.parameters()) for network in networks]
    parameters = dict(zip(("unet", "vae", "text"), counts, strict=True))
    own = {"checkpoint": checkpoint.name, "sha256": digest}
    return {**own, **facts, "sizes": asdict(sizes_of(checkpoint)), "parameters": parameters}


def machine() -> str:
    if torch.cuda.is_available():
        return f"{torch.cuda.get_device_name()}, fp32, one at a time"
    return f"{os.cpu_count()} CPU cores, fp32, one at a time"


def run(preset: Preset, checkpoint: Path = CHECKPOINT, out: Path = OUT, effort: Effort | None = None) -> None:
    """Everything goes into `out`; the document's table is written anew where `out` is the document's folder."""
    effort = effort or EFFORTS.get(preset.name, Effort())
    art = data.load_art(preset)
    subjects, canvas = art.subjects(preset), Canvas(art, pick_device())
    asked = wishes(subjects, effort.adherence)
    nouns = list(dict.fromkeys(wish.noun for wish in wishes(subjects, len(subjects.commonest))))
    court, known = train_court(subjects, art, nouns, effort.judge_steps, canvas.device)
    print(f"the judge on real renders: {known}", flush=True)
    figures = file_figures(checkpoint)
    figures |= {
        "styles": preset.styles,
        "colours": preset.colours,
        "subject_names": subjects.commonest,
        "all_subjects": len({subject.noun.name for subject in subjects.trained}),
        "examples": preset.examples,
    }
    figures |= {"sampler": f"{SAMPLER}, {STEPS} steps, CFG {CFG_SCALE:g}", "machine": machine(), "subjects": len(nouns)}
    figures["vae_psnr_db"] = vae_figures(subjects, canvas, checkpoint, effort, out)
    figures["judge_on_real_renders"] = known
    with Painter(checkpoint, preset.native_size) as painter:
        painter.paint("a cat", 0)  # loading doesn't count
        found, pictures = adherence(painter, court, asked, preset.colours)
        figures |= found
        print(json.dumps({key: value for key, value in found.items() if key != "subject_top1_of_each"}), flush=True)
        figures["held_out_pairs"] = held_out_figures(painter, court, held_out_wishes(subjects, nouns, effort.held_out))
        few = effort.weights
        figures["weights"] = weight_figures(painter, court, asked[:few], pictures[:few])
        # Of a subject in its usual size the judge may be as sure as it can be; of a small one there is more to gain.
        little = [replace(wish, size="small") for wish in asked[:few]]
        figures["weights_small"] = weight_figures(painter, court, little, painted(painter, little))
        figures["negative"] = negative_figures(painter, asked[: effort.negative], preset.colours)
        few = effort.inpainting
        figures["inpainting"] = inpainting_figures(painter, asked[:few], pictures[:few])
        figures["seeds_mean_distance"] = seed_distance(painter, asked[:few], pictures[:few])
        natural = natural_prompts(subjects, preset.examples, effort.natural)
        twice = np.concatenate([painter.paint(prompt, 1, count=2) for prompt in natural])
    sheet(pictures[: effort.sheet], [wish.prompt() for wish in asked[: effort.sheet]], 8, out / "subjects.png")
    sheet(twice, [prompt for prompt in natural for _ in range(2)], 8, out / "prompts.png")
    curves(preset, out / "curves.png")
    (out / "figures.json").write_text(json.dumps(figures, indent=2) + "\n")
    print(json.dumps(figures, indent=2))
    if out == OUT:
        update(figures)
