"""A small classifier of subject and style, trained on real renders only: it says what generated pictures show."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .canvas import Canvas, Plan, plan_batch
from .config import COLOURS
from .data import Art, shrunk
from .loop import feed
from .scenes import Scene, Subjects
from .vae import to_tensor

SIDE = 64  # px, what the classifier sees
SIZES = (0.3, 1.1)  # sides of a subject's box over the frame's: all that words and weights ask for, and a little more


class Judge(nn.Module):
    """nouns, styles: how many of each."""

    def __init__(self, nouns: int, styles: int):
        super().__init__()
        widths = (3, 24, 48, 96, 128)
        layers: list[nn.Module] = []
        for inside, outside in zip(widths, widths[1:], strict=False):
            layers += [nn.Conv2d(inside, outside, 3, stride=2, padding=1), nn.GroupNorm(8, outside), nn.SiLU()]
        self.body = nn.Sequential(*layers)
        self.noun, self.style = nn.Linear(widths[-1] * 16, nouns), nn.Linear(widths[-1] * 16, styles)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """x: (B, 3, 64, 64) in [-1, 1]. Returns: logits of nouns and of styles."""
        features = self.body(x).flatten(1)
        return self.noun(features), self.style(features)


@dataclass(frozen=True)
class Opinion:
    """What a judge makes of pictures. nouns: (B, N) and styles: (B, M) probabilities, in the order of the names."""

    nouns: Tensor
    styles: Tensor


@dataclass(frozen=True)
class Court:
    """A judge and the names of its classes."""

    judge: Judge
    nouns: list[str]
    styles: tuple[str, ...]
    device: torch.device

    @torch.no_grad()
    def ask(self, pictures: np.ndarray) -> Opinion:
        """pictures: (B, S, S, 3) uint8."""
        nouns, styles = self.judge(small(to_tensor(pictures, self.device)))
        return Opinion(nouns.softmax(1).cpu(), styles.softmax(1).cpu())

    def hits(self, opinion: Opinion, nouns: list[str], styles: list[str]) -> dict[str, np.ndarray]:
        """Whether each picture shows what it should: "top1" and "top5" of the noun, "style"."""
        wanted = torch.tensor([self.nouns.index(noun) for noun in nouns])
        best = opinion.nouns.topk(min(5, len(self.nouns)), dim=1).indices
        style = torch.tensor([self.styles.index(name) for name in styles])
        return {
            "top1": (best[:, 0] == wanted).numpy(),
            "top5": (best == wanted[:, None]).any(1).numpy(),
            "style": (opinion.styles.argmax(1) == style).numpy(),
        }


def small(x: Tensor) -> Tensor:
    return F.interpolate(x, (SIDE, SIDE), mode="area")


@dataclass(frozen=True)
class Lesson:
    """A batch of real composites; nouns, styles: their class numbers."""

    plan: Plan
    nouns: list[int]
    styles: list[int]


def lessons(subjects: Subjects, art: Art, nouns: list[str], batch: int, device: torch.device) -> Iterator[Lesson]:
    """Single subjects on plain colours in all sizes, every noun as likely, held-out pairs too: those it may know."""
    styles = subjects.preset.styles
    by_noun: dict[str, list[tuple[str, str]]] = {noun: [] for noun in nouns}
    for code, style in subjects.general:
        if code in subjects.nouns and subjects.nouns[code].name in by_noun:
            by_noun[subjects.nouns[code].name].append((code, style))

    def make(number: int) -> Lesson:
        rng = random.Random(f"{subjects.preset.seed} judge {number}")
        scenes, classes = [], []
        for _ in range(batch):
            noun = rng.choice(nouns)
            code, style = rng.choice(by_noun[noun])
            x, y = (0.5 + rng.uniform(-0.08, 0.08) for _ in range(2))
            side = rng.uniform(*SIZES)
            scenes.append(Scene(style, code, rng.choice(subjects.preset.colours), side, x, y))
            classes.append(nouns.index(noun))
        return Lesson(plan_batch(art, scenes), classes, [styles.index(scene.style) for scene in scenes])

    return feed(make, 0, device)


def train_court(
    subjects: Subjects, art: Art, nouns: list[str], steps: int, device: torch.device, batch: int = 48
) -> tuple[Court, dict[str, float]]:
    """Learns to tell these nouns and all styles. Returns: the judge, and its accuracy on fresh renders."""
    torch.manual_seed(subjects.preset.seed)
    canvas = Canvas(shrunk(art, SIDE), device)
    styles = subjects.preset.styles
    court = Court(Judge(len(nouns), len(styles)).to(device), nouns, styles, device)
    optimizer = torch.optim.AdamW(court.judge.parameters(), weight_decay=0.05)
    school = lessons(subjects, canvas.art, nouns, batch, device)
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = 1.5e-3 * (1 - step / steps) + 1e-5
        lesson = next(school)
        noun_logits, style_logits = court.judge(roughened(canvas.paint(lesson.plan)))
        loss = F.cross_entropy(noun_logits, torch.tensor(lesson.nouns, device=device), label_smoothing=0.05)
        loss = loss + F.cross_entropy(style_logits, torch.tensor(lesson.styles, device=device))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    court.judge.eval()
    return court, known_accuracy(court, canvas, [next(school) for _ in range(8)])


@torch.no_grad()
def roughened(x: Tensor) -> Tensor:
    """Renders as a small model might paint them: bent and turned a little, softer, tinted, noisy; each otherwise.

    A judge of clean renders alone goes by hairlines, and takes a wobbly star for anything. x: (B, 3, s, s) in [-1, 1].
    """
    count, device = len(x), x.device

    def drawn(*shape: int) -> Tensor:
        return torch.rand((count, *shape), device=device) * 2 - 1

    turn = torch.eye(2, 3, device=device) + 0.12 * drawn(2, 3)
    bend = F.interpolate(0.07 * drawn(2, 5, 5), x.shape[-2:], mode="bicubic", align_corners=True)
    grid = F.affine_grid(turn, list(x.shape), align_corners=False) + bend.permute(0, 2, 3, 1)
    x = F.grid_sample(x, grid, padding_mode="border", align_corners=False)
    soft = F.avg_pool2d(F.avg_pool2d(x, 3, 1, 1, count_include_pad=False), 5, 1, 2, count_include_pad=False)
    x = torch.lerp(x, soft, 0.5 + 0.5 * drawn(1, 1, 1))
    x = x * (1 + 0.15 * drawn(3, 1, 1)) + 0.1 * drawn(3, 1, 1)
    return x + 0.1 * drawn(1, 1, 1).abs() * torch.randn_like(x)


@torch.no_grad()
def known_accuracy(court: Court, canvas: Canvas, exam: list[Lesson]) -> dict[str, float]:
    """Shares of real composites that the judge tells rightly: "top1" and "top5" of the noun, "style"."""
    rows: dict[str, list[np.ndarray]] = {}
    for lesson in exam:
        nouns, styles = court.judge(canvas.paint(lesson.plan))
        opinion = Opinion(nouns.softmax(1).cpu(), styles.softmax(1).cpu())
        hits = court.hits(opinion, [court.nouns[i] for i in lesson.nouns], [court.styles[i] for i in lesson.styles])
        for key, hit in hits.items():
            rows.setdefault(key, []).append(hit)
    return {key: round(float(np.concatenate(hit).mean()), 3) for key, hit in rows.items()}


def border(picture: np.ndarray) -> np.ndarray:
    """Median of the outer 4 px. Returns: (3,) RGB."""
    edges = picture[:4], picture[-4:], picture[:, :4], picture[:, -4:]
    return np.median(np.concatenate([edge.reshape(-1, 3) for edge in edges]).astype(np.float64), axis=0)


def border_colour(picture: np.ndarray, names: tuple[str, ...]) -> tuple[str, float]:
    """The named colour nearest to the border, and how far off it is (0..441, RGB)."""
    distance = {name: float(np.linalg.norm(border(picture) - COLOURS[name])) for name in names}
    nearest = min(distance, key=distance.__getitem__)
    return nearest, distance[nearest]
