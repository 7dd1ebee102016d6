"""The parts of the program that an extension is given."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from webui.catalog.checkpoints import CheckpointCatalog
from webui.catalog.networks import Networks
from webui.catalog.vaes import VaeCatalog
from webui.core.paths import Paths
from webui.core.settings import Setting, SettingsStore
from webui.jobs.runner import JobRunner


@dataclass(frozen=True)
class Catalogs:
    """What model files there are."""

    checkpoints: CheckpointCatalog
    networks: Networks
    vaes: VaeCatalog


@dataclass(frozen=True)
class Easel:
    """settings: `settings.snapshot()` is what they are now.

    choices: what a setting may be now; empty when anything goes.
    models: who loads checkpoints; only while a job runs, in its thread, else None.
    """

    paths: Paths
    settings: SettingsStore
    jobs: JobRunner
    catalogs: Catalogs
    choices: Callable[[Setting], Sequence[str]]
    models: Any = None
