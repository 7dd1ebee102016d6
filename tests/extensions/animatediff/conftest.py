"""A server's parts with small checkpoints and motion modules."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

import pytest

from tests.extensions.animatediff.motion_files import FAMILIES, write_motion
from tests.tiny import tiny_checkpoint
from tools.random_checkpoint import TINY_SIZES, write_checkpoint
from webui.core.flags import parse_flags
from webui.core.request import FromImage, GenerationRequest, GenerationResult
from webui.jobs.context import JobContext
from webui.pipeline.engine import Engine, build
from webui.pipeline.generate import begin, produced, run_pass
from webui.services.building import build_services
from webui.services.services import Services

torch = pytest.importorskip("torch")


@pytest.fixture(scope="package")
def services(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Services]:
    data = tmp_path_factory.mktemp("clips")
    checkpoints = data / "models" / "Stable-diffusion"
    tiny_checkpoint(checkpoints, unet_groups=32)  # as real ones have, and motion modules count on in diffusers
    write_checkpoint(checkpoints / "tinyxl.safetensors", replace(TINY_SIZES["sdxl"], native_size=64), "F32", 1)
    for family in FAMILIES:
        write_motion(data / "models" / "AnimateDiff", family)
    flags, _ = parse_flags(["--data-dir", str(data), "--no-half", "--device", "cpu"], {})
    services = build_services(flags)
    assert services.host.problems == ()
    services.settings.update({"sd_model_checkpoint": "tiny"})
    yield services
    services.checkpoints.close()


@pytest.fixture(scope="package")
def engine(services: Services) -> Engine:
    return build(services)


class Clips:
    """What tests ask of an engine, with small requests."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    def request(self, clip: dict[str, Any], settings: dict[str, Any] | None = None, **more: Any) -> GenerationRequest:
        group = next(group for group in self.engine.host.params if group.__name__ == "AnimateDiff")
        values = {"model": "AnimateDiff v3", "enable": True, "video_length": 4, "batch_size": 4, "format": ("PNG",)}
        asked = group.as_given(**group.from_api([{**values, **clip}]))
        usual: dict[str, Any] = {
            "prompt": "a cat",
            "seed": 5,
            "steps": 2,
            "width": 64,
            "height": 64,
            "sampler": "Euler",
        }
        image = more.pop("image", None)
        return GenerationRequest(
            **{**usual, **more},
            image=FromImage(images=(image,)) if isinstance(image, bytes) else image,
            overrides=settings or {},
            extensions={"AnimateDiff": asked},
        )

    def make(self, clip: dict[str, Any], settings: dict[str, Any] | None = None, **more: Any) -> GenerationResult:
        """The result, its pictures included."""
        return self.made_of(self.request(clip, settings, **more))

    def made_of(self, request: GenerationRequest) -> GenerationResult:
        return produced(self.engine, self.engine.plan(request), JobContext.alone())

    def latents(self, clip: dict[str, Any], settings: dict[str, Any] | None = None, **more: Any) -> Any:
        """(F, C, h, w) that the first pass samples."""
        return self.latents_of(self.request(clip, settings, **more))

    def latents_of(self, request: GenerationRequest) -> Any:
        plan = self.engine.plan(request)
        job = begin(self.engine, plan, JobContext.alone())
        job.progress.begin_passes(1)
        with ExitStack() as models:
            return run_pass(job, "source" if job.source else "first", plan.batches[0], models, job.source)[0]


@pytest.fixture(scope="package")
def clips(engine: Engine) -> Clips:
    return Clips(engine)
