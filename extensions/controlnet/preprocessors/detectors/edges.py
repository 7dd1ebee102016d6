"""Soft edges and straight lines: HED, PiDiNet, TEED, Anyline, M-LSD. Maps are (H, W, 3) uint8, white on black.

Sides of the pictures are multiples of 64, so the detectors of controlnet_aux, told their short side, leave their size.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

from ..drawing import as_rgb
from .loading import filled, quietly

Picture = Any
Detect = Callable[[Picture, float, float], Picture]


def load_hed(files: Sequence[Path], device: Any, *, safe: bool = False) -> Detect:
    """Xie & Tu 2015, in lllyasviel's layout. safe: in three levels, which hide what a soft edge tells of textures."""
    with quietly():
        from controlnet_aux.hed import ControlNetHED_Apache2, HEDdetector
    detector = HEDdetector(filled(ControlNetHED_Apache2(), files[0], device))
    return lambda picture, _a, _b: detector(picture, **_kept_size(picture), safe=safe, output_type="np")


def load_pidinet(files: Sequence[Path], device: Any, *, safe: bool = False, binary: bool = False) -> Detect:
    """Su et al. 2021. binary: edges above 1/2 are white, all else is black."""
    with quietly():
        from controlnet_aux.pidi import PidiNetDetector
        from controlnet_aux.pidi.model import pidinet
    detector = PidiNetDetector(filled(pidinet(), files[0], device))
    options = {"safe": safe, "apply_filter": binary, "output_type": "np"}
    return lambda picture, _a, _b: detector(picture, **_kept_size(picture), **options)


load_safe_hed = partial(load_hed, safe=True)
load_safe_pidinet = partial(load_pidinet, safe=True)
load_binary_pidinet = partial(load_pidinet, binary=True)


def load_teed(files: Sequence[Path], device: Any) -> Detect:
    """Soria et al. 2023. The first slider: into how many steps the edges are put, 0 for none."""
    with quietly():
        from controlnet_aux.teed import TEEDdetector
        from controlnet_aux.teed.ted import TED
    detector = TEEDdetector(filled(TED(), files[0], device))

    def detect(picture: Picture, steps: float, _: float) -> Picture:
        size = min(picture.shape[:2])
        return detector(picture, detect_resolution=size, safe_steps=int(steps), output_type="np")

    return detect


SMALLEST_SPECK = 12
"""Pixels of a line in Anyline's second layer; what is smaller is left out."""


def load_anyline(files: Sequence[Path], device: Any) -> Detect:
    """TEED with the weights of MistoLine, under the fine lines that a blurred picture lacks."""
    detect_edges = load_teed(files, device)

    def detect(picture: Picture, steps: float, _: float) -> Picture:
        edges, lines = detect_edges(picture, steps, 0), as_rgb(_fine_lines(picture))
        screened = 1 - (1 - lines) * (1 - edges)  # in uint8, as MistoLine learned it
        return np.where(lines > 0, screened, edges)

    return detect


def _fine_lines(picture: Picture) -> Picture:
    """(H, W) uint8: where the picture is darker than its surroundings, without specks."""
    exact = picture.astype(np.float32)
    darker = np.min(cv2.GaussianBlur(exact, (0, 0), 2.0) - exact, axis=2).clip(0, 255)
    above = darker[darker > 3]
    lines = (darker / max(16.0, float(np.median(above)) if above.size else 0.0) * 127).clip(0, 255).astype(np.uint8)
    _, labels, stats, _ = cv2.connectedComponentsWithStats((lines > 0).astype(np.uint8), connectivity=4)
    large = stats[:, cv2.CC_STAT_AREA] >= SMALLEST_SPECK
    return np.where(large[labels], lines, 0).astype(np.uint8)


MOST_LINES = 200


def load_mlsd(files: Sequence[Path], device: Any) -> Detect:
    """Gu et al. 2022. Sliders: the least score of a line, and its least length in pixels of half the picture."""
    with quietly():
        from controlnet_aux.mlsd.models.mbv2_mlsd_large import MobileV2_MLSD_Large
        from controlnet_aux.mlsd.utils import deccode_output_score_and_ptss
    network = filled(MobileV2_MLSD_Large(), files[0], device)

    def detect(picture: Picture, score: float, distance: float) -> Picture:
        height, width = picture.shape[:2]
        four = np.concatenate([picture, np.ones((height, width, 1), picture.dtype)], axis=2).astype(np.float32)
        feed = torch.from_numpy(four).permute(2, 0, 1)[None].to(device) / 127.5 - 1
        with torch.inference_mode():
            output = network(feed)
            count = min(MOST_LINES, output.shape[-1] * output.shape[-2])
            places, scores, ways = deccode_output_score_and_ptss(output, count, 3)
        drawn = np.zeros_like(picture)
        for (y, x), found in zip(places, scores, strict=True):
            way = ways[y, x]
            if found > score and np.hypot(*(way[:2] - way[2:])) > distance:
                ends = [int(value) for value in 2 * (np.array([x, y, x, y]) + way)]
                cv2.line(drawn, ends[:2], ends[2:], (255, 255, 255), 1)
        return drawn

    return detect


def _kept_size(picture: Picture) -> dict[str, int]:
    size = min(picture.shape[:2])
    return {"detect_resolution": size, "image_resolution": size}
