"""Pictures of the original program, made again through the whole pipeline in fp32.

Needs the recordings; a sample that touches every stage. `compare.py` beside them runs them all against a server.
"""

from __future__ import annotations

import io
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

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
    subprocess.run([sys.executable, parity / "unpack.py", data], check=True, capture_output=True)
    models = data / "models" / "Stable-diffusion"
    models.mkdir(parents=True)
    for name in ("tinyA", "tinyB"):
        shutil.move(data / "models" / f"{name}.safetensors", models)
        shutil.copy(parity / "models" / f"{name}.yaml", models)
    shutil.copy(parity / "styles.csv", data)
    flags, _ = parse_flags(["--data-dir", str(data), "--no-half", "--precision", "full", "--device", "cpu"], {})
    services = build_services(flags)
    services.settings.update({"sd_model_checkpoint": "tinyA"})
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield build(services)
    torch.set_num_threads(threads)
    services.checkpoints.close()


@pytest.fixture(scope="module")
def recordings(parity: Path) -> dict[str, Any]:
    cases: dict[str, Any] = json.loads((parity / "manifest.json").read_text())
    return cases


def made(engine: Engine, payload: dict[str, Any]) -> GenerationResult:
    body = TextToImageBody(**payload)
    request = request_of(body, engine.host.params).replace(overrides=body.override_settings or {})
    return run(engine, request, JobContext.alone())


def without_version(text: str) -> str:
    return re.sub(r",? ?Version: [^,\n]*", "", text).strip()


@pytest.mark.parametrize("name", CASES)
def test_picture_and_infotext_are_those_of_the_original(
    name: str, engine: Engine, recordings: dict[str, Any], parity: Path
) -> None:
    case = recordings[name]
    result = made(engine, case["payload"])
    assert len(result.images) == len(case["files"])
    for ours, file, infotext in zip(result.images, case["files"], case["infotexts"], strict=True):
        picture = np.asarray(Image.open(io.BytesIO(ours.data)).convert("RGB"), dtype=np.int16)
        recorded = np.asarray(Image.open(parity / "images" / file).convert("RGB"), dtype=np.int16)
        assert picture.shape == recorded.shape
        assert np.abs(picture - recorded).max() <= 2
        assert without_version(ours.infotext) == without_version(infotext)
