"""Animations to begin with, by name: settings files' keys and values."""

from __future__ import annotations

from typing import Any

FLIGHT: dict[str, Any] = {
    "animation_mode": "3D",
    "max_frames": 500,
    "translation_x": "0: (0), 30:(15), 210:(15), 300:(0)",
    "translation_z": "0: (0.2), 60:(10), 300:(15)",
    "rotation_3d_x": "0: (0), 60:(0), 90:(0.5), 179:(0), 180:(150), 300:(0.5)",
    "rotation_3d_y": "0: (0), 30:(-3.5), 90:(0.5), 180:(-2.8), 300:(-2), 420:(0)",
    "rotation_3d_z": "0: (0), 60:(0.2), 90:(0), 180:(-0.5), 300:(0), 420:(0.5), 500:(0.8)",
    "noise_schedule": "0: (-0.06*(cos(3.141*t/15)**100)+0.06)",
    "prompts": {
        "0": "a harbour town at dawn, mist over the water, wide view",
        "60": "narrow lanes between tall houses, morning light",
        "120": "a market square full of people, bright awnings",
        "180": "a hillside of terraces and olive trees, noon",
        "220": "mountains under a starry sky, long exposure",
    },
    "legacy_colormatch": False,
}
PRESETS = {"Flight through five scenes (3D, 500 frames)": FLIGHT}
