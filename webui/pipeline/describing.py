"""What pictures show, in words: by BLIP and CLIP, by DeepDanbooru, by taggers in ONNX files."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from PIL import Image

from webui.catalog.captioners import categories_in
from webui.core.choices import Captioner, load_function
from webui.core.describing import DescribePlan, Description
from webui.core.errors import BadModelFile, InvalidRequest, WebuiError, not_saved
from webui.core.pictures import decoded_picture
from webui.core.settings import Settings
from webui.models.captioners.blip import Blip, Clip
from webui.models.captioners.deepbooru import SIDE, DeepBooru
from webui.models.captioners.tagger import Tagger
from webui.models.captioners.tags import written_tags
from webui.models.manager import ModelManager
from webui.pipeline.engine import Engine
from webui.pipeline.from_image.image_input import fitted

if TYPE_CHECKING:
    from webui.jobs.context import JobContext

T = TypeVar("T")
KIND = "captioner"
"""What the keys begin with that captioners are borrowed under."""
_COUNT = re.compile(r"\.top(\d{1,3})$")
"""Ends the name of a list of which more than one line is wanted."""


def run(engine: Engine, plan: DescribePlan, job: JobContext) -> Description:
    """The words for each picture, written beside where that is wished. One that can't be described among many is told.

    Raises: WebuiError for a single picture's faults.
    """
    captioner, texts, comments = engine.choices.find_captioner(plan.captioner), list[str](), list[str]()
    describe = load_function(captioner.function)
    job.begin_passes(max(1, len(plan.sources)))
    try:
        for source in plan.sources:
            if job.interrupted or job.stopping:
                comments.append("The job was stopped; the other pictures were not described.")
                break
            job.text(source.name)
            try:
                image = decoded_picture(source.read(), source.name)
                text = describe(image, captioner, engine.models, plan.settings)
                if plan.folder is not None:
                    _append(plan.folder / Path(source.name).with_suffix(".txt"), text)
                texts.append(text)
            except WebuiError as error:
                if len(plan.sources) == 1:
                    raise
                comments.append(f"{source.name}: {error}")
            job.next_pass()
    finally:
        if not plan.settings["interrogate_keep_models_in_memory"]:
            engine.models.forget(KIND)
    if len(plan.sources) == 1 and not texts:
        raise InvalidRequest("The job was stopped before the picture was described.")
    message = f"{len(texts)} of {len(plan.sources)} pictures are described in {plan.folder}." if plan.folder else ""
    return Description(tuple(texts), message, tuple(comments))


def _append(file: Path, text: str) -> None:
    """One more line, as A1111 does. Raises: NotSaved."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with file.open("a", encoding="utf-8") as opened:
            opened.write(f"{text}\n")
    except OSError as error:
        raise not_saved(f"The words can't be written to {file}", error) from error


def by_blip(image: Image.Image, captioner: Captioner, models: ModelManager, settings: Settings) -> str:
    """BLIP's sentence, and of each list in the folder of categories what suits the picture best, if CLIP is there."""
    picture, device = image.convert("RGB"), models.placement.device
    blip = captioner.files["BLIP"]
    with _borrowed(models, _largest(blip), partial(Blip, blip, device)) as network:
        text = network.describe(
            picture,
            settings["interrogate_clip_num_beams"],
            settings["interrogate_clip_min_length"],
            settings["interrogate_clip_max_length"],
        )
    skipped = settings["interrogate_clip_skip_categories"]
    lists = [file for file in categories_in(captioner.files["categories"]) if file.stem not in skipped]
    clip = captioner.files.get("CLIP")
    if clip is None or not lists:
        return text
    with _borrowed(models, _largest(clip), partial(Clip, clip, device)) as network:
        found = [text]
        for file in lists:
            count = _COUNT.search(file.stem)
            lines = _lines(file, settings["interrogate_clip_dict_limit"])
            ranked = network.rank(picture, lines, int(count[1]) if count else 1) if lines else ()
            ranks = settings["interrogate_return_ranks"]
            found += [f"({line}:{share / 100:.3f})" if ranks else line for line, share in ranked]
    return ", ".join(part for part in found if part)


def by_deepbooru(image: Image.Image, captioner: Captioner, models: ModelManager, settings: Settings) -> str:
    """The tags that DeepDanbooru finds."""
    file, device = captioner.files["network"], models.placement.device
    picture = fitted(image.convert("RGB"), 2, SIDE, SIDE)
    with _borrowed(models, file, partial(DeepBooru, file, device)) as network:
        return written_tags(network.score(np.asarray(picture)), settings)


def by_tagger(image: Image.Image, captioner: Captioner, models: ModelManager, settings: Settings) -> str:
    """The tags that a network in an ONNX file finds. The picture stands in a white square."""
    file, tags = captioner.files["network"], captioner.files["tags"]
    with _borrowed(models, file, partial(Tagger, file, tags), str(tags)) as network:
        square = Image.new("RGB", (max(image.size),) * 2, "white")
        square.paste(image.convert("RGB"), ((square.width - image.width) // 2, (square.height - image.height) // 2))
        picture = square.resize((network.side, network.side), Image.Resampling.BICUBIC)
        return written_tags(network.score(np.asarray(picture)), settings)


def _borrowed(models: ModelManager, file: Path, load: Callable[[], T], *more: object) -> Any:
    try:
        stat = file.stat()
    except OSError as error:
        raise BadModelFile(f"{file.name} can't be read: {error.strerror}.") from error
    return models.borrow((KIND, str(file), stat.st_size, stat.st_mtime_ns, *more), load, stat.st_size)


def _largest(folder: Path) -> Path:
    """The file of weights in a folder. Raises: BadModelFile."""
    try:
        return max((file for file in folder.iterdir() if file.is_file()), key=lambda file: file.stat().st_size)
    except (OSError, ValueError) as error:
        raise BadModelFile(f"{folder.name} can't be read; it may have been moved away.") from error


def _lines(file: Path, most: int) -> list[str]:
    """most: how many, 0 for all."""
    try:
        lines: Iterable[str] = file.read_text("utf-8", "replace").splitlines()
    except OSError as error:
        raise BadModelFile(f"{file.name} can't be read: {error.strerror}.") from error
    kept = [line.strip() for line in lines if line.strip()]
    return kept[:most] if most > 0 else kept
