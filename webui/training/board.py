"""A training's curves and sample pictures in TensorBoard's event files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from webui.core.errors import not_saved
from webui.planning.training import TrainingPlan

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

FOLDER = "tensorboard"


class Board:
    """Written from its first step on; steps that an earlier run of a killed training has beyond it are dropped.

    The package tensorboard is installed: `TrainingPlan.on_board` has seen to it.
    """

    def __init__(self, plan: TrainingPlan) -> None:
        self._folder = plan.folder / FOLDER
        self._with_pictures = bool(plan.settings["training_tensorboard_save_images"])
        self._flush_seconds = max(int(plan.settings["training_tensorboard_flush_every"]), 1)
        self._writer: SummaryWriter | None = None

    def add(self, step: int, values: Mapping[str, float]) -> None:
        """A point on each curve. Raises: NotSaved."""
        try:
            for tag, value in values.items():
                self._writer_from(step).add_scalar(tag, value, step)
        except OSError as error:
            raise self._failure(error) from error

    def add_pictures(self, step: int, files: Sequence[str]) -> None:
        """Sample pictures, where the settings want them. Raises: NotSaved."""
        if not self._with_pictures:
            return
        try:
            for number, file in enumerate(files, 1):
                with Image.open(file) as picture:
                    pixels = np.asarray(picture.convert("RGB"))
                self._writer_from(step).add_image(f"samples/{number}", pixels, step, dataformats="HWC")
        except OSError as error:
            raise self._failure(error) from error

    def close(self) -> None:
        """Write out what waits. Raises: NotSaved."""
        try:
            if self._writer is not None:
                self._writer.close()
        except OSError as error:
            raise self._failure(error) from error

    def _writer_from(self, step: int) -> SummaryWriter:
        if self._writer is None:
            from torch.utils.tensorboard import SummaryWriter

            self._writer = SummaryWriter(str(self._folder), purge_step=step, flush_secs=self._flush_seconds)
        return self._writer

    def _failure(self, error: OSError) -> Exception:
        return not_saved(f"TensorBoard's files can't be written in {self._folder}", error)
