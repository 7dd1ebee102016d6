"""An animation's numbers and prompts as subtitles (SubRip), one a frame."""

from __future__ import annotations

from .animation import Animation
from .seeds import Seeds

SHOWN = (
    ("strength", "strength_schedule"),
    ("cfg", "cfg_scale_schedule"),
    ("angle", "angle"),
    ("zoom", "zoom"),
    ("x", "translation_x"),
    ("y", "translation_y"),
    ("z", "translation_z"),
    ("rx", "rotation_3d_x"),
    ("ry", "rotation_3d_y"),
    ("rz", "rotation_3d_z"),
    ("noise", "noise_schedule"),
)


def subtitles(animation: Animation, seeds: Seeds, count: int, fps: float) -> str:
    """The text of a .srt file for the first `count` frames. seeds: those that the animation began with."""
    parts, seed = [], seeds.seed
    for frame in range(count):
        if frame % animation.cadence == 0:
            if animation.seed_behavior == "schedule":
                seed = animation.scheduled_seed(frame)
            else:
                seed = seeds.seed
            seeds = seeds.following(animation.scheduled_seed(frame))
        numbers = "; ".join(f"{name}: {animation.value(key, frame):.6g}" for name, key in SHOWN)
        positive, negative = animation.prompts[frame]
        lines = [f"frame: {frame}; seed: {seed}; {numbers}", positive] + ([f"--neg {negative}"] if negative else [])
        text = "\n".join(" ".join(line.split()) for line in lines if line.strip())
        parts.append(f"{frame + 1}\n{_time(frame / fps)} --> {_time((frame + 1) / fps)}\n{text}\n")
    return "\n".join(parts)


def _time(seconds: float) -> str:
    milliseconds = round(seconds * 1000)
    minutes, rest = divmod(milliseconds, 60_000)
    return f"{minutes // 60:02}:{minutes % 60:02}:{rest // 1000:02},{rest % 1000:03}"
