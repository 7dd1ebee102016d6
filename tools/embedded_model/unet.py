"""Stage `unet`: train the denoiser and its text encoder together on pre-encoded latents."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import UNet2DConditionModel
from diffusers.models.attention_processor import AttnProcessor
from PIL import Image
from torch import Tensor, nn
from transformers import CLIPTextModel

from webui.prompts.tokenizer import ClipTokenizer

from . import data
from .captions import Captioner, place_words
from .config import Preset
from .encode import load_latents
from .loop import Average, Checkpoint, Curve, backward_in_parts, cpu_parts, learning_rate, optimizer_for, set_rate
from .networks import END, VOCABULARY, build_text, build_unet, pick_device, start_as_skip
from .sample import ddim_sample
from .tokens import FIRST_WORD, PackedTokens, frame
from .vae import load_vae, to_pictures

READING_STEPS = 200  # before all else, with the text encoder and the reader alone
READING_WEIGHT = 0.05
TIME_SKEW = 0.7  # under 1: more training where there is much noise and the text decides
UNKNOWN_WORD_SHARE = 0.15  # of captions get a word that we never teach, so that such words do little harm


def alpha_bars(steps: int = 1000, start: float = 0.00085, end: float = 0.012) -> Tensor:
    """SD 1.x's schedule, betas linear in their square roots. Returns: (steps,) float64, the signal's share."""
    betas = torch.linspace(start**0.5, end**0.5, steps, dtype=torch.float64) ** 2
    return torch.cumprod(1 - betas, 0)


def used_tokens(preset: Preset, tokenizer: ClipTokenizer, scenes: list[data.Scene], count: int = 20000) -> set[int]:
    """Ids that occur in many sampled captions."""
    rng, writer = np.random.default_rng(preset.seed), Captioner(preset)
    texts = {writer.write(scenes[rng.integers(len(scenes))], rng) for _ in range(count)}
    words = {word for text in texts for word in text.replace(",", " , ").split()}
    return {token for word in words for token in tokenizer.encode(word)}


def training_tokens(
    preset: Preset, tokenizer: ClipTokenizer, writer: Captioner, scenes: list[data.Scene], rng: np.random.Generator
) -> Tensor:
    """Captions of the scenes with words dropped in and whole captions dropped out. Returns: (B, 77) CLIP ids."""
    rows = []
    for scene in scenes:
        if rng.random() < preset.caption_dropout:
            rows.append(frame([]))
            continue
        ids = tokenizer.encode(writer.write(scene, rng))
        if rng.random() < UNKNOWN_WORD_SHARE:
            for _ in range(rng.integers(1, 4)):
                ids.insert(int(rng.integers(len(ids) + 1)), int(rng.integers(FIRST_WORD, VOCABULARY - 2)))
        rows.append(frame(ids))
    return torch.tensor(rows)


class CaptionReader(nn.Module):
    """Reads off the text encoder's last states what the caption says; a task that teaches it fast.

    The denoiser's own gradient to the text is faint at first, since most noise levels show what the text would tell.
    Used in training only.
    """

    def __init__(self, width: int, scenes: list[data.Scene]):
        super().__init__()
        facts = [(s.hexcode, s.background, s.style, f"{s.scale} {place_words(s)}") for s in scenes]
        kinds = [sorted(set(column)) for column in zip(*facts, strict=True)]
        table = [[kind.index(value) for kind, value in zip(kinds, row, strict=True)] for row in facts]
        self.labels = torch.tensor(table)  # (scenes, 4) class numbers
        self.heads = nn.ModuleList(nn.Linear(width, len(kind)) for kind in kinds)

    def loss(self, states: Tensor, ids: Tensor, labels: Tensor) -> Tensor:
        """states: (B, 77, width). ids: (B, 77) CLIP ids. labels: (B, 4). Read at the text's end and at the last place.

        Empty captions say nothing and don't count.
        """
        said = ids[:, 1] != END
        first_end = (ids == END).int().argmax(1)
        rows = torch.arange(len(ids), device=ids.device)
        losses = []
        for place in (states[rows, first_end][said], states[:, -1][said]):
            losses += [F.cross_entropy(head(place), labels[said, i]) for i, head in enumerate(self.heads)]
        return torch.stack(losses).mean()


def teach_text(
    text: CLIPTextModel,
    reader: CaptionReader,
    tokens: PackedTokens,
    ids: Tensor,
    labels: Tensor,
    optimizers: list[torch.optim.Optimizer],
) -> None:
    """One step of reading alone. The denoiser has no gradient here, so its weights stay."""
    with torch.autocast(ids.device.type, torch.bfloat16):
        states = text(tokens.pack(ids.cpu()).to(ids.device)).last_hidden_state
    for optimizer in optimizers:
        optimizer.zero_grad(set_to_none=True)
    reader.loss(states.float(), ids, labels).backward()
    for optimizer in optimizers:
        optimizer.step()


def loss_weights(alpha_bar: Tensor, gamma: float, boost: float) -> Tensor:
    """Weights of eps-errors: min-SNR where there is little noise, and more where there is much.

    Only at high noise does the text decide anything, and an eps-error there is small however wrong the picture: it is
    1 / alpha_bar times as large in v. That factor is used up to `boost`.
    Source: Hang et al. 2023, arXiv:2303.09556, eq. 6; Salimans and Ho 2022, arXiv:2202.00512. Returns: mean 1.
    """
    snr = alpha_bar / (1 - alpha_bar)
    weights = snr.clamp(max=gamma) / snr * (1 / alpha_bar).clamp(max=boost)
    return (weights / weights.mean()).float()


def denoising_loss(
    unet: UNet2DConditionModel,
    text: CLIPTextModel,
    x0: Tensor,
    eps: Tensor,
    t: Tensor,
    rows: Tensor,
    abar: Tensor,
    weights: Tensor,
    read: Callable[[Tensor], Tensor],
) -> tuple[Tensor, list[Tensor]]:
    """x0, eps: (B, 4, s, s). t: (B,). rows: (B, 77) of the packed table. read: text states -> the reader's loss.

    Returns: the loss, and [plain MSE of eps, the reader's loss] to log.
    """
    a = abar[t].float()[:, None, None, None]
    x = (a.sqrt() * x0 + (1 - a).sqrt() * eps).contiguous(memory_format=torch.channels_last)
    with torch.autocast(x.device.type, torch.bfloat16):
        cond = text(rows).last_hidden_state
        predicted = unet(x, t, cond).sample
    error = (predicted.float() - eps).square().mean(dim=(1, 2, 3))
    reading = read(cond.float())
    return (weights[t] * error).mean() + READING_WEIGHT * reading, [error.mean(), reading]


def run(preset: Preset) -> None:
    device = pick_device()
    parts = cpu_parts(device)
    torch.manual_seed(preset.seed)
    tokenizer = ClipTokenizer()
    latents = load_latents(preset)
    x0_all = latents.latents.to(device)
    tokens = PackedTokens(used_tokens(preset, tokenizer, latents.scenes))
    unet = build_unet(preset.sizes)
    start_as_skip(unet)
    unet.to(device, memory_format=torch.channels_last)
    text = build_text(preset.sizes, tokens.rows).to(device)
    if device.type == "cpu":
        unet.set_attn_processor(AttnProcessor())  # the fused kernel's backward is slower than plain products there
    writer = Captioner(preset)
    abar = alpha_bars().to(device)
    weights = loss_weights(abar, preset.min_snr, preset.noise_boost)
    optimizer = optimizer_for([unet, text], preset.unet)
    reader = CaptionReader(preset.sizes.text, latents.scenes).to(device)
    reader_optimizer = torch.optim.AdamW(reader.parameters(), lr=3e-3)
    checkpoint = Checkpoint(preset.run / "unet.pt", preset.checkpoint_minutes)
    curve = Curve(preset.run / "unet.csv", ("step", "rate", "eps_mse", "reading", "samples_per_s"))
    state = checkpoint.load()
    if state is None:
        rng = np.random.default_rng(preset.seed)
        for _ in range(READING_STEPS):
            picks = rng.choice(len(latents.scenes), 2 * preset.unet.batch, p=latents.weights)
            ids = training_tokens(preset, tokenizer, writer, [latents.scenes[i] for i in picks], rng).to(device)
            teach_text(text, reader, tokens, ids, reader.labels[picks].to(device), [optimizer, reader_optimizer])
    average = Average([unet, text], preset.ema)
    step = 0
    if state:
        unet.load_state_dict(state["unet"])
        text.load_state_dict(state["text"])
        reader.load_state_dict(state["reader"])
        optimizer.load_state_dict(state["optimizer"])
        average.weights = [w.to(device) for w in state["average"]]
        step = state["step"]
        assert state["tokens"] == tokens.used, "the captions' words changed; start this run anew"

    def save() -> None:
        checkpoint.save(
            {
                "unet": unet.state_dict(),
                "text": text.state_dict(),
                "reader": reader.state_dict(),
                "optimizer": optimizer.state_dict(),
                "average": average.weights,
                "tokens": tokens.used,
                "step": step,
            }
        )

    checkpoint.watch_for_end()
    count, seen, losses, since = preset.unet.batch, 0, [], time.time()
    while step < preset.unet.steps and not checkpoint.ending:
        rate = learning_rate(preset.unet, step)
        set_rate(optimizer, rate)
        rng = np.random.default_rng((preset.seed, step))
        picks = rng.choice(len(latents.scenes), count, p=latents.weights)
        ids = training_tokens(preset, tokenizer, writer, [latents.scenes[i] for i in picks], rng)
        x0 = x0_all[torch.from_numpy(picks).to(device)].float()
        # one timestep from each of `count` equal slices, for less variance than free draws have; more of the noisy ones
        even = (np.arange(count) + rng.random(count)) / count
        t = torch.from_numpy((1000 * even**TIME_SKEW).astype(np.int64))
        eps = torch.randn(x0.shape, generator=torch.Generator().manual_seed(preset.seed + step))
        rows, ids, labels = tokens.pack(ids).to(device), ids.to(device), reader.labels[picks].to(device)
        t, eps = t.to(device), eps.to(device)

        def share(part: int) -> tuple[Tensor, list[Tensor]]:
            mine = slice(part, None, parts)  # noqa: B023
            return denoising_loss(
                unet, text, x0[mine], eps[mine], t[mine], rows[mine], abar, weights,  # noqa: B023
                lambda states: reader.loss(states, ids[mine], labels[mine]),  # noqa: B023
            )  # fmt: skip

        optimizer.zero_grad(set_to_none=True)
        reader_optimizer.zero_grad(set_to_none=True)
        error, reading = backward_in_parts(parts, share)
        torch.nn.utils.clip_grad_norm_([*unet.parameters(), *text.parameters()], 1.0)
        optimizer.step()
        reader_optimizer.step()
        average.update(step)
        losses.append((error, reading))
        step, seen = step + 1, seen + count
        if step % 50 == 0:
            curve.add(step, rate, *np.mean(losses, axis=0), seen / (time.time() - since))
            losses, seen, since = [], 0, time.time()
        if checkpoint.due():
            save()
    save()


def load_networks(
    preset: Preset, device: torch.device
) -> tuple[UNet2DConditionModel, CLIPTextModel, PackedTokens, int]:
    """The trained networks with averaged weights, the text encoder with its packed table, and the step."""
    state = Checkpoint(preset.run / "unet.pt", 0).load()
    if state is None:
        raise FileNotFoundError(f"no {preset.run / 'unet.pt'}; run the stage unet first")
    tokens = PackedTokens(state["tokens"])
    unet, text = build_unet(preset.sizes), build_text(preset.sizes, tokens.rows)
    parameters = [*unet.parameters(), *text.parameters()]
    for parameter, weight in zip(parameters, state["average"], strict=True):
        parameter.data.copy_(weight)
    return unet.to(device).eval(), text.to(device).eval(), tokens, state["step"]


PREVIEW = (
    "a cat", "a red apple, blue background", "a blue heart, flat style, yellow background",
    "a tree on a pink background", "a photo of a dog, 3d style, green background",
    "a star, black background, 3d style", "a red car, white background", "a green circle, purple background",
)  # fmt: skip


def preview(preset: Preset, prompts: tuple[str, ...] = PREVIEW, cfg_scale: float = 5.0) -> None:
    """Write runs/<preset>/unet-<step>.png: a column per prompt, a row per seed."""
    device = pick_device()
    unet, text, tokens, step = load_networks(preset, device)
    vae, latents, tokenizer = load_vae(preset, device), load_latents(preset), ClipTokenizer()
    rows = [frame(tokenizer.encode(p)) for p in (*prompts, "")]
    with torch.no_grad():
        cond = text(tokens.pack(torch.tensor(rows)).to(device)).last_hidden_state
        sheet = []
        for seed in range(2):
            noise = torch.randn((len(prompts), *latents.latents.shape[1:]), generator=torch.manual_seed(seed))
            z = ddim_sample(unet, noise.to(device), cond[:-1], cond[-1:], alpha_bars(), 20, cfg_scale)
            raw = z * latents.spread.to(device)[:, None, None] + latents.shift.to(device)[:, None, None]
            sheet.append(np.concatenate(list(to_pictures(vae.decode(raw).sample)), 1))
    Image.fromarray(np.concatenate(sheet, 0)).save(preset.run / f"unet-{step}.png")
