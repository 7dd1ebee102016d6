"""The job of the Extras tab: operations on finished pictures and videos."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image

from webui.catalog.captioners import CAPTIONER
from webui.core.errors import WebuiError, not_saved
from webui.core.extras import FLOW, ExtrasRequest, PictureSource
from webui.core.files import write_atomic
from webui.core.infotext import render
from webui.core.pictures import DIGITAL_SOURCE_TYPE, MIME, PARAMETERS, decoded_picture, read_infotext
from webui.core.request import GenerationResult
from webui.core.results import COMPOSITE, ResultFile
from webui.core.settings import Settings
from webui.models.stopping import Stopped
from webui.pipeline.engine import Engine
from webui.pipeline.extras_video import make_film
from webui.pipeline.operations import StepContext, Worked, operate, target_of
from webui.pipeline.saving.names import safe_part
from webui.pipeline.saving.picture_files import Encoded, Keeper, encoded
from webui.planning.extras import ExtrasPlan

if TYPE_CHECKING:
    from webui.jobs.context import JobContext

POSTPROCESSING = "postprocessing"
"""The text that tells what was done; the picture's own infotext stays under "parameters"."""
LONGEST_CAPTION = 1_000_000
"""Bytes of a caption that is there already."""


@dataclass(frozen=True)
class Work:
    """What a job works on all its pictures with. folder: where results go."""

    plan: ExtrasPlan
    context: StepContext
    folder: Path
    keeper: Keeper

    @property
    def request(self) -> ExtrasRequest:
        return self.plan.request

    @property
    def settings(self) -> Settings:
        return self.plan.settings

    def operated(self, image: Image.Image) -> list[Worked]:
        """The picture after all operations, and those made of it. Raises: WebuiError, Stopped."""
        steps = self.plan.steps_of(self.context.choices)
        context = replace(self.context, target=target_of(steps, self.request, image))
        return operate(image, steps, self.request.values_of, context)

    def told_of(self, source: PictureSource) -> Work:
        """The same, whose sentences name the picture."""
        return replace(
            self, context=replace(self.context, tell=lambda said: self.context.tell(f"{source.name}: {said}"))
        )


def run(engine: Engine, plan: ExtrasPlan, job: JobContext) -> GenerationResult:
    """Every picture of the request, operated on and saved. One that can't be worked on among many is only reported.

    Raises: InvalidRequest for a single picture's faults.
    """
    started = time.monotonic()
    request, settings = plan.request, plan.settings
    folder = request.output or engine.paths.data / (settings["outdir_samples"] or settings["outdir_extras_samples"])
    comments = dict.fromkeys(idle_wishes(request))

    def tell(sentence: str) -> None:
        comments[sentence] = None

    context = StepContext(settings, engine.choices, engine.models, job, tell, engine.enlarged, easel=engine.host.easel)
    keeper = Keeper(settings, engine.paths.rescue, tell, _sources_in(folder, request))
    work = Work(plan, context, folder, keeper)
    images: list[ResultFile] = []
    files: list[ResultFile] = []
    job.begin_passes(max(1, len(request.sources)))
    try:
        for source in request.sources:
            if job.interrupted or job.stopping or keeper.out_of_space:
                break
            job.text(source.name)
            try:
                if source.is_video:
                    files.append(make_film(source, work.told_of(source)))
                else:
                    images += _processed(source, work.told_of(source))
            except Stopped:
                tell(f"{source.name} was left: the job was stopped in its middle.")
            except WebuiError as error:
                if len(request.sources) == 1:
                    raise
                tell(f"{source.name}: {error}")
            job.next_pass()
    finally:
        if not settings["interrogate_keep_models_in_memory"]:
            engine.models.forget(CAPTIONER)
    made = [*images, *files]
    info = {"infotexts": [result.infotext for result in images], "index_of_first_image": 0}
    if request.save and not request.show:
        saved = sum(result.path is not None for result in made)
        tell(f"{saved} {'pictures are' if saved != 1 else 'picture is'} saved in {folder}.")
    return GenerationResult(
        tuple(images) if request.show else (),
        info,
        tuple(comments),
        time.monotonic() - started,
        keeper.unsaved,
        files=tuple(files) if request.show else (),
    )


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
        yield "Upscaling first has no effect: setting postprocessing_operation_order tells the order, as in A1111."
    if max(request.frames, request.slower) > 1 and not all(source.is_video for source in request.sources):
        yield "Frames between and slow motion have an effect on videos alone."
    if request.frame_engine != FLOW and request.frames == 1:
        yield f"{request.frame_engine} has no effect without frames between."
    if request.upscaler_1 == "None" and request.upscaler_2 != "None":
        yield "Upscaler 2 has no effect without upscaler 1."
    elif request.upscaler_2 == "None" and request.upscaler_2_visibility > 0:
        yield "The visibility of upscaler 2 has no effect without an upscaler 2."


def _processed(source: PictureSource, work: Work) -> list[ResultFile]:
    """One picture, and what was made of it.

    Raises: InvalidRequest when it can't be read, Stopped when the job was to end before its end.
    """
    data = source.read()
    infotext, items = read_infotext(data)
    image = decoded_picture(data, source.name).convert("RGB")
    results: list[ResultFile] = []
    taken: set[str] = set()
    for made in work.operated(image):
        said = render("", "", made.done)
        texts = _texts(infotext, items, said)
        if made.composite:
            texts[DIGITAL_SOURCE_TYPE] = COMPOSITE
        picture = encoded(made.image, texts, work.settings)
        path = None
        if work.request.save:
            path = _saved(source, made, work, picture, _suffix(made, taken))
        if made.caption:
            work.context.tell(f"described as {_kept_caption(source, made.caption, path, work)}")
        size = made.image.size
        results.append(ResultFile(picture.data, MIME[picture.format], said, *size, str(path) if path else None))
    return results


def _saved(source: PictureSource, made: Worked, work: Work, picture: Encoded, suffix: str) -> Path | None:
    settings = work.settings
    if settings["use_upscaler_name_as_suffix"] and made.done.get("Postprocess upscaler"):
        suffix = f"-{made.done['Postprocess upscaler']}{suffix}"
    named = work.request.keep_names and settings["use_original_name_batch"]
    stem = safe_part(Path(source.name).stem if named else "")
    return work.keeper.write(
        lambda: work.folder, stem, picture, numbered=not (named and stem), suffix=safe_part(suffix)
    )


def _suffix(made: Worked, taken: set[str]) -> str:
    """What the file's name ends in: the tags, and a number where another picture of the same source has the same."""
    plain = "".join(f"-{tag}" for tag in made.tags)
    numbered = (f"{plain}-{number}" if number else plain for number in range(len(taken) + 1))
    found = next(suffix for suffix in numbered if suffix not in taken)
    taken.add(found)
    return found


def _kept_caption(source: PictureSource, caption: str, path: Path | None, work: Work) -> str:
    """What the picture is described as, written beside it where it is saved.

    Setting postprocessing_existing_caption_action says what becomes of a caption that is there already, beside the
    result or beside the source: it goes before ("Prepend") or after ("Append") the new one, as A1111 has it.
    """
    if path is None:
        return caption
    place = path.with_suffix(".txt")
    beside = [place, *([source.path.with_suffix(".txt")] if source.path is not None else [])]
    existing = next(filter(None, map(_existing_caption, beside)), "")
    action = work.settings["postprocessing_existing_caption_action"]
    if existing and action != "Ignore":
        parts = {"Keep": (existing,), "Prepend": (existing, caption), "Append": (caption, existing)}[action]
        caption = " ".join(parts)
    try:
        write_atomic(place, caption.encode())
    except OSError as error:
        work.context.tell(str(not_saved(f"The caption can't be saved in {place.parent}", error)))
    return caption


def _existing_caption(file: Path) -> str:
    try:
        with file.open("rb") as opened:
            return opened.read(LONGEST_CAPTION).decode("utf-8", "replace").strip()
    except OSError:
        return ""


def _texts(infotext: str | None, items: Mapping[str, str], done: str) -> dict[str, str]:
    """What the result carries: the picture's own texts, and what was done."""
    kept = {key: text for key, text in items.items() if 0 < len(key) < 80 and key.isascii()}
    return {**kept, PARAMETERS: infotext or "", POSTPROCESSING: done}
