"""Pictures of the original program, made again through the whole pipeline in fp32.

Needs the recordings; a sample that touches every stage. `python -m tests.parity_report` runs them all on a server.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from PIL import Image

from tests.recordings import TOLERANCE, Case, difference, lay_out, load_cases, without_version
from webui.api.schema import TextToImageBody, request_of
from webui.app import build_services
from webui.core.flags import parse_flags
from webui.core.request import GenerationResult
from webui.jobs.context import JobContext
from webui.pipeline.engine import Engine, build
from webui.pipeline.generate import run

CASES = [
    "sampler-dpmpp_2m",
    "sampler-dpmpp_2m_sde",
    "sampler-euler_a",
    "sampler-euler",
    "sampler-heun",
    "sampler-ddim",
    "sched-euler-karras",
    "sched-dpmpp_2m-exponential",
    "steps1-euler",
    "steps13-ddim",
    "size-72x104",
    "size-200x64",
    "eta-ddim-param",
    "churn-heun",
    "ensd-euler_a",
    "smin-all",
    "skip-early-cond",
    "sigma-minmax",
    "discard-ntl",
    "ztsnr",
    "downcast-ab",
    "rng-NV",
    "cfg0",
    "tiling",
    "prompt-emph-num",
    "prompt-edit-nest",
    "prompt-and-w",
    "prompt-break",
    "prompt-long-comma",
    "prompt-unicode",
    "prompt-emphmode-no_norm",
    "prompt-bothlong-pad",
    "prompt-comment",
    "neg-edit",
    "clipskip-2",
    "style-2",
    "batch-2x2",
    "batch-2-prompts-edit",
    "subseed-0.5",
    "seedresize-192x128",
    "hires-latent",
    "hires-prompt",
    "hires-resize",
    "hires-1.5-anc",
    "hires-denoise0",
    "hires-ddim",
    "hires-edit",
    "hires-ckpt",
    "refiner-0.5",
    "refiner-hires",
    "info-nomodel",
    "info-quote",
    "sampler-dpmpp_sde",
    "sampler-dpmpp_2m_sde_heun",
    "sampler-dpmpp_2s_a",
    "sampler-dpmpp_3m_sde",
    "sampler-lms",
    "sampler-dpm2",
    "sampler-dpm2_a",
    "sampler-dpm_fast",
    "sampler-restart",
    "steps21-restart",
    "sampler-ddim_cfgpp",
    "sampler-plms",
    "sampler-unipc",
    "unipc-uni_pc_variant-vary_coeff",
    "unipc-uni_pc_skip_type-logSNR",
    "sampler-lcm",
    "sched-euler-polyexponential",
    "sched-euler-kl_optimal",
    "sched-euler-align_your_steps",
    "sched-euler-ddim",
    "mix-dpmpp_sde-sgm_uniform",
    "beta-dist",
    "tome-0.5",
    "prompt-oldemph",
]


@pytest.fixture(scope="module")
def engine(parity: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    data = tmp_path_factory.mktemp("recorded")
    lay_out(parity, data)
    flags, _ = parse_flags(["--data-dir", str(data), "--no-half", "--precision", "full", "--device", "cpu"], {})
    services = build_services(flags)
    services.settings.update({"sd_model_checkpoint": "tinyA"})
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield build(services)
    torch.set_num_threads(threads)
    services.checkpoints.close()


@pytest.fixture(scope="module")
def recordings(parity: Path) -> dict[str, Case]:
    return {case.name: case for case in load_cases(parity)}


def made(engine: Engine, case: Case) -> GenerationResult:
    body = TextToImageBody(**case.body())
    request = request_of(body, engine.host.params).replace(overrides=body.override_settings or {})
    return run(engine, request, JobContext.alone())


@pytest.mark.parametrize("name", CASES)
def test_picture_and_infotext_are_those_of_the_original(name: str, engine: Engine, recordings: dict[str, Case]) -> None:
    case = recordings[name]
    result = made(engine, case)
    assert len(result.images) == len(case.files)
    for index, (ours, infotext) in enumerate(zip(result.images, case.infotexts, strict=True)):
        apart = difference(Image.open(io.BytesIO(ours.data)), case.picture(index))
        assert apart is not None
        assert apart.maximum <= TOLERANCE
        assert without_version(ours.infotext) == without_version(infotext)
