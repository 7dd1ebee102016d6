"""One face exchanged for another: the network's input, its output, and how that is laid back."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from webui.extensions.api import BadModelFile

from .faces import Face
from .geometry import Pixels, alignment, cropped, pasted
from .masks import Masking
from .onnx_file import read_head, read_last_tensor
from .sessions import run

EMBEDDING = 512


@dataclass(frozen=True)
class Swapper:
    """A swapper's network. side: of the crops that it takes; emap: (512, 512), from who a face is to its own terms."""

    name: str
    session: Any
    target: str
    source: str
    side: int
    emap: NDArray[np.float32]

    @classmethod
    def made_of(cls, path: Path, session: Any) -> Swapper:
        """Raises: BadModelFile for a network of another kind."""
        head = read_head(path)
        pictures = {name: shape for name, shape in head.inputs.items() if len(shape) == 4}
        faces = {name: shape for name, shape in head.inputs.items() if len(shape) == 2}
        if len(head.inputs) != 2 or len(pictures) != 1 or len(faces) != 1:
            raise BadModelFile(
                f"{path.name} is no face swapper: it should take a picture and a face, as inswapper_128 does."
            )
        (target, shape), (source, width) = next(iter(pictures.items())), next(iter(faces.items()))
        if shape[1] != 3 or shape[2] != shape[3] or not isinstance(shape[2], int) or width[1] != EMBEDDING:
            raise BadModelFile(f"{path.name} is no face swapper of a known kind: it takes {shape} and {width}.")
        if head.last != (EMBEDDING, EMBEDDING):
            raise BadModelFile(
                f"{path.name} lacks its map of faces, 512 x 512 numbers at its end; fetch the whole file."
            )
        return cls(path.name, session, target, source, shape[2], read_last_tensor(path))

    def latent(self, embedding: NDArray[np.float32]) -> NDArray[np.float32]:
        """(1, 512) of length 1, what the network is told of the source."""
        unit = embedding / np.linalg.norm(embedding)
        mapped = unit.reshape(1, -1) @ self.emap
        return np.asarray(mapped / np.linalg.norm(mapped), np.float32)

    def swapped(self, crop: Pixels, latent: NDArray[np.float32]) -> Pixels:
        """crop: upright, (n * side, n * side, 3); for n > 1 the interleaved crops are swapped one by one.

        Raises: BadModelFile.
        """
        parts = crop.shape[0] // self.side
        result = np.empty_like(crop)
        for row in range(parts):
            for column in range(parts):
                part = crop[row::parts, column::parts]
                x = np.ascontiguousarray(part.transpose(2, 0, 1)[None], np.float32) / 255
                made = run(self.session, {self.target: x, self.source: latent}, self.name)[0]
                if np.shape(made) != x.shape:
                    raise BadModelFile(f"{self.name} gives no picture of {self.side} pixels but {np.shape(made)}.")
                levels = np.clip(np.nan_to_num(np.asarray(made[0])) * 255, 0, 255).astype(np.uint8)
                result[row::parts, column::parts] = levels.transpose(1, 2, 0)
        return result


@dataclass(frozen=True)
class Manner:
    """side: of the crop that is swapped. colors: whether it takes the target's colours. masking: what stays."""

    side: int
    colors: bool
    masking: Masking


def swap_face(pixels: Pixels, target: Face, source: NDArray[np.float32], swapper: Swapper, manner: Manner) -> Pixels:
    """The picture with one face exchanged. source: who the new one is, (512,). Raises: BadModelFile."""
    side = max(manner.side // swapper.side, 1) * swapper.side
    matrix = alignment(target.points.astype(np.float64), side)
    crop = cropped(pixels, matrix, side)
    made = swapper.swapped(crop, swapper.latent(source))
    if manner.colors:
        made = with_colors_of(made, crop)
    return pasted(pixels, made, matrix, manner.masking.mask(crop, target, matrix))


def with_colors_of(made: Pixels, crop: Pixels) -> Pixels:
    """The swapped crop with mean and spread of the other's colours. Source: Reinhard et al. 2001."""
    ours, theirs = (cv2.cvtColor(picture, cv2.COLOR_RGB2LAB).astype(np.float32) for picture in (made, crop))
    axes = (0, 1)
    spread = theirs.std(axes) / np.maximum(ours.std(axes), 1)
    moved = (ours - ours.mean(axes)) * np.minimum(spread, 2) + theirs.mean(axes)
    return np.asarray(cv2.cvtColor(moved.clip(0, 255).astype(np.uint8), cv2.COLOR_LAB2RGB), np.uint8)
