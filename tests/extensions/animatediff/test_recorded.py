"""Clips are those of sd-webui-animatediff on the original program."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.extensions.recorded import made, one_thread, recorded_folder, recorded_services, unpack_models
from tests.recordings import Case, difference, lay_out, load_cases, without_version
from webui.core.errors import WebuiError
from webui.core.request import GenerationResult
from webui.pipeline.engine import Engine
from webui.services.services import Services

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.parity

OF_THE_ORIGINAL = {"animatediff_windows": "The last one wins"}
A_FAULT = "ad-8-of-16"
"""16 frames are made of 8, as there; there the second half of the double batch is taken from the wrong place."""
# Of everything something; the others (ad-8, ad-16-ddim, ad-len0, ad-16-8-rp, ad-16-8-a, ad-24-16, ad-i2i, ad-8-nopad)
# are equal, too, and add no rule.
CASES = (
    "ad-off", "ad-8-v2", "ad-8-v1", "ad-16-8-n", "ad-16-8-rplus-travel", "ad-24-8-stride", "ad-16-travel",
    "ad-8-freeinit-gauss", "ad-i2i-last", "ad-i2i-inpaint", "ad-long-pad", "ad-16-8-separate", "ad-8-two", "ad-8-hires",
)  # fmt: skip
VIDEOS = ("ad-gif", "ad-gif-frame-a")


@pytest.fixture(scope="module")
def recorded(parity: Path) -> Path:
    return recorded_folder(parity, "animatediff")


@pytest.fixture(scope="module")
def services(parity: Path, recorded: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Services]:
    data = tmp_path_factory.mktemp("animatediff")
    lay_out(parity, data)
    unpack_models(parity, "AnimateDiff", data)
    with recorded_services(data) as services:
        yield services


@pytest.fixture(scope="module")
def engine(services: Services) -> Iterator[Engine]:
    with one_thread(services) as engine:
        yield engine


@pytest.fixture(scope="module")
def cases(recorded: Path) -> dict[str, Case]:
    return {case.name: case for case in load_cases(recorded)}


def infotexts(result: GenerationResult) -> list[str]:
    return [without_version(text) for text in result.info["infotexts"]]


@pytest.mark.parametrize("name", CASES)
def test_frames_and_texts_are_those_of_the_original(
    engine: Engine, recorded: Path, cases: dict[str, Case], name: str
) -> None:
    case = cases[name]
    result = made(engine, case.endpoint, case.body(), **OF_THE_ORIGINAL)
    assert len(result.images) == len(case.files)
    apart = [
        difference(Image.open(io.BytesIO(ours.data)), case.picture(index)) for index, ours in enumerate(result.images)
    ]
    assert all(item is not None and item.passes for item in apart), [item and item.within for item in apart]
    assert infotexts(result) == [without_version(text) for text in case.infotexts]
    facts = json.loads((recorded / "manifest.json").read_text("utf-8"))[name]
    assert result.info["all_seeds"] == facts["all_seeds"]
    prompts = facts["all_prompts"]
    assert result.info["all_prompts"] == (prompts * len(case.infotexts) if len(prompts) == 1 else prompts)


@pytest.mark.parametrize("name", VIDEOS)
def test_gifs_have_the_frames_times_loops_and_texts_of_the_original(
    engine: Engine, recorded: Path, cases: dict[str, Case], name: str
) -> None:
    """Their colours are of one palette for all frames, there of one for each."""
    case = cases[name]
    facts = json.loads((recorded / "manifest.json").read_text("utf-8"))[name]
    result = made(engine, case.endpoint, case.body(), **OF_THE_ORIGINAL)
    assert len(result.images) == len(case.files)
    assert infotexts(result) == [without_version(text) for text in case.infotexts]
    gif = Image.open(io.BytesIO(result.images[0].data))
    assert (gif.format, gif.n_frames) == ("GIF", facts["gif"]["frames"])  # type: ignore[attr-defined]
    assert gif.info.get("loop", 0) == facts["gif"]["loop"]
    assert without_version(gif.info["comment"].decode()) == without_version(facts["gif"]["comment"])
    fps = case.payload["alwayson_scripts"]["AnimateDiff"]["args"][0].get("fps", 8)
    shown = []
    for index in range(gif.n_frames):  # type: ignore[attr-defined]
        gif.seek(index)
        shown.append(gif.info["duration"])
    assert sum(shown) == pytest.approx(1000 * len(shown) / fps, abs=10)
    for index, ours in enumerate(result.images[1:], start=1):
        apart = difference(Image.open(io.BytesIO(ours.data)), case.picture(index))
        assert apart is not None
        assert apart.passes, index


def test_a_context_longer_than_the_clip_is_filled(engine: Engine, cases: dict[str, Case]) -> None:
    result = made(engine, cases[A_FAULT].endpoint, cases[A_FAULT].body())
    assert len(result.images) == len(cases[A_FAULT].files)
    assert infotexts(result) == [without_version(text) for text in cases[A_FAULT].infotexts]


def test_averaged_windows_differ_and_are_as_many(engine: Engine, cases: dict[str, Case]) -> None:
    case = cases["ad-16-8-rp"]
    result = made(engine, case.endpoint, case.body())
    apart = [difference(Image.open(io.BytesIO(ours.data)), case.picture(n)) for n, ours in enumerate(result.images)]
    assert len(apart) == len(case.files)
    assert not all(item is not None and item.passes for item in apart)
    assert infotexts(result) == [without_version(text) for text in case.infotexts]


REFUSED = {
    "model-missing": 'no motion module "nothing.safetensors"',
    "model-default": 'no motion module "mm_sd15_v3.safetensors"',
    "travel-key-too-large": "frame 8 .* beyond the clip, whose last frame is 7",
    "format-none": "no format",
    "format-txt": "no format",
    "format-unknown": 'format "JPG" is unknown',
    "length-negative": "Number of frames",
    "fps-0": "FPS",
    "context-40": "knows 32 frames at a time, the context has 40",
    "v1-28": "knows 24 frames at a time, the context has 28",
    "loop-unknown": 'closed_loop "X" is unknown',
    "filter-unknown": 'freeinit_filter "none" is unknown',
    "last-frame-broken": "last_frame",
    "overlap-large": "overlap of 8 frames",
}
TAKEN = ("disabled", "long-nopad", "long-nopad-windows", "unknown-field", "v1-separate", "cfg-1", "args-empty")


def test_mistakes_are_sentences_and_what_is_none_is_made(engine: Engine, recorded: Path) -> None:
    asked = json.loads((recorded / "api" / "error-cases.json").read_text("utf-8"))
    assert {*REFUSED, *TAKEN} == set(asked)
    for name, says in REFUSED.items():
        body = Case(name, recorded, "", asked[name]["payload"], (), ()).body()
        endpoint = "img2img" if "init_images" in body else "txt2img"
        with pytest.raises(WebuiError, match=says) as caught:
            made(engine, endpoint, body)
        assert 400 <= caught.value.status < 500, name
    for name in TAKEN:
        body = Case(name, recorded, "", {**asked[name]["payload"], "steps": 2}, (), ()).body()
        result = made(engine, "txt2img", body)
        wanted = {"unknown-field": 8, "long-nopad": 8, "long-nopad-windows": 16}.get(name, asked[name].get("images"))
        assert len(result.images) == wanted, name
    plain = cases_plain(recorded)
    assert len(made(engine, "txt2img", plain).images) == 1


def cases_plain(recorded: Path) -> dict[str, Any]:
    return {"prompt": "a cat", "seed": 1, "steps": 2, "width": 64, "height": 64}
