"""Where units find their places in a U-Net."""

from __future__ import annotations

from typing import Any, Literal

from diffusers.models.attention import BasicTransformerBlock

from webui.extensions.api import InvalidRequest

Side = Literal["input", "middle", "output"]


def size_of_tokens(size: tuple[int, int], tokens: int) -> tuple[int, int]:
    """Height and width of a level with so many tokens, in a U-Net that works at a latent of `size`."""
    height, width = size
    while height * width > tokens:
        height, width = (height + 1) // 2, (width + 1) // 2
    if height * width != tokens:
        raise InvalidRequest(
            "ControlLLLite and region masks of IP-Adapters can't be used while tokens are merged; set the token "
            "merging ratio to 0."
        )
    return height, width


def transformers(unet: Any) -> list[tuple[Side, Any]]:
    """Its transformers with cross-attention as data flows, each an injection point."""
    found: list[tuple[Side, Any]] = []
    parts: list[tuple[Side, Any]] = [("input", block) for block in unet.down_blocks]
    parts += [("middle", unet.mid_block), *(("output", block) for block in unet.up_blocks)]
    for side, part in parts:
        found += [(side, one) for one in getattr(part, "attentions", None) or () if len(one.transformer_blocks)]
    return found


def cross_attending(unet: Any) -> list[BasicTransformerBlock]:
    """Every block with cross-attention in the order of an IP-Adapter's weights: the middle comes last."""
    parts = (*unet.down_blocks, *unet.up_blocks, unet.mid_block)
    return [
        block
        for part in parts
        for transformer in getattr(part, "attentions", None) or ()
        for block in transformer.transformer_blocks
    ]


def widths_of(unet: Any) -> tuple[int, ...]:
    """Channels of each cross-attention, in the same order."""
    return tuple(block.attn2.to_out[0].in_features for block in cross_attending(unet))
