"""A plan that waits is the plan that was made."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.tiny import tiny_checkpoint
from webui.core.choices import SAMPLERS, SCHEDULERS
from webui.core.errors import InvalidRequest, NotFound
from webui.core.extras import ExtrasRequest, PictureSource
from webui.core.flags import parse_flags
from webui.core.params import Params, param
from webui.core.request import (
    FromImage,
    GenerationRequest,
    GenerationResult,
    HiresFix,
    Inpaint,
    Refiner,
    SamplerOptions,
    SoftInpainting,
    Variation,
)
from webui.core.results import ResultFile
from webui.core.stored import Codec, KeptFile
from webui.jobs.blobs import BlobStore
from webui.planning.batch import BatchPlan
from webui.planning.extras import ExtrasPlan
from webui.planning.plan import GenerationPlan
from webui.services.building import build_services
from webui.services.services import Services


class Kept(Params):
    """An extension's group."""

    strength: float = param(0.5, label="Strength", ge=0, le=2)
    picture: bytes = b""
    words: tuple[str, ...] = ()


NUMBER = st.one_of(st.integers(0, 1), st.floats(0, 1))
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
VARIATION = st.builds(
    Variation.as_given, seed=st.integers(-1, 2**63 - 1), strength=NUMBER, resize_from_width=st.integers(-1, 100)
)
HIRES = st.builds(
    HiresFix.as_given, scale=st.one_of(st.integers(1, 4), st.floats(1, 4)), denoising_strength=NUMBER, prompt=TEXT
)
INPAINT = st.builds(
    Inpaint.as_given, mask=st.binary(), soft=st.none() | st.builds(SoftInpainting.as_given, preservation=NUMBER)
)
IMAGE = st.builds(
    FromImage.as_given,
    images=st.tuples(st.binary(min_size=1)),
    denoising_strength=NUMBER,
    inpaint=st.none() | INPAINT,
)
COMMON: dict[str, Any] = {
    "prompt": TEXT,
    "negative_prompt": TEXT,
    "sampler": st.sampled_from([row.name for row in SAMPLERS]),
    "scheduler": st.sampled_from([row.label for row in SCHEDULERS]),
    "batch_count": st.integers(1, 3),
    "batch_size": st.integers(1, 3),
    "cfg_scale": st.one_of(st.integers(1, 30), st.floats(1, 30)),
    "seed": st.integers(-1, 2**63 - 1),
    "variation": VARIATION,
    "sampler_options": st.builds(SamplerOptions.as_given, eta=st.none() | NUMBER, s_tmax=st.none() | NUMBER),
    "tiling": st.none() | st.booleans(),
    "refiner": st.none() | st.just(Refiner(checkpoint="tiny")),
    "extensions": st.just({})
    | st.builds(Kept.as_given, strength=NUMBER, picture=st.binary(), words=st.tuples(TEXT)).map(
        lambda group: {"Kept": group}
    ),
    "overrides": st.sampled_from(
        [{}, {"CLIP_stop_at_last_layers": 2, "s_noise": 0.5, "quicksettings_list": ("a", "b")}]
    ),
}
REQUESTS = st.builds(GenerationRequest.as_given, **COMMON, hires=st.none() | HIRES) | st.builds(
    GenerationRequest.as_given, **COMMON, image=IMAGE, script=st.sampled_from(["", "Loopback"])
)


@pytest.fixture(scope="module")
def services(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Services]:
    data = tmp_path_factory.mktemp("data")
    tiny_checkpoint(data / "models" / "Stable-diffusion")
    flags, _ = parse_flags(["--data-dir", str(data)], {})
    built = build_services(flags)
    yield built
    built.checkpoints.close()


@pytest.fixture(scope="module")
def codec(services: Services, tmp_path_factory: pytest.TempPathFactory) -> Codec:
    blobs = BlobStore(tmp_path_factory.mktemp("blobs"))
    return Codec(blobs, lambda: services.settings.snapshot().table, lambda: (Kept,))


def back(codec: Codec, value: Any) -> Any:
    return codec.load(type(value), json.loads(json.dumps(codec.dump(value))))


def same(one: Any, other: Any) -> bool:
    """Equal, with 7 and 7.0 told apart."""
    return bool(one == other) and repr(one) == repr(other)


@given(request=REQUESTS)
def test_a_plan_comes_back_equal(services: Services, codec: Codec, request: GenerationRequest) -> None:
    plan = services.planner.plan(request)
    found = back(codec, plan)
    for field in fields(GenerationPlan):
        one, other = getattr(plan, field.name), getattr(found, field.name)
        assert same(dict(one), dict(other)) if field.name == "settings" else same(one, other), field.name


@given(request=REQUESTS)
def test_a_request_comes_back_equal(codec: Codec, request: GenerationRequest) -> None:
    assert same(back(codec, request), request)


def test_prompts_of_each_picture_come_back(services: Services, codec: Codec) -> None:
    plan = services.planner.plan(GenerationRequest(prompt="a", batch_size=2))
    plan = replace(plan, first=replace(plan.first, prompts=("a <lora:x:1>", "b")), seeds=(5, 9))
    assert back(codec, plan).first.prompts == ("a <lora:x:1>", "b")
    assert back(codec, plan).seeds == (5, 9)


def test_other_payloads_come_back(services: Services, codec: Codec, tmp_path: Path) -> None:
    settings = services.settings.snapshot()
    video = tmp_path / "c.mp4"
    video.write_bytes(b"a video")
    sources = (PictureSource("a", b"picture"), PictureSource("b", path=tmp_path / "b.png"))
    extras = ExtrasPlan(ExtrasRequest(sources=sources, output=tmp_path), settings)
    assert back(codec, extras).request == extras.request
    uploaded = ExtrasRequest(sources=(PictureSource("c.mp4", upload=KeptFile(video)), *sources))
    (kept, *others) = back(codec, ExtrasPlan(uploaded, settings)).request.sources
    assert kept.is_video
    assert kept.read() == b"a video"
    assert tuple(others) == sources
    assert BatchPlan.__dataclass_fields__.keys() == {"batch", "settings"}


def test_a_kept_file_is_read_when_the_job_begins_to_wait(codec: Codec, tmp_path: Path) -> None:
    path = tmp_path / "cat.png"
    path.write_bytes(b"a picture")
    data = json.loads(json.dumps(codec.dump(KeptFile(path))))
    path.unlink()
    assert codec.load(KeptFile, data).path.read_bytes() == b"a picture"
    with pytest.raises(InvalidRequest, match="cat.png can't be read"):
        codec.dump(KeptFile(path))
    with pytest.raises(InvalidRequest, match="doesn't fit this version"):
        codec.load(KeptFile, {"$blob": "../config.json"})


def test_saved_pictures_of_a_result_are_not_kept_twice(codec: Codec, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"saved")
    saved = ResultFile(b"saved", "image/png", "a", 8, 8, str(tmp_path / "a.png"))
    unsaved = replace(saved, data=b"unsaved", path=None)
    text = ResultFile(b"a", "text/plain", role="text")
    result = GenerationResult((saved, unsaved), {"all_seeds": [1]}, ("A sentence.",), 1.5, files=(text,))
    dumped = codec.dump(result)
    assert dumped["images"][0]["data"] is None
    assert back(codec, result) == result


def test_what_an_extension_left_behind_is_named(services: Services, codec: Codec) -> None:
    data = codec.dump(services.planner.plan(GenerationRequest(extensions={"Kept": Kept()})))
    without = Codec(codec._blobs, lambda: services.settings.snapshot().table)
    with pytest.raises(InvalidRequest, match='"Kept" isn\'t here any more'):
        without.load(GenerationPlan, data)


def test_a_lost_picture_and_a_changed_shape_are_sentences(codec: Codec) -> None:
    data = codec.dump(FromImage(images=(b"one",)))
    data["images"][0]["$blob"] = "0" * 64
    with pytest.raises(NotFound, match="no longer kept"):
        codec.load(FromImage, data)
    with pytest.raises(InvalidRequest, match="doesn't fit this version"):
        codec.load(FromImage, {"denoising": 3})
    with pytest.raises(TypeError, match="can't wait"):
        codec.dump(GenerationRequest(overrides={"x": object()}))
