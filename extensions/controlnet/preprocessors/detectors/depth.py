"""Depth, near is white: MiDaS, ZoeDepth, LeReS, Depth Anything; and MiDaS's normals. Maps are (H, W, 3) uint8."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor

from webui.extensions.api import BadModelFile, read_weights

from ..drawing import as_rgb
from .loading import filled, of_transformers, quietly, tensor_of

Picture = Any
Detect = Callable[[Picture, float, float], Picture]


def load_midas(files: Sequence[Path], device: Any, *, normals: bool = False) -> Detect:
    """Ranftl et al. 2021, DPT-Hybrid.

    normals: those of the depth; the slider is then the depth, 0 to 1, below which all is flat.
    """
    with quietly():
        from controlnet_aux.midas import MidasDetector
        from controlnet_aux.midas.midas.dpt_depth import DPTDepthModel

        network = DPTDepthModel(path=None, backbone="vitb_rn50_384", non_negative=True)
    detector = MidasDetector(filled(network, files[0], device))

    def detect(picture: Picture, threshold: float, _: float) -> Picture:
        size = min(picture.shape[:2])
        options = {"detect_resolution": size, "image_resolution": size, "output_type": "np"}
        if not normals:
            return detector(picture, **options)
        return detector(picture, **options, bg_th=threshold, depth_and_normal=True)[1]

    return detect


load_midas_normals = partial(load_midas, normals=True)


def load_zoe(files: Sequence[Path], device: Any) -> Detect:
    """Bhat et al. 2023; between the percentiles 2 and 85."""
    with quietly():
        from controlnet_aux.zoe import ZoeDepth, ZoeDetector, get_config

        network = ZoeDepth.build_from_config(get_config("zoedepth", "infer"))
    detector = ZoeDetector(filled(network, files[0], device))

    def detect(picture: Picture, _a: float, _b: float) -> Picture:
        size = min(picture.shape[:2])
        return detector(picture, detect_resolution=size, image_resolution=size, output_type="np")

    return detect


def load_leres(files: Sequence[Path], device: Any, *, boosts: bool = False) -> Detect:
    """Yin et al. 2021; boosts: merged from several resolutions (Miangoleh et al. 2021), by a second file's network.

    Sliders: percents of the near and of the far end that become black.
    """
    with quietly():
        from controlnet_aux.leres import LeresDetector, Pix2Pix4DepthModel, RelDepthModel

        network = filled(RelDepthModel(backbone="resnext101"), files[0], device)
        merging = None
        if boosts:
            # What its command line would give: no training, on the CPU until it is moved.
            options = SimpleNamespace(
                isTrain=False, gpu_ids=[], checkpoints_dir="", name="", preprocess="none", input_nc=2, output_nc=1
            )
            merging = Pix2Pix4DepthModel(options)
            merging.netG = filled(merging.netG, files[1], device)
            merging.device = torch.device(device)
    detector = LeresDetector(network, merging)

    def detect(picture: Picture, near: float, far: float) -> Picture:
        size = min(picture.shape[:2])
        options = {"detect_resolution": size, "image_resolution": size, "output_type": "np"}
        large = max(picture.shape[:2]) >= SMALLEST_BOOSTED
        return detector(picture, thr_a=near, thr_b=far, boost=boosts and large, **options)

    return detect


SMALLEST_BOOSTED = 192
"""Long side in pixels of the smallest picture that has details to be merged in."""
load_boosted_leres = partial(load_leres, boosts=True)

ANYTHING_SIDE, ANYTHING_PATCH = 518, 14
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
STAGES = {
    ("v1", 24): (21, 22, 23, 24),
    ("v1", 12): (9, 10, 11, 12),
    ("v2", 24): (5, 12, 18, 24),
    ("v2", 12): (3, 6, 9, 12),
}
"""Which layers of the vision transformer are read, by version and number of layers."""


def load_anything(files: Sequence[Path], device: Any, *, version: str = "v1") -> Detect:
    """Depth Anything (Yang et al. 2024) of any size, from a file in its authors' layout."""
    weights = {name.removeprefix("module."): value for name, value in read_weights(files[0]).items()}
    network = _anything(weights, files[0], device, version)
    mean, std = (torch.tensor(values, device=device).view(1, 3, 1, 1) for values in (MEAN, STD))

    def detect(picture: Picture, _a: float, _b: float) -> Picture:
        height, width = picture.shape[:2]
        scale = max(ANYTHING_SIDE / height, ANYTHING_SIDE / width)
        size = tuple(
            max(ANYTHING_SIDE, round(side * scale / ANYTHING_PATCH) * ANYTHING_PATCH) for side in (width, height)
        )
        scaled = cv2.resize(picture / 255.0, size, interpolation=cv2.INTER_CUBIC)
        with torch.inference_mode():
            depth = network(pixel_values=(tensor_of(scaled, device) - mean) / std).predicted_depth
            depth = torch.nn.functional.interpolate(depth[:, None], (height, width), mode="bilinear")[0, 0]
        return as_rgb(_stretched(depth.cpu().numpy()))

    return detect


load_anything_v2 = partial(load_anything, version="v2")


def _stretched(depth: Any) -> Any:
    """(H, W) of any range to uint8 from 0 to 255; black where all is equally far."""
    span = depth.max() - depth.min()
    return ((depth - depth.min()) / (span if span > 0 else 1) * 255).astype(np.uint8)


def _anything(weights: Mapping[str, Tensor], path: Path, device: Any, version: str) -> Any:
    from transformers import DepthAnythingConfig, DepthAnythingForDepthEstimation, Dinov2Config

    try:
        width = weights["pretrained.cls_token"].shape[-1]
        positions = weights["pretrained.pos_embed"].shape[1] - 1
        patch = weights["pretrained.patch_embed.proj.weight"].shape[-1]
        widths = [weights[f"depth_head.projects.{number}.weight"].shape[0] for number in range(4)]
        fused = weights["depth_head.scratch.layer1_rn.weight"].shape[0]
        ratio = weights["pretrained.blocks.0.mlp.fc1.weight"].shape[0] // width
        last = weights["depth_head.scratch.output_conv2.0.weight"].shape[0]
    except KeyError as error:
        raise BadModelFile(f"{path.name} is no Depth Anything in its authors' layout: {error} isn't there.") from error
    count = 1 + max(int(name.split(".")[2]) for name in weights if name.startswith("pretrained.blocks."))
    stages = STAGES.get((version, count)) or tuple(range(count - 3, count + 1))
    backbone = Dinov2Config(
        hidden_size=width,
        num_hidden_layers=count,
        num_attention_heads=max(width // 64, 1),
        mlp_ratio=ratio,
        image_size=round(positions**0.5) * patch,
        patch_size=patch,
        out_indices=stages,
        reshape_hidden_states=False,
    )
    config = DepthAnythingConfig(
        backbone_config=backbone,
        patch_size=patch,
        reassemble_hidden_size=width,
        neck_hidden_sizes=widths,
        fusion_hidden_size=fused,
        head_hidden_size=last,
    )
    return of_transformers(DepthAnythingForDepthEstimation, config, _as_transformers(weights, count), path, device)


def _as_transformers(weights: Mapping[str, Tensor], count: int) -> dict[str, Tensor]:
    """Depth Anything's tensors under the names that transformers gives them."""
    named = {
        "pretrained.cls_token": "backbone.embeddings.cls_token",
        "pretrained.mask_token": "backbone.embeddings.mask_token",
        "pretrained.pos_embed": "backbone.embeddings.position_embeddings",
        "pretrained.patch_embed.proj": "backbone.embeddings.patch_embeddings.projection",
        "pretrained.norm": "backbone.layernorm",
        "depth_head.scratch.output_conv1": "head.conv1",
        "depth_head.scratch.output_conv2.0": "head.conv2",
        "depth_head.scratch.output_conv2.2": "head.conv3",
    }
    for number in range(count):
        block, layer = f"pretrained.blocks.{number}", f"backbone.encoder.layer.{number}"
        named |= {
            f"{block}.ls1.gamma": f"{layer}.layer_scale1.lambda1",
            f"{block}.ls2.gamma": f"{layer}.layer_scale2.lambda1",
            f"{block}.attn.proj": f"{layer}.attention.output.dense",
        }
        named |= {f"{block}.{part}": f"{layer}.{part}" for part in ("norm1", "norm2", "mlp.fc1", "mlp.fc2")}
    for number in range(4):
        stage, fusion = "neck.reassemble_stage.layers", f"neck.fusion_stage.layers.{3 - number}"
        refine = f"depth_head.scratch.refinenet{number + 1}"
        named |= {
            f"depth_head.projects.{number}": f"{stage}.{number}.projection",
            f"depth_head.resize_layers.{number}": f"{stage}.{number}.resize",
            f"depth_head.scratch.layer{number + 1}_rn": f"neck.convs.{number}",
            f"{refine}.out_conv": f"{fusion}.projection",
        }
        for unit in (1, 2):
            for conv in (1, 2):
                named[f"{refine}.resConfUnit{unit}.conv{conv}"] = f"{fusion}.residual_layer{unit}.convolution{conv}"
    found: dict[str, Tensor] = {}
    for name, value in weights.items():
        stem, _, ending = name.rpartition(".")
        if stem.endswith(".attn.qkv"):
            layer = f"backbone.encoder.layer.{stem.split('.')[2]}.attention.attention"
            for part, third in zip(("query", "key", "value"), value.chunk(3), strict=True):
                found[f"{layer}.{part}.{ending}"] = third
        elif name in named:
            found[named[name]] = value
        elif stem in named:
            found[f"{named[stem]}.{ending}"] = value
    return found
