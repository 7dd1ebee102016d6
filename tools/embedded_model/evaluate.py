"""Stage `evaluate`: measure the exported checkpoint and draw sample sheets into docs/embedded-model/."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor, nn

from webui.prompts.tokenizer import ClipTokenizer

from . import data
from .config import COLOURS, LATENT_SCALE, REPOSITORY, Preset
from .export import CHECKPOINT, load_exported
from .networks import pick_device
from .sample import ddim_sample
from .tokens import frame
from .unet import alpha_bars
from .vae import psnr, reconstruct, to_pictures, to_tensor

OUT = REPOSITORY / "docs" / "embedded-model"
STEPS, CFG_SCALE = 20, 5.0
JUDGE_SIZE = 64  # px, what the classifier sees


@dataclass(frozen=True)
class Wish:
    """One prompt whose fulfilment can be measured."""

    prompt: str
    noun: str
    style: str
    background: str


class Painter:
    """Text to pictures with the exported file alone."""

    def __init__(self, preset: Preset, device: torch.device, path: Path = CHECKPOINT):
        self.unet, self.vae, self.text, self.facts = load_exported(preset.sizes, path)
        for network in (self.unet, self.vae, self.text):
            network.to(device)
        self.tokenizer, self.device, self.side = ClipTokenizer(), device, preset.native_size // 8

    @torch.no_grad()
    def encode(self, prompts: list[str]) -> Tensor:
        rows = [frame(self.tokenizer.encode(prompt)) for prompt in prompts]
        return self.text(torch.tensor(rows, device=self.device)).last_hidden_state

    @torch.no_grad()
    def paint(self, prompts: list[str], seed: int, negative: str = "", side: int | None = None) -> np.ndarray:
        """side: of the latent. Returns: (B, S, S, 3) uint8."""
        side = side or self.side
        noise = torch.randn((len(prompts), 4, side, side), generator=torch.manual_seed(seed)).to(self.device)
        cond, uncond = self.encode(prompts), self.encode([negative])
        x = ddim_sample(self.unet, noise, cond, uncond, alpha_bars(), STEPS, CFG_SCALE)
        return to_pictures(self.vae.decode(x / LATENT_SCALE).sample)


def wishes(preset: Preset, count: int) -> list[Wish]:
    """Prompts over all nouns, styles and background colours, each as often."""
    rng = np.random.default_rng(preset.seed + 1)
    nouns = list(preset.subjects or {})
    found = []
    for i in range(count):
        noun = nouns[i % len(nouns)]
        style = preset.styles[(i // len(nouns) + i) % len(preset.styles)]
        background = str(rng.choice(preset.colours))
        article = "an" if noun[0] in "aeiou" else "a"
        found.append(Wish(f"{article} {noun}, {style} style, {background} background", noun, style, background))
    return found


def border_colour(picture: np.ndarray, names: tuple[str, ...]) -> tuple[str, float]:
    """The named colour nearest to the median of the outer 4 px, and how far off it is (0..441, RGB)."""
    edge = np.concatenate([picture[:4].reshape(-1, 3), picture[-4:].reshape(-1, 3)])
    edge = np.concatenate([edge, picture[:, :4].reshape(-1, 3), picture[:, -4:].reshape(-1, 3)])
    median = np.median(edge.astype(np.float64), axis=0)
    distance = {name: float(np.linalg.norm(median - COLOURS[name])) for name in names}
    nearest = min(distance, key=distance.__getitem__)
    return nearest, distance[nearest]


class Judge(nn.Module):
    """A small classifier of noun and style, trained on real renders only."""

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


def judge_input(pictures: np.ndarray, device: torch.device) -> Tensor:
    return F.interpolate(to_tensor(pictures, device), (JUDGE_SIZE, JUDGE_SIZE), mode="area")


def judge_batch(
    preset: Preset, art: dict[str, data.Art], subjects: list[tuple[str, str, str]], count: int, rng: np.random.Generator
) -> tuple[np.ndarray, Tensor, Tensor]:
    """Real composites with their noun and style numbers; every noun is as likely."""
    nouns = list(dict.fromkeys(noun for noun, _, _ in subjects))
    by_noun = {noun: [(h, s) for n, h, s in subjects if n == noun] for noun in nouns}
    pictures, noun_ids, style_ids = [], [], []
    for _ in range(count):
        noun_id = int(rng.integers(len(nouns)))
        choices = by_noun[nouns[noun_id]]
        hexcode, style = choices[rng.integers(len(choices))]
        pictures.append(data.paint(art, data.draw_scene(preset, rng, style, hexcode)))
        noun_ids.append(noun_id)
        style_ids.append(preset.styles.index(style))
    return np.stack(pictures), torch.tensor(noun_ids), torch.tensor(style_ids)


def train_judge(
    preset: Preset, art: dict[str, data.Art], device: torch.device, steps: int = 350
) -> tuple[Judge, list[str], dict[str, float]]:
    """Returns: the classifier, its nouns in order, and its accuracy on fresh real composites."""
    torch.manual_seed(preset.seed)
    subjects = data.subject_list(preset, art)
    nouns = list(dict.fromkeys(noun for noun, _, _ in subjects))
    judge = Judge(len(nouns), len(preset.styles)).to(device)
    optimizer = torch.optim.AdamW(judge.parameters(), lr=1e-3, weight_decay=0.05)
    rng = np.random.default_rng(preset.seed + 2)
    for step in range(steps):
        pictures, noun, style = judge_batch(preset, art, subjects, 48, rng)
        x = judge_input(pictures, device)
        if step % 2:  # generated pictures are softer than renders, and a little noisy
            x = F.avg_pool2d(x, 3, 1, 1)
        x = x + 0.08 * torch.randn_like(x)
        noun_logits, style_logits = judge(x)
        loss = F.cross_entropy(noun_logits, noun.to(device)) + F.cross_entropy(style_logits, style.to(device))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    pictures, noun, style = judge_batch(preset, art, subjects, 400, rng)
    noun_guess, style_guess = ask(judge.eval(), pictures, device)
    known = {
        "noun": float((noun_guess == noun).float().mean()),
        "style": float((style_guess == style).float().mean()),
    }
    return judge, nouns, known


@torch.no_grad()
def ask(judge: Judge, pictures: np.ndarray, device: torch.device) -> tuple[Tensor, Tensor]:
    """Returns: guessed noun and style numbers."""
    noun_logits, style_logits = judge(judge_input(pictures, device))
    return noun_logits.argmax(1).cpu(), style_logits.argmax(1).cpu()


def sheet(pictures: np.ndarray, labels: list[str], columns: int, path: Path) -> None:
    """Write a labelled grid as PNG. pictures: (N, S, S, 3) uint8, one label each."""
    side, band = pictures.shape[1], 22
    rows = -(-len(pictures) // columns)
    page = Image.new("RGB", (columns * (side + 4), rows * (side + band)), "white")
    draw, font = ImageDraw.Draw(page), ImageFont.load_default(9)
    for i, (picture, label) in enumerate(zip(pictures, labels, strict=True)):
        x, y = i % columns * (side + 4), i // columns * (side + band)
        page.paste(Image.fromarray(picture & 0xF8 | 4), (x, y))  # 5 bits a colour: nothing to see, half the bytes
        half = label.rfind(" ", 0, 27) if len(label) > 26 else -1
        lines = [label] if half < 0 else [label[:half], label[half + 1 :]]
        for n, line in enumerate(lines[:2]):
            draw.text((x + 1, y + side + 10 * n), line, fill="black", font=font)
    path.parent.mkdir(parents=True, exist_ok=True)
    page.save(path, optimize=True)


NATURAL = (
    "a red apple",
    "a cat, blue background",
    "a photo of a cat",
    "a dog on a green background",
    "a yellow star, black background",
    "a blue heart, pink background",
    "a red car, white background",
    "a house, 3d style",
    "a tree on a blue background",
    "a green apple, red background",
    "a sunflower, flat style, white background",
    "a panda, flat style, orange background",
    "a fox with a white background",
    "the moon on a black background",
    "masterpiece, a fluffy cat sitting, yellow background",
    "a purple square on a yellow background",
)


def run(preset: Preset, count: int = 200) -> None:
    device = pick_device()
    art = data.load_art(preset)
    painter = Painter(preset, device)
    rng = np.random.default_rng(preset.seed + 3)
    subjects = data.subject_list(preset, art)
    figures: dict[str, object] = {"checkpoint": CHECKPOINT.name, **painter.facts}
    figures["sampler"] = f"Euler (DDIM), {STEPS} steps, CFG {CFG_SCALE}"

    seen = np.stack([data.paint(art, data.draw_scene(preset, rng, s, h)) for _, h, s in subjects])
    unseen = np.stack([data.general_picture(preset, art, rng, test=True) for _ in range(64)])
    pairs = [(seen, "subjects"), (unseen, "held-out emoji")]
    for pictures, name in pairs:
        again = reconstruct(painter.vae, pictures, device)
        figures[f"vae_psnr_db, {name}"] = round(psnr(pictures, again), 2)
        if name == "held-out emoji":
            both = np.concatenate([np.stack([a, b]) for a, b in zip(pictures[:12], again[:12], strict=True)])
            sheet(both, ["original", "through the VAE"] * 12, 8, OUT / "vae.png")

    judge, nouns, known = train_judge(preset, art, device)
    figures["judge_accuracy_on_real_renders"] = known
    asked = wishes(preset, count)
    start, rows = time.time(), []
    for i in range(0, count, 20):
        rows.append(painter.paint([wish.prompt for wish in asked[i : i + 20]], seed=i))
    pictures = np.concatenate(rows)
    figures["pictures_per_s"] = round(count / (time.time() - start), 2)
    noun_guess, style_guess = ask(judge, pictures, device)
    borders = [border_colour(picture, preset.colours) for picture in pictures]
    noun_hit = np.array([nouns[g] == wish.noun for g, wish in zip(noun_guess.tolist(), asked, strict=True)])
    style_hit = np.array([preset.styles[g] == wish.style for g, wish in zip(style_guess.tolist(), asked, strict=True)])
    colour_hit = np.array([name == wish.background for (name, _), wish in zip(borders, asked, strict=True)])
    figures["generated"] = count
    figures["background_accuracy"] = round(float(colour_hit.mean()), 3)
    figures["background_distance_rgb"] = round(float(np.mean([distance for _, distance in borders])), 1)
    figures["noun_accuracy"] = round(float(noun_hit.mean()), 3)
    figures["style_accuracy"] = round(float(style_hit.mean()), 3)
    figures["noun_accuracy_of_each"] = {
        noun: round(float(noun_hit[[wish.noun == noun for wish in asked]].mean()), 2) for noun in nouns
    }

    sheet(pictures[: 2 * len(nouns)], [wish.prompt for wish in asked[: 2 * len(nouns)]], 8, OUT / "subjects.png")
    natural = np.concatenate([painter.paint(list(NATURAL), seed=seed) for seed in (1, 2)])
    sheet(natural, list(NATURAL) * 2, 8, OUT / "prompts.png")
    (OUT / "figures.json").write_text(json.dumps(figures, indent=2) + "\n")
    print(json.dumps(figures, indent=2))
