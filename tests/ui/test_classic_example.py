"""The picture that everyone made: a long weighted prompt, a LoRA, negative embeddings, a VAE file, 30 steps."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import expect
from safetensors.numpy import load_file, save_file

from tests.browsing import Visit
from tests.tiny import tiny_checkpoint
from tools.random_checkpoint import TINY

PROMPT = (
    "(masterpiece:1.4), (best quality:1.3), (ultra-detailed, 8k wallpaper:1.2), (photorealistic:1.37), 1girl, solo, "
    "((upper body)), looking at viewer, [smile], (detailed face, detailed eyes:1.15), long black hair, hair ribbon, "
    "white blouse, (pleated skirt), standing in a narrow street at night, (neon lights:0.9), rain, wet asphalt, "
    "depth of field, film grain, <lora:jwy___v1:1>, cinematic lighting, rim light, bokeh, sharp focus, a \\(poster\\)"
)
NEGATIVE = (
    "easyhands, (bad_prompt_v9:0.8), (worst quality:2), (low quality:2), (normal quality:1.8), lowres, ((monochrome)), "
    "((grayscale)), skin spots, bad anatomy, (extra fingers:1.3), watermark, text"
)
WIDTH, HEIGHT = 512, 720
WIDEST = "model.diffusion_model.input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight"


def use(server: Any, **settings: str) -> None:
    httpx.post(f"{server.url}/sdapi/v1/options", json=settings, timeout=60).raise_for_status()


@pytest.fixture(scope="module")
def files(server: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A checkpoint, a LoRA, two embeddings and a VAE, as they lie in a user's folders; gone afterwards."""
    models, embeddings = server.data / "models", server.data / "embeddings"
    random = np.random.default_rng(19)

    def drawn(*shape: int) -> np.ndarray:
        return random.standard_normal(shape, np.float32)

    # At this size attention takes nearly all of the time: each head as much again, and written out four times as long.
    narrow: dict[str, Any] = {"unet_heads": 1, "unet_groups": 8, "unet_widths": (16, 16, 16, 16)}
    checkpoint = tiny_checkpoint(models / "Stable-diffusion", "chilled", seed=19, **narrow)
    use(server, cross_attention_optimization="sdp - scaled dot product")
    weights = load_file(tiny_checkpoint(tmp_path_factory.mktemp("other"), seed=20))
    prefix = "first_stage_model."
    vae = models / "VAE" / "vae-ft-mse-840000-ema-pruned.safetensors"
    save_file({key.removeprefix(prefix): each for key, each in weights.items() if key.startswith(prefix)}, vae)
    channels, context = load_file(checkpoint)[WIDEST].shape
    tensors = {}
    for name, (rows, columns) in {
        "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn2_to_k": (channels, context),
        "lora_te_text_model_encoder_layers_0_mlp_fc1": (4 * TINY.text_width, TINY.text_width),
    }.items():
        tensors[f"{name}.lora_up.weight"] = drawn(rows, 4)
        tensors[f"{name}.lora_down.weight"] = drawn(4, columns)
        tensors[f"{name}.alpha"] = np.array(4, np.float32)
    lora = models / "Lora" / "jwy___v1.safetensors"
    save_file(tensors, lora)
    negative = [embeddings / f"{name}.safetensors" for name in ("easyhands", "bad_prompt_v9")]
    for count, path in zip((6, 2), negative, strict=True):
        save_file({"emb_params": drawn(count, TINY.text_width)}, path)
    for kind in ("lora", "textual_inversion"):
        httpx.post(f"{server.url}/easel/v1/cards/refresh", json={"kind": kind}, timeout=60).raise_for_status()
    httpx.post(f"{server.url}/sdapi/v1/refresh-vae", timeout=60).raise_for_status()
    yield
    use(server, sd_model_checkpoint="tiny", sd_vae="Automatic", cross_attention_optimization="Automatic")
    for path in (checkpoint, checkpoint.with_suffix(".yaml"), vae, lora, *negative):
        path.unlink()


def newest(server: Any) -> Path:
    """The picture that was saved last."""
    return max((server.data / "outputs" / "txt2img-images").rglob("*.png"), key=lambda file: file.stat().st_mtime_ns)


def make(visit: Visit) -> None:
    with visit.job():
        visit.page.click("#txt2img_generate")
    expect(visit.page.locator("#html_info_txt2img")).to_contain_text("VAE: vae-ft-mse-840000")


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_classic_example_comes_out_of_its_png_again(visit: Visit, server: Any, files: None) -> None:
    page = visit.page
    page.set_default_timeout(300_000)  # sixty steps at full size
    page.click("#refresh_sd_model_checkpoint")
    visit.choose("#setting_sd_model_checkpoint input", re.compile("^chilled"))
    page.click("#tab_settings-button")
    page.locator("#settings_search input").fill("SD VAE")
    page.select_option("#setting_sd_vae select", "vae-ft-mse-840000-ema-pruned.safetensors")
    page.click("#settings_submit")
    expect(page.locator("#settings_result")).to_contain_text("sd_vae")
    page.click("#tab_txt2img-button")
    visit.fill_in(PROMPT, "txt2img", steps=30, cfg_scale=4, width=WIDTH, height=HEIGHT)
    page.fill("#txt2img_neg_prompt textarea", NEGATIVE)
    visit.choose("#txt2img_sampling input", "DPM++ 2M")
    visit.choose("#txt2img_scheduler input", "Karras")
    make(visit)
    first = newest(server)
    with Image.open(first) as picture:
        pixels, told = np.asarray(picture), picture.info["parameters"]
    assert pixels.shape == (HEIGHT, WIDTH, 3)
    assert told.startswith(f"{PROMPT}\nNegative prompt: {NEGATIVE}\nSteps: 30, Sampler: DPM++ 2M, ")
    for fact in ("Schedule type: Karras", "CFG scale: 4", "Size: 512x720", "Model: chilled", "VAE hash: "):
        assert f"{fact}" in told
    assert 'Lora hashes: "jwy___v1: ' in told
    assert 'TI hashes: "easyhands: ' in told
    assert ", bad_prompt_v9: " in told

    use(server, sd_vae="Automatic")
    page.evaluate("sessionStorage.clear()")
    visit.reload()
    page.click("#tab_pnginfo-button")
    page.set_input_files("#pnginfo_image input[type=file]", first)
    expect(page.locator("#html_info_pnginfo")).to_contain_text("jwy___v1")
    page.click("#txt2img_tab")
    expect(page.locator("#txt2img_prompt textarea")).to_have_value(PROMPT)
    visit.expect_numbers("txt2img", steps=30, cfg_scale=4, width=WIDTH, height=HEIGHT)
    make(visit)
    assert newest(server) != first
    with Image.open(newest(server)) as picture:
        assert picture.info["parameters"] == told
        assert np.array_equal(np.asarray(picture), pixels)
