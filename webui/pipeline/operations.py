"""Operations on finished pictures, one after the other: those of the Extras tab, which the generation tabs can have."""

from __future__ import annotations

import hashlib
import math
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from webui.catalog.face_restorers import CODEFORMER, GFPGAN
from webui.core.choices import Choices, ExtrasStep, FaceRestorer, Upscaler, load_function
from webui.core.errors import InvalidRequest, WebuiError
from webui.core.operations import SCALE_TO, CodeFormerRestoring, GFPGANRestoring, Upscaling
from webui.core.params import Params
from webui.core.results import COMPOSITE, Picture
from webui.core.settings import Settings
from webui.models.faces.detector import Face
from webui.models.manager import ModelManager
from webui.models.stopping import Stopped
from webui.pipeline.faces import find_faces, restore_faces
from webui.pipeline.limits import require_room_for
from webui.pipeline.upscaling import Enlarger, upscale

if TYPE_CHECKING:
    from webui.jobs.context import JobContext
    from webui.pipeline.passes import Pass


@dataclass
class Worked:
    """A picture on its way through the operations.

    done: what was done to it, under infotext keys. tags: of its file's name. caption: what it shows, "" for nothing
    said. finished: later operations pass it over. composite: a part of it was made by a model.
    """

    image: Image.Image
    done: dict[str, object] = field(default_factory=dict)
    tags: tuple[str, ...] = ()
    caption: str = ""
    finished: bool = False
    composite: bool = False


class EnlargedPictures:
    """The latest results of upscalers, so that a picture needn't be enlarged again when something else was changed."""

    def __init__(self) -> None:
        self._kept: OrderedDict[object, Image.Image] = OrderedDict()

    def enlarge(self, image: Image.Image, enlarger: Enlarger, scale: float, most: int) -> Image.Image:
        """As `upscale`; what it made of an equal picture lately, if that is kept. most: how many are kept."""
        if not most:
            self._kept.clear()
            return upscale(image, enlarger, scale)
        upscaler, network = enlarger.upscaler, enlarger.upscaler.network
        file = network.file if network is not None else None
        stat = file.stat() if file is not None and file.exists() else None
        tiles = [enlarger.settings[key] for key in network.tiles] if network is not None else []
        pixels = hashlib.sha256(image.tobytes()).digest()
        weights = (str(file), stat.st_size, stat.st_mtime_ns) if stat is not None else None
        key = (pixels, image.size, image.mode, upscaler.name, upscaler.function, weights, *tiles, scale)
        found = self._kept.pop(key, None)
        if found is None:
            found = upscale(image, enlarger, scale)
        self._kept[key] = found
        while len(self._kept) > most:
            self._kept.popitem(last=False)
        return found.copy()


@dataclass
class StepContext:
    """What an operation is given beside the picture and its values.

    models: see `ModelManager.borrow`. target: the size that Upscale is asked for, also where no upscaler is chosen;
    None where there is no such operation. tell: takes a sentence for the user. counts: whether the tiles of upscalers
    are the steps of the job. easel: the parts of the program, as extensions are given them. picture: the one in work.
    """

    settings: Settings
    choices: Choices
    models: ModelManager
    job: JobContext
    tell: Callable[[str], None]
    enlarged: EnlargedPictures = field(default_factory=EnlargedPictures)
    counts: bool = True
    target: tuple[int, int] | None = None
    easel: Any = None
    picture: Worked = field(default_factory=lambda: Worked(Image.new("RGB", (1, 1))))
    added: list[Worked] = field(default_factory=list)

    @property
    def done(self) -> dict[str, object]:
        """What was done to this picture, under infotext keys; operations add to it."""
        return self.picture.done

    @property
    def composite(self) -> bool:
        """Whether a part of the picture was made by a model; an operation that does so sets it."""
        return self.picture.composite

    @composite.setter
    def composite(self, made: bool) -> None:
        self.picture.composite = made

    def add(self, image: Image.Image, tag: str = "", *, finished: bool = False) -> None:
        """One more picture made of this one, which goes through the operations that follow, unless it is finished.

        tag: what its file's name ends in.
        """
        tags = (*self.picture.tags, *([tag] if tag else ()))
        self.added.append(replace(self.picture, image=image, done=dict(self.done), tags=tags, finished=finished))

    def add_caption(self, text: str) -> None:
        """Say what the picture shows, after what was said before."""
        self.picture.caption = ", ".join(part for part in (self.picture.caption, text) if part)

    def describe(self, image: Image.Image, captioner: str) -> str:
        """What the picture shows. captioner: by name. Raises: NotFound, InvalidRequest, BadModelFile."""
        return describe_picture(image, captioner, self.choices, self.models, self.settings)

    def find_faces(self, image: Image.Image) -> list[Face]:
        """The faces of a picture, each with `box` and `score`.

        Raises: InvalidRequest when the networks that find them aren't there, BadModelFile.
        """
        files = next((restorer.detector for restorer in self.choices.all(FaceRestorer) if restorer.detector), ())
        if not files or not all(file.exists() for file in files):
            raise InvalidRequest("The networks that find faces aren't here yet: fetch them on the Extras tab.")
        return find_faces(np.asarray(image.convert("RGB")), files, self.models)

    def enlarger(self, upscaler: Upscaler) -> Enlarger:
        """The upscaler at work for this job."""
        return Enlarger(upscaler, self.settings, self.models, self.job, counts=self.counts)


def describe_picture(
    image: Image.Image, captioner: str, choices: Choices, models: ModelManager, settings: Settings
) -> str:
    """What the picture shows. captioner: by name. Raises: NotFound, InvalidRequest, BadModelFile."""
    chosen = choices.find_captioner(captioner)
    text: str = load_function(chosen.function)(image, chosen, models, settings)
    return text


def operate(
    image: Image.Image,
    steps: Iterable[ExtrasStep],
    values_of: Callable[[type[Params] | None], Any],
    context: StepContext,
) -> list[Worked]:
    """The picture after all operations, and then those that they made of it.

    values_of: a step's group -> its values. Raises: WebuiError, Stopped.
    """
    pictures = [Worked(image)]
    for step in steps:
        made = [operate_once(picture, step, values_of, context) for picture in pictures]
        pictures = [*(group[0] for group in made), *(added for group in made for added in group[1:])]
    return pictures


def operate_once(
    picture: Worked, step: ExtrasStep, values_of: Callable[[type[Params] | None], Any], context: StepContext
) -> list[Worked]:
    """The picture after one operation, and then those that it made of it. Raises: WebuiError, Stopped."""
    if picture.finished:
        return [picture]
    here = replace(context, picture=picture, added=[])
    picture.image = load_function(step.function)(picture.image, values_of(step.params), here)
    return [picture, *here.added]


def operated_on(
    picture: Picture, steps: Sequence[ExtrasStep], this_pass: Pass, choices: Choices, easel: Any
) -> list[Picture]:
    """A picture that was generated after all operations, and those that they made of it.

    An operation that can't be done is told and left out, since the picture is there already.
    """
    plan, report = this_pass.plan, this_pass.report

    def values_of(group: type[Params] | None) -> Any:
        return plan.extension(group) if group is not None else None

    context = StepContext(
        plan.settings, choices, this_pass.models, this_pass.job, report.comment, counts=False, easel=easel
    )
    works = [Worked(picture.image)]
    for step in steps:
        target = target_of(steps, values_of(Upscaling), works[0].image)
        before = [replace(work, done={}) for work in works]
        try:
            here = [operate_once(work, step, values_of, replace(context, target=target)) for work in before]
        except (WebuiError, Stopped) as error:
            report.comment(f"{step.name} was left out. {error}".rstrip())
            continue
        works = [work for made in here for work in made]
        for work in works:
            report.fields.update(work.done)
    for work in works:
        if work.caption:
            report.comment(f"Described as {work.caption}")
    return [
        replace(picture, image=work.image, source_type=COMPOSITE if work.composite else picture.source_type)
        for work in works
    ]


def target_of(steps: Sequence[ExtrasStep], values: Upscaling, image: Image.Image) -> tuple[int, int] | None:
    """The size that Upscale is asked for, if it is among the operations."""
    return values.target(*image.size) if any(step.params is Upscaling for step in steps) else None


def upscale_step(image: Image.Image, values: Upscaling, context: StepContext) -> Image.Image:
    """The picture at the size asked for; as it is without an upscaler.

    Raises: InvalidRequest when the result would have more pixels than setting img_max_size_mp allows.
    """
    first = context.choices.find_upscaler(values.upscaler_1)
    second = context.choices.find_upscaler(values.upscaler_2)
    done, most_megapixels = context.done, context.settings["img_max_size_mp"]
    if first.function is None:
        return image
    for upscaler in (first, second):
        upscaler.require()
    width, height, crop = values.width, values.height, False
    if values.resize_mode == SCALE_TO:
        scale = max(width / image.width, height / image.height)
        done["Postprocess upscale to"] = f"{width}x{height}"
        crop = values.crop
    else:
        scale = values.scale
        done["Postprocess upscale by"] = scale
        if 0 < values.max_side < max(image.size) * scale:
            scale = values.max_side / max(image.size)
            done["Max side length"] = values.max_side
    megapixels = image.width * image.height * scale * scale / 1e6
    if megapixels > most_megapixels:
        side = f"{math.floor(image.width * scale)}x{math.floor(image.height * scale)}"
        raise InvalidRequest(
            f"The picture would be {side}, {megapixels:.0f} megapixels; setting img_max_size_mp allows "
            f"{most_megapixels:g}. Choose a smaller size."
        )
    require_room_for(math.ceil(image.width * scale), math.ceil(image.height * scale))
    most = int(context.settings["upscaling_max_images_in_cache"])
    result = context.enlarged.enlarge(image, context.enlarger(first), scale, most)
    if second.function is not None and values.upscaler_2_visibility > 0:
        other = context.enlarged.enlarge(image, context.enlarger(second), scale, most)
        result = Image.blend(result, other, values.upscaler_2_visibility)
    if crop:
        result = centred(result, width, height)
        done["Postprocess crop to"] = f"{width}x{height}"
    done["Postprocess upscaler"] = first.name
    if second.function is not None and values.upscaler_2_visibility > 0:
        done["Postprocess upscaler 2"] = second.name
    return result


def gfpgan_step(image: Image.Image, values: GFPGANRestoring, context: StepContext) -> Image.Image:
    """The picture with its faces restored by GFPGAN, as far as that is to be seen.

    Raises: as `Choices.find_face_restorer`.
    """
    visibility = values.gfpgan_visibility
    if visibility:
        context.done["GFPGAN visibility"] = round(visibility, 3)
    return _restored(image, GFPGAN, visibility, 0.0, context)


def codeformer_step(image: Image.Image, values: CodeFormerRestoring, context: StepContext) -> Image.Image:
    """As `gfpgan_step`, by CodeFormer."""
    visibility, weight = values.codeformer_visibility, values.codeformer_weight
    if visibility:
        context.done["CodeFormer visibility"] = round(visibility, 3)
        context.done["CodeFormer weight"] = round(weight, 3)
    return _restored(image, CODEFORMER, visibility, weight, context)


def _restored(image: Image.Image, name: str, visibility: float, weight: float, context: StepContext) -> Image.Image:
    if not visibility:
        return image
    restored = restore_faces(image, context.choices.find_face_restorer(name), context.models, weight)
    if context.settings["face_restoration_unload"]:
        context.models.forget("face restorer")
    if restored is image:
        context.tell(f"{name} found no face and changed nothing.")
        return image
    return restored if visibility == 1 else Image.blend(image, restored, visibility)


def centred(image: Image.Image, width: int, height: int) -> Image.Image:
    """The middle of the picture, black where it doesn't reach."""
    frame = Image.new("RGB", (width, height))
    frame.paste(image, (width // 2 - image.width // 2, height // 2 - image.height // 2))
    return frame
