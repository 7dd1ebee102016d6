"""Token merging: the library's result, and nothing left behind."""

from __future__ import annotations

import pytest
import tomesd
import torch
from diffusers import UNet2DConditionModel

from tests.models.small_unet import predicted, small_unet
from webui.models.token_merging import merged_tokens


@pytest.fixture(scope="module")
def unet() -> UNet2DConditionModel:
    return small_unet()


def hooks_of(unet: UNet2DConditionModel) -> int:
    return sum(len(module._forward_hooks) + len(module._forward_pre_hooks) for module in unet.modules())


@pytest.mark.parametrize("ratio", [0.1, 0.5, 0.9])
def test_it_merges_as_the_library_does(unet: UNet2DConditionModel, ratio: float) -> None:
    with merged_tokens(unet, ratio):
        ours = predicted(unet)
    tomesd.apply_patch(unet, ratio, use_rand=False)
    theirs = predicted(unet)
    tomesd.remove_patch(unet)
    assert torch.equal(ours, theirs)
    assert not torch.equal(ours, predicted(unet))


def test_it_comes_off_exactly(unet: UNet2DConditionModel) -> None:
    before = predicted(unet)
    with merged_tokens(unet, 0.5):
        first = predicted(unet)
        assert torch.equal(predicted(unet), first), "nothing is drawn at random"
    assert hooks_of(unet) == 0
    assert torch.equal(predicted(unet), before)
    with pytest.raises(ZeroDivisionError), merged_tokens(unet, 0.5):
        raise ZeroDivisionError
    assert hooks_of(unet) == 0


def test_a_ratio_of_0_touches_nothing(unet: UNet2DConditionModel) -> None:
    with merged_tokens(unet, 0.0):
        assert hooks_of(unet) == 0


@pytest.mark.parametrize("size", [(2, 2), (2, 30), (13, 9)])
def test_any_size_merges(unet: UNet2DConditionModel, size: tuple[int, int]) -> None:
    height, width = size
    with merged_tokens(unet, 0.9):
        assert predicted(unet, 2 * height, 2 * width).shape == (2, 4, 2 * height, 2 * width)
        assert torch.isfinite(predicted(unet, 2, 2)).all()
