"""A training set of several sizes, each part as a training set of one size."""

from __future__ import annotations

from typing import NamedTuple

from webui.core.training_data import DataRequest, Sizes


class Part(NamedTuple):
    """request: without further datasets. batch_size: of its own, 0 for the training's."""

    request: DataRequest
    batch_size: int = 0


def names_folders(request: DataRequest) -> bool:
    """Beside those of its datasets."""
    return bool(request.train_data_dir.strip() or request.reg_data_dir.strip() or request.folders)


def parts_of(request: DataRequest) -> list[Part]:
    """The request's own folders, if it names any, then each of its datasets."""
    own = request.replace(datasets=())
    parts = [Part(own)] if names_folders(request) or not request.datasets else []
    for dataset in request.datasets:
        sizes = {name: getattr(dataset, name) for name in Sizes.model_fields}
        alone = own.replace(train_data_dir="", reg_data_dir="", folders=dataset.folders, **sizes)
        parts.append(Part(alone, dataset.batch_size))
    return parts
