"""Files with random weights in the layouts that control models are published in; no weight is zero."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from tools.random_checkpoint import Layout, Shapes, unet_shapes

HINTS = (16, 16, 32, 32, 96, 96, 256)
"""Channels after each layer that reads the map, but for the last."""
ENCODER = ("time_embed.", "label_emb.", "input_blocks.", "middle_block.")


def conv(shapes: Shapes, name: str, taken: int, given: int, kernel: int = 3) -> None:
    shapes[f"{name}.weight"], shapes[f"{name}.bias"] = (given, taken, kernel, kernel), (given,)


def linear(shapes: Shapes, name: str, taken: int, given: int, bias: bool = True) -> None:
    shapes[f"{name}.weight"] = (given, taken)
    if bias:
        shapes[f"{name}.bias"] = (given,)


def norm(shapes: Shapes, name: str, width: int) -> None:
    shapes[f"{name}.weight"] = shapes[f"{name}.bias"] = (width,)


def skips(layout: Layout) -> list[int]:
    """Channels of each skip connection."""
    found = [layout.unet_widths[0]]
    for level, width in enumerate(layout.unet_widths):
        found += [width, width] + ([width] if level + 1 < len(layout.unet_widths) else [])
    return found


def control_shapes(layout: Layout) -> Shapes:
    """A ControlNet 1.1 for such a U-Net, in LDM's names without a prefix."""
    shapes = {name: shape for name, shape in unet_shapes(layout).items() if name.startswith(ENCODER)}
    return shapes | own_shapes(layout)


def own_shapes(layout: Layout) -> Shapes:
    """Of a ControlNet, what the U-Net has no counterpart for."""
    shapes: Shapes = {}
    taken = 3
    for number, given in enumerate((*HINTS, layout.unet_widths[0])):
        conv(shapes, f"input_hint_block.{2 * number}", taken, given)
        taken = given
    for number, width in enumerate(skips(layout)):
        conv(shapes, f"zero_convs.{number}.0", width, width, 1)
    conv(shapes, "middle_block_out.0", layout.unet_widths[-1], layout.unet_widths[-1], 1)
    return shapes


def union_shapes(layout: Layout, kinds: int) -> Shapes:
    """A union ControlNet; promax has 8 kinds."""
    width = layout.unet_widths[0]
    shapes = control_shapes(layout) | {"task_embedding": (kinds, width)}
    linear(shapes, "control_add_embedding.linear_1", 256 * kinds, 4 * width)
    linear(shapes, "control_add_embedding.linear_2", 4 * width, 4 * width)
    linear(shapes, "spatial_ch_projs", width, width)
    layer = "transformer_layes.0"
    shapes[f"{layer}.attn.in_proj_weight"], shapes[f"{layer}.attn.in_proj_bias"] = (3 * width, width), (3 * width,)
    linear(shapes, f"{layer}.attn.out_proj", width, width)
    linear(shapes, f"{layer}.mlp.c_fc", width, 4 * width)
    linear(shapes, f"{layer}.mlp.c_proj", 4 * width, width)
    norm(shapes, f"{layer}.ln_1", width)
    norm(shapes, f"{layer}.ln_2", width)
    return shapes


def control_lora_shapes(layout: Layout, rank: int = 4) -> Shapes:
    """Matrices for all of the encoder's own matrices; norms and biases are left to the U-Net."""
    shapes = own_shapes(layout) | {"lora_controlnet": (1,)}
    for name, shape in unet_shapes(layout).items():
        if name.startswith(ENCODER) and name.endswith(".weight") and len(shape) > 1:
            stem = name.removesuffix(".weight")
            shapes[f"{stem}.up"], shapes[f"{stem}.down"] = (shape[0], rank), (rank, *shape[1:])
    return shapes


def lllite_shapes(layout: Layout, narrow: int = 8, width: int = 8) -> Shapes:
    """Beside each query, key and value of self-attention, and each query of cross-attention."""
    shapes: Shapes = {}
    depths = [level for level in range(len(layout.unet_widths)) for _ in range(3)]
    for name, shape in unet_shapes(layout).items():
        if not name.endswith(("attn1.to_q.weight", "attn1.to_k.weight", "attn1.to_v.weight", "attn2.to_q.weight")):
            continue
        stem = "lllite_unet_" + name.removesuffix(".weight").replace(".", "_")
        part, number = name.split(".")[:2]
        place = int(number)
        last = len(layout.unet_widths) - 1
        level = {"input_blocks": depths[(place - 1) % len(depths)], "output_blocks": last - place // 3}.get(part, last)
        sides = {0: (4, 2), 1: (4, 4), 2: (4, 4, 2), 3: (4, 4, 4)}[level]
        taken = 3
        for index, side in enumerate(sides):
            given = width if index == len(sides) - 1 else width // 2
            conv(shapes, f"{stem}.conditioning1.{2 * index}", taken, given, side)
            taken = given
        linear(shapes, f"{stem}.down.0", shape[1], narrow)
        linear(shapes, f"{stem}.mid.0", narrow + width, narrow)
        linear(shapes, f"{stem}.up.0", narrow, shape[1])
    return shapes


def t2i_shapes(layout: Layout) -> Shapes:
    """A T2I-Adapter in its original layout."""
    shapes: Shapes = {}
    conv(shapes, "conv_in", 768 if layout.vector else 192, layout.unet_widths[0])
    taken = layout.unet_widths[0]
    for level, width in enumerate(layout.unet_widths):
        for block in range(2):
            name = f"body.{2 * level + block}"
            if taken != width:
                conv(shapes, f"{name}.in_conv", taken, width, 1)
            conv(shapes, f"{name}.block1", width, width)
            conv(shapes, f"{name}.block2", width, width, 1)
            taken = width
    return shapes


def ip_adapter_shapes(layout: Layout, projection: str, picture_width: int, tokens: int = 4) -> Shapes:
    """An IP-Adapter: "plain", "plus" or "full"."""
    context, shapes = layout.context, Shapes()
    if projection == "plain":
        linear(shapes, "image_proj.proj", picture_width, tokens * context)
        norm(shapes, "image_proj.norm", context)
    elif projection == "full":
        linear(shapes, "image_proj.proj.0", picture_width, picture_width)
        linear(shapes, "image_proj.proj.2", picture_width, context)
        norm(shapes, "image_proj.proj.3", context)
    else:
        hidden = 128
        shapes["image_proj.latents"] = (1, tokens, hidden)
        linear(shapes, "image_proj.proj_in", picture_width, hidden)
        linear(shapes, "image_proj.proj_out", hidden, context)
        norm(shapes, "image_proj.norm_out", context)
        for layer in range(4):
            name = f"image_proj.layers.{layer}"
            norm(shapes, f"{name}.0.norm1", hidden)
            norm(shapes, f"{name}.0.norm2", hidden)
            linear(shapes, f"{name}.0.to_q", hidden, 128, bias=False)
            linear(shapes, f"{name}.0.to_kv", hidden, 256, bias=False)
            linear(shapes, f"{name}.0.to_out", 128, hidden, bias=False)
            norm(shapes, f"{name}.1.0", hidden)
            linear(shapes, f"{name}.1.1", hidden, 4 * hidden, bias=False)
            linear(shapes, f"{name}.1.3", 4 * hidden, hidden, bias=False)
    order = ("input_blocks", "output_blocks", "middle_block")  # as diffusers lists them
    queries = [name for name in unet_shapes(layout) if name.endswith("attn2.to_q.weight")]
    for number, name in enumerate(sorted(queries, key=lambda name: order.index(name.split(".")[0]))):
        width = unet_shapes(layout)[name][0]
        for part in ("to_k_ip", "to_v_ip"):
            linear(shapes, f"ip_adapter.{2 * number + 1}.{part}", context, width, bias=False)
    return shapes


def vision_shapes(width: int = 32, summary: int = 24, layers: int = 3, edge: int = 28, patch: int = 14) -> Shapes:
    """CLIP's image encoder in transformers' layout."""
    model = "vision_model"
    shapes: Shapes = {
        f"{model}.embeddings.class_embedding": (width,),
        f"{model}.embeddings.patch_embedding.weight": (width, 3, patch, patch),
        f"{model}.embeddings.position_embedding.weight": ((edge // patch) ** 2 + 1, width),
        "visual_projection.weight": (summary, width),
    }
    norm(shapes, f"{model}.pre_layrnorm", width)
    norm(shapes, f"{model}.post_layernorm", width)
    for layer in range(layers):
        name = f"{model}.encoder.layers.{layer}"
        for part in ("q_proj", "k_proj", "v_proj", "out_proj"):
            linear(shapes, f"{name}.self_attn.{part}", width, width)
        norm(shapes, f"{name}.layer_norm1", width)
        norm(shapes, f"{name}.layer_norm2", width)
        linear(shapes, f"{name}.mlp.fc1", width, 4 * width)
        linear(shapes, f"{name}.mlp.fc2", 4 * width, width)
    return shapes


def random_weights(shapes: Mapping[str, tuple[int, ...]], seed: int = 0) -> dict[str, Tensor]:
    """Scaled so that what comes out of a layer is about as large as what went in."""
    generator = torch.Generator().manual_seed(seed)
    weights = {}
    for name, shape in shapes.items():
        drawn = torch.randn(shape, generator=generator)
        if len(shape) > 1:
            weights[name] = drawn / math.sqrt(math.prod(shape[1:]))
        else:
            weights[name] = 0.1 * drawn + (1.0 if name.endswith("weight") else 0.0)
    return weights


def write(file: Path, weights: Mapping[str, Tensor]) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    save_file({name: weight.contiguous() for name, weight in weights.items()}, file)
    return file
