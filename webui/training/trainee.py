"""What learns: the weights, how they are attached to the model, and the files that they become."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from webui.core.training_data import DataFacts, Item
from webui.diffusion.denoiser import Cond
from webui.models.families.base import LoadedModel
from webui.planning.training import Phase, TrainingPlan


@dataclass(frozen=True)
class Done:
    """How far a training has come, for what files tell of it. epoch: begun ones, from 1. finished_at: unix time."""

    steps: int
    epoch: int
    epochs: int
    batches_in_epoch: int
    finished_at: float
    facts: DataFacts


class Trainee(ABC):
    """One kind of training. It is made with the model's workshop open and closed before that is.

    parts: of the model that learn themselves, by the workshop's names. halves: whether the model's own weights may be
    in half precision.
    """

    parts: tuple[str, ...] = ()
    halves = True

    def __init__(self, plan: TrainingPlan, model: LoadedModel) -> None:
        self.plan = plan
        self.model = model

    @property
    def first_step(self) -> int:
        """The step that it goes on from, when it goes on with a file that is there."""
        return 0

    @abstractmethod
    def begin(self, phase: Phase) -> list[dict[str, Any]]:
        """What learns in this phase, as an optimizer's groups: "params", "lr" (its peak), "part" ("unet", "text")."""

    def end(self, phase: Phase) -> None:  # noqa: B027  most have nothing to do then
        """The phase's last step is behind us."""

    @abstractmethod
    def conds(self, items: Sequence[Item], chance: str) -> Cond:
        """What the network is conditioned on, a row an item. chance: a text that random choices are seeded with."""

    def after_step(self, step: int) -> None:  # noqa: B027  most have nothing to do then
        """Weights have changed. step: of the phase, done."""

    @abstractmethod
    def tensors(self) -> Mapping[str, Tensor]:
        """All that learns, by name: what a killed training goes on with."""

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Take over what `tensors` gave. Raises: KeyError, RuntimeError where it doesn't fit."""
        with torch.no_grad():
            for name, weight in self.tensors().items():
                weight.copy_(tensors[name])

    @abstractmethod
    def save(self, target: Path, done: Done) -> list[Path]:
        """Write the file, atomically. Returns: what was written. Raises: OSError."""

    def marked(self, picture: bytes) -> bytes:
        """A sample picture with what it shall carry. picture: as PNG."""
        return picture

    @contextmanager
    def shown(self) -> Iterator[None]:
        """While inside, pictures are made with what has been learned."""
        yield

    def close(self) -> None:  # noqa: B027  most have nothing to do then
        """Leave the model as it was found."""
