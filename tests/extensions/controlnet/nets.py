"""Networks with random weights in true layouts: the maps and the steering mean nothing, but all of the way is gone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

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
    return _saved(net, path, save_file)


def random_pidinet(folder: Path) -> Path:
    """PiDiNet for soft edges, 3 MB, in its authors' layout."""
    import torch
    from controlnet_aux.pidi.model import pidinet

    torch.manual_seed(1)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "table5_pidinet.pth"
    torch.save(pidinet().state_dict(), path)
    return path


def random_segmenter(folder: Path) -> Path:
    """A small SegFormer of 150 classes, with its config.json, in the folder that UPerNet's weights may have."""
    import torch
    from transformers import SegformerConfig, SegformerForSemanticSegmentation

    torch.manual_seed(2)
    config = SegformerConfig(
        num_labels=150,
        depths=[1, 1, 1, 1],
        hidden_sizes=[16, 16, 32, 32],
        num_attention_heads=[1, 1, 2, 2],
        decoder_hidden_size=32,
    )
    place = folder / "upernet-convnext-small"
    SegformerForSemanticSegmentation(config).save_pretrained(place)
    return place


def random_depth(folder: Path) -> Path:
    """A small Depth Anything, 64 wide with four layers, in its authors' layout."""
    import torch

    torch.manual_seed(3)
    wide, narrow = 64, 16
    layers: dict[str, tuple[int, ...]] = {
        "pretrained.patch_embed.proj": (wide, 3, 14, 14),
        "depth_head.scratch.output_conv1": (narrow // 2, narrow, 3, 3),
        "depth_head.scratch.output_conv2.0": (8, narrow // 2, 3, 3),
        "depth_head.scratch.output_conv2.2": (1, 8, 1, 1),
        "depth_head.resize_layers.0": (narrow, narrow, 4, 4),
        "depth_head.resize_layers.1": (narrow, narrow, 2, 2),
        "depth_head.resize_layers.3": (narrow, narrow, 3, 3),
    }
    weights = {
        "pretrained.cls_token": torch.randn(1, 1, wide),
        "pretrained.mask_token": torch.zeros(1, wide),
        "pretrained.pos_embed": torch.randn(1, 1 + 37 * 37, wide) * 0.1,
    }
    norms = ["pretrained.norm"]
    for number in range(4):
        block, refine = f"pretrained.blocks.{number}", f"depth_head.scratch.refinenet{number + 1}"
        norms += [f"{block}.norm1", f"{block}.norm2"]
        layers |= {f"{block}.attn.qkv": (3 * wide, wide), f"{block}.attn.proj": (wide, wide)}
        layers |= {f"{block}.mlp.fc1": (4 * wide, wide), f"{block}.mlp.fc2": (wide, 4 * wide)}
        layers |= {f"depth_head.projects.{number}": (narrow, wide, 1, 1), f"{refine}.out_conv": (narrow, narrow, 1, 1)}
        layers |= {f"{refine}.resConfUnit{u}.conv{c}": (narrow, narrow, 3, 3) for u in (1, 2) for c in (1, 2)}
        weights |= {f"{block}.ls{part}.gamma": torch.ones(wide) for part in (1, 2)}
        weights[f"depth_head.scratch.layer{number + 1}_rn.weight"] = torch.randn(narrow, narrow, 3, 3) * 0.1
    for name, shape in layers.items():
        outputs = shape[1] if name.endswith(("resize_layers.0", "resize_layers.1")) else shape[0]
        weights |= {f"{name}.weight": torch.randn(shape) * 0.1, f"{name}.bias": torch.zeros(outputs)}
    for name in norms:
        weights |= {f"{name}.weight": torch.ones(wide), f"{name}.bias": torch.zeros(wide)}
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "depth_anything_vits14.pth"
    torch.save(weights, path)
    return path


def _saved(net: Any, path: Path, save_file: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({name: weight.contiguous().half() for name, weight in net.state_dict().items()}, path)
    return path
