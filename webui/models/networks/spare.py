"""Memory for the parameters of one more set of networks."""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import nn

from webui.models.networks.names import Target


@dataclass
class _Work:
    """What one thread makes. made: complete ones only."""

    made: dict[Target, nn.Parameter] = field(default_factory=dict)
    stopped: bool = False


class SpareMemory:
    """Copies of weights, made in the background while a job runs: the next set is added to them in place.

    Touching memory for the first time since the system gave it can take longer than computing what goes into it, and
    copying takes a fifth of that. Main memory only.
    """

    def __init__(self) -> None:
        self._work = _Work()

    def prepare(self, weights: Mapping[Target, nn.Parameter], used: Mapping[Target, nn.Parameter]) -> None:
        """Begin to copy each weight, into what nothing needs any more where there is such for it."""
        self.drop()
        threading.Thread(target=_copy, args=(weights, dict(used), self._work), name="spare memory", daemon=True).start()

    def take(self) -> dict[Target, nn.Parameter]:
        """The copies that are complete by now."""
        made = dict(self._work.made)
        self.drop()
        return made

    def drop(self) -> None:
        """Give it back, and make no more."""
        self._work.stopped = True
        self._work = _Work()


def _copy(weights: Mapping[Target, nn.Parameter], used: dict[Target, nn.Parameter], work: _Work) -> None:
    for target, weight in weights.items():
        if work.stopped:
            return
        new = used.pop(target, None)
        if new is None:
            new = nn.Parameter(torch.empty_like(weight), requires_grad=False)
        if new.stride() == weight.stride():
            ctypes.memmove(new.data_ptr(), weight.data_ptr(), weight.nbytes)  # on this thread, without Python's lock
            work.made[target] = new
