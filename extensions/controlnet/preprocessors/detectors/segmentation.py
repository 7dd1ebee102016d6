"""What each pixel shows, in the colours of ADE20K or COCO, by networks of transformers. Maps are (H, W, 3) uint8."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from webui.extensions.api import BadModelFile, read_weights

from ..palettes import ADE20K, COCO
from .loading import filled, of_transformers, quietly, tensor_of

Picture = Any
Detect = Callable[[Picture, float, float], Picture]

MEAN, STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)
SEMANTIC = (49406, 518, 10549, 533, 29119, 1550, 49407)
"""CLIP's tokens of "the task is semantic", by which OneFormer is told what to do; padded with 0 to 77."""
CONFIG = "config.json"


def load_ade20k(files: Sequence[Path], device: Any) -> Detect:
    """OneFormer (Jain et al. 2023) with Swin-L, or what the config.json beside the file describes."""
    return _loaded(files[0], device, partial(_oneformer, classes=150, queries=250), ADE20K, short=640, long=2560)


def load_coco(files: Sequence[Path], device: Any) -> Detect:
    """As `load_ade20k`, for COCO's classes."""
    return _loaded(files[0], device, partial(_oneformer, classes=133, queries=150), COCO, short=800, long=1333)


def load_upernet(files: Sequence[Path], device: Any) -> Detect:
    """UPerNet (Xiao et al. 2018) with ConvNeXt-S, or what the config.json beside the file describes."""
    return _loaded(files[0], device, _upernet, ADE20K, short=512, long=2048)


def _loaded(path: Path, device: Any, known: Callable[[], Any], palette: Any, *, short: int, long: int) -> Detect:
    """short, long: the network sees a picture whose short side is so many pixels, unless the other exceeds `long`."""
    config = _config(path) or known()
    network = of_transformers(_kind(config, path), config, read_weights(path), path, device)
    mean, std = (torch.tensor(values, device=device).view(1, 3, 1, 1) for values in (MEAN, STD))

    def detect(picture: Picture, _a: float, _b: float) -> Picture:
        height, width = picture.shape[:2]
        scale = min(short / min(height, width), long / max(height, width))
        size = max(round(width * scale), 1), max(round(height * scale), 1)
        feed = (tensor_of(cv2.resize(picture, size, interpolation=cv2.INTER_LINEAR), device) - mean) / std
        with torch.inference_mode():
            scores = F.interpolate(_scores(network, feed), (height, width), mode="bilinear")
            numbers = scores[0].argmax(dim=0).cpu().numpy()
        return palette[numbers % len(palette)]

    return detect


def _scores(network: Any, feed: Tensor) -> Tensor:
    """(1, classes, h, w): how well each class fits each place."""
    options = {}
    if network.config.model_type == "oneformer":
        tokens = [*SEMANTIC, *[0] * (network.config.task_seq_len - len(SEMANTIC))]
        options["task_inputs"] = torch.tensor([tokens], device=feed.device)
    output = network(pixel_values=feed, **options)
    if hasattr(output, "logits"):
        return output.logits
    classes = output.class_queries_logits.softmax(dim=-1)[..., :-1]
    return torch.einsum("bqc,bqhw->bchw", classes, output.masks_queries_logits.sigmoid())


def _config(path: Path) -> Any:
    """What the file beside describes; None without one. Raises: BadModelFile."""
    from transformers import AutoConfig

    file = path.with_name(CONFIG)
    if path.parent.name == "preprocessors" or not file.is_file():
        return None  # a config.json right in the folder of all preprocessors could be anyone's
    try:
        values = json.loads(file.read_bytes())
        return AutoConfig.for_model(values.pop("model_type"), **values)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise BadModelFile(f"{file.parent.name}/{CONFIG} doesn't describe a network of transformers.") from error


def _kind(config: Any, path: Path) -> Any:
    """Raises: BadModelFile for a kind that segments nothing."""
    import transformers

    kinds = {
        "oneformer": "OneFormerForUniversalSegmentation",
        "mask2former": "Mask2FormerForUniversalSegmentation",
        "maskformer": "MaskFormerForInstanceSegmentation",
        "segformer": "SegformerForSemanticSegmentation",
        "upernet": "UperNetForSemanticSegmentation",
    }
    if config.model_type not in kinds:
        raise BadModelFile(f"{path.parent.name}/{CONFIG}: {config.model_type} is none of {', '.join(kinds)}.")
    return getattr(transformers, kinds[config.model_type])


def _oneformer(classes: int, queries: int) -> Any:
    from transformers import OneFormerConfig, SwinConfig

    backbone = SwinConfig(
        embed_dim=192,
        depths=[2, 2, 18, 2],
        num_heads=[6, 12, 24, 48],
        window_size=12,
        image_size=384,
        drop_path_rate=0.3,
        out_features=["stage1", "stage2", "stage3", "stage4"],
    )
    return OneFormerConfig(backbone_config=backbone, num_labels=classes, num_queries=queries)


def _upernet() -> Any:
    from transformers import ConvNextConfig, UperNetConfig

    stages = ["stage1", "stage2", "stage3", "stage4"]
    backbone = ConvNextConfig(depths=[3, 3, 27, 3], hidden_sizes=[96, 192, 384, 768], out_features=stages)
    return UperNetConfig(backbone_config=backbone, num_labels=150, auxiliary_in_channels=384)


def load_sam(files: Sequence[Path], device: Any, *, points: int = 32) -> Detect:
    """MobileSAM (Zhang et al. 2023): all that can be told apart, each in a colour of its own, always the same.

    points: of a grid along each side, at which it is asked what is there.
    """
    with quietly():
        from controlnet_aux.segment_anything import SamAutomaticMaskGenerator, sam_model_registry

        network = filled(sam_model_registry["vit_t"](), files[0], device)
    generator = SamAutomaticMaskGenerator(network, points_per_side=points)

    def detect(picture: Picture, _a: float, _b: float) -> Picture:
        with torch.inference_mode():
            found = generator.generate(picture)
        random, drawn = np.random.RandomState(0), np.zeros_like(picture)
        for part in sorted(found, key=lambda part: part["area"], reverse=True):
            drawn[part["segmentation"]] = random.randint(255, size=3)
        return drawn

    return detect
