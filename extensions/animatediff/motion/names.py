"""Names of a motion module's tensors in every producer's spelling -> (place in the U-Net, name within the module)."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

Base = Literal["SD 1.x", "SDXL"]
Betas = Literal["linear", "scaled SDXL", "checkpoint"]
BETAS = get_args(Betas)
Place = tuple[str, int, int]
"""("down", block, layer), ("mid", 0, layer) or ("up", block, layer)."""

_MODULE = re.compile(r"(?:^|\.)(down|mid|up)_blocks?\.(?:(\d+)\.)?motion_modules\.(\d+)\.(.+)$")
_ORIGINAL = (
    (re.compile(r"^temporal_transformer\."), ""),
    (re.compile(r"\.norm([12])\."), lambda found: f".norms.{int(found[1]) - 1}."),
    (re.compile(r"\.norm3\."), ".ff_norm."),
    (re.compile(r"\.attn([12])\."), lambda found: f".attention_blocks.{int(found[1]) - 1}."),
)


def placed(name: str) -> tuple[Place, str] | None:
    """Where a tensor belongs, in the original's spelling, whatever wraps or converted it; None for no motion module."""
    found = _MODULE.search(name)
    if found is None:
        return None
    inner = found[4]
    for pattern, replacement in _ORIGINAL:
        inner = pattern.sub(replacement, inner)
    return (found[1], int(found[2] or 0), int(found[3])), inner


def placed_all(tensors: Mapping[str, Any]) -> dict[Place, dict[str, Any]]:
    """The tensors of each motion module. diffusers' one table of positions is given to both attentions."""
    modules: dict[Place, dict[str, Any]] = {}
    for name, tensor in tensors.items():
        found = placed(name)
        if found is None:
            continue
        place, inner = found
        module = modules.setdefault(place, {})
        block, shared, _ = inner.partition(".pos_embed.pe")
        if shared:
            module |= {f"{block}.attention_blocks.{index}.pos_encoder.pe": tensor for index in range(2)}
        else:
            module[inner] = tensor
    return modules


@dataclass(frozen=True)
class Family:
    """What kind of motion module a file holds.

    positions: the most frames in a context. base: of the checkpoints that it is for. betas: see `noise.table_for`.
    norms_clips: the U-Net's group norms take all frames together. widths: channels by level.
    """

    name: str
    positions: int
    base: Base
    betas: Betas
    norms_clips: bool
    widths: tuple[int, ...]


def told(family: Family, facts: str | None) -> Family:
    """With what the file's metadata tells beyond its tensors: whether it was trained on the checkpoint's noise levels.

    facts: JSON. Raises: ValueError for anything else.
    """
    asked = json.loads(facts) if facts else {}
    if not isinstance(asked, dict) or asked.get("betas", family.betas) not in BETAS:
        raise ValueError(f"its metadata tells {facts[:80] if facts else facts!r}")
    return replace(family, betas=asked.get("betas", family.betas))


USUAL_POSITIONS, LCM_POSITIONS, FIRST_POSITIONS = 32, 64, 24


def family_of(shapes: Mapping[Place, Mapping[str, Iterable[int]]]) -> Family:
    """shapes: of the tensors of each module, named as `placed` does."""
    levels = sorted({block for side, block, _ in shapes if side == "down"})
    widths = tuple(tuple(shapes["down", level, 0]["norm.weight"])[0] for level in levels)
    has_middle = any(side == "mid" for side, _, _ in shapes)
    lengths = {tuple(shape)[1] for module in shapes.values() for name, shape in module.items() if name.endswith(".pe")}
    positions = min(lengths, default=LCM_POSITIONS if has_middle else USUAL_POSITIONS)
    is_first = positions == FIRST_POSITIONS and not has_middle
    if len(levels) < 4:
        if is_first:
            return Family("HotShot-XL", positions, "SDXL", "checkpoint", True, widths)
        return Family("AnimateDiff-SDXL", positions, "SDXL", "scaled SDXL", False, widths)
    if has_middle:
        name = "AnimateLCM" if positions == LCM_POSITIONS else "AnimateDiff v2"
    else:
        name = "AnimateDiff v1" if is_first else "AnimateDiff v3"
    return Family(name, positions, "SD 1.x", "linear", is_first, widths)
