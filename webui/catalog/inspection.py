"""What a checkpoint in the list is and can do, without loading it and without torch."""

from __future__ import annotations

import mmap
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path

from webui.catalog.checkpoints import Checkpoint
from webui.catalog.families import Family, detect_family, read_capabilities
from webui.catalog.model_folder import checkpoint_names, folder_hints, part_files
from webui.catalog.model_hints import Hints, read_hints
from webui.catalog.pickle_header import read_pickle
from webui.catalog.safetensors_header import PREFIX, looks_like_pickle, read_header
from webui.catalog.shapes import Shapes
from webui.core.capabilities import Capabilities
from webui.core.errors import BadModelFile


def inspect(checkpoint: Checkpoint) -> tuple[Family, Capabilities]:
    """Family and capabilities, told by the header; remembered as long as the file stays as it is.

    Raises: BadModelFile with one sentence.
    """
    if checkpoint.problem:
        raise BadModelFile(checkpoint.problem)
    config = checkpoint.config
    return _inspect(checkpoint.identity, config, config.stat().st_mtime_ns if config and config.is_file() else 0)


def hints_of(path: Path, metadata: Mapping[str, str], config: Path | None) -> Hints:
    """What stands beside or in front of the weights, the .yaml first. metadata: of the file's header.

    Raises: BadModelFile.
    """
    hints = read_hints(path.name, metadata, config)
    return hints.over(folder_hints(path)) if path.is_dir() else hints


@lru_cache(maxsize=8)
def shapes_of(identity: tuple[str, int, int]) -> Shapes:
    """The tensors of a checkpoint, by its `identity`. Raises: BadModelFile."""
    path = Path(identity[0])
    return (_folder_shapes(path) if path.is_dir() else _file_shapes(path))[0]


@lru_cache(maxsize=64)
def _inspect(identity: tuple[str, int, int], config: Path | None, config_mtime: int) -> tuple[Family, Capabilities]:
    path = Path(identity[0])
    shapes, metadata = _folder_shapes(path) if path.is_dir() else _file_shapes(path)
    family = detect_family(shapes, path.name)
    return family, read_capabilities(family, shapes, hints_of(path, metadata, config), path.name)


def _file_shapes(path: Path) -> tuple[Shapes, Mapping[str, str]]:
    """Shapes by name and the header's text fields."""
    try:
        with path.open("rb") as file:
            if looks_like_pickle(file.read(PREFIX)) and path.suffix.lower() != ".safetensors":
                with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped, memoryview(mapped) as data:
                    tensors = read_pickle(data, path.name).tensors
                    return {name: tensor.shape for name, tensor in tensors.items()}, {}
    except (OSError, ValueError) as error:
        raise BadModelFile(f"{path.name} can't be read: {error}.") from error
    header = read_header(path)
    return {name: entry.shape for name, entry in header.tensors.items()}, header.metadata


def _folder_shapes(folder: Path) -> tuple[Shapes, Mapping[str, str]]:
    parts: dict[str, dict[str, tuple[int, ...]]] = {}
    for part, files in part_files(folder).items():
        parts[part] = {key: shape for file in files for key, shape in _file_shapes(file)[0].items()}
    names = checkpoint_names(folder, parts)
    return {name: parts[part][key] for part, table in names.items() for key, name in table.items()}, {}
