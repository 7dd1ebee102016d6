"""The seam into denoising: what wraps the network and the guided denoiser, step by step.

x        (B, C, h, w) noisy latent, x = x0 + sigma * noise
x0       the clean prediction, same shape
Call     (scaled x, timesteps, cond) -> the network's own output; N rows, see `Row`
Predict  (x, sigma, cond, step) -> x0 of the network for one conditioning, before guidance
Denoise  (x, sigma, step) -> x0 after guidance

cond is a `webui.diffusion.denoiser.Cond`, a frozen dataclass: `dataclasses.replace` makes a changed one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

if TYPE_CHECKING:
    from torch import Tensor

    Call: TypeAlias = Callable[[Tensor, Tensor, Any], Tensor]
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


@dataclass(frozen=True)
class Row:
    """Whose prediction one row of a network call is.

    picture: its number within the batch, from 0. sign: 1 of a prompt, -1 of the negative prompt.
    part: which of the prompts that AND joins, from 0. An instruct-pix2pix model's prediction that sees no picture is
    part 1 of the negative prompt.
    """

    picture: int
    sign: Literal[1, -1]
    part: int = 0


@dataclass(frozen=True)
class Residuals:
    """What control networks add inside a U-Net; those of several are summed with `+`.

    down: one for each skip connection, from the first convolution on, each (N, C, h, w), N rows or 1 for all alike.
    mid: (N, C, h, w) after the middle block. A control network gives both, or neither.
    inside: a T2I-adapter's, one at the end of each block on the way down.
    """

    down: tuple[Tensor, ...] = ()
    mid: Tensor | None = None
    inside: tuple[Tensor, ...] = ()

    def __post_init__(self) -> None:
        assert bool(self.down) == (self.mid is not None), "a control network gives `down` and `mid`, or neither"

    def __add__(self, other: Residuals) -> Residuals:
        if self.mid is None or other.mid is None:
            mid = other.mid if self.mid is None else self.mid
        else:
            mid = self.mid + other.mid
        return Residuals(_sum(self.down, other.down), mid, _sum(self.inside, other.inside))


def _sum(first: tuple[Tensor, ...], second: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    if not first or not second:
        return first or second
    return tuple(a + b for a, b in zip(first, second, strict=True))


class DenoiserHook:
    """Middleware around denoising; each hook wraps the function inside it.

    order: low wraps the network closely, high sees the final prediction.
    A hook belongs to one pass with one model: where a refiner takes over, its own hooks are asked for, attached and
    wrapped anew.
    """

    order: float = 0

    @contextmanager
    def attached(self, network: Any) -> Iterator[None]:
        """Patch the network's weights, layers or attention processors, yield, undo; entered once per sampling.

        network: the torch module, a `UNet2DConditionModel` where `model.capabilities.unet`.
        """
        yield

    def wrap_call(self, call: Call) -> Call:
        """Around the network itself: change what goes in, or add `Residuals`. `cond.rows` says what each row is."""
        return call

    def wrap_network(self, predict: Predict) -> Predict:
        return predict

    def wrap_denoiser(self, denoise: Denoise) -> Denoise:
        return denoise


def wrapped_call(call: Call, hooks: Iterable[DenoiserHook]) -> Call:
    """`call` inside every hook's `wrap_call`, lowest order innermost."""
    for hook in sorted(hooks, key=lambda hook: hook.order):
        call = hook.wrap_call(call)
    return call


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
