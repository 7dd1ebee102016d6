"""The job of the Extras tab: operations on finished pictures."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image

from webui.catalog.face_restorers import CODEFORMER, GFPGAN
from webui.core.choices import Choices, ExtrasStep, Upscaler, load_function
from webui.core.errors import InvalidRequest, WebuiError
from webui.core.extras import SCALE_TO, ExtrasRequest, PictureSource
from webui.core.infotext import render
from webui.core.pictures import MIME, PARAMETERS, decoded_picture, read_infotext
from webui.core.request import GenerationResult
from webui.core.results import ResultFile
from webui.core.settings import Settings
from webui.models.manager import ModelManager
from webui.models.stopping import Stopped
from webui.pipeline.engine import Engine
from webui.pipeline.faces import restore_faces
from webui.pipeline.limits import require_room_for
from webui.pipeline.saving.names import safe_part
from webui.pipeline.saving.picture_files import Keeper, encoded
from webui.pipeline.upscaling import Enlarger, upscale
from webui.planning.extras import ExtrasPlan

if TYPE_CHECKING:
    from webui.jobs.context import JobContext

POSTPROCESSING = "postprocessing"
"""The text that tells what was done; the picture's own infotext stays under "parameters"."""


@dataclass(frozen=True)
class StepContext:
    """What every Extras step of a job shares.

    models: see `ModelManager.borrow`. done: what was done to this picture, under infotext keys; steps add to it.
    """

    settings: Settings
    choices: Choices
    models: ModelManager
    job: JobContext
    done: dict[str, object] = field(default_factory=dict)

    def enlarger(self, upscaler: Upscaler) -> Enlarger:
        """The upscaler at work for this job; its tiles are the job's steps."""
        return Enlarger(upscaler, self.settings, self.models, self.job, counts=True)


def run(engine: Engine, plan: ExtrasPlan, job: JobContext) -> GenerationResult:
    """Every picture of the request, operated on and saved. One that can't be read among many is only reported.

    Raises: InvalidRequest for a single picture's faults.
    """
    started = time.monotonic()
    request, settings = plan.request, plan.settings
    folder = request.output or engine.paths.data / (settings["outdir_samples"] or settings["outdir_extras_samples"])
    context = StepContext(settings, engine.choices, engine.models, job)
    results: list[ResultFile] = []
    comments = list(idle_wishes(request))
    keeper = Keeper(settings, engine.paths.rescue, comments.append, _sources_in(folder, request))
    job.begin_passes(max(1, len(request.sources)))
    for source in request.sources:
        if job.interrupted or job.stopping or keeper.out_of_space:
            break
        job.text(source.name)
        try:
            results.append(_processed(source, request, context, folder, keeper))
        except Stopped:
            comments.append(f"{source.name} was left: the job was stopped in its middle.")
        except WebuiError as error:
            if len(request.sources) == 1:
                raise
            comments.append(f"{source.name}: {error}")
        job.next_pass()
    texts = [result.infotext for result in results]
    info = {"infotexts": texts, "index_of_first_image": 0}
    shown = tuple(results) if request.show else ()
    if request.save and not request.show:
        saved = sum(result.path is not None for result in results)
        comments.append(f"{saved} pictures are saved in {folder}.")
    return GenerationResult(shown, info, tuple(comments), time.monotonic() - started, keeper.unsaved)


def _sources_in(folder: Path, request: ExtrasRequest) -> set[Path]:
    """The files of the output folder that the request reads, by their own names and those that they are links to."""
    real = folder.resolve()
    given = [source.path for source in request.sources if source.path is not None]
    return {folder / file.name for path in given for file in (path, path.resolve()) if file.parent.resolve() == real}


def idle_wishes(request: ExtrasRequest) -> Iterator[str]:
    """Sentences about what the request asks for and nothing heeds."""
    if request.codeformer_weight > 0 and not request.codeformer_visibility:
        yield "The CodeFormer weight has no effect while CodeFormer's visibility is 0."
    if request.upscale_first:
        yield "Upscaling first has no effect: it comes before restoring faces in any case, as in A1111."
    if request.upscaler_1 == "None" and request.upscaler_2 != "None":
        yield "Upscaler 2 has no effect without upscaler 1."
    elif request.upscaler_2 == "None" and request.upscaler_2_visibility > 0:
        yield "The visibility of upscaler 2 has no effect without an upscaler 2."


def _processed(
    source: PictureSource, request: ExtrasRequest, context: StepContext, folder: Path, keeper: Keeper
) -> ResultFile:
    """One picture. Raises: InvalidRequest when it can't be read, Stopped when the job was to end before its end."""
    data, settings, done = _content(source), context.settings, context.done
    infotext, items = read_infotext(data)
    done.clear()
    image = decoded_picture(data, source.name).convert("RGB")
    for step in sorted(context.choices.all(ExtrasStep), key=lambda step: step.order):
        values = request if step.params is None else request.extension(step.params)
        image = load_function(step.function)(image, values, context)
    said = render("", "", done)
    picture = encoded(image, _texts(infotext, items, said), settings)
    path = None
    if request.save:
        suffix = f"-{request.upscaler_1}" if settings["use_upscaler_name_as_suffix"] and done else ""
        named = request.keep_names and settings["use_original_name_batch"]
        stem = safe_part(Path(source.name).stem + suffix) if named else safe_part(suffix)
        path = keeper.write(lambda: folder, stem, picture, numbered=not (named and stem))
    return ResultFile(picture.data, MIME[picture.format], said, image.width, image.height, str(path) if path else None)


def upscale_step(image: Image.Image, request: ExtrasRequest, context: StepContext) -> Image.Image:
    """The picture at the size asked for; as it is without an upscaler.

    Raises: InvalidRequest when the result would have more pixels than setting img_max_size_mp allows.
    """
    first = context.choices.find_upscaler(request.upscaler_1)
    second = context.choices.find_upscaler(request.upscaler_2)
    done, most_megapixels = context.done, context.settings["img_max_size_mp"]
    if first.function is None:
        return image
    width, height, crop = request.width, request.height, False
    if request.resize_mode == SCALE_TO:
        scale = max(width / image.width, height / image.height)
        done["Postprocess upscale to"] = f"{width}x{height}"
        crop = request.crop
    else:
        scale = request.scale
        done["Postprocess upscale by"] = scale
        if 0 < request.max_side < max(image.size) * scale:
            scale = request.max_side / max(image.size)
            done["Max side length"] = request.max_side
    megapixels = image.width * image.height * scale * scale / 1e6
    if megapixels > most_megapixels:
        side = f"{math.floor(image.width * scale)}x{math.floor(image.height * scale)}"
        raise InvalidRequest(
            f"The picture would be {side}, {megapixels:.0f} megapixels; setting img_max_size_mp allows "
            f"{most_megapixels:g}. Choose a smaller size."
        )
    require_room_for(math.ceil(image.width * scale), math.ceil(image.height * scale))
    result = upscale(image, context.enlarger(first), scale)
    if second.function is not None and request.upscaler_2_visibility > 0:
        other = upscale(image, context.enlarger(second), scale)
        result = Image.blend(result, other, request.upscaler_2_visibility)
    if crop:
        result = centred(result, width, height)
        done["Postprocess crop to"] = f"{width}x{height}"
    done["Postprocess upscaler"] = first.name
    if second.function is not None and request.upscaler_2_visibility > 0:
        done["Postprocess upscaler 2"] = second.name
    return result


def gfpgan_step(image: Image.Image, request: ExtrasRequest, context: StepContext) -> Image.Image:
    """The picture with its faces restored by GFPGAN, as far as that is to be seen.

    Raises: as `Choices.find_face_restorer`.
    """
    visibility = request.gfpgan_visibility
    if visibility:
        context.done["GFPGAN visibility"] = round(visibility, 3)
    return _restored(image, GFPGAN, visibility, 0.0, context)


def codeformer_step(image: Image.Image, request: ExtrasRequest, context: StepContext) -> Image.Image:
    """As `gfpgan_step`, by CodeFormer."""
    visibility, weight = request.codeformer_visibility, request.codeformer_weight
    if visibility:
        context.done["CodeFormer visibility"] = round(visibility, 3)
        context.done["CodeFormer weight"] = round(weight, 3)
    return _restored(image, CODEFORMER, visibility, weight, context)


def _restored(image: Image.Image, name: str, visibility: float, weight: float, context: StepContext) -> Image.Image:
    if not visibility:
        return image
    restored = restore_faces(image, context.choices.find_face_restorer(name), context.models, weight)
    return restored if visibility == 1 else Image.blend(image, restored, visibility)


def centred(image: Image.Image, width: int, height: int) -> Image.Image:
    """The middle of the picture, black where it doesn't reach."""
    frame = Image.new("RGB", (width, height))
    frame.paste(image, (width // 2 - image.width // 2, height // 2 - image.height // 2))
    return frame


def _content(source: PictureSource) -> bytes:
    if source.data is not None:
        return source.data
    assert source.path is not None, "a source has its content or its place"
    try:
        return source.path.read_bytes()
    except OSError as error:
        raise InvalidRequest(f"The file can't be read: {error.strerror}.") from error


def _texts(infotext: str | None, items: Mapping[str, str], done: str) -> dict[str, str]:
    """What the result carries: the picture's own texts, and what was done."""
    kept = {key: text for key, text in items.items() if 0 < len(key) < 80 and key.isascii()}
    return {**kept, PARAMETERS: infotext or "", POSTPROCESSING: done}
