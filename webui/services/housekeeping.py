"""What the last pages of the Settings tab do: the checkpoint's memory, hashes, licences."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from importlib.metadata import distributions
from pathlib import Path
from typing import Final

from webui.core.errors import Refused
from webui.services.kinds import LOAD, UNLOAD
from webui.services.services import Services


def unload_checkpoint(services: Services) -> str:
    """Give the model's memory back; returns a sentence."""
    services.jobs.submit(UNLOAD, None)
    return "The checkpoint is unloaded as soon as the jobs before are done; the next job loads it again."


def load_checkpoint(services: Services) -> str:
    """Load the current checkpoint; returns a sentence."""
    services.jobs.submit(LOAD, None)
    return "The checkpoint is loaded as soon as the jobs before are done."


def hash_checkpoints(services: Services) -> str:
    """Have the hashes of all checkpoints computed; returns a sentence. Raises: Refused with --no-hashing."""
    if services.flags.no_hashing:
        raise Refused("Hashes aren't computed here (--no-hashing).")
    services.checkpoints.hash_in_background()
    return "Hashes that aren't known yet are computed while no job runs; the list of checkpoints then shows them."


ACTIONS: Final[Mapping[str, Callable[[Services], str]]] = {
    "unload": unload_checkpoint,
    "load": load_checkpoint,
    "hash": hash_checkpoints,
}


def all_licenses(code: Path) -> Iterator[tuple[str, str]]:
    """(name, text) of Easel and of every package installed beside it, by name. code: the folder of the program."""
    for name in ("LICENSE", "NOTICE"):
        if (code / name).is_file():
            yield f"Easel: {name}", (code / name).read_text(encoding="utf-8")
    for package in sorted(distributions(), key=lambda found: (found.name or "").lower()):
        told = {name: package.metadata.get_all(name) or [] for name in ("License-Expression", "Classifier", "License")}
        classes = [line.split(" :: ") for line in told["Classifier"]]
        named = [parts[-1] for parts in classes if parts[0] == "License"]
        text = "".join(told["License-Expression"]) or ", ".join(named) or "".join(told["License"]).partition("\n")[0]
        yield f"{package.name} {package.version}", text or "see the package's own files"
