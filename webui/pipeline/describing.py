"""What pictures show, in words: by BLIP and CLIP, by DeepDanbooru, by taggers in ONNX files."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from PIL import Image

from webui.catalog.captioners import CAPTIONER, categories_in
from webui.core.choices import Captioner, load_function
from webui.core.describing import DescribePlan, Description
from webui.core.errors import BadModelFile, InvalidRequest, WebuiError, not_saved
from webui.core.extras import PictureSource
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
_COUNT = re.compile(r"\.top(\d{1,3})$")
"""Ends the name of a list of which more than one line is wanted."""


def run(engine: Engine, plan: DescribePlan, job: JobContext) -> Description:
    """The words for each picture, written beside where that is wished. One that can't be described among many is told.

    Raises: WebuiError for a single picture's faults.
    """
    captioner, texts, comments = engine.choices.find_captioner(plan.captioner), list[str](), list[str]()
    many = _function_for_many(captioner)
    job.begin_passes(max(1, len(plan.sources)))
    try:
        for sources, pictures in _read_ahead(plan, comments):
            if job.interrupted or job.stopping:
                comments.append("The job was stopped; the other pictures were not described.")
                break
            job.text(sources[0].name)
            read = [(source, image) for source, image in zip(sources, pictures, strict=True) if image is not None]
            try:
                found = many([image for _, image in read], captioner, engine.models, plan.settings) if read else []
                for (source, _), text in zip(read, found, strict=True):
                    if plan.folder is not None:
                        _append(plan.folder / Path(source.name).with_suffix(".txt"), text)
                    texts.append(text)
            except WebuiError as error:
                if len(plan.sources) == 1:
                    raise
                comments += [f"{source.name}: {error}" for source, _ in read]
            for _ in sources:
                job.next_pass()
    finally:
        if not plan.settings["interrogate_keep_models_in_memory"]:
            engine.models.forget(CAPTIONER)
    if len(plan.sources) == 1 and not texts:
        raise InvalidRequest("The job was stopped before the picture was described.")
    message = f"{len(texts)} of {len(plan.sources)} pictures are described in {plan.folder}." if plan.folder else ""
    return Description(tuple(texts), message, tuple(comments))


def _function_for_many(captioner: Captioner) -> Callable[..., list[str]]:
    """`(images, captioner, models, settings) -> texts`."""
    if captioner.many:
        together: Callable[..., list[str]] = load_function(captioner.many)
        return together
    describe = load_function(captioner.function)
    return lambda images, *rest: [describe(image, *rest) for image in images]


def _read_ahead(
    plan: DescribePlan, comments: list[str]
) -> Iterator[tuple[Sequence[PictureSource], Sequence[Image.Image | None]]]:
    """The pictures, a batch at a time; the next batch is read while one is described.

    comments: is told of those that can't be read, which are None. Raises: WebuiError for a single picture.
    """
    size = max(1, plan.batch_size)
    batches = [plan.sources[at : at + size] for at in range(0, len(plan.sources), size)]
    with ThreadPoolExecutor(max(1, plan.workers), thread_name_prefix="pictures") as pool:
        reading = [pool.submit(_read, source) for source in batches[0]] if batches else []
        for batch, following in zip(batches, [*batches[1:], ()], strict=True):
            under_way, reading = reading, [pool.submit(_read, source) for source in following]
            pictures: list[Image.Image | None] = []
            for source, future in zip(batch, under_way, strict=True):
                try:
                    pictures.append(future.result())
                except WebuiError as error:
                    if len(plan.sources) == 1:
                        raise
                    comments.append(f"{source.name}: {error}")
                    pictures.append(None)
            yield batch, pictures


def _read(source: PictureSource) -> Image.Image:
    return decoded_picture(source.read(), source.name)


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
    return many_by_blip([image], captioner, models, settings)[0]


def many_by_blip(
    images: Sequence[Image.Image], captioner: Captioner, models: ModelManager, settings: Settings
) -> list[str]:
    """As `by_blip`, for several pictures at once."""
    pictures, device = [image.convert("RGB") for image in images], models.placement.device
    blip = captioner.files["BLIP"]
    with _borrowed(models, _largest(blip), partial(Blip, blip, device)) as network:
        texts: list[str] = network.describe(
            pictures,
            settings["interrogate_clip_num_beams"],
            settings["interrogate_clip_min_length"],
            settings["interrogate_clip_max_length"],
        )
    skipped = settings["interrogate_clip_skip_categories"]
    lists = [file for file in categories_in(captioner.files["categories"]) if file.stem not in skipped]
    clip = captioner.files.get("CLIP")
    if clip is None or not lists:
        return texts
    with _borrowed(models, _largest(clip), partial(Clip, clip, device)) as network:
        return [
            ", ".join(filter(None, [text, *_fitting_lines(picture, network, lists, settings)]))
            for picture, text in zip(pictures, texts, strict=True)
        ]


def _fitting_lines(picture: Image.Image, network: Clip, lists: Sequence[Path], settings: Settings) -> Iterator[str]:
    """Of each list what suits the picture best."""
    for file in lists:
        count = _COUNT.search(file.stem)
        lines = _lines(file, settings["interrogate_clip_dict_limit"])
        ranked = network.rank(picture, lines, int(count[1]) if count else 1) if lines else ()
        for line, share in ranked:
            yield f"({line}:{share / 100:.3f})" if settings["interrogate_return_ranks"] else line


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
    return models.borrow((CAPTIONER, str(file), stat.st_size, stat.st_mtime_ns, *more), load, stat.st_size)


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
