"""Which way surfaces face: x to the right is red, y up green, z to the viewer blue. Maps are (H, W, 3) uint8."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from .loading import filled, quietly

Picture = Any
Detect = Callable[[Picture, float, float], Picture]


def load_bae(files: Sequence[Path], device: Any) -> Detect:
    """Bae et al. 2021, "Estimating and exploiting the aleatoric uncertainty in surface normal estimation"."""
    with quietly():
        from controlnet_aux.normalbae import NNET, NormalBaeDetector

        options = SimpleNamespace(
            mode="client", architecture="BN", pretrained="scannet", sampling_ratio=0.4, importance_ratio=0.7
        )
        network = NNET(options)
    detector = NormalBaeDetector(filled(network, files[0], device))

    def detect(picture: Picture, _a: float, _b: float) -> Picture:
        size = min(picture.shape[:2])
        return detector(picture, detect_resolution=size, image_resolution=size, output_type="np")

    return detect
