"""Animations without a model, held frame by frame against those that the original made.

Camera, cadence, flow, noise, colours, anti-blur and masks are pure arithmetic in a dry run. OpenCV and PyTorch are
later versions than the original's, so a last bit may differ; a frame passes as the recordings' own rule has it.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from extensions.deforum import masks
from extensions.deforum.animation import Animation
from extensions.deforum.preview import paint_preview
from extensions.deforum.run import Materials, frames
from extensions.deforum.settings_files import read_settings

CASES = (
    "warp-2d-all-wrap", "warp-2d-all-replicate-96x64", "warp-3d-all", "warp-3d-fov-96x64-reflection",
    "warp-3d-zeros-nearest", "warp-flip-2d", "warp-flip-3d", "warp-cadence3", "warp-cadence4-3d",
    "warp-flow-cadence-dis", "warp-flow-cadence-farneback", "warp-noise-uniform", "warp-noise-perlin",
    "warp-noise-perlin-96x80", "warp-anti-blur", "warp-contrast", "warp-contrast-above-1", "warp-color-rgb",
    "warp-color-lab", "warp-color-hsv", "warp-mask", "warp-preview-rectangle",
)  # fmt: skip
BIT_EQUAL = frozenset(CASES) - {
    "warp-3d-fov-96x64-reflection", "warp-flow-cadence-dis", "warp-flow-cadence-farneback"
}  # fmt: skip


def read(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.ascontiguousarray(np.asarray(image.convert("RGB"))[..., ::-1])


def animate(folder: Path, case: dict[str, Any], original_arithmetic: bool) -> dict[int, np.ndarray]:
    settings = read_settings({**case["deforum_settings"], "original_arithmetic": original_arithmetic}).settings

    def path(name: str) -> Path:
        return folder / name.removeprefix("@")

    size = settings.width, settings.height
    assert settings.init_image
    with Image.open(path(settings.init_image)) as image:
        init = np.asarray(image.convert("RGB").resize(size, Image.Resampling.LANCZOS))[..., ::-1]
    mask = None
    if settings.use_mask:
        with Image.open(path(settings.mask_file)) as image:
            mask = masks.prepare(image, *size)
    materials = Materials(init=np.ascontiguousarray(init), mask=None if mask is None else lambda frame: mask)
    animation = Animation(settings, settings.seed)
    return {made.number: made.picture for made in frames(animation, materials, paint_preview(*size))}


@pytest.mark.parametrize("name", CASES)
def test_frames_as_recorded(name: str, parity: Path) -> None:
    folder = parity / "deforum"
    case = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))[name]
    made = animate(folder, case, original_arithmetic="slip" in case)
    assert sorted(made) == list(range(case["deforum_settings"]["max_frames"]))
    for frame in case["frames"]:
        recorded = read(folder / "images" / name / frame)
        ours = made[int(Path(frame).stem)]
        assert ours.shape == recorded.shape
        difference = np.abs(ours.astype(int) - recorded)
        assert (difference <= 2).mean() >= 0.99, frame
        if name in BIT_EQUAL:
            assert difference.max() == 0, frame


@pytest.mark.parametrize("name", ["warp-flip-2d", "warp-flip-3d", "warp-contrast-above-1", "warp-color-lab"])
def test_slips_are_not_repeated_unless_asked_for(name: str, parity: Path) -> None:
    folder = parity / "deforum"
    case = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))[name]
    clean, original = (animate(folder, case, choice) for choice in (False, True))
    assert (clean[0] == original[0]).all()
    assert np.abs(clean[5].astype(int) - original[5]).max() > 20


def test_every_recorded_case_without_a_model_is_tried(parity: Path) -> None:
    manifest = json.loads((parity / "deforum" / "manifest.json").read_text(encoding="utf-8"))
    assert sorted(CASES) == sorted(name for name in manifest if name.startswith("warp-"))
