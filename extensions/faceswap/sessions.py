"""ONNX networks at work: on the device that is wished, within the memory budget, loaded once for all pictures."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from webui.extensions.api import BadModelFile

T = TypeVar("T")
PROVIDERS = {
    "CPU": (),
    "CUDA": ("CUDAExecutionProvider", "ROCMExecutionProvider", "DmlExecutionProvider", "CoreMLExecutionProvider"),
}
"""What onnxruntime calls the devices, in the order in which they are tried; the CPU comes last in any case."""
CPU = "CPUExecutionProvider"
KIND = "faceswap"


@dataclass(frozen=True)
class Networks:
    """Lends sessions. models: see `ModelManager.borrow`. device: one of PROVIDERS."""

    models: Any
    device: str = "CPU"

    @contextmanager
    def lent(self, path: Path, make: Callable[[Path, Any], T]) -> Iterator[T]:
        """What `make` makes of the file and its session. Raises: BadModelFile."""
        try:
            stat = path.stat()
        except OSError as error:
            raise BadModelFile(f"{path.name} can't be read: {error.strerror}.") from error
        key = (KIND, make.__qualname__, str(path), stat.st_size, stat.st_mtime_ns, self.device)
        with self.models.borrow(key, lambda: make(path, open_session(path, self.device)), stat.st_size) as thing:
            yield thing

    @contextmanager
    def session(self, path: Path) -> Iterator[Any]:
        """The file's network itself. Raises: BadModelFile."""
        with self.lent(path, _itself) as session:
            yield session


def _itself(path: Path, session: Any) -> Any:
    return session


def offered(device: str) -> list[str]:
    """The providers for a device that this onnxruntime has."""
    import onnxruntime

    there = onnxruntime.get_available_providers()
    return [*(name for name in PROVIDERS[device] if name in there), CPU]


def open_session(path: Path, device: str) -> Any:
    """Raises: BadModelFile for what onnxruntime can't run."""
    import onnxruntime
    import torch

    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.intra_op_num_threads = torch.get_num_threads()
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # torch works beside it
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=offered(device))
    except Exception as error:
        reason = str(error).strip().splitlines()[0][:200]
        raise BadModelFile(f"{path.name} can't be run by onnxruntime: {reason}") from error


def run(session: Any, given: dict[str, Any], name: str) -> list[Any]:
    """All outputs. Raises: BadModelFile when the network can't take what it should."""
    try:
        return list(session.run(None, given))
    except Exception as error:
        reason = str(error).strip().splitlines()[0][:200]
        raise BadModelFile(f"{name} doesn't work as its kind does: {reason}") from error
