"""Stage `unet`: train the denoiser and its text encoder together on pre-encoded latents."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import UNet2DConditionModel
from diffusers.models.attention_processor import AttnProcessor
from PIL import Image
from torch import Tensor, nn
from transformers import CLIPTextModel

from webui.prompts.tokenizer import ClipTokenizer

from .captions import Captioner, facts, known_facts
from .config import Preset
from .encode import load_latents, load_whitening, raw_latent
from .loop import Clock, Training, compiled, feed, fill, load_state, to_device
from .networks import END, TOKENS, VOCABULARY, build_text, build_unet, pick_device, start_as_skip
from .sample import ddim_sample
from .scenes import Scene
from .tokens import FIRST_WORD, PackedTokens, frame
from .vae import load_vae, to_pictures

READING_STEPS = 200  # before all else, with the text encoder and the reader alone
READING_WEIGHT = 0.05
ECHO_WEIGHT = 0.5  # see `echo`
UNKNOWN_ROW = 0  # of the packed table
TIME_SKEW = 0.7  # under 1: more training where there is much noise and the text decides


def alpha_bars(steps: int = 1000, start: float = 0.00085, end: float = 0.012) -> Tensor:
    """SD 1.x's schedule, betas linear in their square roots. Returns: (steps,) float64, the signal's share."""
    betas = torch.linspace(start**0.5, end**0.5, steps, dtype=torch.float64) ** 2
    return torch.cumprod(1 - betas, 0)


def used_tokens(writer: Captioner, tokenizer: ClipTokenizer) -> set[int]:
    """Ids that can occur in captions. CLIP's tokens never span words, so the vocabulary's are all."""
    return {token for text in writer.vocabulary() for token in tokenizer.encode(text)}


def framed_caption(
    tokenizer: ClipTokenizer, writer: Captioner, scene: Scene, rng: random.Random
) -> tuple[list[int], list[bool]]:
    """77 CLIP ids of a caption of the scene, now and then with strange words in it, or of no caption at all; and which
    of them are the one subject's noun."""
    if rng.random() < writer.shares.empty:
        return frame([]), [False] * TOKENS
    pieces = writer.pieces(scene, rng)
    words = [(token, is_noun) for text, is_noun in pieces for token in tokenizer.encode(text)]
    if rng.random() < writer.shares.unknown:
        for _ in range(rng.randint(1, 3)):
            words.insert(rng.randint(0, len(words)), (rng.randrange(FIRST_WORD, VOCABULARY - 2), False))
    ids, nouns = zip(*words, strict=True)
    return frame(list(ids)), [False, *nouns, *[False] * TOKENS][:TOKENS]


class CaptionReader(nn.Module):
    """Reads off the text encoder's last states what the caption says; a task that teaches it fast.

    The denoiser's own gradient to the text is faint at first, since most noise levels show what the text would tell.
    Used in training only.
    """

    def __init__(self, preset: Preset):
        super().__init__()
        self.kinds = [{value: i for i, value in enumerate(values)} for values in known_facts(preset)]
        self.heads = nn.ModuleList(nn.Linear(preset.sizes.text, len(kind)) for kind in self.kinds)

    def label(self, scene: Scene) -> list[int]:
        """Class numbers of what a caption of the scene says."""
        return [kind[fact] for kind, fact in zip(self.kinds, facts(scene), strict=True)]

    def loss(self, states: Tensor, ids: Tensor, labels: Tensor) -> Tensor:
        """states: (B, 77, width). ids: (B, 77) CLIP ids. labels: (B, 5). Reads the mean over the words.

        Empty captions say nothing and don't count.
        """
        said = (ids[:, 1] != END).float()
        words = (~is_padding(ids)).float()
        words[:, 0] = 0
        mean = (states * words[:, :, None]).sum(1) / words.sum(1, keepdim=True).clamp(min=1)
        losses = [F.cross_entropy(head(mean), labels[:, i], reduction="none") for i, head in enumerate(self.heads)]
        return (torch.stack(losses).mean(0) * said).sum() / said.sum().clamp(min=1)


def text_states(text: CLIPTextModel, rows: Tensor, skip: bool) -> Tensor:
    """rows: (B, 77) of the packed table. skip: read the last layer but one, as "Clip skip 2" does.

    Returns: (B, 77, width), through the final norm either way.
    """
    if not skip:
        return text(rows).last_hidden_state
    hidden = text(rows, output_hidden_states=True).hidden_states[-2]
    return getattr(text, "text_model", text).final_layer_norm(hidden)  # transformers 5 dropped the inner module


def is_padding(ids: Tensor) -> Tensor:
    """ids: (B, 77) CLIP ids. Returns: (B, 77), whether the text has ended there."""
    return (ids == END).cumsum(1) > 0


def echo(states: Tensor, without: Tensor, nouns: Tensor) -> Tensor:
    """How much of the noun sounds on in all other tokens; mean square.

    CLIP's states see all words before them, so the last words and the padding could tell the subject as well as its
    noun does. A weight reaches the noun alone: for `(cat:0.5)` to have an effect, no other token may tell it.
    states, without: (B, 77, width), the latter of the captions with the noun hidden. nouns: (B, 77).
    """
    others = (~nouns).float()
    return ((states - without).square().mean(2) * others).sum() / others.sum()


def loss_weights(alpha_bar: Tensor, gamma: float, boost: float) -> Tensor:
    """Weights of eps-errors: min-SNR where there is little noise, and more where there is much.

    Only at high noise does the text decide anything, and an eps-error there is small however wrong the picture: it is
    1 / alpha_bar times as large in v. That factor is used up to `boost`.
    Source: Hang et al. 2023, arXiv:2303.09556, eq. 6; Salimans and Ho 2022, arXiv:2202.00512. Returns: mean 1.
    """
    snr = alpha_bar / (1 - alpha_bar)
    weights = snr.clamp(max=gamma) / snr * (1 / alpha_bar).clamp(max=boost)
    return (weights / weights.mean()).float()


@dataclass(frozen=True)
class Batch:
    """picks: (B,) of the latents. ids: (B, 77) CLIP ids. rows: the same in the packed table. labels: the reader's.

    nouns: (B, 77), the one subject's. weights: (B, 77) of the tokens, 1 where a caption weighs no word.

    even: (B,) in [0, 1), one from each of B equal slices: times of less variance than free draws have.
    """

    picks: np.ndarray
    ids: np.ndarray
    rows: np.ndarray
    nouns: np.ndarray
    weights: np.ndarray
    labels: np.ndarray
    even: np.ndarray
    skip: bool


@dataclass(frozen=True)
class Texts:
    """A batch's captions on the device; see `Batch`. emphasis: the tokens' weights."""

    ids: Tensor
    rows: Tensor
    nouns: Tensor
    emphasis: Tensor
    labels: Tensor
    skip: bool

    @classmethod
    def of(cls, batch: Batch, device: torch.device) -> Texts:
        arrays = (batch.ids, batch.rows, batch.nouns, batch.weights, batch.labels)
        return cls(*(to_device(array, device) for array in arrays), batch.skip)

    def share(self, mine: slice) -> Texts:
        return Texts(
            self.ids[mine], self.rows[mine], self.nouns[mine], self.emphasis[mine], self.labels[mine], self.skip
        )


@dataclass(frozen=True)
class Learner:
    """The networks and tables that a step needs."""

    preset: Preset
    unet: UNet2DConditionModel
    text: CLIPTextModel
    reader: CaptionReader
    tokens: PackedTokens

    def batches(
        self, scenes: list[Scene], first: int, device: torch.device, count: int, stream: str
    ) -> Iterator[Batch]:
        """Batch number `first` of this stream and all after it; each is always the same."""
        tokenizer, writer, row_of = ClipTokenizer(), Captioner(self.preset), self.tokens.row_of.numpy()

        def make(number: int) -> Batch:
            rng = random.Random(f"{self.preset.seed} {stream} {number}")
            picks = [rng.randrange(len(scenes)) for _ in range(count)]
            framed = [framed_caption(tokenizer, writer, scenes[pick], rng) for pick in picks]
            ids = np.array([ids for ids, _ in framed])
            nouns = np.array([nouns for _, nouns in framed])
            emphasis = np.array([[scenes[pick].emphasis] for pick in picks], np.float32)
            weights = np.where(nouns, emphasis, np.float32(1))
            labels = np.array([self.reader.label(scenes[pick]) for pick in picks])
            even = np.array([(place + rng.random()) / count for place in range(count)], np.float32)
            skip = rng.random() < self.preset.shares.clip_skip
            return Batch(np.array(picks), ids, row_of[ids], nouns, weights, labels, even, skip)

        return feed(make, first, device)

    def states(self, texts: Texts) -> tuple[Tensor, Tensor]:
        """Returns: the text encoder's states (B, 77, width), unweighted, and what they lack by the reader's loss and by
        `echo`."""
        with torch.autocast(texts.rows.device.type, torch.bfloat16):
            states = text_states(self.text, texts.rows, texts.skip).float()
            with torch.no_grad():
                without = text_states(self.text, texts.rows.masked_fill(texts.nouns, UNKNOWN_ROW), texts.skip).float()
        reading = self.reader.loss(states, texts.ids, texts.labels)
        return states, torch.stack([reading, echo(states, without, texts.nouns)])

    def loss(
        self, x0: Tensor, eps: Tensor, abar: Tensor, t: Tensor, weights: Tensor, texts: Texts
    ) -> tuple[Tensor, list[Tensor]]:
        """x0, eps: (B, 4, s, s). t: (B,). abar, weights: (B,) of these times.

        The mean that the web UI restores after weighting stays as it is here: that makes about one percent.
        Returns: the loss, and [plain MSE of eps, the reader's loss, `echo`] to log.
        """
        a = abar.float()[:, None, None, None]
        x = (a.sqrt() * x0 + (1 - a).sqrt() * eps).contiguous(memory_format=torch.channels_last)
        states, lacks = self.states(texts)
        with torch.autocast(x.device.type, torch.bfloat16):
            predicted = self.unet(x, t, states * texts.emphasis[:, :, None]).sample
        error = (predicted.float() - eps).square().mean(dim=(1, 2, 3))
        return (weights * error).mean() + lacking(lacks), [error.mean(), *lacks]

    def share_loss(self, tensors: Sequence[Tensor], texts: Texts, parts: int, part: int) -> tuple[Tensor, list[Tensor]]:
        """The loss of one of `parts` shares of a batch. tensors: what `loss` takes first."""
        mine = slice(part, None, parts)
        return self.loss(*(tensor[mine] for tensor in tensors), texts.share(mine))

    def teach_reading(self, scenes: list[Scene], device: torch.device, rate: float) -> None:
        """The text encoder and the reader alone, before the denoiser listens."""
        optimizer = torch.optim.AdamW([*self.text.parameters(), *self.reader.parameters()], rate, betas=(0.9, 0.99))
        batches = self.batches(scenes, 0, device, 2 * self.preset.unet.batch, "reading")
        for _ in range(READING_STEPS):
            optimizer.zero_grad(set_to_none=True)
            lacking(self.states(Texts.of(next(batches), device))[1]).backward()
            optimizer.step()


def lacking(lacks: Tensor) -> Tensor:
    """The weighted sum of the two."""
    return READING_WEIGHT * lacks[0] + ECHO_WEIGHT * lacks[1]


def make_learner(preset: Preset, device: torch.device) -> Learner:
    """Fresh networks; the tokens are those of the preset's captions."""
    torch.manual_seed(preset.seed)
    tokens = PackedTokens(used_tokens(Captioner(preset), ClipTokenizer()))
    unet = build_unet(preset.sizes)
    start_as_skip(unet)
    unet.to(device, memory_format=torch.channels_last)
    if device.type == "cpu":
        unet.set_attn_processor(AttnProcessor())  # the fused kernel's backward is slower than plain products there
    text = build_text(preset.sizes, tokens.rows).to(device)
    return Learner(preset, unet, text, CaptionReader(preset).to(device), tokens)


def run(preset: Preset, clock: Clock | None = None) -> None:
    device, clock = pick_device(), clock or Clock()
    latents, learner = load_latents(preset), make_learner(preset, device)
    x0_all = latents.latents.to(device)
    abar = alpha_bars().to(device)
    weights = loss_weights(abar, preset.min_snr, preset.noise_boost)
    networks: list[nn.Module] = [learner.unet, learner.text]
    if not (preset.run / "unet.pt").exists():
        learner.teach_reading(latents.scenes, device, preset.unet.rate)
    training = Training(
        preset, "unet", preset.unet, networks, clock, ("eps_mse", "reading", "echo"), learner.reader,
        {"tokens": learner.tokens.used},
    )  # fmt: skip
    compiled(learner.unet, preset.compile)
    batches = learner.batches(latents.scenes, training.step, device, preset.unet.batch, "unet")
    random_numbers = torch.Generator(device)
    for step in training.steps():
        batch = next(batches)
        picks, even, texts = to_device(batch.picks, device), to_device(batch.even, device), Texts.of(batch, device)
        x0 = x0_all[picks].float()
        t = (1000 * even**TIME_SKEW).long().clamp(max=999)  # the last slice may round up to 1
        random_numbers.manual_seed(preset.seed + step)
        eps = torch.randn(x0.shape, generator=random_numbers, device=device)
        training.learn(partial(learner.share_loss, (x0, eps, abar[t], t, weights[t]), texts, training.parts), len(x0))
    preview(preset)


def load_networks(
    preset: Preset, device: torch.device
) -> tuple[UNet2DConditionModel, CLIPTextModel, PackedTokens, int]:
    """The trained networks with averaged weights, the text encoder with its packed table, and the step."""
    state = load_state(preset.run / "unet.pt")
    if state is None:
        raise FileNotFoundError(f"no {preset.run / 'unet.pt'}; run the stage unet first")
    tokens = PackedTokens(state["tokens"])
    unet, text = build_unet(preset.sizes), build_text(preset.sizes, tokens.rows)
    fill([unet, text], state)
    return unet.to(device).eval(), text.to(device).eval(), tokens, state["step"]


PREVIEW = (
    "a cat", "a red apple, blue background", "a blue heart, flat style, yellow background",
    "a tree on a pink background", "a photo of a dog, 3d style, green background",
    "a star, black background, 3d style", "a red car, white background", "three balloons in a meadow, blue sky",
)  # fmt: skip


@torch.no_grad()
def preview(preset: Preset, cfg_scale: float = 5.0) -> None:
    """Write runs/<preset>/unet.png: a column per prompt, a row per seed."""
    device = pick_device()
    unet, text, tokens, _ = load_networks(preset, device)
    vae, whitening, tokenizer = load_vae(preset, device), load_whitening(preset), ClipTokenizer()
    rows = [frame(tokenizer.encode(prompt)) for prompt in (*PREVIEW, "")]
    cond = text(tokens.pack(torch.tensor(rows)).to(device)).last_hidden_state
    side, sheet = preset.native_size // 8, []
    for seed in range(2):
        noise = torch.randn((len(PREVIEW), 4, side, side), generator=torch.manual_seed(seed))
        white = ddim_sample(unet, noise.to(device), cond[:-1], cond[-1:], alpha_bars(), 20, cfg_scale)
        sheet.append(np.concatenate(list(to_pictures(vae.decode(raw_latent(white, whitening)).sample)), 1))
    Image.fromarray(np.concatenate(sheet, 0)).save(preset.run / "unet.png")
