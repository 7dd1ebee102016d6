"""Textual inversions inside pictures: in a text chunk of a PNG, or in the low bits of the pixels.

The pixels hold, between an outer black border, a left block, a black column, the visible picture, a black column,
and a right block. A block's low nibbles, XORed with a keystream, are the low (left) and high (right) halves of the
bytes of a zlib stream of JSON.
"""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from webui.core.errors import BadModelFile

if TYPE_CHECKING:
    import numpy as np
    from PIL import Image

SUFFIXES = (".png", ".webp", ".jxl", ".avif")
FORMATS = ("PNG", "WEBP", "AVIF")
TEXT_KEY = "sd-ti-embedding"
TENSOR_KEY = "TORCHTENSOR"
MAX_PIXELS = 5_000_000
MAX_JSON = 6_000_000
"""Bytes: 75 vectors for both encoders of SDXL take about 3.5 million."""
MAX_ROWS = 10_000
"""Lists and tables in the JSON, which take many times their length in memory."""


@dataclass(frozen=True)
class ImageEmbedding:
    """tensors: fp32 by name, one for each parameter. The rest as A1111 stores it, None where it is missing."""

    tensors: Mapping[str, np.ndarray]
    name: str | None
    step: int | None
    sd_checkpoint: str | None
    sd_checkpoint_name: str | None


def read_embedding_image(path: Path) -> ImageEmbedding | None:
    """The embedding in a picture, None when there is none.

    Raises: BadModelFile for an embedding that is broken or too large, and for a file that is no picture.
    """
    from PIL import Image

    try:
        with Image.open(path, formats=FORMATS) as image:
            if image.width * image.height > MAX_PIXELS:
                return None
            text = image.info.get(TEXT_KEY)
            raw = _from_text(text, path) if isinstance(text, str) else _from_pixels(image, path)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise BadModelFile(f"{path.name} can't be read as a picture: {str(error)[:120]}.") from error
    return None if raw is None else _embedding(raw, path)


def _from_text(text: str, path: Path) -> bytes:
    if len(text) > MAX_JSON:
        raise BadModelFile(f"{path.name} holds an embedding of {len(text)} characters; {MAX_JSON} are possible.")
    try:
        return base64.b64decode(text, validate=False)
    except ValueError as error:
        raise BadModelFile(f"{path.name} holds a broken embedding: {error}.") from error


def _from_pixels(image: Image.Image, path: Path) -> bytes | None:
    import numpy as np

    pixels = np.asarray(image.convert("RGB"))
    lit = pixels.min(axis=2) > 0
    rows, columns = (np.flatnonzero(np.any(lit, axis=axis)) for axis in (1, 0))
    if not len(rows):
        return None
    nibbles = pixels[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1] & 0x0F
    black = np.flatnonzero(nibbles.sum(axis=(0, 2), dtype=np.int64) == 0)
    if len(black) < 2:
        return None
    left, right = nibbles[:, : black[0]], nibbles[:, black[-1] + 1 :]
    if left.shape != right.shape or not left.size:
        return None
    stream = (_unmasked(right) << 4 | _unmasked(left)).tobytes()
    unpacker = zlib.decompressobj()
    try:
        raw = unpacker.decompress(stream, MAX_JSON)
    except zlib.error:
        return None  # an ordinary picture with dark columns
    if not unpacker.eof:
        raise BadModelFile(f"{path.name} holds an embedding that is cut off, or larger than {MAX_JSON} bytes.")
    return raw


def _unmasked(block: np.ndarray) -> np.ndarray:
    """The block's nibbles (h, w, 3) without the keystream.

    Keystream: x <- 1664525 x + 1013904223 mod 2^32, from 0; of each x the low four bits of x mod 255.
    """
    import numpy as np

    states = np.array([1013904223], dtype=np.uint32)
    factor, offset = 1664525, 1013904223  # of one step; doubled with the states: x(n + k) = factor(k) x(n) + offset(k)
    while len(states) < block.size:
        states = np.concatenate([states, states * np.uint32(factor) + np.uint32(offset)])
        factor, offset = factor * factor % 2**32, (factor * offset + offset) % 2**32
    key = (states[: block.size] % 255).astype(np.uint8) & 0x0F
    return block ^ key.reshape(block.shape)


def _embedding(raw: bytes, path: Path) -> ImageEmbedding:
    """Raises: BadModelFile."""
    import numpy as np

    if raw.count(b"[") + raw.count(b"{") > MAX_ROWS:
        raise BadModelFile(f"{path.name} holds far more vectors than any embedding has.")
    try:
        stored = json.loads(raw)
        params = stored["string_to_param"]
        tensors = {
            str(key): np.array(value[TENSOR_KEY] if isinstance(value, dict) else value, dtype=np.float32)
            for key, value in params.items()
        }
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, OverflowError) as error:
        raise BadModelFile(f"{path.name} holds a broken embedding ({type(error).__name__}: {error}).") from error
    if not tensors or not all(np.isfinite(tensor).all() for tensor in tensors.values()):
        raise BadModelFile(f"{path.name} holds an embedding without usable numbers.")
    step = stored.get("step")
    return ImageEmbedding(
        tensors=tensors,
        name=_text(stored, "name"),
        step=step if isinstance(step, int) else None,
        sd_checkpoint=_text(stored, "sd_checkpoint"),
        sd_checkpoint_name=_text(stored, "sd_checkpoint_name"),
    )


def _text(stored: Mapping[str, Any], key: str) -> str | None:
    value = stored.get(key)
    return value if isinstance(value, str) and value else None
