"""kohya's dataset files: [general], [[datasets]] and [[datasets.subsets]], where what stands further in wins.

Arguments of its trainers (learning_rate, max_train_epochs, ...) may stand in the same file, at the top level or in
tables of any name, as its config files have them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import tomlkit
from tomlkit.exceptions import TOMLKitError
from tomlkit.items import Table

from webui.core.errors import InvalidRequest
from webui.core.training_data import DataFolder, DataRequest, Dataset
from webui.datasets.parts import parts_of

DATASET_KEYS = (
    *("enable_bucket", "min_bucket_reso", "max_bucket_reso", "bucket_reso_steps", "bucket_no_upscale"),
    "resize_interpolation",
)
SUBSET_KEYS = tuple(name for name in DataFolder.model_fields)
_OWN = ("general", "datasets")


@dataclass(frozen=True)
class KohyaFile:
    """data: the dataset. arguments: of the trainer, by kohya's names. ignored: keys that mean nothing here."""

    data: DataRequest
    batch_size: int | None
    arguments: Mapping[str, Any]
    ignored: tuple[str, ...]


def read_toml(text: str) -> KohyaFile:
    """Raises: InvalidRequest for what is no TOML or has values that can't be."""
    try:
        content = tomlkit.parse(text).unwrap()
    except (TOMLKitError, ValueError, RecursionError) as error:
        raise InvalidRequest(f"This is no TOML file: {error}.") from error
    ignored: list[str] = []
    general = _table(content.get("general", {}), "general")
    datasets = [{**general, **_table(item, "datasets")} for item in _list(content.get("datasets", []), "datasets")]
    sizes = [_sizes(dataset) for dataset in datasets]
    told = [(values, dataset.get("batch_size")) for values, dataset in zip(sizes, datasets, strict=True)]
    folders = [tuple(_folders(dataset, number, ignored)) for number, dataset in enumerate(datasets, 1)]
    if all(one == told[0] for one in told):
        values = sizes[0] if sizes else _sizes(general)
        data = DataRequest.checked(folders=tuple(folder for some in folders for folder in some), **values)
    else:
        data = DataRequest(
            datasets=tuple(
                Dataset.checked(folders=some, batch_size=dataset.get("batch_size", 0), **values)
                for dataset, some, values in zip(datasets, folders, sizes, strict=True)
            )
        )
    first = datasets[0] if datasets else general
    return KohyaFile(data, first.get("batch_size"), dict(_arguments(content)), tuple(dict.fromkeys(ignored)))


def write_toml(data: DataRequest, batch_size: int = 1) -> str:
    """A dataset file for kohya's trainers. data: its folders are written as subsets. batch_size: of the training."""
    document = tomlkit.document()
    datasets = tomlkit.aot()
    for part in parts_of(data):
        datasets.append(_dataset(part.request, part.batch_size or batch_size))
    document["datasets"] = datasets
    return tomlkit.dumps(document)


def _dataset(data: DataRequest, batch_size: int) -> Table:
    dataset = tomlkit.table()
    sides = [int(side) for side in data.resolution.replace("x", ",").split(",")]
    dataset["resolution"] = sides[0] if len(set(sides)) == 1 else sides
    dataset["batch_size"] = batch_size
    for key in DATASET_KEYS:
        value = getattr(data, key)
        if value != "":
            dataset[key] = value
    subsets = tomlkit.aot()
    plain = DataFolder()
    for folder in data.folders:
        table = tomlkit.table()
        for key in SUBSET_KEYS:
            value = getattr(folder, key)
            if key == "caption_extension":
                table[key] = _one_ending(value)
            elif key in ("image_dir", "num_repeats") or value != getattr(plain, key):
                table[key] = value
        subsets.append(table)
    dataset["subsets"] = subsets
    return dataset


def _sizes(dataset: Mapping[str, Any]) -> dict[str, Any]:
    values = {key: dataset[key] for key in DATASET_KEYS if key in dataset}
    return values | ({"resolution": _resolution(dataset["resolution"])} if "resolution" in dataset else {})


def _folders(dataset: Mapping[str, Any], number: int, ignored: list[str]) -> Iterator[DataFolder]:
    for subset in _list(dataset.get("subsets", []), "datasets.subsets"):
        yield _folder({**dataset, **_table(subset, "datasets.subsets")}, number, ignored)


def _folder(values: Mapping[str, Any], dataset: int, ignored: list[str]) -> DataFolder:
    if "metadata_file" in values:
        raise InvalidRequest(
            f"Dataset {dataset} names a metadata_file (fine-tuning style), which Easel doesn't read; name folders with "
            "image_dir."
        )
    if "image_dir" not in values:
        raise InvalidRequest(f"A subset of dataset {dataset} names no image_dir.")
    known = {key: values[key] for key in SUBSET_KEYS if key in values}
    if isinstance(known.get("face_crop_aug_range"), list):
        known["face_crop_aug_range"] = ",".join(map(str, known["face_crop_aug_range"]))
    others = (*DATASET_KEYS, "subsets", "resolution", "batch_size")
    ignored += [key for key in values if key not in SUBSET_KEYS and key not in others]
    return DataFolder.checked(**known)


def _arguments(content: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Of the trainer, wherever they stand."""
    for key, value in content.items():
        if isinstance(value, dict) and key not in _OWN:
            yield from ((inner, told) for inner, told in value.items() if not isinstance(told, dict))
        elif key not in _OWN:
            yield key, value


def _resolution(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)


def _one_ending(told: str) -> str:
    """kohya takes one ending only."""
    first = told.split(",")[0].strip()
    return first if first.startswith(".") or not first else f".{first}"


def _table(value: Any, name: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise InvalidRequest(f"{name} must be a table in this file.")
    return value


def _list(value: Any, name: str) -> list[Any]:
    if not isinstance(value, list):
        raise InvalidRequest(f"{name} must be a list of tables in this file: write [[{name}]].")
    return value
