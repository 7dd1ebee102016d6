"""Optimizers by the names that kohya's trainers have for them."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from webui.core.errors import InvalidRequest

Groups = Sequence[dict[str, Any]]


class Lion(torch.optim.Optimizer):
    """Sign of an interpolated momentum. Source: Chen et al. 2023, arXiv:2302.06675, algorithm 2."""

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-4,
        betas: tuple[float, float] = (0.9, 0.99),
        weight_decay: float = 0.0,
    ):
        super().__init__(params, {"lr": lr, "betas": betas, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        for group in self.param_groups:
            first, second = group["betas"]
            for weight in group["params"]:
                if weight.grad is None:
                    continue
                state = self.state[weight]
                momentum: Tensor = state.setdefault("momentum", torch.zeros_like(weight))
                weight.mul_(1 - group["lr"] * group["weight_decay"])
                weight.sub_(group["lr"] * torch.lerp(weight.grad, momentum, first).sign())
                momentum.lerp_(weight.grad, 1 - second)
        return None


PLACES: Mapping[str, tuple[str, dict[str, Any]]] = {
    "AdamW": ("torch.optim:AdamW", {}),
    "Lion": (f"{__name__}:Lion", {}),
    "SGDNesterov": ("torch.optim:SGD", {"momentum": 0.9, "nesterov": True}),
    "AdaFactor": ("transformers.optimization:Adafactor", {}),
    "AdamW8bit": ("bitsandbytes.optim:AdamW8bit", {}),
    "PagedAdamW": ("bitsandbytes.optim:PagedAdamW", {}),
    "PagedAdamW8bit": ("bitsandbytes.optim:PagedAdamW8bit", {}),
    "PagedAdamW32bit": ("bitsandbytes.optim:PagedAdamW32bit", {}),
    "Lion8bit": ("bitsandbytes.optim:Lion8bit", {}),
    "PagedLion8bit": ("bitsandbytes.optim:PagedLion8bit", {}),
    "SGDNesterov8bit": ("bitsandbytes.optim:SGD8bit", {"momentum": 0.9, "nesterov": True}),
    "DAdaptation": ("dadaptation.experimental:DAdaptAdamPreprint", {}),
    "DAdaptAdam": ("dadaptation:DAdaptAdam", {}),
    "DAdaptAdaGrad": ("dadaptation:DAdaptAdaGrad", {}),
    "DAdaptAdan": ("dadaptation:DAdaptAdan", {}),
    "DAdaptLion": ("dadaptation:DAdaptLion", {}),
    "DAdaptSGD": ("dadaptation:DAdaptSGD", {}),
    "Prodigy": ("prodigyopt:Prodigy", {}),
    "AdamWScheduleFree": ("schedulefree:AdamWScheduleFree", {}),
    "RAdamScheduleFree": ("schedulefree:RAdamScheduleFree", {}),
    "SGDScheduleFree": ("schedulefree:SGDScheduleFree", {}),
}
"""Name -> where it is, and what kohya sets beside its own defaults."""


def make_optimizer(name: str, groups: Groups, rate: float, arguments: Mapping[str, Any]) -> torch.optim.Optimizer:
    """groups: with "params" and "lr". rate: of groups without one.

    Raises: InvalidRequest for arguments that the optimizer doesn't have.
    """
    place, defaults = PLACES[name]
    module, _, attribute = place.partition(":")
    wanted = {**defaults, **arguments}
    if sets_its_own_rate(name, arguments):
        wanted.setdefault("relative_step", True)
        groups = [{**group, "lr": None} for group in groups]
        rate_given: dict[str, Any] = {"lr": None}
    else:
        rate_given = {"lr": rate}
    try:
        optimizer = getattr(importlib.import_module(module), attribute)(list(groups), **rate_given, **wanted)
    except (TypeError, ValueError) as error:
        raise InvalidRequest(f"The optimizer {name} can't be made with these arguments: {error}.") from error
    assert isinstance(optimizer, torch.optim.Optimizer)
    return optimizer


def sets_its_own_rate(name: str, arguments: Mapping[str, Any]) -> bool:
    """AdaFactor does, unless it is told not to."""
    return name == "AdaFactor" and bool(arguments.get("relative_step", True))


def spelled(name: str, arguments: Mapping[str, Any]) -> str:
    """As kohya's metadata have it: "torch.optim.adamw.AdamW(weight_decay=0.01)"."""
    module, _, attribute = PLACES[name][0].partition(":")
    full = {"torch.optim:AdamW": "torch.optim.adamw.AdamW", "torch.optim:SGD": "torch.optim.sgd.SGD"}
    told = ",".join(f"{key}={value}" for key, value in arguments.items())
    return f"{full.get(PLACES[name][0], f'{module}.{attribute}')}" + (f"({told})" if told else "")
