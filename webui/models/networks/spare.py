"""Memory for the parameters of one more set of networks."""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Mapping

import torch
from torch import nn

from webui.models.networks.layers import StandIn
from webui.models.networks.names import Target


class SpareMemory:
    """Parameters to compute into, made in the background while a job runs.

    Touching memory for the first time since the system gave it can take longer than computing what goes into it.
    """

    def __init__(self) -> None:
        self._made: dict[Target, StandIn] = {}
        self._stop = threading.Event()

    def prepare(self, weights: Mapping[Target, nn.Parameter]) -> None:
        """Begin to make one for each. weights: in main memory; what is made is like them."""
        self.drop()
        made, stop = self._made, self._stop
        threading.Thread(target=_make, args=(weights, made, stop), name="spare memory", daemon=True).start()

    def keep(self, parts: Mapping[Target, StandIn]) -> None:
        """Have these instead, which nothing needs any more."""
        self.drop()
        self._made = dict(parts)

    def take(self) -> dict[Target, StandIn]:
        """What is ready by now."""
        made = self._made
        self.drop()
        return dict(made)

    def drop(self) -> None:
        """Give it back, and make no more."""
        self._stop.set()
        self._made, self._stop = {}, threading.Event()


def _make(weights: Mapping[Target, nn.Parameter], made: dict[Target, StandIn], stop: threading.Event) -> None:
    for target, weight in weights.items():
        if stop.is_set():
            return
        new = torch.empty_like(weight)
        ctypes.memset(new.data_ptr(), 0, new.nbytes)  # on this one thread, without Python's lock
        made[target] = StandIn(nn.Parameter(new, requires_grad=False))
