"""What both training loops share: learning rate, averaged weights, checkpoints, curves."""

from __future__ import annotations

import csv
import math
import os
import signal
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from .config import Loop


def learning_rate(loop: Loop, step: int) -> float:
    """Linear warm-up, then a cosine down to 2 % of the peak."""
    if step < loop.warmup:
        return loop.rate * (step + 1) / loop.warmup
    done = min(1.0, (step - loop.warmup) / max(1, loop.steps - loop.warmup))
    return loop.rate * (0.02 + 0.98 * (1 + math.cos(math.pi * done)) / 2)


def set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = rate


def optimizer_for(networks: list[nn.Module], loop: Loop) -> torch.optim.AdamW:
    """AdamW; matrices decay, biases and norms don't."""
    parameters = [p for network in networks for p in network.parameters()]
    groups = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": 0.01},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=loop.rate, betas=(0.9, 0.99), fused=True)


def cpu_parts(device: torch.device) -> int:
    """Shares of a batch: one for each processor core (up to 4), one in all on an accelerator."""
    return 1 if device.type != "cpu" else min(4, os.cpu_count() or 1)


def backward_in_parts(parts: int, loss_of: Callable[[int], tuple[Tensor, list[Tensor]]]) -> list[float]:
    """Add up gradients of `parts` shares of a batch, each on a thread of its own.

    On a CPU that others use too, threads that meet once a step lose far less time than threads that meet in every
    operation. loss_of(part) returns the share's mean loss and figures to log. Returns: the figures' means.
    """

    def work(part: int) -> list[float]:
        torch.set_num_threads(1)
        loss, figures = loss_of(part)
        (loss / parts).backward()
        return [figure.item() for figure in figures]

    if parts == 1:
        loss, figures = loss_of(0)
        loss.backward()
        return [figure.item() for figure in figures]
    with ThreadPoolExecutor(parts) as pool:
        rows = list(pool.map(work, range(parts)))
    return [sum(column) / parts for column in zip(*rows, strict=True)]


class Average:
    """Exponential moving average of weights, warmed up so that early steps don't linger."""

    def __init__(self, networks: list[nn.Module], decay: float):
        self.networks, self.decay = networks, decay
        self.weights = [p.detach().clone() for network in networks for p in network.parameters()]

    @torch.no_grad()
    def update(self, step: int) -> None:
        decay = min(self.decay, (1 + step) / (10 + step))
        current = [p.detach() for network in self.networks for p in network.parameters()]
        torch._foreach_lerp_(self.weights, current, 1 - decay)

    @torch.no_grad()
    def copy_to(self, networks: list[nn.Module]) -> None:
        for target, weight in zip([p for network in networks for p in network.parameters()], self.weights, strict=True):
            target.copy_(weight)


class Checkpoint:
    """A resumable state file, written beside and renamed, every few minutes and when the process is told to end."""

    def __init__(self, path: Path, minutes: float):
        self.path, self.minutes, self.saved = path, minutes, time.time()
        self.ending = False

    def watch_for_end(self) -> None:
        """From now on a polite kill (SIGTERM) sets `ending` instead of stopping in the middle of a step."""

        def end(*_: object) -> None:
            self.ending = True

        signal.signal(signal.SIGTERM, end)

    def load(self) -> dict[str, Any] | None:
        return torch.load(self.path, map_location="cpu", weights_only=True) if self.path.exists() else None

    def due(self) -> bool:
        return self.ending or time.time() - self.saved > 60 * self.minutes

    def save(self, state: dict[str, Any]) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        beside = self.path.with_suffix(".part")
        torch.save(state, beside)
        beside.replace(self.path)
        self.saved = time.time()


class Curve:
    """Appends rows to a CSV file and prints them."""

    def __init__(self, path: Path, columns: tuple[str, ...]):
        self.path, self.columns = path, columns
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            path.write_text(",".join(columns) + "\n")

    def add(self, *values: float) -> None:
        with self.path.open("a", newline="") as file:
            csv.writer(file).writerow([f"{value:.6g}" for value in values])
        print("  ".join(f"{c} {v:.5g}" for c, v in zip(self.columns, values, strict=True)), flush=True)
