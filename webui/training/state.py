"""What a killed training goes on from: one file, replaced whole."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from webui.core.errors import not_saved
from webui.core.files import atomic_file


@dataclass
class Place:
    """Where a training is. phase: from 0. step: the optimizer's, done in this phase. epoch, batch: the next one.

    total: steps of all phases. losses: of the last steps, for the mean that is shown.
    """

    phase: int = 0
    step: int = 0
    epoch: int = 0
    batch: int = 0
    total: int = 0
    losses: list[float] = field(default_factory=list)


@dataclass(frozen=True)
class State:
    """weights: a trainee's tensors. optimizer, scaler: their state dicts, {} at the beginning of a phase.

    files: that were saved so far.
    """

    place: Place
    weights: Mapping[str, Tensor]
    optimizer: Mapping[str, Any]
    scaler: Mapping[str, Any]
    files: tuple[str, ...] = ()
    samples: tuple[str, ...] = ()

    def write(self, path: Path) -> None:
        """Raises: NotSaved; the state before stays then."""
        content = {
            "place": asdict(self.place),
            "weights": dict(self.weights),
            "optimizer": self.optimizer,
            "scaler": self.scaler,
            "files": list(self.files),
            "samples": list(self.samples),
        }
        try:
            with atomic_file(path) as file:
                torch.save(content, file)
        except (OSError, RuntimeError) as error:
            cause = error if isinstance(error, OSError) else error.__context__
            if not isinstance(cause, OSError):
                raise
            raise not_saved(f"The training's state can't be saved in {path.parent}", cause) from error

    @classmethod
    def read(cls, path: Path) -> State | None:
        """None when there is none."""
        if not path.exists():
            return None
        content = torch.load(path, map_location="cpu", weights_only=True)
        place = Place(**content["place"])
        lists = tuple(content["files"]), tuple(content["samples"])
        return cls(place, content["weights"], content["optimizer"], content["scaler"], *lists)
