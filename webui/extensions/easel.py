"""The parts of the program that an extension is given."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from webui.catalog.checkpoints import CheckpointCatalog
from webui.catalog.hashes import HashCache
from webui.catalog.networks import Networks
from webui.catalog.short_hashes import HashedCatalog
from webui.catalog.vaes import VaeCatalog
from webui.core.choices import Choices
from webui.core.layouts import folders_of, kind_of
from webui.core.params import Params
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

    choices: everything that can be chosen by name, such as `choices.all(Axis)`; ask whenever it is shown.
    choices_of: what a setting may be now; empty when anything goes.
    folder_of: the folder that a visitor names, below the data folder unless absolute; raises Refused for one that they
        may not use, InvalidRequest.
    hashes: what is known of files' hashes. model_roots: further folders with models, as `folders_of` takes them.
    models: who loads checkpoints; only while a job runs, in its thread, else None.
    groups: the parameters of every extension, for one that builds on another, see `group`.
    """

    paths: Paths
    settings: SettingsStore
    jobs: JobRunner
    catalogs: Catalogs
    choices: Choices
    choices_of: Callable[[Setting], Sequence[str]]
    folder_of: Callable[[str], Path]
    hashes: HashCache
    model_roots: Sequence[str | Path] = ()
    models: Any = None
    groups: tuple[type[Params], ...] = ()

    _made: dict[Hashable, HashedCatalog] = field(default_factory=dict, repr=False, compare=False)
    _making: threading.Lock = field(default_factory=threading.Lock, repr=False, compare=False)

    def group(self, name: str) -> type[Params] | None:
        """The parameters of another extension by their class's name; None where it isn't there.

        A value of it goes into `GenerationRequest.extensions` by that name, see `Params.as_given` and `from_api`.
        """
        return next((group for group in self.groups if group.__name__ == name), None)

    def catalog(self, folder: str | Path, suffixes: Sequence[str], *, passed_over: Sequence[str] = ()) -> HashedCatalog:
        """The model files in an extension's own folder, which needn't be there yet; the same one whenever it's asked.

        folder: in the models folder, such as "ControlNet", or anywhere by its whole path. One of a name that A1111 or
        ComfyUI have, too, is also looked for in the further folders of --extra-models-dir and model-folders.txt.
        suffixes: lower-case, with the dot. passed_over: names of folders in it that aren't entered. `titles()` and
        `find(name)` are what a dropdown needs, `refresh()` its button; `short_hash(file)` and `sha256(file)` tell files
        apart.
        """
        key = (str(folder), tuple(suffixes), tuple(passed_over))
        with self._making:
            if key not in self._made:
                further = () if Path(folder).is_absolute() else folders_of(self.model_roots, kind_of(str(folder)))
                roots = (self.paths.models / folder, *further)
                self._made[key] = HashedCatalog(roots, suffixes, self.hashes, passed_over=passed_over)
            return self._made[key]
