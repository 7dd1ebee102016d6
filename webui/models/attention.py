"""Which way a U-Net's attention is computed; all give the same but for the last digits.

torch's fused attention is the quickest and needs the least memory. Written out as two matrix products it rounds as
A1111's other optimizations do.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from diffusers.models.attention_processor import Attention
from diffusers.models.transformers.transformer_2d import Transformer2DModel
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

MOST_BYTES = 32 << 20
"""Of attention scores that are held at a time when written out; A1111's limit on a CPU."""


@contextmanager
def attention_computed(unet: nn.Module, *, written_out: bool, upcast: bool) -> Iterator[None]:
    """Until the context ends, `unet` computes its attention so. Other networks than U-Nets stay as they are.

    written_out: as products instead of torch's fused attention, and what follows a transformer in the memory layout
    that A1111 leaves it in, for which convolutions round otherwise. upcast: in float32 whatever the network's dtype.
    """
    if not (written_out or upcast) or not isinstance(unet, UNet2DConditionModel):
        yield
        return
    before = unet.attn_processors
    unet.set_attn_processor(ChosenAttention(written_out, upcast))
    with ExitStack() as hooks:
        hooks.callback(unet.set_attn_processor, before)
        for module in unet.modules() if written_out else ():
            if isinstance(module, Transformer2DModel):
                hooks.callback(_channels_last_behind(module).remove)
        yield


def _channels_last_behind(transformer: Transformer2DModel) -> RemovableHandle:
    """Have the transformer's rows of channels become a picture without being laid out anew."""
    if isinstance(transformer.proj_out, nn.Conv2d):
        return transformer.proj_out.register_forward_pre_hook(lambda module, given: (_channels_last(given[0]),))
    return transformer.register_forward_hook(lambda module, given, found: (_channels_last(found[0]),))


def _channels_last(x: Tensor) -> Tensor:
    """The same numbers, a pixel's channels side by side; its strides say so for one pixel, too, and are believed."""
    height, width = x.shape[2:]
    rows = x.flatten(2).transpose(1, 2).clone(memory_format=torch.contiguous_format)
    return rows.unflatten(1, (height, width)).permute(0, 3, 1, 2)


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


def written_out_attention(q: Tensor, k: Tensor, v: Tensor, most_bytes: int = MOST_BYTES) -> Tensor:
    """softmax(q k^T / sqrt(d)) v of (N, heads, T, d), in as many parts as memory is meant for."""
    outer = q.shape[:2]
    q, k, v = (part.flatten(0, 1) for part in (q, k * q.shape[-1] ** -0.5, v))
    size = len(q) * q.shape[1] * k.shape[1] * q.element_size()
    parts = 1 << ((size - 1) // most_bytes).bit_length()
    if parts <= len(q):
        groups = zip(*(part.split(len(q) // parts) for part in (q, k, v)), strict=True)
        mixed = torch.cat([_attended(*group) for group in groups])
    else:
        rows = max(q.shape[1] // parts, 1)
        mixed = torch.cat([_attended(part, k, v) for part in q.split(rows, dim=1)], dim=1)
    return mixed.unflatten(0, outer)


def _attended(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    scores = torch.einsum("bid,bjd->bij", q, k).softmax(dim=-1)
    return torch.einsum("bij,bjd->bid", scores, v)
