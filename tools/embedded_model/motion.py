"""Stage `motion`: train a motion module that lets the embedded model's clips move as captions say.

The denoiser, the text encoder and the autoencoder are those of the shipped checkpoint and stay as they are. The layers
are the very ones that the extension AnimateDiff puts into a U-Net.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from diffusers.models.attention_processor import AttnProcessor
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from transformers import CLIPTextModel

from extensions.animatediff.motion.layers import MotionModule
from extensions.animatediff.motion.names import Family, Place
from extensions.animatediff.motion.network import Motion
from webui.prompts.tokenizer import ClipTokenizer

from . import data
from .canvas import Canvas
from .captions import Captioner
from .config import CFG_SCALE, LATENT_SCALE, REPOSITORY, Preset
from .export import load_exported
from .loop import Clock, Training, cpu_parts, feed, fill, load_state, save_state, to_device
from .moves import (
    DIRECTIONS,
    FRAMES,
    OPPOSITE,
    WORDS,
    Moving,
    backwards,
    caption,
    direction,
    draw_moving,
    framed_caption,
)
from .networks import pick_device
from .sample import ddim_sample
from .tokens import frame
from .unet import alpha_bars, loss_weights

MOTION = REPOSITORY / "models" / "AnimateDiff" / "easel-emoji-motion.safetensors"
POSITIONS = 32
# One behind the first layer of every level on the way down, by which the file's kind is known, and in the middle; fewer
# on the way up, so that the file stays small. Those of the first two levels stay as they begin, without effect: so no
# gradient goes through these levels, which are the most work.
PLACES: tuple[Place, ...] = (
    ("down", 0, 0), ("down", 1, 0), ("down", 2, 0), ("down", 3, 0), ("mid", 0, 0),
    ("up", 1, 1), ("up", 2, 1), ("up", 3, 0), ("up", 3, 2),
)  # fmt: skip
SILENT: tuple[Place, ...] = (("down", 0, 0), ("down", 1, 0))
SEEN = 8  # frames of a clip in a training step, any of its 16; which makes twice as many clips for the same work
TIME_SKEW = 0.4  # more training where there is much noise, since there the text decides
CHUNK = 8  # clips at a time
SAVE_EVERY = 8  # chunks


def build_motion(widths: Sequence[int]) -> Motion:
    """Layers that begin by changing nothing. widths: of the U-Net's levels."""
    width = {"down": lambda level: widths[level], "mid": lambda _: widths[-1], "up": lambda level: widths[-1 - level]}
    modules = {place: MotionModule(width[place[0]](place[1]), 1, POSITIONS) for place in PLACES}
    for place in SILENT:
        for parameter in modules[place].parameters():
            nn.init.zeros_(parameter)
    family = Family("AnimateDiff v2", POSITIONS, "SD 1.x", "checkpoint", False, tuple(widths))
    return Motion(MOTION.name, family, modules)


def trained_layers(motion: Motion) -> nn.ModuleList:
    """As one network, in the order of PLACES."""
    return nn.ModuleList(module for place, module in motion.modules.items() if place not in SILENT)


@contextmanager
def seeing(layers: nn.ModuleList, frames: Sequence[int]) -> Iterator[None]:
    """Until the context ends the layers are told that they see these frames of the clip."""
    encoders = [module for name, module in layers.named_modules() if name.endswith("pos_encoder")]
    tables = [encoder.pe for encoder in encoders]
    for encoder, table in zip(encoders, tables, strict=True):
        encoder.pe = table[:, list(frames)]
    try:
        yield
    finally:
        for encoder, table in zip(encoders, tables, strict=True):
            encoder.pe = table


@dataclass(frozen=True)
class Frozen:
    """What the shipped checkpoint brings. latents: (N, 16, 4, s, s) float16, in the denoiser's scale."""

    unet: UNet2DConditionModel
    text: CLIPTextModel
    latents: Tensor
    clips: list[Moving]


@torch.no_grad()
def prepare(preset: Preset, device: torch.device) -> Frozen:
    """Paint and encode the clips, as far as runs/<preset>/clips.pt hasn't got them."""
    unet, vae, text, _ = load_exported()
    art = data.load_art(preset)
    subjects = art.subjects(preset)
    clips = [draw_moving(subjects, "motion", number) for number in range(preset.clips)]
    latents = encoded(preset, clips, Canvas(art, device), vae.to(device, memory_format=torch.channels_last))
    for network in (unet, text):
        network.to(device).requires_grad_(False)
    unet.to(memory_format=torch.channels_last)
    if device.type == "cpu":
        unet.set_attn_processor(AttnProcessor())  # the fused kernel's backward is slower than plain products there
    return Frozen(unet, text, latents, clips)


def encoded(preset: Preset, clips: list[Moving], canvas: Canvas, vae: AutoencoderKL) -> Tensor:
    """The latents of these clips, saved now and then."""
    path = preset.run / "clips.pt"
    state = load_state(path)
    rows: list[Tensor] = [] if state is None else list(state["latents"][: len(clips)].split(CHUNK))

    def latents_of(first: int) -> Tensor:
        if canvas.device.type == "cpu":
            torch.set_num_threads(1)
        scenes = [scene for clip in clips[first : first + CHUNK] for scene in clip.frames]
        with torch.no_grad(), torch.autocast(canvas.device.type, torch.bfloat16):
            found = vae.encode(canvas.paint_scenes(scenes)).latent_dist.mean.float() * LATENT_SCALE
        return found.half().unflatten(0, (-1, FRAMES)).cpu()

    missing = list(range(sum(map(len, rows)), len(clips), CHUNK))
    for start in range(0, len(missing), SAVE_EVERY):
        with ThreadPoolExecutor(cpu_parts(canvas.device)) as pool:
            rows += pool.map(latents_of, missing[start : start + SAVE_EVERY])
        save_state(path, {"latents": torch.cat(rows)})
        print(f"{sum(map(len, rows))} of {len(clips)} clips", flush=True)
    return torch.cat(rows)


@dataclass(frozen=True)
class Batch:
    """picks: (B,). turned: (B,) bool, which clips go backwards. ids: (B, 77) CLIP ids. frames: (SEEN,) in order.

    even: (B,) in [0, 1), see `unet.Batch`.
    """

    picks: np.ndarray
    turned: np.ndarray
    ids: np.ndarray
    frames: np.ndarray
    even: np.ndarray


def batches(preset: Preset, frozen: Frozen, first: int, device: torch.device) -> Iterator[Batch]:
    """Batch number `first` and all after it; each is always the same."""
    tokenizer, writer, count = ClipTokenizer(), Captioner(preset), preset.motion.batch

    def make(number: int) -> Batch:
        rng = random.Random(f"{preset.seed} motion {number}")
        picks = np.array([rng.randrange(len(frozen.clips)) for _ in range(count)])
        turned = np.array([rng.random() < 0.5 and frozen.clips[pick].move in OPPOSITE for pick in picks])
        shown = [
            backwards(frozen.clips[pick]) if back else frozen.clips[pick]
            for pick, back in zip(picks, turned, strict=True)
        ]
        ids = np.array([framed_caption(tokenizer, writer, clip, rng) for clip in shown])
        frames = np.array(sorted(rng.sample(range(FRAMES), SEEN)))
        even = [(place + rng.random()) / count for place in range(count)]
        rng.shuffle(even)
        return Batch(picks, turned, ids, frames, np.array(even, np.float32))

    return feed(make, first, device)


def clip_error(unet: Any, text: Any, x0: Tensor, eps: Tensor, abar: Tensor, t: Tensor, ids: Tensor) -> Tensor:
    """(B,) mean squared errors of eps. x0, eps: (B, F, 4, s, s). abar, t: (B,). ids: (B, 77)."""
    count, frames = x0.shape[:2]
    a = abar.float().view(-1, 1, 1, 1, 1)
    x = (a.sqrt() * x0 + (1 - a).sqrt() * eps).flatten(0, 1).contiguous(memory_format=torch.channels_last)
    with torch.autocast(x.device.type, torch.bfloat16):
        with torch.no_grad():
            states = text(ids).last_hidden_state
        predicted = unet(x, t.repeat_interleave(frames), states.repeat_interleave(frames, 0)).sample
    return (predicted.float() - eps.flatten(0, 1)).square().mean((1, 2, 3)).view(count, frames).mean(1)


def share_loss(
    frozen: Frozen, tensors: list[Tensor], weights: Tensor, parts: int, part: int
) -> tuple[Tensor, list[Tensor]]:
    """The loss of one of `parts` shares of a batch. tensors: what `clip_error` takes."""
    error = clip_error(frozen.unet, frozen.text, *(tensor[part::parts] for tensor in tensors))
    loss = (weights[part::parts] * error).mean()
    return loss, [error.mean(), loss]


def run(preset: Preset, clock: Clock | None = None) -> None:
    device, clock = pick_device(), clock or Clock()
    frozen = prepare(preset, device)
    torch.manual_seed(preset.seed)
    motion = build_motion(frozen.unet.config.block_out_channels)
    layers = trained_layers(motion).to(device).train()
    trained = replace(motion, modules={place: motion.modules[place] for place in PLACES if place not in SILENT})
    abar = alpha_bars().to(device)
    weights = loss_weights(abar, preset.min_snr, preset.noise_boost)
    training = Training(preset, "motion", preset.motion, [layers], clock, ("eps_mse", "loss"))
    feeder, random_numbers = batches(preset, frozen, training.step, device), torch.Generator(device)
    trained.clip.frames = SEEN
    with trained.attached(frozen.unet), sdpa_kernel(SDPBackend.MATH):
        for step in training.steps():
            batch = next(feeder)
            clips = frozen.latents[batch.picks]
            clips[batch.turned] = clips[batch.turned].flip(1)
            x0 = clips[:, batch.frames].float().to(device)
            t = (1000 * to_device(batch.even, device) ** TIME_SKEW).long().clamp(max=999)
            random_numbers.manual_seed(preset.seed + step)
            eps = torch.randn(x0.shape, generator=random_numbers, device=device)
            tensors = [x0, eps, abar[t], t, to_device(batch.ids, device)]
            with seeing(layers, batch.frames.tolist()):
                training.learn(partial(share_loss, frozen, tensors, weights[t], training.parts), len(x0))
    preview(preset, min(8, preset.clips // 32))


def load_motion(preset: Preset) -> tuple[Motion, int]:
    """The averaged weights, and the step."""
    state = load_state(preset.run / "motion.pt")
    if state is None:
        raise FileNotFoundError(f"no {preset.run / 'motion.pt'}; run the stage motion first")
    unet, _, _, _ = load_exported()
    motion = build_motion(unet.config.block_out_channels)
    fill([trained_layers(motion)], state)
    for module in motion.modules.values():
        module.requires_grad_(False).eval()
    return motion, state["step"]


def original_key(place: Place, name: str) -> str:
    """A tensor's name in AnimateDiff's files."""
    side, level, layer = place
    block = "mid_block" if side == "mid" else f"{side}_blocks.{level}"
    return f"{block}.motion_modules.{layer}.temporal_transformer.{name}"


def export(preset: Preset, path: Path = MOTION) -> None:
    """Write the motion module as one file in half precision, under AnimateDiff's names."""
    motion, step = load_motion(preset)
    tensors = {
        original_key(place, name): value.half().contiguous().clone()
        for place, module in motion.modules.items()
        for name, value in module.state_dict().items()
    }
    facts: dict[str, Any] = {
        "name": "Easel Emoji Motion", "preset": preset.name, "steps": step, "licence": "Apache-2.0",
        "betas": "checkpoint",  # its family's own are others
    }  # fmt: skip
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(tensors, path, {"easel": json.dumps(facts)})
    path.chmod(0o644)
    print(f"{path.name}: {path.stat().st_size / 1e6:.2f} MB, step {step}")


@torch.no_grad()
def preview(preset: Preset, count: int = 8, steps: int = 10, shown: int = 8) -> None:
    """Write runs/<preset>/motion.png, a clip a row, and print how many of these follow their captions' directions."""
    motion, step = load_motion(preset)
    unet, vae, text, _ = load_exported()
    print(f"step {step}: " + ", ".join(f"{name} {value:.4f}" for name, value in told_errors(preset, motion).items()))
    rng, tokenizer, writer = random.Random(1), ClipTokenizer(), Captioner(preset)
    subjects = data.load_art(preset).subjects(preset)
    moves = [list(DIRECTIONS)[number % len(DIRECTIONS)] for number in range(count)]
    side, right, sheet = preset.native_size // 8, 0, []
    motion.clip.frames = FRAMES
    for number, move in enumerate(moves):
        moving = draw_moving(subjects, "motion test", number, move)
        text_ = caption(writer, moving, rng, WORDS[move][number // len(DIRECTIONS) % len(WORDS[move])])
        rows = torch.tensor([frame(tokenizer.encode(text_)), frame([])])
        cond, uncond = text(rows).last_hidden_state.split(1)
        noise = torch.randn((FRAMES, 4, side, side), generator=torch.manual_seed(number))
        with motion.attached(unet), torch.autocast("cpu", torch.bfloat16):
            x0 = ddim_sample(unet, noise, cond.expand(FRAMES, -1, -1), uncond, alpha_bars(), steps, CFG_SCALE)
            pixels = (vae.decode(x0 / LATENT_SCALE).sample.float().clamp(-1, 1) + 1) * 127.5
        pictures = pixels.round().byte().permute(0, 2, 3, 1).numpy()
        found = direction(pictures)
        right += found == move
        print(f"{text_!r}: {found or 'still'}", flush=True)
        sheet.append(np.concatenate(list(pictures[:: FRAMES // shown]), 1))
    if not sheet:
        return
    Image.fromarray(np.concatenate(sheet)).save(preset.run / "motion.png")
    print(f"step {step}: {right} of {count} clips follow their captions", flush=True)


@torch.no_grad()
def told_errors(preset: Preset, motion: Motion) -> dict[str, float]:
    """Errors of eps of fresh clips: without the module, and with it told the move, or the opposite one."""
    unet, vae, encoder, _ = load_exported()
    art = data.load_art(preset)
    subjects, writer, tokenizer = art.subjects(preset), Captioner(preset), ClipTokenizer()
    moves, count = list(DIRECTIONS), min(8, preset.clips)
    clips = [draw_moving(subjects, "motion test", number, moves[number % 4]) for number in range(count)]
    pictures = Canvas(art, torch.device("cpu")).paint_scenes([scene for clip in clips for scene in clip.frames])
    with torch.autocast("cpu", torch.bfloat16):
        x0 = vae.encode(pictures).latent_dist.mean.float().unflatten(0, (-1, FRAMES)) * LATENT_SCALE
    eps = torch.randn(x0.shape, generator=torch.manual_seed(0))
    t = torch.tensor([999, 850])[torch.arange(count) // len(moves) % 2]
    abar = alpha_bars()[t]

    def error(told: Sequence[str]) -> float:
        texts = [
            caption(writer, clip, random.Random(number), WORDS[told[number % 4]][0])
            for number, clip in enumerate(clips)
        ]
        ids = torch.tensor([frame(tokenizer.encode(text)) for text in texts])
        return clip_error(unet, encoder, x0, eps, abar, t, ids).mean().item()

    motion.clip.frames = FRAMES
    errors = {"without": error(moves)}
    with motion.attached(unet):
        return errors | {"told": error(moves), "mistold": error(["right", "left", "down", "up"])}
