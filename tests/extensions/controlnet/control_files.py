"""Control networks with random weights: what they steer means nothing."""

from __future__ import annotations

from pathlib import Path

from tools.random_checkpoint import TINY


def random_control(path: Path, seed: int = 0) -> Path:
    """A ControlNet of diffusers' layout for the tiny checkpoint; no layer of it is zero."""
    import torch
    from diffusers import ControlNetModel
    from safetensors.torch import save_file

    torch.manual_seed(seed)
    count = len(TINY.unet_widths)
    net = ControlNetModel(
        down_block_types=("CrossAttnDownBlock2D",) * (count - 1) + ("DownBlock2D",),
        block_out_channels=TINY.unet_widths,
        cross_attention_dim=TINY.text_width,
        attention_head_dim=TINY.unet_heads,
        norm_num_groups=TINY.unet_groups,
        conditioning_embedding_out_channels=(16, 16, 32, 32),
    )
    for layer in (*net.controlnet_down_blocks, net.controlnet_mid_block, net.controlnet_cond_embedding.conv_out):
        torch.nn.init.normal_(layer.weight, std=0.05)
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({name: weight.contiguous().half() for name, weight in net.state_dict().items()}, path)
    return path
