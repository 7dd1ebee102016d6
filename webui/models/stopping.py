"""Ending a network's forward pass in its midst, between two of its blocks."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import nn


class Stopped(Exception):
    """The forward pass was ended because the job was told to stop; it has no result."""


@contextmanager
def stoppable(module: nn.Module, asked: Callable[[], bool], wait_for: torch.device | None = None) -> Iterator[None]:
    """While open, a forward pass of `module` raises Stopped before its next block once `asked()` is true.

    The results are not touched. wait_for: a CUDA device whose work is finished before each block; for passes of many
    seconds, whose blocks would all be queued at once otherwise.
    """

    def check(*_: object) -> None:
        if wait_for is not None:
            torch.cuda.synchronize(wait_for)
        if asked():
            raise Stopped

    handles = [block.register_forward_pre_hook(check) for block in _blocks(module)]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _blocks(module: nn.Module) -> Iterator[nn.Module]:
    """Blocks, and the layers within them: what networks keep in lists."""
    for inner in module.modules():
        if isinstance(inner, nn.ModuleList):
            yield from inner


class Patience:
    """Whether something was asked for so long ago that it is no longer waited for."""

    def __init__(self, asked: Callable[[], bool], seconds: float) -> None:
        self.asked = asked
        self.seconds = seconds
        self._since: float | None = None

    def is_over(self) -> bool:
        if not self.asked():
            return False
        now = time.monotonic()
        if self._since is None:
            self._since = now
        return now - self._since > self.seconds
