"""The seam into denoising: what wraps the network and the guided denoiser, step by step.

x        (B, C, h, w) noisy latent, x = x0 + sigma * noise
x0       the clean prediction, same shape
Predict  (x, sigma, cond, step) -> x0 of the network for one conditioning, before guidance
Denoise  (x, sigma, step) -> x0 after guidance
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from torch import Tensor

    Predict: TypeAlias = Callable[[Tensor, float, Any, "Step"], Tensor]
    Denoise: TypeAlias = Callable[[Tensor, float, "Step"], Tensor]


@dataclass(frozen=True)
class Step:
    """One step of a sampler, from `sigma` to `sigma_next`; `index` counts from 0 to `count` - 1.

    timestep: what the network is told instead of the training timestep of the level, by samplers with a clock of
    their own.
    """

    index: int
    count: int
    sigma: float
    sigma_next: float
    timestep: float | None = None


class DenoiserHook:
    """Middleware around denoising; each hook wraps the function inside it.

    order: low wraps the network closely, high sees the final prediction.
    """

    order: float = 0

    @contextmanager
    def attached(self, network: Any) -> Iterator[None]:
        """Patch the network (LoRA, motion modules), yield, undo; entered once per sampling."""
        yield

    def wrap_network(self, predict: Predict) -> Predict:
        return predict

    def wrap_denoiser(self, denoise: Denoise) -> Denoise:
        return denoise


def wrapped_network(predict: Predict, hooks: Iterable[DenoiserHook]) -> Predict:
    """`predict` inside every hook's `wrap_network`, lowest order innermost."""
    for hook in sorted(hooks, key=lambda hook: hook.order):
        predict = hook.wrap_network(predict)
    return predict


def wrapped_denoiser(denoise: Denoise, hooks: Iterable[DenoiserHook]) -> Denoise:
    """`denoise` inside every hook's `wrap_denoiser`, lowest order innermost."""
    for hook in sorted(hooks, key=lambda hook: hook.order):
        denoise = hook.wrap_denoiser(denoise)
    return denoise
