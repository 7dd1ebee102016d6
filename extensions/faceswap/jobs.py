"""The work of our own jobs, in the worker."""

from __future__ import annotations

from typing import Any

import numpy as np
from PIL import Image

from webui.extensions.api import (
    COMPOSITE,
    BadModelFile,
    Easel,
    InvalidRequest,
    JobContext,
    NotSaved,
    atomic_file,
    decoded_picture,
    encode_image,
)

from . import face_models
from .faces import chosen
from .kinds import Exchange, Exchanged, Forget, Look, Model, Said
from .parameters import Swap
from .sessions import KIND
from .swapping import Bench, Swapping


def bench_of(easel: Easel, job: JobContext, comments: list[str]) -> Bench:
    def tell(sentence: str) -> None:
        if sentence not in comments:
            comments.append(sentence)

    settings = easel.settings.snapshot()
    return Bench(easel.models, easel.choices, settings, job, easel.paths.models, tell, easel.folder_of)


def exchange(easel: Easel, asked: Exchange, job: JobContext) -> Exchanged:
    """Raises: WebuiError for what is missing, and for a result that can't be written where it should be."""
    comments: list[str] = []
    image = decoded_picture(asked.target, "target_image")
    swapping = Swapping(asked.options, bench_of(easel, job, comments))
    try:
        swapped = swapping.swap(image, swapping.sources(0)[0])
    finally:
        swapping.put_away()
    texts = {"DigitalSourceType": COMPOSITE} if swapped.exchanged else {}
    data = encode_image(swapped.image, "png", None, texts)
    if asked.save_to is not None:
        written = data if asked.save_to.suffix.lower() == ".png" else encode_image(swapped.image, "jpg", None, texts)
        try:
            with atomic_file(asked.save_to) as file:
                file.write(written)
        except OSError as error:
            raise NotSaved(f"ReActor can't write {asked.save_to}: {error.strerror}.") from error
    return Exchanged(data, tuple(comments))


def make_model(easel: Easel, asked: Model, job: JobContext) -> Said:
    """A face model of the first face, from the left, of each picture. Raises: WebuiError."""
    comments: list[str] = []
    swapping = Swapping(Swap(img=b"", source_hash_check=False), bench_of(easel, job, comments))
    found = []
    for number, data in enumerate(asked.images, 1):
        faces = chosen(swapping.faces(pixels_of(data, f"Picture {number}"), source=True), "No", "left-right")
        if not faces:
            raise InvalidRequest(f"No face was found in picture {number}; leave it out.")
        if faces[0].embedding is None:
            raise BadModelFile(
                "A face model needs a network that tells who a face is: put w600k_r50.onnx of insightface's buffalo_l "
                "(for non-commercial research only) into models/insightface/models/buffalo_l."
            )
        found.append(faces[0])
    if not found:
        raise InvalidRequest("There is no picture to make a face model of.")
    face = face_models.blended(found, asked.method)
    swapping.put_away()
    if not asked.save:
        return Said(f"The faces of {len(found)} pictures can be blended.")
    try:
        path = face_models.save(easel.paths.models, asked.name, face)
    except OSError as error:
        raise NotSaved(f'The face model "{asked.name}" can\'t be saved: {error.strerror}.') from error
    return Said(f"Face model {path.name} is saved ({face.described}).")


def look(easel: Easel, asked: Look, job: JobContext) -> Said:
    """The faces of a picture by number, with gender and age."""
    options, comments = asked.options, []
    swapping = Swapping(options, bench_of(easel, job, comments))
    gender, order = (
        (options.gender_source, options.order_source) if asked.source else (options.gender_target, options.order_target)
    )
    every = swapping.faces(pixels_of(asked.picture, "The picture"), source=asked.source)
    faces = chosen(every, gender, order)
    told = [f"{number}: {face.described} ({face.score:.2f})" for number, face in enumerate(faces)]
    if not told:
        return Said(f"No face is found ({len(every)} of another gender)." if every else "No face is found.")
    return Said("; ".join(told) + ".")


def forget(easel: Easel, asked: Forget, job: JobContext) -> Said:
    models: Any = easel.models
    count = models.forget(KIND, asked.which) if asked.which else models.forget(KIND)
    return Said(f"{count} forgotten." if asked.which else f"{count} networks and faces were let go.")


def pixels_of(data: bytes, name: str) -> np.ndarray:
    picture: Image.Image = decoded_picture(data, name).convert("RGB")
    return np.asarray(picture)
