"""A U-Net for tests of what is done to networks."""

from __future__ import annotations

import torch
from diffusers import UNet2DConditionModel
from torch import Tensor


def small_unet() -> UNet2DConditionModel:
    """A U-Net of random weights with two levels."""
    torch.manual_seed(0)
    return UNet2DConditionModel(
        sample_size=16,
        block_out_channels=(32, 64),
        down_block_types=("CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
        layers_per_block=1,
        cross_attention_dim=16,
        attention_head_dim=4,
        norm_num_groups=8,
    ).eval()


def predicted(unet: UNet2DConditionModel, height: int = 16, width: int = 12) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(2, 4, height, width, generator=generator)
    context = torch.randn(2, 7, 16, generator=generator)
    with torch.inference_mode():
        return unet(x, torch.tensor(3), encoder_hidden_states=context).sample
