"""Files as their makers lay them out, with random weights: the networks' own names, under the usual wrappers."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from extensions.controlnet.preprocessors.detectors.lines import MangaLines
from extensions.controlnet.preprocessors.detectors.loading import quietly

Weights = dict[str, Tensor]


def written(folder: Path, name: str) -> Path:
    """The file of that name, made on its first use."""
    path = folder / name
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.manual_seed(0)
        with quietly():
            content = MADE[name]()
        if name.endswith(".safetensors"):
            save_file(content, path)
        else:
            torch.save(content, path)
    return path


def _prefixed(weights: Mapping[str, Tensor], prefix: str) -> Weights:
    return {prefix + name: value for name, value in weights.items()}


def _hed() -> Weights:
    from controlnet_aux.hed import ControlNetHED_Apache2

    return ControlNetHED_Apache2().state_dict()


def _pidinet() -> dict[str, Any]:
    from controlnet_aux.pidi.model import pidinet

    return {"epoch": 14, "state_dict": _prefixed(pidinet().state_dict(), "module.")}


def _teed() -> Weights:
    from controlnet_aux.teed.ted import TED

    weights = TED().state_dict()
    weights["block_cat.DWconv2.weight"] *= 500  # so that random edges have all greys
    return weights


def _mlsd() -> Weights:
    from controlnet_aux.mlsd.models.mbv2_mlsd_large import MobileV2_MLSD_Large

    return MobileV2_MLSD_Large().state_dict()


def _lineart() -> Weights:
    from controlnet_aux.lineart import Generator

    return Generator(3, 1, 3).state_dict()


def _anime() -> Weights:
    from controlnet_aux.lineart_anime import UnetGenerator

    norm = functools.partial(nn.InstanceNorm2d, affine=False, track_running_stats=False)
    return _prefixed(UnetGenerator(3, 1, 8, 64, norm_layer=norm).state_dict(), "module.")


def _manga() -> Weights:
    weights = MangaLines().state_dict()
    weights["conv15.model.2.weight"] *= 15  # so that random lines have all greys
    weights["conv15.model.2.bias"] += 60
    return weights


def _midas() -> Weights:
    from controlnet_aux.midas.midas.dpt_depth import DPTDepthModel

    return DPTDepthModel(path=None, backbone="vitb_rn50_384", non_negative=True).state_dict()


def _leres() -> dict[str, Weights]:
    from controlnet_aux.leres import RelDepthModel

    return {"depth_model": _prefixed(RelDepthModel(backbone="resnext101").state_dict(), "module.")}


def _leres_merging() -> Weights:
    from controlnet_aux.leres.pix2pix.models import networks

    return networks.define_G(2, 1, 64, "unet_1024", "none", False, "normal", 0.02, []).state_dict()


def _bae() -> dict[str, Weights]:
    from controlnet_aux.normalbae import NNET

    options = SimpleNamespace(
        mode="client", architecture="BN", pretrained="scannet", sampling_ratio=0.4, importance_ratio=0.7
    )
    return {"model": _prefixed(NNET(options).state_dict(), "module.")}


def _openpose(name: str) -> Weights:
    from controlnet_aux.open_pose import model

    return {key.partition(".")[2]: value for key, value in getattr(model, name)().state_dict().items()}


def _openpose_face() -> Weights:
    from controlnet_aux.open_pose.face import FaceNet

    return FaceNet().state_dict()


def depth_anything(width: int = 64, layers: int = 12, fused: int = 16, last: int = 32) -> Weights:
    """In its authors' layout, small: a vision transformer of 14 x 14 patches, four stages, the head."""
    generator = torch.Generator().manual_seed(0)

    def random(*shape: int, mean: float = 0.0) -> Tensor:
        return torch.randn(*shape, generator=generator) * 0.05 + mean

    def layer(name: str, *shape: int) -> Weights:
        return {f"{name}.weight": random(*shape), f"{name}.bias": random(shape[0])}

    def norm(name: str) -> Weights:
        return {f"{name}.weight": random(width, mean=1.0), f"{name}.bias": random(width)}

    found: Weights = {
        "pretrained.cls_token": random(1, 1, width),
        "pretrained.mask_token": random(1, width),
        "pretrained.pos_embed": random(1, 37 * 37 + 1, width),
        **layer("pretrained.patch_embed.proj", width, 3, 14, 14),
        **norm("pretrained.norm"),
    }
    for number in range(layers):
        block = f"pretrained.blocks.{number}"
        found |= norm(f"{block}.norm1") | norm(f"{block}.norm2")
        found |= layer(f"{block}.attn.qkv", 3 * width, width) | layer(f"{block}.attn.proj", width, width)
        found |= layer(f"{block}.mlp.fc1", 4 * width, width) | layer(f"{block}.mlp.fc2", width, 4 * width)
        found |= {f"{block}.ls{part}.gamma": random(width) for part in (1, 2)}
    head = "depth_head"
    for number, channels in enumerate((8, 16, 32, 32)):
        refine = f"{head}.scratch.refinenet{number + 1}"
        found |= layer(f"{head}.projects.{number}", channels, width, 1, 1)
        if kernel := {0: 4, 1: 2, 3: 3}.get(number):
            found |= layer(f"{head}.resize_layers.{number}", channels, channels, kernel, kernel)
        found[f"{head}.scratch.layer{number + 1}_rn.weight"] = random(fused, channels, 3, 3)
        found |= layer(f"{refine}.out_conv", fused, fused, 1, 1)
        for unit in (1, 2):
            for conv in (1, 2):
                found |= layer(f"{refine}.resConfUnit{unit}.conv{conv}", fused, fused, 3, 3)
    found |= layer(f"{head}.scratch.output_conv1", fused // 2, fused, 3, 3)
    found |= layer(f"{head}.scratch.output_conv2.0", last, fused // 2, 3, 3)
    return found | {
        f"{head}.scratch.output_conv2.2.weight": random(1, last, 1, 1),
        f"{head}.scratch.output_conv2.2.bias": torch.ones(1),
    }


def _lama() -> Weights:
    from spandrel.architectures.LaMa import LaMa

    weights = LaMa(in_nc=4).state_dict()
    return {name.replace("model.model", "generator.model"): value for name, value in weights.items()}


def _mobile_sam() -> Weights:
    from controlnet_aux.segment_anything import sam_model_registry

    return sam_model_registry["vit_t"]().state_dict()


MADE: Mapping[str, Callable[[], Any]] = {
    "ControlNetHED.pth": _hed,
    "table5_pidinet.pth": _pidinet,
    "7_model.pth": _teed,
    "MTEED.pth": _teed,
    "mlsd_large_512_fp32.pth": _mlsd,
    "sk_model.pth": _lineart,
    "sk_model2.pth": _lineart,
    "netG.pth": _anime,
    "erika.pth": _manga,
    "dpt_hybrid-midas-501f0c75.pt": _midas,
    "res101.pth": _leres,
    "latest_net_G.pth": _leres_merging,
    "scannet.pt": _bae,
    "body_pose_model.pth": lambda: _openpose("bodypose_model"),
    "hand_pose_model.pth": lambda: _openpose("handpose_model"),
    "facenet.pth": _openpose_face,
    "depth_anything_vitl14.pth": depth_anything,
    "depth_anything_v2_vitl.safetensors": depth_anything,
    "ControlNetLama.pth": _lama,
    "mobile_sam.pt": _mobile_sam,
}


def segmenter(folder: Path, kind: str) -> None:
    """A small network of transformers that segments 150 classes, as its hub has it: config.json and weights."""
    import transformers

    stages = ["stage1", "stage2", "stage3", "stage4"]
    torch.manual_seed(0)
    config: Any
    if kind == "oneformer":
        swin = transformers.SwinConfig(
            image_size=32, embed_dim=8, depths=[1] * 4, num_heads=[1, 1, 2, 2], window_size=2, out_features=stages
        )
        config = transformers.OneFormerConfig(
            backbone_config=swin,
            num_labels=150,
            num_queries=5,
            conv_dim=32,
            mask_dim=32,
            hidden_dim=32,
            encoder_feedforward_dim=16,
            encoder_layers=1,
            decoder_layers=2,
            num_attention_heads=2,
            dim_feedforward=16,
            text_encoder_width=32,
            text_encoder_num_layers=1,
        )
        network: Any = transformers.OneFormerForUniversalSegmentation(config)
    else:
        backbone = transformers.ConvNextConfig(depths=[1] * 4, hidden_sizes=[8] * 4, out_features=stages)
        config = transformers.UperNetConfig(
            backbone_config=backbone, num_labels=150, hidden_size=16, auxiliary_in_channels=8, auxiliary_channels=8
        )
        network = transformers.UperNetForSemanticSegmentation(config)
    with quietly():
        network.save_pretrained(folder)


def scene(width: int, height: int) -> np.ndarray:
    """(H, W, 3): smooth colours with a sharp square and a dark line."""
    across, down = np.meshgrid(np.linspace(0, 255, width), np.linspace(0, 255, height))
    picture = np.stack([across, down, 255 - across], axis=2).astype(np.uint8)
    picture[height // 4 : height // 2, width // 4 : width // 2] = (250, 240, 20)
    picture[height // 2 : height // 2 + 4] = 0
    return picture
