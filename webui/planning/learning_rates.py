"""Learning rates over the steps of a training: schedulers as kohya names them, and A1111's "0.005:100, 1e-5"."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from webui.core.errors import InvalidRequest, nearest

LOWEST_OF_POLYNOMIAL = 1e-7


@dataclass(frozen=True)
class Schedule:
    """name: one of SCHEDULERS. steps: of all. warmup, decay: steps. cycles, power, lowest: where the name uses them."""

    name: str
    steps: int
    warmup: int = 0
    decay: int = 0
    cycles: int = 1
    power: float = 1.0
    lowest: float = 0.0

    def rate(self, step: int, peak: float) -> float:
        """The learning rate of a step counted from 0, where the highest is `peak`.

        Source: the schedules of huggingface/diffusers and transformers (optimization.py).
        """
        if step < self.warmup:
            return peak * step / self.warmup
        return _SHAPES[self.name](self, step, peak)

    def _progress(self, step: int) -> float:
        """How much of what follows the warm-up is behind `step`, in [0, 1]."""
        return min((step - self.warmup) / max(self.steps - self.warmup, 1), 1.0)


def _constant(schedule: Schedule, step: int, peak: float) -> float:
    return peak


def _linear(schedule: Schedule, step: int, peak: float) -> float:
    return peak * (1 - schedule._progress(step))


def _cosine(schedule: Schedule, step: int, peak: float) -> float:
    return peak * 0.5 * (1 + math.cos(math.pi * schedule._progress(step)))


def _restarts(schedule: Schedule, step: int, peak: float) -> float:
    progress = schedule._progress(step)
    return 0.0 if progress >= 1 else peak * 0.5 * (1 + math.cos(math.pi * (schedule.cycles * progress % 1)))


def _polynomial(schedule: Schedule, step: int, peak: float) -> float:
    lowest = min(LOWEST_OF_POLYNOMIAL, peak)
    return float((peak - lowest) * (1 - schedule._progress(step)) ** schedule.power + lowest)


def _inverse_root(schedule: Schedule, step: int, peak: float) -> float:
    scale = schedule.warmup or 10_000
    return peak / math.sqrt((step + scale - schedule.warmup) / scale)


def _cosine_to_lowest(schedule: Schedule, step: int, peak: float) -> float:
    return peak * schedule.lowest + (1 - schedule.lowest) * _cosine(schedule, step, peak)


def _stable(schedule: Schedule, step: int, peak: float) -> float:
    begin = schedule.steps - schedule.decay
    if step < begin or not schedule.decay:
        return peak
    wave = 0.5 * (1 + math.cos(math.pi * min((step - begin) / schedule.decay, 1)))
    return peak * ((1 - schedule.lowest) * wave + schedule.lowest)


_SHAPES: dict[str, Callable[[Schedule, int, float], float]] = {
    "constant": _constant,
    "constant_with_warmup": _constant,
    "linear": _linear,
    "cosine": _cosine,
    "cosine_with_restarts": _restarts,
    "polynomial": _polynomial,
    "inverse_sqrt": _inverse_root,
    "cosine_with_min_lr": _cosine_to_lowest,
    "warmup_stable_decay": _stable,
}


SCHEDULE_NAMES = tuple(_SHAPES)


def require_scheduler(name: str, warmup: float) -> None:
    """Raises: InvalidRequest for a name that isn't one, and for a warm-up that "constant" would pass over."""
    if name not in _SHAPES:
        raise InvalidRequest(f'There is no scheduler "{name}"{nearest(name, _SHAPES)}.')
    if name == "constant" and warmup:
        raise InvalidRequest(
            f'The scheduler "constant" has no warm-up, {warmup:g} was asked for; take "constant_with_warmup".'
        )


def steps_of(given: float, total: int) -> int:
    """A number of steps, or below 1 a share of the total."""
    return int(given * total) if 0 < given < 1 else int(given)


@dataclass(frozen=True)
class Rates:
    """A1111's schedule: (value, until step) in order; the last step is None for the end."""

    parts: tuple[tuple[float, int | None], ...]

    def at(self, step: int) -> float | None:
        """The value at a step counted from 0, None beyond the last one."""
        return next((value for value, end in self.parts if end is None or step < end), None)

    @property
    def end(self) -> int | None:
        """The step after which there is no value, None when the last goes to the end."""
        return self.parts[-1][1]


def read_rates(text: str, what: str = "Learning rate") -> Rates:
    """'0.005:100, 1e-3:1000, 1e-5' and a plain number; a step of -1 is the end.

    what: the parameter, for messages. Raises: InvalidRequest.
    """
    parts: list[tuple[float, int | None]] = []
    for piece in filter(None, (piece.strip() for piece in text.split(","))):
        value, _, end = piece.partition(":")
        try:
            number, last = float(value), int(end) if end.strip() else -1
        except ValueError:
            number, last = math.nan, -1
        if not math.isfinite(number) or number < 0:
            raise InvalidRequest(
                f'{what}: "{piece[:40]}" can\'t be read; write a number, or numbers with the step each lasts until: '
                '"0.005:100, 1e-3:1000, 1e-5".'
            )
        parts.append((number, None if last == -1 else last))
        if last == -1:
            break
    if not parts:
        raise InvalidRequest(f"{what} is empty; give a number such as 0.005.")
    return Rates(tuple(parts))
