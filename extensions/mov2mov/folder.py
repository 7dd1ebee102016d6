"""The work folder of a run: every finished frame, and all that is needed to go on."""

from __future__ import annotations

import hashlib
import io
import json
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, PngImagePlugin

from webui.extensions.api import InvalidRequest, atomic_file

JOB_FILE = "job.json"


def source_mark(path: Path) -> dict[str, Any]:
    """What tells a source from one that was changed: for a folder, of all its files."""
    files = sorted(path.iterdir()) if path.is_dir() else [path]
    states = [(file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in files]
    digest = hashlib.sha256(repr(states).encode()).hexdigest()[:16]
    return {"path": str(path), "size": sum(size for _, size, _ in states), "mark": digest}


class WorkFolder:
    """000001.png ... in the order of the diffused frames, and job.json.

    facts: what the frames depend on, as JSON: settings, seed, source, the list of frames.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.facts: dict[str, Any] = json.loads((path / JOB_FILE).read_text("utf-8"))

    @classmethod
    def begin(cls, root: Path, name: str, facts: Mapping[str, Any]) -> WorkFolder:
        """A new folder `{name}-{timestamp}`. Raises: OSError."""
        stamp = time.strftime("%Y%m%d%H%M%S")
        root.mkdir(parents=True, exist_ok=True)
        for path in _untaken(root, f"{name}-{stamp}"):
            try:
                path.mkdir()
            except FileExistsError:
                continue
            _write(path / JOB_FILE, json.dumps(dict(facts), indent=2).encode())
            break
        return cls(path)

    @classmethod
    def latest(cls, root: Path, asked: Mapping[str, Any], unfinished: bool = True) -> WorkFolder | None:
        """The newest folder of a run that was asked the same, None if there is none. unfinished: that lacks frames."""
        same = json.loads(json.dumps(dict(asked)))
        for path in sorted(root.glob(f"*/{JOB_FILE}"), key=lambda path: path.stat().st_mtime_ns, reverse=True):
            try:
                folder = cls(path.parent)
            except (OSError, ValueError):
                continue  # of something else, or damaged
            if folder.facts.get("asked") == same and (folder.first_missing is not None or not unfinished):
                return folder
        return None

    @property
    def count(self) -> int:
        return len(self.facts["made"])

    def has(self, index: int) -> bool:
        return self._frame(index).is_file()

    @property
    def first_missing(self) -> int | None:
        return next((index for index in range(self.count) if not self.has(index)), None)

    @property
    def finished(self) -> int:
        """How many frames there are from the first on, without a gap."""
        missing = self.first_missing
        return self.count if missing is None else missing

    def save(self, index: int, picture: Any, infotext: str) -> Path:
        """Write a frame, whole or not at all. Raises: OSError."""
        chunks = PngImagePlugin.PngInfo()
        if infotext:
            chunks.add_text("parameters", infotext)
        data = io.BytesIO()
        Image.fromarray(picture).save(data, "PNG", pnginfo=chunks, compress_level=4)
        _write(self._frame(index), data.getvalue())
        return self._frame(index)

    def load(self, index: int) -> Any:
        """A frame as (H, W, 3) uint8. Raises: InvalidRequest when it can't be read."""
        try:
            with Image.open(self._frame(index)) as image:
                return np.array(image.convert("RGB"))
        except OSError as error:
            raise InvalidRequest(
                f'The frame "{self._frame(index)}" can\'t be read; delete it and start again.'
            ) from error

    def infotext(self, index: int) -> str:
        with Image.open(self._frame(index)) as image:
            return str(image.info.get("parameters", ""))

    def note_failure(self, index: int, reason: str) -> None:
        """Tell in job.json that this frame is the source's own."""
        self.facts.setdefault("failed", {})[str(index + 1)] = reason
        _write(self.path / JOB_FILE, json.dumps(self.facts, indent=2).encode())

    def _frame(self, index: int) -> Path:
        return self.path / f"{index + 1:06}.png"


def _untaken(root: Path, name: str) -> Iterator[Path]:
    yield root / name
    number = 2
    while True:
        yield root / f"{name}-{number}"
        number += 1


def _write(path: Path, data: bytes) -> None:
    with atomic_file(path) as file:
        file.write(data)
