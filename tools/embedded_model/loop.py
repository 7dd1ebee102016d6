"""What the training loops share: how long, how fast, what is kept. One `Training` is one stage's run."""

from __future__ import annotations

import csv
import itertools
import math
import os
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from .config import Loop, Preset
from .optimizer import Optimizer


class Clock:
    """How long a stage may run, and who is told of each saved state.

    deadline: in time.time()'s seconds; None is for ever. last: there will be no other run, so schedules must end by
    the deadline.
    """

    def __init__(self, deadline: float | None = None, last: bool = False, saved: Callable[[], None] | None = None):
        self.deadline, self.last = deadline, last
        self.saved = saved or (lambda: None)

    @property
    def left(self) -> float:
        """Seconds."""
        return math.inf if self.deadline is None else self.deadline - time.time()


class Schedule:
    """How far a loop has come, and its learning rate: a linear warm-up, then a cosine down to 2 % of the peak.

    A loop of `steps` is measured in steps; one of `minutes` in minutes of training, those of earlier runs included, so
    that its cosine ends in time whatever the machine does in a minute.
    """

    def __init__(self, loop: Loop, clock: Clock, step: int = 0, minutes: float = 0.0):
        self.loop, self.began = loop, time.time()
        self.first_step, self.earlier = step, minutes
        self.planned = minutes + clock.left / 60 if clock.last and math.isfinite(clock.left) else loop.minutes
        self.fresh_from = step  # where the optimizer last began: it is warmed up from there

    @property
    def minutes(self) -> float:
        """Of training so far."""
        return self.earlier + (time.time() - self.began) / 60

    def progress(self, step: int) -> float:
        """0 at the start, 1 at the end or later."""
        if self.loop.minutes:
            return self.minutes / max(self.planned, 1e-9)
        return step / self.loop.steps

    def rate(self, step: int) -> float:
        warm = min(1.0, (step - self.fresh_from + 1) / max(1, self.loop.warmup))
        done = min(1.0, self.progress(step))
        return self.loop.rate * warm * (0.02 + 0.98 * (1 + math.cos(math.pi * done)) / 2)

    def total_steps(self, step: int) -> int:
        """How many steps the loop will take in all at the speed seen in this run."""
        if not self.loop.minutes:
            return self.loop.steps
        seconds = time.time() - self.began
        return round(step + (self.planned - self.minutes) * 60 * (step - self.first_step) / max(seconds, 1e-9))


def cpu_parts(device: torch.device) -> int:
    """Shares of a batch: one for each processor core (up to 4), one in all on an accelerator."""
    return 1 if device.type != "cpu" else min(4, os.cpu_count() or 1)


def backward_in_parts(parts: int, loss_of: Callable[[int], tuple[Tensor, list[Tensor]]]) -> list[Tensor]:
    """Add up gradients of `parts` shares of a batch, each on a thread of its own.

    On a CPU that others use too, threads that meet once a step lose far less time than threads that meet in every
    operation. loss_of(part) returns the share's mean loss and figures to log. Returns: the figures' means, still on
    the device.
    """

    def work(part: int) -> list[Tensor]:
        if parts > 1:
            torch.set_num_threads(1)
        loss, figures = loss_of(part)
        (loss / parts).backward()
        return [figure.detach() for figure in figures]

    if parts == 1:
        return work(0)
    with ThreadPoolExecutor(parts) as pool:
        rows = list(pool.map(work, range(parts)))
    return [torch.stack(column).mean() for column in zip(*rows, strict=True)]


class Average:
    """Exponential moving average of weights, warmed up so that early steps don't linger."""

    def __init__(self, networks: list[nn.Module], decay: float):
        self.networks, self.decay, self.updates = networks, decay, 0
        self.weights = [p.detach().clone() for network in networks for p in network.parameters()]

    @torch.no_grad()
    def update(self) -> None:
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        current = [p.detach() for network in self.networks for p in network.parameters()]
        torch._foreach_lerp_(self.weights, current, 1 - decay)
        self.updates += 1


def parameter_names(networks: list[nn.Module]) -> list[str]:
    """Of all parameters in order; the same whatever the version of transformers, some of which wrap the text model."""
    return [
        f"{number}.{name.removeprefix('text_model.')}"
        for number, network in enumerate(networks)
        for name, _ in network.named_parameters()
    ]


def averaged(state: dict[str, Any], networks: list[nn.Module]) -> list[Tensor]:
    """The state's averaged weights in the order of these networks' parameters."""
    if "names" not in state:
        return state["average"]
    by_name = dict(zip(state["names"], state["average"], strict=True))
    return [by_name[name] for name in parameter_names(networks)]


@torch.no_grad()
def fill(networks: list[nn.Module], state: dict[str, Any]) -> None:
    """Copy the state's averaged weights, whatever their type and device."""
    weights = averaged(state, networks)
    for parameter, weight in zip([p for n in networks for p in n.parameters()], weights, strict=True):
        parameter.copy_(weight)


def load_state(path: Path) -> dict[str, Any] | None:
    return torch.load(path, map_location="cpu", weights_only=True) if path.exists() else None


def save_state(path: Path, state: dict[str, Any]) -> None:
    """Written beside and renamed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_suffix(".part")
    torch.save(state, beside)
    beside.replace(path)


def compact(state: dict[str, Any]) -> dict[str, Any]:
    """What travels of a stage's state: the averaged weights in half precision and the counters.

    A run that resumes from it starts at the average and with a fresh optimizer, which costs its warm-up; moments and
    raw weights would be three times as much, and the average is what an early end would ship.
    """
    kept = {key: value for key, value in state.items() if key not in {"networks", "optimizer"}}
    kept["average"] = [weight.half() for weight in state["average"]]
    kept["extras"] = {key: value.half() for key, value in state.get("extras", {}).items()}
    return kept


class Training:
    """One stage's networks, optimizer, average, schedule, state file and curve."""

    def __init__(
        self,
        preset: Preset,
        name: str,
        loop: Loop,
        networks: list[nn.Module],
        clock: Clock,
        columns: tuple[str, ...],
        extra: nn.Module | None = None,
        facts: dict[str, Any] | None = None,
    ):
        """extra: a helper that is trained too but not averaged. facts: kept in the state; they must not change."""
        self.preset, self.networks, self.clock, self.extra, self.facts = preset, networks, clock, extra, facts or {}
        self.path = preset.run / f"{name}.pt"
        self.device = next(networks[0].parameters()).device
        self.parts = cpu_parts(self.device)
        trained = [*networks, *([extra] if extra else [])]
        self.optimizer = Optimizer(trained, loop.rate, loop.muon, self.parts)
        self.curve = Curve(preset.run / f"{name}.csv", ("step", "minutes", "rate", *columns, "samples_per_s"))
        self.step, state = 0, load_state(self.path)
        if state:
            self._resume(state)
        self.resumed = state is not None
        self.average = Average(networks, preset.ema)
        if state:
            self.average.weights = [w.to(self.device, torch.float32) for w in averaged(state, networks)]
        self.schedule = Schedule(loop, clock, self.step, (state or {}).get("minutes", 0.0))
        if state and "networks" in state:
            self.schedule.fresh_from = state.get("fresh_from", 0)
            self.average.updates = self.step
        self.ending, self.saved = False, time.time()
        self._figures: list[Tensor] = []
        self._seen, self._since = 0, time.time()

    def _resume(self, state: dict[str, Any]) -> None:
        self.step = state["step"]
        for key, fact in self.facts.items():
            assert state[key] == fact, f"{self.path.name} was begun with other {key}; start this run anew"
        if self.extra and state.get("extras"):
            self.extra.load_state_dict(state["extras"])
        if "networks" in state:
            for network, saved in zip(self.networks, state["networks"], strict=True):
                network.load_state_dict(saved)
            self.optimizer.load_state_dict(state["optimizer"])
        else:
            fill(self.networks, state)

    def steps(self) -> Iterator[int]:
        """Numbers of the steps to make, until the schedule or the clock ends them.

        Raises: SystemExit after a polite kill (SIGTERM), the state saved.
        """

        def end(*_: object) -> None:
            self.ending = True

        before = signal.signal(signal.SIGTERM, end)
        begun = time.time()
        told = False
        try:
            while not self.ending and self.clock.left > 0 and self.schedule.progress(self.step) < 1:
                self.optimizer.set_rate(self.schedule.rate(self.step))
                yield self.step
                if not told and time.time() - begun > 60:
                    told = True
                    print(f"after a minute: about {self.schedule.total_steps(self.step)} steps in all", flush=True)
                if time.time() - self.saved > 60 * self.preset.checkpoint_minutes:
                    self.save()
            self.save()
        finally:
            signal.signal(signal.SIGTERM, before)
        if self.ending:
            raise SystemExit(f"told to end; {self.path.name} has step {self.step}")

    def learn(self, loss_of: Callable[[int], tuple[Tensor, list[Tensor]]], samples: int) -> None:
        """One step. loss_of(part): see `backward_in_parts`. Nothing here waits for the device but the log."""
        self.optimizer.zero_grad()
        figures = backward_in_parts(self.parts, loss_of)
        torch.nn.utils.clip_grad_norm_([p for n in self.networks for p in n.parameters() if p.grad is not None], 1.0)
        self.optimizer.step()
        self.average.update()
        self._figures.append(torch.stack(figures))
        self.step, self._seen = self.step + 1, self._seen + samples
        if self.step % self.preset.log_every == 0:
            means = torch.stack(self._figures).mean(0).tolist()
            speed = self._seen / (time.time() - self._since)
            self.curve.add(self.step, self.schedule.minutes, self.schedule.rate(self.step), *means, speed)
            self._figures, self._seen, self._since = [], 0, time.time()

    def save(self) -> None:
        state = {
            "networks": [network.state_dict() for network in self.networks],
            "optimizer": self.optimizer.state_dict(),
            "fresh_from": self.schedule.fresh_from,
            "average": self.average.weights,
            "names": parameter_names(self.networks),
            "extras": self.extra.state_dict() if self.extra else {},
            "step": self.step,
            "minutes": self.schedule.minutes,
            "done": self.schedule.progress(self.step) >= 1,
            **self.facts,
        }
        save_state(self.path, state)
        self.saved = time.time()
        self.clock.saved()


def is_done(preset: Preset, name: str) -> bool:
    """Whether a stage's schedule has come to its end. The state of an older run tells by its steps."""
    state = load_state(preset.run / f"{name}.pt")
    return state is not None and bool(state.get("done", state["step"] >= getattr(preset, name).steps))


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


class Batches(Dataset[Any]):
    """Batch number n, made by `make(n)`."""

    def __init__(self, make: Callable[[int], Any]):
        self.make = make

    def __getitem__(self, number: int) -> Any:
        return self.make(number)


def feed(make: Callable[[int], Any], first: int, device: torch.device) -> Iterator[Any]:
    """make(first), make(first + 1), ...; beside an accelerator made ahead of time by processes of their own."""
    workers = min(14, max(1, (os.cpu_count() or 1) - 2)) if device.type != "cpu" else 0
    loader = DataLoader(
        Batches(make),
        batch_size=None,
        sampler=itertools.count(first),
        num_workers=workers,
        prefetch_factor=6 if workers else None,
        collate_fn=as_it_is,  # arrays stay arrays: tensors would go through a shared file each
        worker_init_fn=one_thread if workers else None,
    )
    return iter(loader)


def as_it_is(batch: Any) -> Any:
    return batch


def one_thread(_: int) -> None:
    torch.set_num_threads(1)
    os.environ["TOKENIZERS_PARALLELISM"] = "false"


def to_device(array: np.ndarray, device: torch.device) -> Tensor:
    """From pinned memory to an accelerator: from any other the copy would wait for all work before it."""
    tensor = torch.from_numpy(array)
    return tensor if device.type == "cpu" else tensor.pin_memory().to(device, non_blocking=True)


def compiled(module: nn.Module, wanted: bool) -> None:
    """Compile a module in place on an accelerator; what can't be compiled runs as it is."""
    if wanted and next(module.parameters()).device.type != "cpu":
        import torch._dynamo

        torch._dynamo.config.suppress_errors = True
        module.compile()
