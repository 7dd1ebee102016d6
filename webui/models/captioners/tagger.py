"""Taggers in ONNX files as SmilingWolf's: a picture in, a score for each line of selected_tags.csv out."""

from __future__ import annotations

import csv
import logging
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from webui.core.errors import BadModelFile

log = logging.getLogger(__name__)
RATING = "9"
"""The category of tags that rate."""
SIDES = range(32, 2049)


class Tagger:
    """side: of the square pictures that it wants. Raises: BadModelFile for another network, or another list."""

    def __init__(self, network: Path, tags: Path) -> None:
        self.name = network.name
        self._session = _session(network)
        self.tags = _tags(tags)
        inputs, outputs = self._session.get_inputs(), self._session.get_outputs()
        shape = inputs[0].shape if len(inputs) == 1 else []
        square = [side for side in shape[1:3] if isinstance(side, int)] if len(shape) == 4 else []
        if len(square) != 2 or square[0] != square[1] or square[0] not in SIDES or shape[3] != 3 or not outputs:
            raise BadModelFile(
                f"{network.name} is no tagger: it should take one picture of (1, side, side, 3), and takes "
                f"{', '.join(str(item.shape) for item in inputs) or 'nothing'}."
            )
        self._input, self._output, self.side = inputs[0].name, outputs[0].name, square[0]

    def score(self, pixels: NDArray[np.uint8]) -> list[tuple[str, float]]:
        """Each tag with its score, 0 to 1; those that rate begin with "rating:". pixels: (side, side, 3) RGB."""
        given = pixels[None, :, :, ::-1].astype(np.float32)
        try:
            scores = np.asarray(self._session.run([self._output], {self._input: given})[0]).reshape(-1)
        except Exception as error:  # onnxruntime's own kinds are not public
            log.warning("%s: %s", self.name, error)
            raise BadModelFile(f"{self.name} fails at its work: {_sentence(error)}") from error
        if len(scores) != len(self.tags):
            raise BadModelFile(f"{self.name} scores {len(scores)} tags, and its list names {len(self.tags)}.")
        return list(zip(self.tags, scores.tolist(), strict=True))


def _session(path: Path) -> Any:
    import onnxruntime  # type: ignore[import-untyped]

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    try:
        return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's own kinds are not public
        log.warning("%s: %s", path, error)
        raise BadModelFile(f"{path.name} can't be loaded as an ONNX network: {_sentence(error)}") from error


def _tags(path: Path) -> tuple[str, ...]:
    """Raises: BadModelFile for a list without names."""
    try:
        with path.open(encoding="utf-8", errors="replace", newline="") as file:
            rows = list(csv.DictReader(file))
        return tuple(f"rating:{row['name']}" if row.get("category") == RATING else row["name"] for row in rows)
    except (OSError, csv.Error, KeyError) as error:
        raise BadModelFile(f"{path.name} is no list of tags with a column name.") from error


def _sentence(error: Exception) -> str:
    words = str(error).strip().splitlines()
    return f"{words[0][:200].rstrip('.')}." if words else f"{type(error).__name__}."
