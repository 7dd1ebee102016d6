"""Faces exchanged beside other things: in the frames of a film, with SDXL, and in the second pass."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.extensions.faceswap import standins
from tests.extensions.faceswap.conftest import LEFT, RIGHT
from tests.extensions.faceswap.test_generating import BOTH, COMPOSITE, made, pixels
from tests.tiny import tiny_checkpoint
from tests.video.clips import moving_square, write_clip
from tools.random_checkpoint import TINY_SIZES, write_checkpoint
from webui.core.flags import parse_flags
from webui.core.pictures import read_infotext
from webui.core.request import FromImage, GenerationRequest, HiresFix
from webui.pipeline.engine import Engine
from webui.services.building import build_services
from webui.services.services import Services


@pytest.fixture(scope="module")
def services(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Services]:
    data = tmp_path_factory.mktemp("film")
    tiny_checkpoint(data / "models" / "Stable-diffusion")
    standins.all_of_them(data / "models", (LEFT, RIGHT))
    flags = ["--data-dir", str(data), "--no-half", "--precision", "full", "--device", "cpu", "--no-hashing"]
    services = build_services(parse_flags(flags, {})[0])
    services.jobs.start()
    yield services
    services.jobs.close(60)
    services.checkpoints.close()


def module_of(extension: str, name: str) -> Any:
    start = f"_extension_{extension}"
    return next(item for key, item in sys.modules.items() if key.startswith(start) and key.endswith(f".{name}"))


def test_the_frames_of_a_film_are_swapped_by_mov2mov(services: Services, tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "clip.mp4", moving_square(3), 3)
    kinds, options = module_of("mov2mov", "kinds"), module_of("faceswap", "parameters").ReActor
    request = GenerationRequest(
        prompt="a harbour",
        seed=5,
        steps=1,
        width=128,
        height=128,
        sampler="Euler",
        image=FromImage(denoising_strength=0.1),
    )

    def frames(request: GenerationRequest) -> tuple[list[np.ndarray], list[bytes], Any]:
        asked = kinds.Film(request, kinds.Mov2Mov(resume=False), str(clip), clip.name)
        film = services.jobs.result(services.jobs.submit(kinds.KIND, asked), timeout=240)
        files = sorted(Path(film.folder).glob("*.png"))  # type: ignore[attr-defined]
        return (
            [np.asarray(Image.open(file).convert("RGB")) for file in files],
            [file.read_bytes() for file in files],
            film,
        )

    plain, _, _ = frames(request)
    swapped, data, film = frames(request.replace(extensions={"ReActor": options(enabled=True, img=BOTH)}))
    assert len(plain) == len(swapped) == 3
    for before, after, content in zip(plain, swapped, data, strict=True):
        assert (before[64, 32] != after[64, 32]).any()
        assert (before[:25] == after[:25]).all()
        assert 'ReActor: "source: picture' in str(read_infotext(content)[0])
    assert any("became source face 0" in comment for comment in film.comments)


@pytest.mark.parametrize(
    "request_", [{"overrides": {"sd_model_checkpoint": "xl"}}, {"hires": HiresFix(scale=1.5, upscaler="Latent")}]
)
def test_with_sdxl_and_hires_fix(engine: Engine, data: Path, request_: dict[str, Any]) -> None:
    file = data / "models" / "Stable-diffusion" / "xl.safetensors"
    if not file.exists():
        write_checkpoint(file, TINY_SIZES["sdxl"], "F16", 0)
        engine.checkpoints.refresh()
    before, after = made(engine, **request_), made(engine, {}, **request_)
    assert (pixels(before) != pixels(after)).any()
    assert (pixels(before)[:25] == pixels(after)[:25]).all()
    assert read_infotext(after.images[0].data)[1]["DigitalSourceType"] == COMPOSITE
