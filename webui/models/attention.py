"""Which way a U-Net's attention is computed; all give the same but for the last digits.

torch's fused attention is the quickest and needs the least memory. Written out as two matrix products it rounds as
A1111's other optimizations do.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from diffusers.models.attention_processor import Attention
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from torch import Tensor, nn

MOST_SCORES = 1 << 24
"""How many attention scores are held at a time when written out: 64 MiB of float32."""


@contextmanager
def attention_computed(unet: nn.Module, *, written_out: bool, upcast: bool) -> Iterator[None]:
    """Until the context ends, `unet` computes its attention so. Other networks than U-Nets stay as they are.

    written_out: as products instead of torch's fused attention. upcast: in float32 whatever the network's dtype.
    """
    if not (written_out or upcast) or not isinstance(unet, UNet2DConditionModel):
        yield
        return
    before = unet.attn_processors
    unet.set_attn_processor(ChosenAttention(written_out, upcast))
    try:
        yield
    finally:
        unet.set_attn_processor(before)


class ChosenAttention:
    """diffusers' protocol of an attention processor; see `attention_computed`."""

    def __init__(self, written_out: bool, upcast: bool) -> None:
        self.attend = written_out_attention if written_out else F.scaled_dot_product_attention
        self.upcast = upcast

    def __call__(
        self,
        attn: Attention,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        **unused: Any,
    ) -> Tensor:
        """hidden_states: (N, T, D). encoder_hidden_states: (N, S, D') of the text; None for self-attention."""
        assert attention_mask is None, "no U-Net here masks its attention"
        context = hidden_states if encoder_hidden_states is None else encoder_hidden_states
        parts = [attn.to_q(hidden_states), attn.to_k(context), attn.to_v(context)]
        dtype = parts[0].dtype
        q, k, v = (part.unflatten(-1, (attn.heads, -1)).transpose(1, 2) for part in parts)
        if self.upcast:
            q, k, v = q.float(), k.float(), v.float()
        mixed: Tensor = self.attend(q, k, v).to(dtype).transpose(1, 2).flatten(2)
        output: Tensor = attn.to_out[1](attn.to_out[0](mixed))
        return output


def written_out_attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """softmax(q k^T / sqrt(d)) v of (N, heads, T, d), as many rows at a time as memory is meant for."""
    scaled = (k * q.shape[-1] ** -0.5).transpose(-1, -2)
    rows = max(MOST_SCORES // (q.shape[0] * q.shape[1] * k.shape[2]), 1)
    return torch.cat([(part @ scaled).softmax(dim=-1) @ v for part in q.split(rows, dim=2)], dim=2)
