"""The parts of the program that an extension is given."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from webui.catalog.checkpoints import CheckpointCatalog
from webui.catalog.hashes import HashCache
from webui.catalog.networks import Networks
from webui.catalog.short_hashes import HashedCatalog
from webui.catalog.vaes import VaeCatalog
from webui.core.choices import Choices, load_function
from webui.core.layouts import folders_of, kind_of
from webui.core.params import Params
from webui.core.paths import Paths
from webui.core.settings import Setting, SettingsStore
from webui.jobs.runner import JobRunner

if TYPE_CHECKING:
    from PIL.Image import Image

    from webui.jobs.context import JobContext


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
    hashes: what is known of files' hashes. model_roots: further folders with models, as `folders_of` takes them.
    models: who loads checkpoints; only while a job runs, in its thread, else None.
    fetch: `fetch(url, target, job)` brings a model file that a user asked for, see `webui.services.fetching.Fetcher`.
    groups: the parameters of every extension, for one that builds on another, see `group`.
    """

    paths: Paths
    settings: SettingsStore
    jobs: JobRunner
    catalogs: Catalogs
    choices: Choices
    choices_of: Callable[[Setting], Sequence[str]]
    hashes: HashCache
    model_roots: Sequence[str | Path] = ()
    models: Any = None
    fetch: Callable[..., Path] | None = None
    groups: tuple[type[Params], ...] = ()

    def group(self, name: str) -> type[Params] | None:
        """The parameters of another extension by their class's name; None where it isn't there.

        A value of it goes into `GenerationRequest.extensions` by that name, see `Params.as_given` and `from_api`.
        """
        return next((group for group in self.groups if group.__name__ == name), None)

    def enlarge(self, image: Image, upscaler: str, scale: float, job: JobContext) -> Image:
        """A picture enlarged by one of the upscalers on offer, within a job; the sides become multiples of 8 pixels.

        Raises: InvalidRequest for one that isn't there or has no weights yet, with what to do.
        """
        found, settings = self.choices.find_upscaler(upscaler), self.settings.snapshot()
        run = load_function("webui.pipeline.upscaling:enlarged")
        return run(image, found, scale, settings, self.models, job)

    def catalog(self, folder: str | Path, suffixes: Sequence[str]) -> HashedCatalog:
        """The model files in an extension's own folder, which needn't be there yet; make it once and keep it.

        folder: in the models folder, such as "ControlNet", or anywhere by its whole path. One of a name that A1111 or
        ComfyUI have, too, is also looked for in the further folders of --extra-models-dir and model-folders.txt.
        suffixes: lower-case, with the dot. `titles()` and `find(name)` are what a dropdown needs, `refresh()` its
        button; `short_hash(file)` and `sha256(file)` tell files apart.
        """
        further = () if Path(folder).is_absolute() else folders_of(self.model_roots, kind_of(str(folder)))
        return HashedCatalog((self.paths.models / folder, *further), suffixes, self.hashes)
