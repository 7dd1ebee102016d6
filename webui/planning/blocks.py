"""The U-Net's blocks as kohya counts them, and what a LoRA has in each."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from webui.core.errors import InvalidRequest
from webui.core.training import LoraOptions

_INNER = re.compile(r"(down|up)_blocks\.(\d+)\.(?:resnets|attentions)\.(\d+)\.")
_SAMPLER = re.compile(r"(down|up)_blocks\.(\d+)\.(?:downsamplers|upsamplers)\.")
PRESETS = ("cosine", "sine", "linear", "reverse_linear", "zeros")


@dataclass(frozen=True)
class BlockNumbers:
    """down, mid, up: how many blocks each has. dims, alphas and the like: by block, () for the same everywhere."""

    down: int
    mid: int
    up: int
    offset: int
    dims: tuple[float, ...] = ()
    alphas: tuple[float, ...] = ()
    conv_dims: tuple[float, ...] = ()
    conv_alphas: tuple[float, ...] = ()
    rates: tuple[float, ...] = ()
    threshold: float = 0.0

    @classmethod
    def read(cls, options: LoraOptions, *, sdxl: bool) -> BlockNumbers:
        """25 blocks, 12 down, 1 in the middle, 12 up; SDXL's are 23: the first and the last, and 9, 3, 9 between.

        Raises: InvalidRequest.
        """
        down, mid, up, offset = (9, 3, 9, 1) if sdxl else (12, 1, 12, 0)
        count = down + mid + up + 2 * offset
        weights: tuple[float, ...] = ()
        if options.down_lr_weight or options.mid_lr_weight or options.up_lr_weight:
            ends = (1.0,) * offset
            weights = (
                *ends,
                *_weights(options.down_lr_weight, down, "going down"),
                *_weights(options.mid_lr_weight, mid, "in the middle"),
                *_weights(options.up_lr_weight, up, "going up"),
                *ends,
            )
        return cls(
            down,
            mid,
            up,
            offset,
            _numbers(options.block_dims, count, "Dims"),
            _numbers(options.block_alphas, count, "Alphas"),
            _numbers(options.conv_block_dims, count, "Dims of convolutions"),
            _numbers(options.conv_block_alphas, count, "Alphas of convolutions"),
            weights,
            options.block_lr_zero_threshold,
        )

    def number_of(self, path: str) -> int | None:
        """The block of a layer, by diffusers' path; None outside of all."""
        if path.startswith("mid_block."):
            inner = {"resnets.0": 0, "attentions.0": 1, "resnets.1": 2}
            place = inner.get(".".join(path.split(".")[1:3]), 0) if self.mid == 3 else 0
            return self.offset + self.down + place
        if path.startswith("conv_out"):
            return self.offset * 2 + self.down + self.mid + self.up - 1 if self.offset else None
        found = _INNER.match(path) or _SAMPLER.match(path)
        if found is None:
            return 0 if self.offset or path.startswith("conv_in") else None
        level, item = int(found[2]), int(found[3]) if found.re is _INNER else 2
        if found[1] == "down":
            return self.offset + 1 + 3 * level + item
        return self.offset + self.down + self.mid + 3 * level + item

    def size(self, number: int, *, conv: bool) -> tuple[int | None, float | None]:
        """Dim and alpha of a block, None where nothing is said."""
        dims, alphas = (self.conv_dims, self.conv_alphas) if conv else (self.dims, self.alphas)
        dim = int(dims[number]) if dims else None
        return dim, alphas[number] if alphas else None

    def rate(self, number: int | None) -> float | None:
        """The factor of a block's rate, None for a block that is left out."""
        if number is None or not self.rates:
            return 1.0
        weight = self.rates[number]
        return None if weight <= self.threshold else weight


def _numbers(text: str, count: int, what: str) -> tuple[float, ...]:
    if not text.strip():
        return ()
    try:
        numbers = tuple(float(piece) for piece in text.split(","))
    except ValueError:
        numbers = ()
    if len(numbers) != count or not all(math.isfinite(number) and number >= 0 for number in numbers):
        raise InvalidRequest(f"{what} by block must be {count} numbers with commas between them; {text[:60]!r} isn't.")
    return numbers


def _weights(text: str, count: int, what: str) -> tuple[float, ...]:
    """'' for 1 everywhere, numbers, or a curve's name with an optional '+base'."""
    text = text.strip()
    name, _, base = text.partition("+")
    if name in PRESETS:
        try:
            added = float(base or 0)
        except ValueError:
            raise InvalidRequest(f"Rates of blocks {what}: {text[:60]!r} can't be read.") from None
        return tuple(_curve(name, index, count) + added for index in range(count))
    if not text:
        return (1.0,) * count
    return _numbers(text, count, f"Rates of blocks {what}")


def _curve(name: str, index: int, count: int) -> float:
    share = index / max(count - 1, 1)
    return {
        "cosine": math.cos(math.pi / 2 * share),
        "sine": math.sin(math.pi / 2 * share),
        "linear": share,
        "reverse_linear": 1 - share,
        "zeros": 0.0,
    }[name]
