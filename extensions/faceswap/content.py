"""A look at a picture before faces in it are exchanged: whether it is explicit.

The network is nsfwjs's (MIT). It errs in both directions; who doesn't want it switches it off in the settings.
"""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from .geometry import Pixels
from .sessions import Networks, run

NETWORK = Path(__file__).parent / "weights" / "content_check.onnx"
LABELS = ("drawing", "hentai", "neutral", "porn", "sexy")
EXPLICIT = ("hentai", "porn")
THRESHOLD = 0.8
SIDE = 224


def explicitness(pixels: Pixels, networks: Networks, network: Path = NETWORK) -> float:
    """How sure the network is that the picture is explicit, 0 to 1. Raises: BadModelFile."""
    small = cv2.resize(pixels, (SIDE, SIDE), interpolation=cv2.INTER_AREA)
    x = small.astype(np.float32).transpose(2, 0, 1)[None] / 255
    with networks.session(network) as session:
        scores = np.asarray(run(session, {"input": x}, network.name)[0]).reshape(-1)
    return float(sum(scores[LABELS.index(label)] for label in EXPLICIT))
