"""The latent diffusion U-Net on diffusers' modules.

One difference is kept from LDM: upsampling doubles, convolves, and only then fits the skip connection.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
import torch.nn.functional as F
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from diffusers.models.upsampling import Upsample2D
from torch import Tensor

from webui.catalog.ldm_names import UNetLayout


class LatentUNet(UNet2DConditionModel):
    """diffusers' U-Net, given the vector that SDXL's networks take as one piece (`Cond.pooled`)."""

    def get_aug_embed(self, emb: Tensor, encoder_hidden_states: Tensor, added_cond_kwargs: dict[str, Tensor]) -> Tensor:
        """What is added to the time embedding. added_cond_kwargs: "vector" (N, P)."""
        embedded: Tensor = self.add_embedding(added_cond_kwargs["vector"].to(emb.dtype))
        return embedded


def build_unet(layout: UNetLayout, heads: tuple[int, ...], groups: int, sample_size: int) -> UNet2DConditionModel:
    """The U-Net without weights (on the meta device). heads: per level. sample_size: native latent height."""
    vector = {
        "addition_embed_type": "text_time",
        "addition_time_embed_dim": 256,
        "projection_class_embeddings_input_dim": layout.vector_width,
    }
    attends = layout.attends
    with torch.device("meta"):
        unet = (LatentUNet if layout.vector_width else UNet2DConditionModel)(
            sample_size=sample_size,
            in_channels=layout.in_channels,
            out_channels=layout.out_channels,
            down_block_types=tuple("CrossAttnDownBlock2D" if a else "DownBlock2D" for a in attends),
            mid_block_type="UNetMidBlock2D" if layout.middle_depth is None else "UNetMidBlock2DCrossAttn",
            up_block_types=tuple("CrossAttnUpBlock2D" if a else "UpBlock2D" for a in reversed(attends)),
            block_out_channels=layout.widths,
            layers_per_block=layout.blocks,
            transformer_layers_per_block=tuple(layout.depth(level) for level in range(len(layout.widths))),
            cross_attention_dim=layout.context_width,
            attention_head_dim=heads,  # diffusers' name for the number of heads
            norm_num_groups=groups,
            use_linear_projection=layout.linear,
            **(vector if layout.vector_width else {}),
        )
        for block in unet.up_blocks:
            for index, upsampler in enumerate(block.upsamplers or ()):
                block.upsamplers[index] = SkipSizedUpsample(upsampler.channels, upsampler.out_channels)
    _shorten(unet, layout)
    return unet


def _shorten(unet: UNet2DConditionModel, layout: UNetLayout) -> None:
    """Cut the transformers of smaller relatives (SSD-1B, Vega), whose depths differ within a level."""
    depths = [
        *zip(unet.down_blocks, layout.down_depths, strict=True),
        *zip(unet.up_blocks, layout.up_depths, strict=True),
    ]
    if layout.middle_depth is not None:
        depths.append((unet.mid_block, (layout.middle_depth,)))
    for block, wanted in depths:
        for attention, depth in zip(getattr(block, "attentions", None) or (), wanted, strict=False):
            del attention.transformer_blocks[depth:]


class SkipSizedUpsample(Upsample2D):
    """Double by nearest neighbour, convolve, then resize to the skip connection if it is of another size.

    Latents that aren't a multiple of 8 lose a row or column going down; LDM's U-Net mends that after the
    convolution (diffusers' own module before it, which gives another picture).
    """

    def __init__(self, channels: int, out_channels: int):
        super().__init__(channels, use_conv=True, out_channels=out_channels)

    def forward(self, hidden_states: Tensor, output_size: Iterable[int] | None = None) -> Tensor:
        """hidden_states: (N, C, h, w). output_size: (H, W) of the skip, None when it is (2h, 2w)."""
        doubled = self.conv(F.interpolate(hidden_states, scale_factor=2.0, mode="nearest"))
        if output_size is None or tuple(output_size) == tuple(doubled.shape[-2:]):
            return doubled
        return F.interpolate(doubled, size=tuple(output_size), mode="nearest")
