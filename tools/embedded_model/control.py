"""Stage `control`: train a ControlNet that makes the embedded model's pictures follow Canny edges.

The denoiser, the text encoder and the autoencoder are those of the shipped checkpoint and stay as they are.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from diffusers import ControlNetModel, UNet2DConditionModel
from diffusers.models.attention_processor import AttnProcessor
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor
from transformers import CLIPTextModel

from webui.prompts.tokenizer import ClipTokenizer

from . import data
from .canvas import Canvas
from .captions import Captioner
from .config import LATENT_SCALE, REPOSITORY, Preset
from .export import ldm_unet_key, load_exported
from .loop import Clock, Training, feed, fill, load_state, to_device
from .networks import pick_device
from .sample import ddim_sample
from .scenes import SINGLE, Scene, Subjects, draw_scene
from .tokens import frame
from .unet import TIME_SKEW, alpha_bars, framed_caption, loss_weights

CONTROL = REPOSITORY / "models" / "ControlNet" / "easel-emoji-canny.safetensors"
HINT_WIDTHS = (16, 32, 64, 96)  # of the layers that bring the map from the picture's size to the latent's
SMALLEST, LARGEST = 0.4, 0.95  # sides of a picture's box over the frame's
LOW, HIGH = (60, 140), (150, 250)  # Canny's two thresholds are drawn from these
CHUNK = 128  # composites at a time


def moved_scene(subjects: Subjects, stream: str, number: int) -> Scene:
    """One subject anywhere in the frame, whole, in any size: what no caption tells and the edges must."""
    rng = random.Random(f"{subjects.preset.seed} {stream} moved {number}")
    scale = rng.uniform(SMALLEST, LARGEST)
    x, y = (rng.uniform(scale / 2, 1 - scale / 2) for _ in range(2))
    return replace(draw_scene(subjects, stream, number), scale=scale, x=x, y=y, emphasis=1.0)


def untold(scene: Scene) -> Scene:
    """The scene as a caption should tell it: without size and place."""
    return replace(scene, scale=SINGLE, x=0.5, y=0.5)


def edges(pictures: np.ndarray, rng: np.random.Generator | None = None) -> np.ndarray:
    """Canny edges. pictures: (B, S, S, 3) uint8. rng: draws the thresholds, else A1111's 100 and 200.

    Returns: (B, S, S) uint8, 0 or 255.
    """
    maps = []
    for picture in pictures:
        low, high = (100, 200) if rng is None else (rng.uniform(*LOW), rng.uniform(*HIGH))
        maps.append(cv2.Canny(picture, low, high))
    return np.stack(maps)


def build_control(unet: UNet2DConditionModel) -> ControlNetModel:
    """A copy of the denoiser's encoder that begins by changing nothing."""
    return ControlNetModel.from_unet(unet, conditioning_embedding_out_channels=HINT_WIDTHS)


def hint(maps: Tensor) -> Tensor:
    """maps: (B, S, S) uint8. Returns: (B, 3, S, S) in [0, 1]."""
    return (maps.float() / 255)[:, None].expand(-1, 3, -1, -1)


@dataclass(frozen=True)
class Frozen:
    """What the shipped checkpoint brings."""

    unet: UNet2DConditionModel
    text: CLIPTextModel
    latents: Tensor  # (N, 4, s, s), in the denoiser's scale
    pictures: np.ndarray  # (N, S, S, 3) uint8
    scenes: list[Scene]


@dataclass(frozen=True)
class Batch:
    """picks: (B,). ids: (B, 77) CLIP ids. maps: (B, S, S) uint8. even: (B,) in [0, 1), see `unet.Batch`."""

    picks: np.ndarray
    ids: np.ndarray
    maps: np.ndarray
    even: np.ndarray


@torch.no_grad()
def prepare(preset: Preset, device: torch.device) -> Frozen:
    """Paint and encode as many composites as the stage `encode` does."""
    unet, vae, text, _ = load_exported()
    art = data.load_art(preset)
    subjects, canvas = art.subjects(preset), Canvas(art, device)
    vae.to(device, memory_format=torch.channels_last)
    scenes, latents, pictures = [], [], []
    for first in range(0, preset.composites, CHUNK):
        shown = [moved_scene(subjects, "control", number) for number in range(first, first + CHUNK)]
        x = canvas.paint_scenes(shown)
        with torch.autocast(device.type, torch.bfloat16):
            latents.append((vae.encode(x).latent_dist.mean.float() * LATENT_SCALE).half())
        pictures.append(((x + 1) * 127.5).round().byte().permute(0, 2, 3, 1).cpu().numpy())
        scenes += shown
    for network in (unet, text):
        network.to(device).requires_grad_(False)
    unet.to(memory_format=torch.channels_last)
    if device.type == "cpu":
        unet.set_attn_processor(AttnProcessor())  # the fused kernel's backward is slower than plain products there
    return Frozen(unet, text, torch.cat(latents), np.concatenate(pictures), scenes)


def batches(preset: Preset, frozen: Frozen, first: int, device: torch.device) -> Iterator[Batch]:
    """Batch number `first` and all after it; each is always the same."""
    tokenizer, writer, count = ClipTokenizer(), Captioner(preset), preset.control.batch

    def make(number: int) -> Batch:
        rng = random.Random(f"{preset.seed} control {number}")
        picks = np.array([rng.randrange(len(frozen.scenes)) for _ in range(count)])
        ids = [framed_caption(tokenizer, writer, untold(frozen.scenes[pick]), rng)[0] for pick in picks]
        maps = edges(frozen.pictures[picks], np.random.default_rng(rng.randrange(1 << 32)))
        even = np.array([(place + rng.random()) / count for place in range(count)], np.float32)
        return Batch(picks, np.array(ids), maps, even)

    return feed(make, first, device)


def share_loss(
    control: ControlNetModel, frozen: Frozen, tensors: list[Tensor], parts: int, part: int
) -> tuple[Tensor, list[Tensor]]:
    """The loss of one of `parts` shares of a batch. tensors: x0, eps, abar, t, weights, ids, maps."""
    x0, eps, abar, t, weights, ids, maps = (tensor[part::parts] for tensor in tensors)
    a = abar.float()[:, None, None, None]
    x = (a.sqrt() * x0 + (1 - a).sqrt() * eps).contiguous(memory_format=torch.channels_last)
    with torch.autocast(x.device.type, torch.bfloat16):
        with torch.no_grad():
            states = frozen.text(ids).last_hidden_state
        down, mid = control(x, t, states, hint(maps), return_dict=False)
        predicted = frozen.unet(
            x, t, states, down_block_additional_residuals=down, mid_block_additional_residual=mid
        ).sample
    error = (predicted.float() - eps).square().mean(dim=(1, 2, 3))
    return (weights * error).mean(), [error.mean()]


def run(preset: Preset, clock: Clock | None = None) -> None:
    device, clock = pick_device(), clock or Clock()
    frozen = prepare(preset, device)
    torch.manual_seed(preset.seed)
    control = build_control(frozen.unet).to(device, memory_format=torch.channels_last).train()
    if device.type == "cpu":
        control.set_attn_processor(AttnProcessor())
    abar = alpha_bars().to(device)
    weights = loss_weights(abar, preset.min_snr, preset.noise_boost)
    training = Training(preset, "control", preset.control, [control], clock, ("eps_mse",))
    feeder, random_numbers = batches(preset, frozen, training.step, device), torch.Generator(device)
    for step in training.steps():
        batch = next(feeder)
        x0 = frozen.latents[batch.picks].float().to(device)
        t = (1000 * to_device(batch.even, device) ** TIME_SKEW).long().clamp(max=999)
        random_numbers.manual_seed(preset.seed + step)
        eps = torch.randn(x0.shape, generator=random_numbers, device=device)
        tensors = [x0, eps, abar[t], t, weights[t], to_device(batch.ids, device), to_device(batch.maps, device)]
        training.learn(partial(share_loss, control, frozen, tensors, training.parts), len(x0))
    preview(preset)


def load_control(preset: Preset) -> tuple[ControlNetModel, int]:
    """The averaged weights, and the step."""
    state = load_state(preset.run / "control.pt")
    if state is None:
        raise FileNotFoundError(f"no {preset.run / 'control.pt'}; run the stage control first")
    unet, _, _, _ = load_exported()
    control = build_control(unet)
    fill([control], state)
    return control.eval(), state["step"]


def ldm_control_key(key: str) -> str:
    """`controlnet_down_blocks.3.weight` -> `control_model.zero_convs.3.0.weight`, and so on for every key."""
    name, end = key.rsplit(".", 1)
    if name.startswith("controlnet_down_blocks."):
        return f"control_model.zero_convs.{name.rpartition('.')[2]}.0.{end}"
    if name == "controlnet_mid_block":
        return f"control_model.middle_block_out.0.{end}"
    if name.startswith("controlnet_cond_embedding."):
        part = name.removeprefix("controlnet_cond_embedding.")
        layers = 2 * (len(HINT_WIDTHS) - 1)
        number = {"conv_in": 0, "conv_out": layers + 1}.get(part) if "." not in part else int(part.split(".")[1]) + 1
        return f"control_model.input_hint_block.{2 * number}.{end}"
    return "control_model." + ldm_unet_key(key)


def export(preset: Preset, path: Path = CONTROL) -> None:
    """Write the ControlNet as one file in half precision, under the names of ControlNet 1.1."""
    control, step = load_control(preset)
    tensors = {ldm_control_key(key): value.half().contiguous() for key, value in control.state_dict().items()}
    facts: dict[str, Any] = {
        "name": "Easel Emoji Canny", "preset": preset.name, "steps": step, "num_heads": preset.sizes.unet_heads,
        "norm_num_groups": preset.sizes.unet_groups, "native_size": preset.native_size, "licence": "Apache-2.0",
    }  # fmt: skip
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(tensors, path, {"easel": json.dumps(facts)})
    print(f"{path.name}: {path.stat().st_size / 1e6:.1f} MB")


@torch.no_grad()
def preview(preset: Preset, count: int = 8, cfg_scale: float = 5.0) -> None:
    """Write runs/<preset>/control.png: the original, its edges, and what follows them, a column a scene; print F1."""
    control, step = load_control(preset)
    unet, vae, text, _ = load_exported()
    art = data.load_art(preset)
    shown = [moved_scene(art.subjects(preset), "control test", number) for number in range(count)]
    originals = Canvas(art, torch.device("cpu")).pictures(shown)
    maps = edges(originals)
    tokenizer, writer, rng = ClipTokenizer(), Captioner(preset), random.Random(1)
    rows = [frame(tokenizer.encode(writer.write(untold(scene), rng))) for scene in shown]
    states = text(torch.tensor([*rows, frame([])])).last_hidden_state

    def controlled(x: Tensor, t: Tensor, cond: Tensor) -> Any:
        doubled = hint(torch.from_numpy(np.concatenate([maps, maps])))
        down, mid = control(x, t, cond, doubled, return_dict=False)
        return unet(x, t, cond, down_block_additional_residuals=down, mid_block_additional_residual=mid)

    side = preset.native_size // 8
    noise = torch.randn((count, 4, side, side), generator=torch.manual_seed(0))
    sheet = [np.concatenate(list(originals), 1), np.repeat(np.concatenate(list(maps), 1)[..., None], 3, 2)]
    for network in (controlled, unet):
        x0 = ddim_sample(network, noise, states[:-1], states[-1:], alpha_bars(), 20, cfg_scale)  # type: ignore[arg-type]
        pixels = (vae.decode(x0 / LATENT_SCALE).sample.clamp(-1, 1) + 1) * 127.5
        pictures = pixels.round().byte().permute(0, 2, 3, 1).numpy()
        scores = [edge_f1(found, wanted) for found, wanted in zip(edges(pictures), maps, strict=True)]
        print(f"step {step}: edge F1 {np.mean(scores):.3f}", flush=True)
        sheet.append(np.concatenate(list(pictures), 1))
    Image.fromarray(np.concatenate(sheet)).save(preset.run / "control.png")


def edge_f1(found: np.ndarray, wanted: np.ndarray, tolerance: int = 2) -> float:
    """How well two edge maps agree, an edge counting where the other has one within `tolerance` pixels; 0 to 1."""
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * tolerance + 1,) * 2)
    found, wanted = found > 0, wanted > 0
    if not found.any() or not wanted.any():
        return float(found.any() == wanted.any())
    precision = found[cv2.dilate(wanted.astype(np.uint8), disc)[:, :] > 0].sum() / found.sum()
    recall = wanted[cv2.dilate(found.astype(np.uint8), disc) > 0].sum() / wanted.sum()
    return 0.0 if precision + recall == 0 else 2 * precision * recall / (precision + recall)
