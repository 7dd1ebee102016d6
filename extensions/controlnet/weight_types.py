"""How an image prompt's weight is spread over the U-Net's injection points, as ComfyUI's IP-Adapter nodes name it."""

from __future__ import annotations

from collections.abc import Sequence

from webui.extensions.api import InvalidRequest

from .units import Unit

WEAK = 0.2
EASED = 0.95
"""Of the weight: what easing takes away at most."""
STYLE = {11: (6,), 16: (0, 1, 2, 3, 9, 10, 11, 12, 13, 14, 15)}
STRONG_STYLE = {11: (0, 1, 2, 4, 5, 6, 7, 8, 9, 10), 16: (0, 1, 2, 3, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15)}
COMPOSITION = {11: {3: 1.0}, 16: {4: 0.25, 5: 1.0}}
"""Number of injection points (SDXL 11, SD 1.x 16) -> those that carry style, and those that carry composition."""


def weights_of(unit: Unit, sides: Sequence[str]) -> tuple[float, ...]:
    """The weight of each injection point. sides: input, middle or output, of each as data flows.

    Raises: InvalidRequest when the user's own weights are of another number, or the type isn't for this U-Net.
    """
    count, weight, kind = len(sides), unit.weight, unit.weight_type
    if unit.weights:
        if len(unit.weights) != count:
            raise InvalidRequest(f"ControlNet: {len(unit.weights)} weights are given, the IP-Adapter has {count}.")
        return unit.weights
    if kind.startswith("weak "):
        return tuple(weight * (WEAK if side == kind.removeprefix("weak ") else 1.0) for side in sides)
    if kind == "strong middle":
        return tuple(weight * (1.0 if side == "middle" else WEAK) for side in sides)
    if "style" in kind or "composition" in kind:
        return _by_layers(unit, count)
    half = count / 2
    shares = {
        "ease in": lambda place: 1 - place / count,
        "ease out": lambda place: place / count,
        "ease in-out": lambda place: 1 - abs(place - half) / half,
        "reverse in-out": lambda place: abs(place - half) / half,
    }
    if kind not in shares:
        return (weight,) * count
    return tuple(weight * (1 - EASED + EASED * shares[kind](place)) for place in range(count))


def _by_layers(unit: Unit, count: int) -> tuple[float, ...]:
    if count not in STYLE:
        raise InvalidRequest(
            f'ControlNet: the weight type "{unit.weight_type}" is for SD 1.x and SDXL; choose "normal" for this one.'
        )
    weights = [0.0] * count
    kind = unit.weight_type
    if "style" in kind:
        for place in (STRONG_STYLE if kind.startswith("strong") else STYLE)[count]:
            weights[place] = unit.weight
    if "composition" in kind:
        of_composition = unit.composition_weight if "style" in kind else unit.weight
        for place, share in COMPOSITION[count].items():
            weights[place] = of_composition * share
    return tuple(weights)
