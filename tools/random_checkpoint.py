"""Write a Stable Diffusion 1.x checkpoint with random weights, every key in its place.

    python tools/random_checkpoint.py random-sd15.safetensors            # full size, fp16, 2.13 GB
    python tools/random_checkpoint.py tiny.safetensors --size tiny

For timings and tests: the weights are seeded and scaled so that activations stay finite, the pictures are noise.
The layout is spelled out here in the checkpoint's own (LDM) terms, apart from the code that loads it.
"""

from __future__ import annotations

import argparse
import json
import math
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

Shapes = dict[str, tuple[int, ...]]


@dataclass(frozen=True)
class Layout:
    """The sizes that make up an SD 1.x checkpoint; the defaults are the real ones (1.07 billion weights).

    heads and groups can't be read from shapes: files that differ from the defaults get a .yaml sidecar.
    """

    unet_widths: tuple[int, ...] = (320, 640, 1280, 1280)
    unet_heads: int = 8
    unet_groups: int = 32
    in_channels: int = 4
    vae_widths: tuple[int, ...] = (128, 256, 512, 512)
    vae_groups: int = 32
    text_width: int = 768
    text_layers: int = 12
    text_heads: int = 12
    vocabulary: int = 49408
    native_size: int = 512
    prediction: str = "eps"


FULL = Layout()
TINY = Layout(
    unet_widths=(32, 64, 64, 64),
    unet_heads=4,
    unet_groups=16,
    vae_widths=(32, 32, 64, 64),
    vae_groups=16,
    text_width=32,
    text_layers=2,
    text_heads=4,
    native_size=64,
)

UNET, VAE, TEXT = "model.diffusion_model.", "first_stage_model.", "cond_stage_model.transformer.text_model."


def checkpoint_shapes(layout: Layout) -> Shapes:
    """Key -> shape of everything that is learned."""
    return {
        **{UNET + key: shape for key, shape in unet_shapes(layout).items()},
        **{VAE + key: shape for key, shape in vae_shapes(layout).items()},
        **{TEXT + key: shape for key, shape in text_shapes(layout).items()},
    }


def unet_shapes(layout: Layout) -> Shapes:
    """The U-Net: two blocks a level, attention in all levels but the last."""
    widths, context, base = layout.unet_widths, layout.text_width, layout.unet_widths[0]
    last, embedding = len(widths) - 1, 4 * base
    shapes: Shapes = {}
    _linear(shapes, "time_embed.0", base, embedding)
    _linear(shapes, "time_embed.2", embedding, embedding)
    _conv(shapes, "input_blocks.0.0", layout.in_channels, base)
    skips, channels, block = [base], base, 1
    for level, width in enumerate(widths):
        for _ in range(2):
            _unet_resnet(shapes, f"input_blocks.{block}.0", channels, width, embedding)
            if level < last:
                _transformer(shapes, f"input_blocks.{block}.1", width, context)
            channels = width
            skips.append(channels)
            block += 1
        if level < last:
            _conv(shapes, f"input_blocks.{block}.0.op", channels, channels)
            skips.append(channels)
            block += 1
    _unet_resnet(shapes, "middle_block.0", channels, channels, embedding)
    _transformer(shapes, "middle_block.1", channels, context)
    _unet_resnet(shapes, "middle_block.2", channels, channels, embedding)
    block = 0
    for level, width in reversed(list(enumerate(widths))):
        for item in range(3):
            _unet_resnet(shapes, f"output_blocks.{block}.0", channels + skips.pop(), width, embedding)
            channels = width
            if level < last:
                _transformer(shapes, f"output_blocks.{block}.1", width, context)
            if level and item == 2:
                _conv(shapes, f"output_blocks.{block}.{2 if level < last else 1}.conv", width, width)
            block += 1
    _norm(shapes, "out.0", base)
    _conv(shapes, "out.2", base, 4)
    return shapes


def vae_shapes(layout: Layout) -> Shapes:
    """The autoencoder: two blocks a level going down, three going up, one attention in each middle."""
    widths = layout.vae_widths
    last, shapes = len(widths) - 1, Shapes()
    _conv(shapes, "encoder.conv_in", 3, widths[0])
    channels = widths[0]
    for level, width in enumerate(widths):
        for item in range(2):
            _vae_resnet(shapes, f"encoder.down.{level}.block.{item}", channels, width)
            channels = width
        if level < last:
            _conv(shapes, f"encoder.down.{level}.downsample.conv", width, width)
    _vae_middle(shapes, "encoder.mid", channels)
    _norm(shapes, "encoder.norm_out", channels)
    _conv(shapes, "encoder.conv_out", channels, 8)
    _conv(shapes, "decoder.conv_in", 4, channels)
    _vae_middle(shapes, "decoder.mid", channels)
    for level, width in reversed(list(enumerate(widths))):
        for item in range(3):
            _vae_resnet(shapes, f"decoder.up.{level}.block.{item}", channels, width)
            channels = width
        if level:
            _conv(shapes, f"decoder.up.{level}.upsample.conv", width, width)
    _norm(shapes, "decoder.norm_out", channels)
    _conv(shapes, "decoder.conv_out", channels, 3)
    _conv(shapes, "quant_conv", 8, 8, kernel=1)
    _conv(shapes, "post_quant_conv", 4, 4, kernel=1)
    return shapes


def text_shapes(layout: Layout) -> Shapes:
    width, shapes = layout.text_width, Shapes()
    shapes["embeddings.token_embedding.weight"] = (layout.vocabulary, width)
    shapes["embeddings.position_embedding.weight"] = (77, width)
    for layer in range(layout.text_layers):
        name = f"encoder.layers.{layer}"
        for part in ("q_proj", "k_proj", "v_proj", "out_proj"):
            _linear(shapes, f"{name}.self_attn.{part}", width, width)
        _norm(shapes, f"{name}.layer_norm1", width)
        _norm(shapes, f"{name}.layer_norm2", width)
        _linear(shapes, f"{name}.mlp.fc1", width, 4 * width)
        _linear(shapes, f"{name}.mlp.fc2", 4 * width, width)
    _norm(shapes, "final_layer_norm", width)
    return shapes


def _linear(shapes: Shapes, name: str, inputs: int, outputs: int, bias: bool = True) -> None:
    shapes[f"{name}.weight"] = (outputs, inputs)
    if bias:
        shapes[f"{name}.bias"] = (outputs,)


def _conv(shapes: Shapes, name: str, inputs: int, outputs: int, kernel: int = 3) -> None:
    shapes[f"{name}.weight"] = (outputs, inputs, kernel, kernel)
    shapes[f"{name}.bias"] = (outputs,)


def _norm(shapes: Shapes, name: str, width: int) -> None:
    shapes[f"{name}.weight"] = shapes[f"{name}.bias"] = (width,)


def _unet_resnet(shapes: Shapes, name: str, inputs: int, outputs: int, embedding: int) -> None:
    _norm(shapes, f"{name}.in_layers.0", inputs)
    _conv(shapes, f"{name}.in_layers.2", inputs, outputs)
    _linear(shapes, f"{name}.emb_layers.1", embedding, outputs)
    _norm(shapes, f"{name}.out_layers.0", outputs)
    _conv(shapes, f"{name}.out_layers.3", outputs, outputs)
    if inputs != outputs:
        _conv(shapes, f"{name}.skip_connection", inputs, outputs, kernel=1)


def _transformer(shapes: Shapes, name: str, width: int, context: int) -> None:
    _norm(shapes, f"{name}.norm", width)
    _conv(shapes, f"{name}.proj_in", width, width, kernel=1)
    block = f"{name}.transformer_blocks.0"
    for attention, source in (("attn1", width), ("attn2", context)):
        _linear(shapes, f"{block}.{attention}.to_q", width, width, bias=False)
        _linear(shapes, f"{block}.{attention}.to_k", source, width, bias=False)
        _linear(shapes, f"{block}.{attention}.to_v", source, width, bias=False)
        _linear(shapes, f"{block}.{attention}.to_out.0", width, width)
    _linear(shapes, f"{block}.ff.net.0.proj", width, 8 * width)
    _linear(shapes, f"{block}.ff.net.2", 4 * width, width)
    for norm in ("norm1", "norm2", "norm3"):
        _norm(shapes, f"{block}.{norm}", width)
    _conv(shapes, f"{name}.proj_out", width, width, kernel=1)


def _vae_resnet(shapes: Shapes, name: str, inputs: int, outputs: int) -> None:
    _norm(shapes, f"{name}.norm1", inputs)
    _conv(shapes, f"{name}.conv1", inputs, outputs)
    _norm(shapes, f"{name}.norm2", outputs)
    _conv(shapes, f"{name}.conv2", outputs, outputs)
    if inputs != outputs:
        _conv(shapes, f"{name}.nin_shortcut", inputs, outputs, kernel=1)


def _vae_middle(shapes: Shapes, name: str, width: int) -> None:
    _vae_resnet(shapes, f"{name}.block_1", width, width)
    _norm(shapes, f"{name}.attn_1.norm", width)
    for part in ("q", "k", "v", "proj_out"):
        _conv(shapes, f"{name}.attn_1.{part}", width, width, kernel=1)
    _vae_resnet(shapes, f"{name}.block_2", width, width)


def random_weights(name: str, shape: tuple[int, ...], random: np.random.Generator) -> np.ndarray:
    """fp32 values for one tensor: norms 1, biases 0, the rest normal with std 1/sqrt(fan in)."""
    if len(shape) == 1:
        values = np.full(shape, 1.0 if name.endswith("weight") else 0.0, np.float32)
        if name.endswith("quant_conv.bias") and shape == (8,):
            values[4:] = -20.0  # log variance: the encoder's posterior is as narrow as a trained one's
        return values
    values = random.standard_normal(shape, np.float32)
    if "embedding" in name:
        return values * np.float32(0.02)
    values *= np.float32(1 / math.sqrt(math.prod(shape[1:])))
    if name.endswith(("encoder.conv_out.weight", "post_quant_conv.weight")):
        values *= np.float32(0.5)
    if name.endswith(VAE + "quant_conv.weight"):
        values[4:] = 0.0
    return values


def write_checkpoint(
    path: Path,
    layout: Layout = FULL,
    dtype: str = "F16",
    seed: int = 0,
    metadata: Mapping[str, str] | None = None,
    sidecar: bool = True,
) -> None:
    """Write `path`, tensor by tensor, and beside it the .yaml sidecar. dtype: "F16" or "F32"."""
    item, numpy_type = {"F16": (2, np.float16), "F32": (4, np.float32)}[dtype]
    shapes = dict(sorted(checkpoint_shapes(layout).items()))
    header: dict[str, object] = {"__metadata__": dict(metadata)} if metadata else {}
    at = 0
    for name, shape in shapes.items():
        size = math.prod(shape) * item
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [at, at + size]}
        at += size
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    random = np.random.default_rng(seed)
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for name, shape in shapes.items():
            file.write(random_weights(name, shape, random).astype(numpy_type).tobytes())
    if sidecar:
        path.with_suffix(".yaml").write_text("\n".join(sidecar_lines(layout)) + "\n")


def sidecar_lines(layout: Layout) -> Iterator[str]:
    """The .yaml beside the file: what shapes can't tell, in the place where LDM configurations have it."""
    yield "model:"
    yield "  target: ldm.models.diffusion.ddpm.LatentDiffusion"
    yield "  params:"
    if layout.prediction == "v":
        yield '    parameterization: "v"'
    yield "    linear_start: 0.00085"
    yield "    linear_end: 0.0120"
    yield "    scale_factor: 0.18215"
    yield f"    native_size: {layout.native_size}"
    yield "    unet_config:"
    yield "      params:"
    yield f"        num_heads: {layout.unet_heads}"
    yield f"        norm_num_groups: {layout.unet_groups}"
    yield "    first_stage_config:"
    yield "      params:"
    yield "        ddconfig:"
    yield f"          norm_num_groups: {layout.vae_groups}"
    yield "    cond_stage_config:"
    yield "      params:"
    yield f"        num_attention_heads: {layout.text_heads}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("path", type=Path)
    parser.add_argument("--size", choices=("full", "tiny"), default="full")
    parser.add_argument("--dtype", choices=("F16", "F32"), default="F16")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    layout = {"full": FULL, "tiny": TINY}[arguments.size]
    write_checkpoint(arguments.path, layout, arguments.dtype, arguments.seed)
    print(f"{arguments.path}: {arguments.path.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
