"""Pictures on the way: samples of what has been learned, and class pictures of what was known before."""

from __future__ import annotations

import io
import logging
from collections.abc import Callable
from pathlib import Path

from PIL.PngImagePlugin import PngInfo

from webui.core.errors import InvalidRequest, WebuiError, not_saved
from webui.core.files import write_atomic
from webui.core.request import GenerationRequest
from webui.jobs.context import JobContext
from webui.models.devices import is_out_of_memory
from webui.pipeline.engine import Engine
from webui.planning.training import TrainingPlan
from webui.planning.training_samples import SamplePrompt
from webui.training.trainee import Trainee

log = logging.getLogger(__name__)

PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".avif")


class SampleMaker:
    """Makes a plan's sample pictures with the model in training. comments: why some weren't made."""

    def __init__(self, plan: TrainingPlan, trainee: Trainee, engine: Engine) -> None:
        self.plan = plan
        self.trainee = trainee
        self.engine = engine
        self.comments: list[str] = []

    def __call__(self, job: JobContext, step: int) -> list[str]:
        """Returns: the files. What fails is told in `comments` and leaves the training alone."""
        made: list[str] = []
        with self.engine.models.standing_in(self.trainee.model):
            for number, prompt in enumerate(self.plan.samples):
                part = job.child(1 / len(self.plan.samples))
                if job.interrupted:
                    break
                try:
                    made.append(str(self._make(part, prompt, step, number)))
                except Exception as error:
                    if not (isinstance(error, WebuiError | OSError) or is_out_of_memory(error)):
                        raise
                    log.warning("A sample picture of step %d failed: %s", step, error)
                    self.comments.append(f"The sample picture {number + 1} of step {step} couldn't be made: {error}")
        self._take_networks_off()
        return made

    def _take_networks_off(self) -> None:
        """LoRAs that a prompt names stay on a model for the next picture; training shall find its own weights."""
        with self.engine.networks.used(self.trainee.model, (), (), self.plan.settings, self.comments.append):
            pass

    def _make(self, job: JobContext, prompt: SamplePrompt, step: int, number: int) -> Path:
        request = GenerationRequest.checked(
            prompt=prompt.prompt,
            negative_prompt=prompt.negative,
            width=max(prompt.width // 8 * 8, 8),
            height=max(prompt.height // 8 * 8, 8),
            seed=prompt.seed,
            cfg_scale=prompt.cfg_scale,
            steps=prompt.steps,
            sampler=prompt.sampler,
            overrides={"sd_model_checkpoint": self.plan.checkpoint.name},
        )
        result = job.generate(request, save=False, settings=self.plan.settings)
        path = self.plan.folder / "samples" / f"{self.plan.request.name}-{step:06d}-{number:02d}.png"
        data = io.BytesIO()
        result.pictures[0].save(
            data, "PNG", pnginfo=_with_infotext(result.images[result.index_of_first_image].infotext)
        )
        write_atomic(path, self.trainee.marked(data.getvalue()))
        job.artifact(path)
        return path


def _with_infotext(text: str) -> PngInfo:
    info = PngInfo()
    info.add_text("parameters", text)
    return info


def make_class_pictures(plan: TrainingPlan, job: JobContext, text: Callable[[str], None]) -> None:
    """Fill DreamBooth's folder of class pictures up with pictures of the checkpoint as it is.

    Those that are there stay; a job that was killed goes on behind them. Raises: WebuiError.
    """
    options = plan.request.dreambooth
    folder = Path(options.class_dir)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        there = sum(path.suffix.lower() in PICTURES for path in folder.iterdir())
    except OSError as error:
        raise InvalidRequest(f"The folder of class pictures {folder} can't be used: {error.strerror}.") from error
    missing = range(there, options.num_class_images)
    size = plan.native_size
    for number in missing:
        if job.interrupted or job.stopping:
            return
        text(f"Class picture {number + 1} of {options.num_class_images}")
        request = GenerationRequest.checked(
            prompt=options.class_prompt,
            negative_prompt=options.class_negative_prompt,
            width=size,
            height=size,
            seed=(plan.seed + number) % 2**32,
            cfg_scale=options.class_cfg_scale,
            steps=options.class_steps,
            overrides={"sd_model_checkpoint": plan.checkpoint.name},
        )
        result = job.child(1 / len(missing)).generate(request, save=False, settings=plan.settings)
        if not result.pictures:
            return
        data = io.BytesIO()
        result.pictures[0].save(data, "PNG")
        path = folder / f"class-{number:05d}-{request.seed}.png"
        try:
            write_atomic(path, data.getvalue())
        except OSError as error:
            raise not_saved(f"The class picture {path.name} can't be saved in {folder}", error) from error
        job.pause_point()
