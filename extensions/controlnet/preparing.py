"""Maps for a pass; imported in the worker only."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from . import maps, sizes
from .steering import Guide
from .units import ControlNet, Unit

MAPS = "controlnet.maps"


def guides_for(group: ControlNet, this_pass: Any) -> list[Guide]:
    """Every enabled unit that takes part in this pass, with its map at the pass's size.

    The maps are left in the job's state under (number of the unit, 0 for the first pass and 1 for the second).
    """
    is_second = this_pass.kind == "hires"
    plan = this_pass.plan
    kept = this_pass.state.setdefault(MAPS, {})
    guides = []
    for number, unit in enumerate(group.enabled):
        source = _input(unit, number, this_pass)
        wanted = [(0, plan.first)] + ([(1, plan.hires.sampling)] if plan.hires else [])
        hints = {}
        for place, sampling in wanted:
            request = _request(this_pass, sampling)
            found = maps.fitted(unit, maps.detected(unit, source, request), request)
            kept.setdefault((number, place), maps.picture_of(found))
            hints[place] = _lasting(this_pass, number, place, found)
        if unit.hr_option != "Both" and (unit.hr_option == "High res only") != is_second:
            continue
        hint = hints[1 if is_second else 0]
        guides.append(Guide(unit, hint, hints[0], _region(unit, number), is_second))
    return guides


def _request(this_pass: Any, sampling: Any) -> maps.Request:
    plan = this_pass.plan
    width, height = sizes.generation_size(sampling.width, sampling.height)
    asked = plan.request.variation.seed
    first = plan.seeds[0]
    return maps.Request(width, height, first + (first if asked == -1 else asked))


def _lasting(this_pass: Any, number: int, place: int, found: Any) -> torch.Tensor:
    """The same tensor in every batch, so that a network that has read it needn't again."""
    key = ("controlnet.hint", number, place)
    if key not in this_pass.state:
        this_pass.state[key] = maps.hint(found)
    return this_pass.state[key]


def _input(unit: Unit, number: int, this_pass: Any) -> Any:
    own = None
    if unit.image is None and this_pass.source is not None and this_pass.source.canvas is not None:
        own = np.asarray(this_pass.source.canvas.pictures[0].convert("RGB"))
    return maps.read_input(unit, number, own)


def _region(unit: Unit, number: int) -> torch.Tensor | None:
    if unit.effective_region_mask is None:
        return None
    mask = maps.levels(unit.effective_region_mask, f"The region mask of ControlNet unit {number}")
    return torch.from_numpy(np.ascontiguousarray(mask)).float()[None, None] / 255
