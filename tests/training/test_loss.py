"""Noise, targets and weights against their formulas; captions in windows; optimizers."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from webui.core.errors import InvalidRequest
from webui.core.training import EmbeddingOptions, LossOptions
from webui.core.training_data import Item
from webui.diffusion.schedules import scaled_linear_alphas_cumprod
from webui.prompts.tokenizer import ClipTokenizer
from webui.training.latents import masks_of
from webui.training.loss import Noised, Objective
from webui.training.optimizers import Lion, make_optimizer, spelled
from webui.training.prompts import prompts_of
from webui.training.texts import stitched, token_windows

ALPHAS = scaled_linear_alphas_cumprod(0.00085, 0.0120)
LATENTS = torch.randn(4, 4, 8, 8, generator=torch.Generator().manual_seed(0))


def objective(prediction: str = "eps", **options: object) -> Objective:
    return Objective(LossOptions(**options), ALPHAS, prediction)


def noised(wanted: Objective, seed: int = 1) -> Noised:
    return wanted.add_noise(LATENTS, torch.Generator().manual_seed(seed))


def weights(**options: object) -> Tensor:
    """What the loss of each timestep is multiplied by, where each is 1 else."""
    prediction = str(options.pop("prediction", "eps"))
    timesteps = torch.arange(1000)
    shape = (1000, 1, 1, 1)
    return objective(prediction, **options).losses(
        torch.ones(shape), Noised(torch.zeros(shape), timesteps, torch.zeros(shape))
    )


def test_noise_is_mixed_in_and_told_again() -> None:
    plain = noised(objective())
    alphas = ALPHAS[plain.timesteps].float().reshape(-1, 1, 1, 1)
    assert torch.allclose(plain.x, alphas.sqrt() * LATENTS + (1 - alphas).sqrt() * plain.target, atol=1e-6)
    v = noised(objective("v"))
    assert torch.allclose(v.target, alphas.sqrt() * plain.target - (1 - alphas).sqrt() * LATENTS, atol=1e-6)
    assert torch.equal(noised(objective()).x, plain.x)  # the same seed
    low = noised(objective(min_timestep=990, max_timestep=992))
    assert set(low.timesteps.tolist()) <= {990, 991}


def test_min_snr_acts_on_little_noise_only() -> None:
    found = weights(min_snr_gamma=5)
    assert int((found < 1).sum()) == 147
    assert float(found.mean()) == pytest.approx(0.917, abs=1e-3)
    snr = ALPHAS / (1 - ALPHAS)
    assert torch.allclose(weights(min_snr_gamma=5, prediction="v"), (snr.clamp(max=5) / (snr + 1)).float(), atol=1e-6)


def test_other_weights_follow_their_formulas() -> None:
    snr = (ALPHAS / (1 - ALPHAS)).float()
    assert torch.allclose(weights(debiased_estimation_loss=True), 1 / snr.clamp(max=1000).sqrt(), rtol=1e-5)
    assert torch.allclose(weights(scale_v_pred_loss_like_noise_pred=True, prediction="v"), snr / (snr + 1), rtol=1e-5)
    assert torch.allclose(weights(v_pred_like_loss=0.5), 1 + 0.5 * (snr + 1) / snr, rtol=1e-5)
    sigmas = ((1 - ALPHAS) / ALPHAS).sqrt().float()
    c = (1 - 0.1) / (1 + sigmas).square() + 0.1
    assert torch.allclose(weights(loss_type="huber"), 2 * c * ((1 + c.square()).sqrt() - c), rtol=1e-4)
    c = torch.tensor(0.2)
    constant = weights(loss_type="smooth_l1", huber_c=0.2, huber_schedule="constant")
    assert torch.allclose(constant, (2 * ((1 + c.square()).sqrt() - c)).expand(1000), rtol=1e-4)


def test_offset_noise_shifts_whole_channels_and_pyramids_keep_the_spread() -> None:
    shift = noised(objective(noise_offset=0.5)).target - noised(objective()).target
    assert torch.allclose(shift, shift.mean(dim=(2, 3), keepdim=True).expand_as(shift), atol=1e-5)
    assert float(shift.abs().max()) > 0.05
    assert float(noised(objective(multires_noise_iterations=6)).target.std()) == pytest.approx(1, abs=1e-4)


def item(caption: str, mask: np.ndarray | None = None) -> Item:
    return Item(
        "k", lambda: np.zeros((16, 16, 3), np.uint8), caption, "", (16, 16), mask=None if mask is None else lambda: mask
    )


def test_masks_are_shrunk_by_area() -> None:
    half = np.zeros((16, 16), np.float32)
    half[:, :4] = 1
    masks = masks_of([item(""), item("", half)], (2, 2))
    assert masks is not None
    assert masks[:, 0].tolist() == [[[1, 1], [1, 1]], [[0.5, 0], [0.5, 0]]]
    assert masks_of([item("")], (2, 2)) is None


def test_long_captions_are_cut_into_windows_and_stitched() -> None:
    clip = ClipTokenizer()
    words = clip.encode("cat " * 160)
    rows = token_windows(clip, "cat " * 160, 225)
    assert [len(row) for row in rows] == [77, 77, 77]
    assert [row[1:76] for row in rows] == [words[:75], words[75:150], [*words[150:], *[clip.end] * 65]]
    assert token_windows(clip, "cat", 75) == [[clip.start, *clip.encode("cat"), *[clip.end] * 75]]
    open_clip = ClipTokenizer(open_clip=True)
    first, second, third = token_windows(open_clip, "cat " * 80, 225)
    assert first[-1] == open_clip.end  # it ends in a word
    assert second[6:] == [open_clip.end, *[0] * 70]
    assert third == [open_clip.start, open_clip.end, *[0] * 75]
    vectors = torch.arange(3 * 77.0).reshape(3, 77, 1)
    assert stitched(vectors).flatten().tolist() == [0, *range(1, 76), *range(78, 153), *range(155, 230), 230]


def test_templates_name_and_describe_and_tags_are_varied_by_the_seed() -> None:
    options = EmbeddingOptions(template="a [name]\nb [name], [filewords]", shuffle_tags=True, tag_drop_out=0.5)
    prompts = [prompts_of([item("x, y, z")], options, "me", str(number))[0] for number in range(40)]
    assert prompts == [prompts_of([item("x, y, z")], options, "me", str(number))[0] for number in range(40)]
    assert {prompt[:4] for prompt in prompts} == {"a me", "b me"}
    assert len(set(prompts)) > 8


def test_lion_steps_by_signs_and_arguments_are_checked() -> None:
    weight = nn.Parameter(torch.tensor([1.0, -2.0]))
    optimizer = make_optimizer("Lion", [{"params": [weight], "lr": 0.1}], 0.1, {"weight_decay": 0.5})
    assert isinstance(optimizer, Lion)
    weight.grad = torch.tensor([3.0, -0.1])
    optimizer.step()
    assert weight.tolist() == pytest.approx([1 * 0.95 - 0.1, -2 * 0.95 + 0.1])
    assert spelled("AdamW", {"weight_decay": 0.1}) == "torch.optim.adamw.AdamW(weight_decay=0.1)"
    with pytest.raises(InvalidRequest, match="AdamW can't be made"):
        make_optimizer("AdamW", [{"params": [weight], "lr": 0.1}], 0.1, {"wd": 1})
    adafactor = make_optimizer("AdaFactor", [{"params": [weight], "lr": 0.1}], 0.1, {})
    adafactor.step()
