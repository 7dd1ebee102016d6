"""Write a checkpoint of any supported family with random weights, every key in its place.

    python tools/random_checkpoint.py random-sd15.safetensors                    # full size, fp16, 2.13 GB
    python tools/random_checkpoint.py tiny.safetensors --size tiny --family sdxl

For timings and tests: the weights are seeded and scaled so that activations stay finite, the pictures are noise.
The layouts are spelled out here in the checkpoints' own (LDM, SAI) terms, apart from the code that loads them.
"""

from __future__ import annotations

import argparse
import json
import math
import struct
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import numpy as np

Shapes = dict[str, tuple[int, ...]]


@dataclass(frozen=True)
class Layout:
    """The sizes that make up a checkpoint; the defaults are SD 1.x's real ones (1.07 billion weights).

    family: "sd1", "sd2", "sd2-turbo", "sdxl", "sdxl-refiner" or "sd3". depths: transformer blocks per level (1 each
    but none on the last). up_depths: per output block where they differ. middle_depth: None for a middle of one ResNet.
    text_*: CLIP-L, or SD 2's OpenCLIP. big_*: SDXL's second encoder. transformer_*: SD 3's network.
    heads and groups can't be read from shapes: files that differ from the defaults get a .yaml sidecar.
    """

    family: str = "sd1"
    unet_widths: tuple[int, ...] = (320, 640, 1280, 1280)
    depths: tuple[int, ...] | None = None
    up_depths: tuple[tuple[int, ...], ...] | None = None
    middle_depth: int | None = 1
    unet_heads: int = 8
    unet_groups: int = 32
    in_channels: int = 4
    vae_widths: tuple[int, ...] = (128, 256, 512, 512)
    vae_groups: int = 32
    text_width: int = 768
    text_layers: int = 12
    text_heads: int = 12
    big_width: int = 1280
    big_layers: int = 32
    projection: int = 1280
    vocabulary: int = 49408
    native_size: int = 512
    cfg_scale: float | None = None
    prediction: str = "eps"
    transformer_depth: int = 24
    transformer_context: int = 4096
    transformer_positions: int = 192

    @property
    def latent_channels(self) -> int:
        return 16 if self.family == "sd3" else 4

    @property
    def context(self) -> int:
        """Channels of the text that the U-Net attends to."""
        return {"sdxl": self.text_width + self.big_width, "sdxl-refiner": self.big_width}.get(
            self.family, self.text_width
        )

    @property
    def vector(self) -> int:
        """Channels of the vector beside the text: what is pooled, and 256 for each number about the picture."""
        return {"sdxl": self.projection + 6 * 256, "sdxl-refiner": self.projection + 5 * 256}.get(self.family, 0)

    @property
    def needs_sidecar(self) -> bool:
        return self.family == "sd1" or self.prediction == "v"


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
_SD2 = replace(FULL, family="sd2", text_width=1024, text_layers=24)
_SDXL = replace(FULL, family="sdxl", unet_widths=(320, 640, 1280), depths=(0, 2, 10), middle_depth=10)
FULL_SIZES: Mapping[str, Layout] = {
    "sd1": FULL,
    "sd1-inpaint": replace(FULL, in_channels=9),
    "sd2": _SD2,
    "sd2-v": replace(_SD2, prediction="v"),
    "sd2-turbo": replace(_SD2, family="sd2-turbo"),
    "sdxl": _SDXL,
    "sdxl-inpaint": replace(_SDXL, in_channels=9),
    "ssd-1b": replace(_SDXL, depths=(0, 2, 4), up_depths=((4, 4, 10), (2, 1, 1), (0, 0, 0)), middle_depth=None),
    "sdxl-refiner": replace(
        FULL, family="sdxl-refiner", unet_widths=(384, 768, 1536, 1536), depths=(0, 4, 4, 0), middle_depth=4
    ),
    "sd3": replace(FULL, family="sd3"),
}
"""The published models, by the names that --family takes."""

_TINY = {
    "vae_widths": (32, 32, 64, 64),
    "text_width": 64,
    "text_layers": 3,
    "big_width": 64,
    "big_layers": 3,
    "projection": 32,
}
TINY_SIZES: Mapping[str, Layout] = {
    name: replace(
        layout,
        **_TINY,
        unet_widths=(32, 64, 64, 64)[: len(layout.unet_widths)],
        depths=layout.depths and tuple(min(depth, 3) for depth in layout.depths),
        up_depths=layout.up_depths and ((2, 2, 3), (2, 1, 1), (0, 0, 0)),
        middle_depth=layout.middle_depth and min(layout.middle_depth, 3),
        transformer_depth=2,
        transformer_context=160,
        transformer_positions=16,
    )
    for name, layout in FULL_SIZES.items()
    if layout.family != "sd1"
} | {"sd1": TINY, "sd1-inpaint": replace(TINY, in_channels=9)}
"""The same at a size for tests; none but SD 1.x needs a sidecar."""

UNET, VAE, TEXT = "model.diffusion_model.", "first_stage_model.", "cond_stage_model.transformer.text_model."


def checkpoint_shapes(layout: Layout) -> Shapes:
    """Key -> shape of everything that is learned."""
    network = transformer_shapes(layout) if layout.family == "sd3" else unet_shapes(layout)
    shapes = {UNET + key: shape for key, shape in network.items()}
    shapes |= {VAE + key: shape for key, shape in vae_shapes(layout).items()}
    for prefix, text in texts(layout):
        shapes |= {prefix + key: shape for key, shape in text.items()}
    return shapes


def texts(layout: Layout) -> Iterator[tuple[str, Shapes]]:
    """Prefix and shapes of every text encoder."""
    small, big = text_shapes(layout), open_clip_shapes(layout, layout.big_width, layout.big_layers, layout.projection)
    if layout.family == "sd1":
        yield TEXT, small
    elif layout.family in ("sd2", "sd2-turbo"):
        prefix = "cond_stage_model.model." if layout.family == "sd2" else "conditioner.embedders.0.model."
        yield prefix, open_clip_shapes(layout, layout.text_width, layout.text_layers, layout.text_width)
    elif layout.family == "sdxl":
        yield "conditioner.embedders.0.transformer.text_model.", small
        yield "conditioner.embedders.1.model.", big
    elif layout.family == "sdxl-refiner":
        yield "conditioner.embedders.0.model.", big
    else:
        bigger = replace(layout, text_width=layout.big_width, text_layers=layout.big_layers)
        yield "text_encoders.clip_l.transformer.text_model.", small
        yield "text_encoders.clip_g.transformer.text_model.", text_shapes(bigger)
        yield "text_encoders.clip_g.transformer.", {"text_projection.weight": (layout.projection, layout.big_width)}


def unet_shapes(layout: Layout) -> Shapes:
    """The U-Net: two blocks a level."""
    widths, context, base = layout.unet_widths, layout.context, layout.unet_widths[0]
    last, embedding = len(widths) - 1, 4 * base
    depths = layout.depths or (1,) * last + (0,)
    ups = layout.up_depths or tuple((depth,) * 3 for depth in reversed(depths))
    linear = layout.family != "sd1"
    shapes: Shapes = {}
    _linear(shapes, "time_embed.0", base, embedding)
    _linear(shapes, "time_embed.2", embedding, embedding)
    if layout.vector:
        _linear(shapes, "label_emb.0.0", layout.vector, embedding)
        _linear(shapes, "label_emb.0.2", embedding, embedding)
    _conv(shapes, "input_blocks.0.0", layout.in_channels, base)
    skips, channels, block = [base], base, 1
    for level, width in enumerate(widths):
        for _ in range(2):
            _unet_resnet(shapes, f"input_blocks.{block}.0", channels, width, embedding)
            _transformer(shapes, f"input_blocks.{block}.1", width, context, depths[level], linear)
            channels = width
            skips.append(channels)
            block += 1
        if level < last:
            _conv(shapes, f"input_blocks.{block}.0.op", channels, channels)
            skips.append(channels)
            block += 1
    _unet_resnet(shapes, "middle_block.0", channels, channels, embedding)
    if layout.middle_depth is not None:
        _transformer(shapes, "middle_block.1", channels, context, layout.middle_depth, linear)
        _unet_resnet(shapes, "middle_block.2", channels, channels, embedding)
    block = 0
    for level, width in reversed(list(enumerate(widths))):
        for item in range(3):
            _unet_resnet(shapes, f"output_blocks.{block}.0", channels + skips.pop(), width, embedding)
            channels = width
            depth = ups[last - level][item]
            _transformer(shapes, f"output_blocks.{block}.1", width, context, depth, linear)
            if level and item == 2:
                _conv(shapes, f"output_blocks.{block}.{2 if depth else 1}.conv", width, width)
            block += 1
    _norm(shapes, "out.0", base)
    _conv(shapes, "out.2", base, 4)
    return shapes


def transformer_shapes(layout: Layout) -> Shapes:
    """SD 3's network: blocks that read picture and text side by side; the last one's text goes no further."""
    width, shapes = 64 * layout.transformer_depth, Shapes()
    channels = layout.latent_channels
    shapes["pos_embed"] = (1, layout.transformer_positions**2, width)
    _conv(shapes, "x_embedder.proj", channels, width, kernel=2)
    for name, inputs in (("t_embedder", 256), ("y_embedder", layout.text_width + layout.projection)):
        _linear(shapes, f"{name}.mlp.0", inputs, width)
        _linear(shapes, f"{name}.mlp.2", width, width)
    _linear(shapes, "context_embedder", layout.transformer_context, width)
    for index in range(layout.transformer_depth):
        for side in ("context_block", "x_block"):
            name = f"joint_blocks.{index}.{side}"
            ends = side == "context_block" and index == layout.transformer_depth - 1
            _linear(shapes, f"{name}.attn.qkv", width, 3 * width)
            _linear(shapes, f"{name}.adaLN_modulation.1", width, (2 if ends else 6) * width)
            if not ends:
                _linear(shapes, f"{name}.attn.proj", width, width)
                _linear(shapes, f"{name}.mlp.fc1", width, 4 * width)
                _linear(shapes, f"{name}.mlp.fc2", 4 * width, width)
    _linear(shapes, "final_layer.adaLN_modulation.1", width, 2 * width)
    _linear(shapes, "final_layer.linear", width, 4 * channels)
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
    latent = layout.latent_channels
    _conv(shapes, "encoder.conv_out", channels, 2 * latent)
    _conv(shapes, "decoder.conv_in", latent, channels)
    _vae_middle(shapes, "decoder.mid", channels)
    for level, width in reversed(list(enumerate(widths))):
        for item in range(3):
            _vae_resnet(shapes, f"decoder.up.{level}.block.{item}", channels, width)
            channels = width
        if level:
            _conv(shapes, f"decoder.up.{level}.upsample.conv", width, width)
    _norm(shapes, "decoder.norm_out", channels)
    _conv(shapes, "decoder.conv_out", channels, 3)
    if layout.family != "sd3":
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


def open_clip_shapes(layout: Layout, width: int, layers: int, projection: int) -> Shapes:
    """A text encoder in OpenCLIP's spelling: q, k and v in one."""
    shapes: Shapes = {
        "token_embedding.weight": (layout.vocabulary, width),
        "positional_embedding": (77, width),
        "text_projection": (width, projection),
        "logit_scale": (),
    }
    for layer in range(layers):
        name = f"transformer.resblocks.{layer}"
        shapes[f"{name}.attn.in_proj_weight"] = (3 * width, width)
        shapes[f"{name}.attn.in_proj_bias"] = (3 * width,)
        _linear(shapes, f"{name}.attn.out_proj", width, width)
        _norm(shapes, f"{name}.ln_1", width)
        _norm(shapes, f"{name}.ln_2", width)
        _linear(shapes, f"{name}.mlp.c_fc", width, 4 * width)
        _linear(shapes, f"{name}.mlp.c_proj", 4 * width, width)
    _norm(shapes, "ln_final", width)
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


def _transformer(shapes: Shapes, name: str, width: int, context: int, depth: int, linear: bool) -> None:
    if not depth:
        return
    _norm(shapes, f"{name}.norm", width)
    for outer in ("proj_in", "proj_out"):
        if linear:
            _linear(shapes, f"{name}.{outer}", width, width)
        else:
            _conv(shapes, f"{name}.{outer}", width, width, kernel=1)
    for index in range(depth):
        block = f"{name}.transformer_blocks.{index}"
        for attention, source in (("attn1", width), ("attn2", context)):
            _linear(shapes, f"{block}.{attention}.to_q", width, width, bias=False)
            _linear(shapes, f"{block}.{attention}.to_k", source, width, bias=False)
            _linear(shapes, f"{block}.{attention}.to_v", source, width, bias=False)
            _linear(shapes, f"{block}.{attention}.to_out.0", width, width)
        _linear(shapes, f"{block}.ff.net.0.proj", width, 8 * width)
        _linear(shapes, f"{block}.ff.net.2", 4 * width, width)
        for norm in ("norm1", "norm2", "norm3"):
            _norm(shapes, f"{block}.{norm}", width)


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


class NormalNumbers(Protocol):
    """What draws the weights; numpy's generators do."""

    def standard_normal(self, shape: tuple[int, ...], dtype: type[np.float32]) -> np.ndarray: ...


def random_weights(name: str, shape: tuple[int, ...], random: NormalNumbers) -> np.ndarray:
    """fp32 values for one tensor: norms 1, biases 0, the rest normal with std 1/sqrt(fan in)."""
    if len(shape) < 2:
        values = np.full(shape, 1.0 if name.endswith("weight") else 0.0, np.float32)
        if name.endswith("quant_conv.bias") and shape == (8,):
            values[4:] = -20.0  # log variance: the encoder's posterior is as narrow as a trained one's
        return values
    values = random.standard_normal(shape, np.float32)
    if "embedding" in name or name.endswith("pos_embed"):
        return values * np.float32(0.02)
    values *= np.float32(1 / math.sqrt(math.prod(shape[1:])))
    if name.endswith(("encoder.conv_out.weight", "post_quant_conv.weight")):
        values *= np.float32(0.5)
    if name.endswith("encoder.conv_out.weight") and shape[0] == 32:
        values[16:] = 0.0  # without a quant_conv it gives mean and log variance itself
    if name.endswith(VAE + "quant_conv.weight"):
        values[4:] = 0.0
    return values


def _bf16(values: np.ndarray) -> np.ndarray:
    """The upper halves of fp32 numbers, rounded to nearest."""
    return ((values.view(np.uint32) + 0x8000) >> 16).astype(np.uint16)


DTYPES: Mapping[str, tuple[int, Callable[[np.ndarray], np.ndarray]]] = {
    "F16": (2, lambda values: values.astype(np.float16)),
    "BF16": (2, _bf16),
    "F32": (4, lambda values: values),
}
"""Bytes of a number, and how fp32 values become it."""


def write_checkpoint(
    path: Path,
    layout: Layout = FULL,
    dtype: str = "F16",
    seed: int = 0,
    metadata: Mapping[str, str] | None = None,
    sidecar: bool = True,
    random: NormalNumbers | None = None,
) -> None:
    """Write `path`, tensor by tensor, and beside it the .yaml sidecar.

    dtype: "F16", "BF16" or "F32". random: draws the weights; None for numpy's generator with that seed.
    """
    item, convert = DTYPES[dtype]
    shapes = dict(sorted(checkpoint_shapes(layout).items()))
    header: dict[str, object] = {"__metadata__": dict(metadata)} if metadata else {}
    at = 0
    for name, shape in shapes.items():
        size = math.prod(shape) * item
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [at, at + size]}
        at += size
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    if random is None:
        random = np.random.default_rng(seed)
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for name, shape in shapes.items():
            file.write(convert(random_weights(name, shape, random)).tobytes())
    if sidecar and layout.needs_sidecar:
        path.with_suffix(".yaml").write_text("\n".join(sidecar_lines(layout)) + "\n")


def sidecar_lines(layout: Layout) -> Iterator[str]:
    """The .yaml beside the file: what shapes can't tell, in the place where LDM configurations have it."""
    yield "model:"
    yield "  target: ldm.models.diffusion.ddpm.LatentDiffusion"
    yield "  params:"
    if layout.prediction == "v":
        yield '    parameterization: "v"'
    if layout.family != "sd1":
        return
    yield "    linear_start: 0.00085"
    yield "    linear_end: 0.0120"
    yield "    scale_factor: 0.18215"
    yield f"    native_size: {layout.native_size}"
    if layout.cfg_scale is not None:
        yield f"    cfg_scale: {layout.cfg_scale}"
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
    parser.add_argument("--family", choices=FULL_SIZES, default="sd1")
    parser.add_argument("--dtype", choices=DTYPES, default="F16")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    layout = {"full": FULL_SIZES, "tiny": TINY_SIZES}[arguments.size][arguments.family]
    write_checkpoint(arguments.path, layout, arguments.dtype, arguments.seed)
    print(f"{arguments.path}: {arguments.path.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
