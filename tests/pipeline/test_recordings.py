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

from tests.recordings import TOLERANCE, Case, difference, folders, lay_out, load_cases, without_version
from webui.api.schema import ImageToImageBody, TextToImageBody, request_of
from webui.core.flags import parse_flags
from webui.core.request import GenerationResult
from webui.jobs.context import JobContext
from webui.pipeline.engine import Engine, build
from webui.pipeline.generate import run
from webui.services.building import build_services

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
    "nosdedet",
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
    "steps21-dpmpp_3m_sde",
    "prompt-break-emph",
    "i2i-den-0.0",
    "i2i-den-1.0",
    "i2i-exact-0.3",
    "i2i-sampler-dpmpp_2m_sde",
    "i2i-sampler-dpm_fast",
    "i2i-sampler-ddim",
    "i2i-sampler-unipc",
    "i2i-resize-0-rect",
    "i2i-resize-1-tall",
    "i2i-resize-2-rect",
    "i2i-resize-3-tall",
    "i2i-noisemult-0.9",
    "i2i-noisemult-param",
    "i2i-extranoise",
    "i2i-alpha-bg",
    "i2i-two-inits",
    "i2i-sub",
    "i2i-edit",
    "i2i-colorcorr",
    "inp-fill-0",
    "inp-fill-3",
    "inp-blurxy",
    "inp-invert",
    "inp-full-fill",
    "inp-full-noise-inv",
    "inp-gradmask-noround",
    "inp-resize2",
    "inp-overlay",
    "inp-retmask",
    "inp-ddim-batch",
    "inp-soft",
    "refiner-i2i",
    "inpm-t2i",
    "inpm-hires-mw",
    "inpm-fill-2",
    "inpm-mw-0.5",
    "inpm-full",
    "net-lora",
    "net-lora-te-unet",
    "net-lora-dyn",
    "net-lora-two",
    "net-locon",
    "net-loha",
    "net-lokr",
    "net-ia3",
    "net-full",
    "net-hyper-0.4",
    "net-lora-hires",
    "net-lora-none-after",
    "vae-tinyvae",
    "vae-none",
    "vae-i2i",
    "ti-emph",
    "ti-neg",
    "ti-partial",
    "ti-long",
    "xl-sampler-dpmpp_2m_sde-karras",
    "xl-sampler-dpmpp_2m-align_your_steps",
    "xl-prompt-and-w",
    "xl-prompt-76",
    "xl-neg-empty",
    "xl-clipskip-2-l",
    "xl-crop",
    "xl-batch-3-alt",
    "xl-hires-prompt",
    "xl-i2i-euler",
    "xl-inp-full",
    "xl-net-te-unet",
    "xl-net-locon",
    "xl-net-sd1lora",
    "xl-net-hires",
    "xl-ti-emph",
    "xl-ti-neg",
]
AMPLIFIED = {"i2i-colorcorr": "a level more or less of the painted picture moves whole steps of its histogram"}
"""Cases in which single pixels may be further apart, and why."""


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
    return {case.name: case for folder in folders(parity) for case in load_cases(folder)}


def made(engine: Engine, case: Case) -> GenerationResult:
    body = (ImageToImageBody if case.endpoint.endswith("img2img") else TextToImageBody)(**case.body())
    request = request_of(body, engine.host.params, engine.choices).replace(overrides=body.override_settings or {})
    return run(engine, engine.plan(request), JobContext.alone())


@pytest.mark.parametrize("name", CASES)
def test_picture_and_infotext_are_those_of_the_original(name: str, engine: Engine, recordings: dict[str, Case]) -> None:
    case = recordings[name]
    result = made(engine, case)
    assert len(result.images) == len(case.files)
    for index, ours in enumerate(result.images):
        apart = difference(Image.open(io.BytesIO(ours.data)), case.picture(index))
        assert apart is not None
        assert apart.passes if name in AMPLIFIED else apart.maximum <= TOLERANCE
    infotexts = [without_version(text) for text in result.info["infotexts"]]
    assert infotexts == [without_version(text) for text in case.infotexts]


def test_each_loop_continues_from_the_one_before_as_the_original(engine: Engine, recordings: dict[str, Case]) -> None:
    """Loop by loop, each from the recorded picture: three in a row amplify what rounding does in the first."""
    case = recordings["script-loopback"]
    request = request_of(ImageToImageBody(**case.body()), engine.host.params, engine.choices)
    looped, image = request.extensions["Loopback"], request.image
    assert image is not None
    for loop in range(1, looped.loops):  # type: ignore[attr-defined]
        strength = looped.strength(image.denoising_strength, loop)  # type: ignore[attr-defined]
        before = (case.folder / "images" / case.files[loop]).read_bytes()
        asked = image.replace(images=(before,), denoising_strength=strength)
        one = request.replace(image=asked, seed=request.seed + loop, script="")
        apart = difference(
            Image.open(io.BytesIO(engine.generate(one, JobContext.alone()).images[0].data)), case.picture(loop + 1)
        )
        assert apart is not None
        assert apart.maximum <= TOLERANCE
    whole = scripted(engine, case)
    assert whole.info["infotexts"][0] == whole.images[1].infotext
    assert [without_version(text) for text in whole.info["infotexts"]] == [
        without_version(text) for text in case.infotexts
    ]


def scripted(engine: Engine, case: Case) -> GenerationResult:
    body = (ImageToImageBody if case.endpoint.endswith("img2img") else TextToImageBody)(**case.body())
    request = request_of(body, engine.host.params, engine.choices)
    return engine.generate(request, JobContext.alone(engine=engine))


@pytest.mark.parametrize(
    "name",
    [
        *("script-matrix", "script-matrix-diffseed", "script-file", "script-sdupscale", "script-outpaint-poor"),
        *("script-xyz", "script-xyz-cfg-sampler", "script-i2i-alt"),
    ],
)
def test_a_scripts_pictures_are_those_of_the_original(name: str, engine: Engine, recordings: dict[str, Case]) -> None:
    case = recordings[name]
    result = scripted(engine, case)
    assert len(result.images) == len(case.files)
    assert [without_version(text) for text in result.info["infotexts"]] == [
        without_version(text) for text in case.infotexts
    ]
    for index, ours in enumerate(result.images):
        apart = difference(Image.open(io.BytesIO(ours.data)), case.picture(index))
        assert apart is not None, (index, ours.width, ours.height)
        assert apart.passes if ours.is_grid else apart.maximum <= TOLERANCE


def test_a_picture_grows_as_the_originals(engine: Engine, recordings: dict[str, Case]) -> None:
    """The first side alone: the next noise is made of it, where one value changed by 1 changes 58 %."""
    case = recordings["script-outpaint-mk2"]
    result = scripted(engine, case)
    ours, theirs = Image.open(io.BytesIO(result.images[0].data)).convert("RGB"), case.picture(0)
    assert ours.size == theirs.size == (256, 256)
    band = (0, 100, 170, 156)  # where the upper and lower sides' masks don't reach
    apart = difference(ours.crop(band), theirs.crop(band))
    assert apart is not None
    assert apart.maximum <= TOLERANCE
    assert [without_version(text) for text in result.info["infotexts"]] == [
        without_version(text) for text in case.infotexts
    ]
