"""Ways to compute attention: they agree, and leave the network as it was."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from diffusers import UNet2DConditionModel
from diffusers.models.attention_processor import Attention
from torch import Tensor

from tests.models.small_unet import predicted, small_unet
from webui.models.attention import ChosenAttention, attention_computed, written_out_attention


@pytest.fixture(scope="module")
def unet() -> UNet2DConditionModel:
    return small_unet()


def qkv(dtype: torch.dtype = torch.float32) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(2, 3, length, 16, generator=generator).to(dtype) for length in (50, 7, 7)]


@pytest.mark.parametrize("room", [1, 2], ids=["rows", "heads"])
def test_written_out_it_is_torchs_attention_in_parts_too(room: int) -> None:
    whole = written_out_attention(*qkv())
    assert torch.allclose(whole, F.scaled_dot_product_attention(*qkv()), atol=1e-6)
    assert torch.allclose(written_out_attention(*qkv(), most_bytes=1500 * room), whole, atol=1e-6)


@pytest.mark.parametrize("written_out", [True, False])
def test_the_network_predicts_the_same_and_is_left_as_it_was(unet: UNet2DConditionModel, written_out: bool) -> None:
    before, plain = unet.attn_processors, predicted(unet)
    with attention_computed(unet, written_out=written_out, upcast=not written_out):
        assert {type(processor) for processor in unet.attn_processors.values()} == {ChosenAttention}
        assert torch.allclose(predicted(unet), plain, atol=1e-5)
    assert unet.attn_processors == before
    assert torch.equal(predicted(unet), plain)


def test_nothing_is_touched_unless_asked(unet: UNet2DConditionModel) -> None:
    before = unet.attn_processors
    with attention_computed(unet, written_out=False, upcast=False):
        assert unet.attn_processors == before
    with attention_computed(torch.nn.Linear(2, 2), written_out=True, upcast=True):
        pass


def test_upcast_keeps_what_half_precision_loses() -> None:
    layer = Attention(query_dim=48, heads=3, dim_head=16, bias=False).half().requires_grad_(False)
    x = 1000 * torch.randn(1, 9, 48, generator=torch.Generator().manual_seed(0)).half()
    assert torch.isnan(ChosenAttention(written_out=True, upcast=False)(layer, x)).any()
    for written_out in (True, False):
        kept = ChosenAttention(written_out, upcast=True)(layer, x)
        assert kept.dtype == torch.float16
        assert torch.isfinite(kept).all()
