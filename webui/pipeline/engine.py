"""What the worker thread builds once: the models and the services that handlers use."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from PIL.Image import Image

from webui.catalog.captioners import CAPTIONER
from webui.catalog.checkpoints import Checkpoint, CheckpointCatalog
from webui.catalog.networks import Networks
from webui.catalog.vaes import VaeCatalog
from webui.core.choices import Choices
from webui.core.flags import Flags
from webui.core.paths import Paths
from webui.core.provenance import Machine, Provenance
from webui.core.request import GenerationRequest, GenerationResult
from webui.core.settings import Settings, SettingsStore
from webui.extensions.host import Host
from webui.jobs.context import JobContext
from webui.models.families.base import LoadedModel
from webui.models.manager import ModelManager
from webui.models.vae_shelf import VaeShelf
from webui.pipeline.infotext import image_infotext
from webui.pipeline.networks import NetworkShelf
from webui.pipeline.operations import EnlargedPictures, describe_picture
from webui.pipeline.saving.provenance import provenance_at
from webui.pipeline.saving.saver import Saver
from webui.pipeline.upscaling import Enlarger, upscale
from webui.planning.plan import GenerationPlan
from webui.planning.planner import Planner
from webui.planning.script import make_script_plan
from webui.prompts.styles import StyleStore
from webui.prompts.tokenizer import Tokenizer

if TYPE_CHECKING:
    from webui.video import Between


class Parts(Protocol):
    """What the engine is built from; `webui.services.services.Parts` has it all."""

    @property
    def flags(self) -> Flags: ...
    @property
    def paths(self) -> Paths: ...
    @property
    def settings(self) -> SettingsStore: ...
    @property
    def checkpoints(self) -> CheckpointCatalog: ...
    @property
    def networks(self) -> Networks: ...
    @property
    def vaes(self) -> VaeCatalog: ...
    @property
    def styles(self) -> StyleStore: ...
    @property
    def host(self) -> Host: ...
    @property
    def choices(self) -> Choices: ...
    @property
    def tokenizer(self) -> Callable[[], Tokenizer]: ...
    @property
    def planner(self) -> Planner: ...
    @property
    def machine(self) -> Machine: ...


@dataclass(frozen=True)
class Engine:
    """The worker's own parts. `models` is the only one that knows what is loaded.

    provenance: what every picture carries about this machine. enlarged: what upscalers made lately, for Extras.
    """

    flags: Flags
    paths: Paths
    settings: SettingsStore
    checkpoints: CheckpointCatalog
    styles: StyleStore
    host: Host
    choices: Choices
    tokenizer: Tokenizer
    models: ModelManager
    networks: NetworkShelf
    vaes: VaeCatalog
    vae_shelf: VaeShelf
    planner: Planner
    provenance: Provenance
    enlarged: EnlargedPictures = field(default_factory=EnlargedPictures)

    def plan(self, request: GenerationRequest, settings: Settings | None = None) -> GenerationPlan:
        """A request that comes up within a job. settings: those of the job, else those of now.

        Raises: InvalidRequest, NotFound.
        """
        return self.planner.plan(request, settings)

    def generate(
        self, request: GenerationRequest, job: JobContext, settings: Settings | None = None
    ) -> GenerationResult:
        """Make a request's pictures within a job, by its script if it names one. Raises: WebuiError."""
        from webui.pipeline.generate import produced  # these need this module itself
        from webui.pipeline.script import run as run_script

        if request.script:
            return run_script(self, make_script_plan(request, self.planner, settings), job)
        return produced(self, self.plan(request, settings), job)

    def save_grid(
        self,
        image: Image,
        request: GenerationRequest,
        job: JobContext,
        settings: Settings | None,
        name: str,
        infotext: str = "",
    ) -> GenerationResult:
        """See `JobContext.save_grid`. Raises: WebuiError."""
        plan, comments = self.plan(request, settings), list[str]()
        saver = Saver(plan, self.paths, job.progress.job_timestamp, self.provenance, comments.append)
        text = infotext or image_infotext(plan, 0, {})
        grid = saver.grid(image, text, save=request.save_grid, name=name)
        shown = (grid,) if plan.settings["return_grid"] else ()
        return GenerationResult(shown, {}, tuple(comments), unsaved=saver.keeper.unsaved)

    def save_picture(
        self, image: Image, request: GenerationRequest, job: JobContext, settings: Settings | None, infotext: str
    ) -> GenerationResult:
        """See `JobContext.save_picture`. Raises: WebuiError."""
        plan, comments = self.plan(request, settings), list[str]()
        saver = Saver(plan, self.paths, job.progress.job_timestamp, self.provenance, comments.append)
        saved = saver.sample(image, 0, infotext, save=request.save_samples and plan.settings["samples_save"])
        if saved.path is not None:
            self.host.image_saved(Path(saved.path), image, plan)
        return GenerationResult((saved,), {}, tuple(comments), unsaved=saver.keeper.unsaved)

    def enlarge(self, image: Image, upscaler: str, scale: float, job: JobContext, settings: Settings | None) -> Image:
        """See `JobContext.enlarge`. Raises: InvalidRequest."""
        chosen = self.choices.find_upscaler(upscaler)
        return upscale(image, Enlarger(chosen, settings or self.settings.snapshot(), self.models, job), scale)

    def describe(self, image: Image, captioner: str, settings: Settings | None) -> str:
        """See `JobContext.describe`. Raises: NotFound, InvalidRequest, BadModelFile."""
        settings = settings or self.settings.snapshot()
        text = describe_picture(image, captioner, self.choices, self.models, settings)
        if not settings["interrogate_keep_models_in_memory"]:
            self.models.forget(CAPTIONER)
        return text

    def frames_between(self, engine: str) -> AbstractContextManager[Between]:
        """See `JobContext.frames_between`. Raises: InvalidRequest, BadModelFile."""
        from webui.pipeline.between import frames_between  # OpenCV and PyAV are loaded when they are asked for

        return frames_between(engine, self.models, self.paths.models)

    @contextmanager
    def prepared(self, checkpoint: Checkpoint, plan: GenerationPlan) -> Iterator[LoadedModel]:
        """The model on its device, with the VAE and the extensions' patches of this job."""
        kept = plan.settings["sd_vae_checkpoint_cache"]
        with (
            self.models.lease(checkpoint) as model,
            self.vae_shelf.used(model, plan.vae_of(checkpoint), kept),
            self.host.prepared_model(model, plan),
        ):
            yield model


def build(parts: Parts) -> Engine:
    """Called once in the worker thread, which is the first to import torch."""
    models = ModelManager(parts.checkpoints, parts.flags, parts.settings)
    provenance = provenance_at(models.placement)
    parts.machine.provenance = provenance
    tokenizer = parts.tokenizer()
    return Engine(
        flags=parts.flags,
        paths=parts.paths,
        settings=parts.settings,
        checkpoints=parts.checkpoints,
        styles=parts.styles,
        host=parts.host,
        choices=parts.choices,
        tokenizer=tokenizer,
        models=models,
        networks=NetworkShelf(parts.networks, tokenizer, parts.choices),
        vaes=parts.vaes,
        vae_shelf=VaeShelf(parts.paths.models),
        planner=parts.planner,
        provenance=provenance,
    )
