"""Networks that enlarge pictures between two passes, and before img2img."""

from __future__ import annotations

import io
from collections.abc import Iterator

import pytest
from PIL import Image
from safetensors.torch import save_file

from tests.package_index import rrdb_weights
from tests.tiny import tiny_checkpoint
from webui.core.errors import InvalidRequest
from webui.core.flags import parse_flags
from webui.core.pictures import encode_image
from webui.core.request import FromImage, GenerationRequest, GenerationResult, HiresFix
from webui.jobs.context import JobContext
from webui.pipeline import generate
from webui.pipeline.engine import Engine, build
from webui.services.building import build_services


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    data = tmp_path_factory.mktemp("data")
    (data / "models" / "RealESRGAN").mkdir(parents=True)
    save_file(rrdb_weights(), data / "models" / "RealESRGAN" / "RealESRGAN_x4plus.safetensors")
    tiny_checkpoint(data / "models" / "Stable-diffusion")
    flags, _ = parse_flags(["--data-dir", str(data), "--device", "cpu"], {})
    services = build_services(flags)
    yield build(services)
    services.checkpoints.close()


def made(engine: Engine, **values: object) -> GenerationResult:
    request = GenerationRequest(prompt="x", seed=1, steps=1, width=64, height=64, **values)
    return generate.run(engine, engine.plan(request), JobContext.alone())


def test_a_network_enlarges_between_the_passes(engine: Engine) -> None:
    by_network, by_lanczos = (
        made(engine, hires=HiresFix(upscaler=name, scale=2.0, denoising_strength=0.3))
        for name in ("R-ESRGAN 4x+", "Lanczos")
    )
    assert "Hires upscaler: R-ESRGAN 4x+" in by_network.images[0].infotext
    with Image.open(io.BytesIO(by_network.images[0].data)) as image:
        assert image.size == (128, 128)
    assert by_network.images[0].data != by_lanczos.images[0].data


def test_a_network_enlarges_what_img2img_starts_from(engine: Engine) -> None:
    small = encode_image(Image.effect_noise((32, 32), 60).convert("RGB"), "png", None)
    pictures = [
        made(engine, image=FromImage(images=(small,)), overrides={"upscaler_for_img2img": name}).images[0].data
        for name in ("R-ESRGAN 4x+", "Lanczos")
    ]
    assert pictures[0] != pictures[1]


def test_missing_weights_are_told_before_anything_is_sampled(engine: Engine) -> None:
    with pytest.raises(InvalidRequest, match="R-ESRGAN 4x\\+ Anime6B has no weights here yet"):
        made(engine, hires=HiresFix(upscaler="R-ESRGAN 4x+ Anime6B"))
