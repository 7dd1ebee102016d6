"""Optical flow: how the points of one picture moved to the next, and pictures moved along it."""

from __future__ import annotations

from typing import Any

import numpy as np

from webui.extensions.api import InvalidRequest

from .sampling import read_at


def optical_flow(first: Any, second: Any, method: str) -> Any:
    """(H, W, 2) float32: what stands at p in `first` stands at p + flow in `second`; pictures (H, W, 3) uint8 BGR.

    method: "DIS Medium", "DIS Fine", "Farneback" or "RAFT". Raises: InvalidRequest for RAFT without weights.
    """
    import cv2

    if method == "RAFT":
        return _raft(first, second)
    grays = [cv2.cvtColor(picture, cv2.COLOR_BGR2GRAY) for picture in (first, second)]
    if method == "Farneback":
        return cv2.calcOpticalFlowFarneback(*grays, None, 0.5, 5, 21, 5, 7, 1.2, 0)
    dis = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    if method == "DIS Fine":
        dis.setFinestScale(0)
        dis.setGradientDescentIterations(192)
        dis.setPatchSize(8)
        dis.setPatchStride(4)
    elif method != "DIS Medium":
        raise InvalidRequest(f'There is no optical flow method "{method}".')
    return dis.calc(*grays, None)


def along(picture: Any, flow: Any, factor: float = 1.0) -> Any:
    """The picture with each point moved by flow * factor; what enters from outside is reflected."""
    import cv2

    height, width = picture.shape[:2]
    x, y = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32))
    moved = flow.astype(np.float32) * np.float32(factor)
    return read_at(picture, x - moved[..., 0], y - moved[..., 1], cv2.BORDER_REFLECT_101)


def agreement(forward: Any, backward: Any, blur: int = 0, tolerance: float = 1.5) -> Any:
    """(H, W) of 0 to 1: where going along `forward` and back along `backward` ends where it began."""
    import cv2

    height, width = forward.shape[:2]
    x, y = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32))
    back = cv2.remap(backward, x + forward[..., 0], y + forward[..., 1], cv2.INTER_LINEAR)
    agrees = (np.linalg.norm(forward + back, axis=-1) < tolerance).astype(np.float32)
    return cv2.GaussianBlur(agrees, (2 * blur + 1,) * 2, 0) if blur else agrees


def _raft(first: Any, second: Any) -> Any:
    import os
    from urllib.parse import urlparse

    import torch
    from torchvision.models.optical_flow import Raft_Large_Weights, raft_large

    weights = Raft_Large_Weights.DEFAULT
    name = os.path.basename(urlparse(weights.url).path)
    path = os.path.join(torch.hub.get_dir(), "checkpoints", name)
    if not os.path.isfile(path):
        raise InvalidRequest(
            f"Optical flow by RAFT needs its weights, {name}, in {os.path.dirname(path)}; "
            "choose DIS Fine, or put it there."
        )
    network = raft_large()
    network.load_state_dict(torch.load(path, weights_only=True))
    network.eval()
    height, width = first.shape[:2]
    sides = max(128, height - height % 8), max(128, width - width % 8)

    def tensor(picture: Any) -> Any:
        channels = torch.from_numpy(np.ascontiguousarray(picture[..., ::-1])).permute(2, 0, 1)[None].float()
        return torch.nn.functional.interpolate(channels / 127.5 - 1, sides, mode="bilinear", antialias=True)

    with torch.inference_mode():
        flow = network(tensor(first), tensor(second))[-1]
        flow = torch.nn.functional.interpolate(flow, (height, width), mode="bilinear")[0].permute(1, 2, 0).numpy()
    return flow * np.array([width / sides[1], height / sides[0]], dtype=np.float32)
