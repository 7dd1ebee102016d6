"""Every family from file to picture: detected, loaded, and sampled through the whole pipeline at a reduced size."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from tools.random_checkpoint import FULL_SIZES, TINY_SIZES, Layout, checkpoint_shapes, write_checkpoint
from webui.catalog.checkpoints import Checkpoint
from webui.catalog.families import detect_family, read_capabilities
from webui.catalog.model_hints import Hints
from webui.core.errors import BadModelFile, InvalidRequest
from webui.core.flags import parse_flags
from webui.core.request import GenerationRequest, GenerationResult
from webui.jobs.context import JobContext
from webui.models.devices import placement_on_cpu
from webui.models.registry import open_checkpoint
from webui.pipeline.engine import Engine, build
from webui.pipeline.generate import run
from webui.services.building import build_services

Described = Callable[[Path], Checkpoint]
IDS = {"sd1-inpaint": "sd1", "sd2-v": "sd2", "sdxl-inpaint": "sdxl", "ssd-1b": "sdxl"}
CPU32 = placement_on_cpu(torch.float32)


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """An engine over one small checkpoint of every family."""
    data = tmp_path_factory.mktemp("families")
    folder = data / "models" / "Stable-diffusion"
    folder.mkdir(parents=True)
    for name, layout in TINY_SIZES.items():
        write_checkpoint(folder / f"{name}.safetensors", layout)
    flags, _ = parse_flags(["--data-dir", str(data), "--no-half", "--device", "cpu", "--no-hashing"], {})
    services = build_services(flags)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield build(services)
    torch.set_num_threads(threads)
    services.checkpoints.close()


def generated(engine: Engine, name: str, **changes: object) -> GenerationResult:
    asked: dict[str, object] = {
        "prompt": "a (red:1.3) cat",
        "negative_prompt": "blurry",
        "sampler": "Euler",
        "steps": 2,
        "width": 64,
        "height": 64,
        "seed": 1,
        "save_samples": False,
        "overrides": {"sd_model_checkpoint": name},
        **changes,
    }
    return run(engine, engine.plan(GenerationRequest.checked(**asked)), JobContext.alone())


def picture(engine: Engine, name: str, **changes: object) -> np.ndarray:
    result = generated(engine, name, **changes)
    return np.asarray(Image.open(io.BytesIO(result.images[0].data)).convert("RGB"), dtype=np.int16)


@pytest.mark.parametrize("name", TINY_SIZES)
def test_a_family_generates_and_listens_to_its_prompts(name: str, engine: Engine) -> None:
    made = picture(engine, name)
    assert made.shape == (64, 64, 3)
    assert made.std() > 1
    assert np.array_equal(made, picture(engine, name))
    assert not np.array_equal(made, picture(engine, name, prompt="a dog"))
    assert not np.array_equal(made, picture(engine, name, negative_prompt="green"))
    model = engine.models.current
    assert model is not None
    assert model.model_name == name


@pytest.mark.parametrize("name", FULL_SIZES)
def test_the_full_key_list_is_detected_and_fits_its_family(name: str) -> None:
    shapes = checkpoint_shapes(FULL_SIZES[name])
    family = detect_family(shapes, name)
    assert family.id == IDS.get(name, name)
    capabilities = read_capabilities(family, shapes, Hints(), name)
    assert family.usual is not None
    expected = replace(family.usual, input_kind=capabilities.input_kind, native_size=capabilities.native_size)
    assert replace(capabilities, prediction=expected.prediction) == expected
    assert (capabilities.input_kind == "inpaint") == name.endswith("inpaint")


@pytest.mark.parametrize("name", TINY_SIZES)
def test_weights_are_those_of_the_file(name: str, engine: Engine, described: Described) -> None:
    """Each stored number stands somewhere in the model, but those that no family reads."""
    path = engine.checkpoints.find(name).path
    loaded = open_checkpoint(described(path)).load(CPU32)
    modules = [loaded.unet, loaded.vae.module, *(encoder.module for encoder in loaded.text_encoders)]
    held = sum(float(weight.double().abs().sum()) for module in modules for weight in module.state_dict().values())
    stored = {key: float(tensor.double().abs().sum()) for key, tensor in load_file(path).items()}
    unread = ("logit_scale", "text_projection", "resblocks.2.") if "sd2" in name else ("logit_scale",)
    expected = sum(size for key, size in stored.items() if not any(part in key for part in unread))
    assert held == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("name", ["sd2", "sdxl", "sdxl-refiner", "sd3"])
def test_cut_and_mixed_files_say_what_is_wrong_and_the_model_stays(name: str, engine: Engine) -> None:
    picture(engine, "sd1")
    path = engine.checkpoints.find(name).path
    whole = load_file(path)
    text = next(key.rsplit(".", 3)[0] for key in whole if "embedders" in key or "cond_stage" in key or "clip_g" in key)
    broken = path.with_name("broken.safetensors")
    changes = {
        "text": {key: value for key, value in whole.items() if not key.startswith(text.split(".")[0])},
        "network": {key: value for key, value in whole.items() if "out.2." not in key and "final_layer" not in key},
        "vae": {key: value for key, value in whole.items() if "decoder.mid" not in key},
    }
    for tensors in changes.values():
        save_file(tensors, broken)
        engine.checkpoints.refresh()
        with pytest.raises(BadModelFile, match=r"^broken\.safetensors [^\n]*\.$"):
            picture(engine, "broken")
        assert engine.models.current is not None
        assert engine.models.current.model_name == "sd1"
    broken.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    engine.checkpoints.refresh()
    with pytest.raises(BadModelFile, match="broken.safetensors is cut off"):
        picture(engine, "broken")
    broken.unlink()
    engine.checkpoints.refresh()


def tiny(folder: Path, name: str, change: Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]]) -> Path:
    """The named family's small checkpoint with other tensors, and few words."""
    path = folder / f"{name}.safetensors"
    write_checkpoint(path, replace(TINY_SIZES[name], vocabulary=100))
    save_file({key: value.contiguous() for key, value in change(load_file(path)).items()}, path)
    return path


def test_sdxl_finetunes_tell_how_they_were_trained(tmp_path: Path, described: Described) -> None:
    marked = tiny(tmp_path, "sdxl", lambda t: {**t, "v_pred": torch.zeros(0), "ztsnr": torch.zeros(0)})
    model = open_checkpoint(described(marked)).load(CPU32)
    assert model.capabilities.prediction == "v"
    assert model.levels.sigma_max > 4000
    limits = {"edm_vpred.sigma_max": torch.tensor(120.0), "edm_vpred.sigma_min": torch.tensor(0.002)}
    model = open_checkpoint(described(tiny(tmp_path, "sdxl", lambda t: {**t, **limits}))).load(CPU32)
    assert model.capabilities.prediction == "v"
    assert (model.levels.sigma_min, model.levels.sigma_max) == pytest.approx((0.002, 120))
    assert model.levels.told(1.0) == 0
    with pytest.raises(BadModelFile, match="Playground"):
        open_checkpoint(described(tiny(tmp_path, "sdxl", lambda t: {**t, "edm_mean": torch.zeros(4)})))


def test_what_sd2_predicts_is_asked_of_the_network(tmp_path: Path, described: Described) -> None:
    assert open_checkpoint(described(tiny(tmp_path, "sd2", dict))).load(CPU32).capabilities.prediction == "eps"
    low = tiny(tmp_path, "sd2", lambda t: {**t, "model.diffusion_model.out.2.bias": torch.full((4,), -3.0)})
    blueprint = open_checkpoint(described(low))
    assert blueprint.capabilities.prediction is None
    model = blueprint.load(CPU32)
    assert (model.capabilities.prediction, model.capabilities.native_size) == ("v", 768)


@pytest.mark.parametrize("scaled", [False, True])
def test_fp8_weights_are_read_as_numbers(scaled: bool, tmp_path: Path, described: Described) -> None:
    key = "model.diffusion_model.middle_block.1.transformer_blocks.0.attn1.to_q.weight"

    def in_fp8(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        small = {k: t.to(torch.float8_e4m3fn) for k, t in tensors.items() if t.ndim > 1 and k.startswith("model.")}
        return {**tensors, **small, **({key.replace("weight", "scale_weight"): torch.tensor(0.5)} if scaled else {})}

    path = tiny(tmp_path, "sdxl", in_fp8)
    stored = load_file(path)[key].float()
    model = open_checkpoint(described(path)).load(CPU32)
    weight = model.unet.mid_block.attentions[0].transformer_blocks[0].attn1.to_q.weight
    assert weight.equal(stored * 0.5 if scaled else stored)


def test_weights_quantised_to_whole_numbers_are_refused(tmp_path: Path, described: Described) -> None:
    key = "model.diffusion_model.middle_block.1.transformer_blocks.0.attn1.to_q.weight"
    path = tiny(tmp_path, "sdxl", lambda t: {**t, key: t[key].to(torch.int8)})
    with pytest.raises(BadModelFile, match="as whole numbers"):
        open_checkpoint(described(path))


def test_bf16_files_load_without_a_copy(tmp_path: Path, described: Described) -> None:
    path = tmp_path / "x.safetensors"
    layout: Layout = TINY_SIZES["sdxl"]
    write_checkpoint(path, layout, "BF16")
    blueprint = open_checkpoint(described(path))
    placement = replace(CPU32, unet=torch.bfloat16, text=torch.bfloat16, vae=torch.bfloat16)
    loaded = blueprint.load(placement)
    layer = loaded.text_encoders[1].core.encoder.layers[0].self_attn
    stored = blueprint.file.tensors.tensor("conditioner.embedders.1.model.transformer.resblocks.0.attn.in_proj_weight")
    assert layer.q_proj.weight.data_ptr() == stored.data_ptr()
    assert layer.v_proj.weight.data_ptr() == stored[2 * len(stored) // 3 :].data_ptr()
    assert blueprint.weight_bytes(placement) == pytest.approx(path.stat().st_size, rel=0.02)


def test_sd3_weights_land_where_diffusers_own_converter_puts_them(engine: Engine, described: Described) -> None:
    from diffusers.loaders.single_file_utils import convert_sd3_transformer_checkpoint_to_diffusers

    path = engine.checkpoints.find("sd3").path
    ours = open_checkpoint(described(path)).load(CPU32).unet.state_dict()
    theirs = convert_sd3_transformer_checkpoint_to_diffusers(load_file(path))
    assert ours.keys() == theirs.keys()
    assert all(weight.equal(theirs[key].float().reshape(weight.shape)) for key, weight in ours.items())


@pytest.mark.parametrize("sampler", ["Euler", "Heun", "DPM2", "LMS", "DPM++ 2M"])
def test_a_flow_is_sampled_by_every_plain_sampler(sampler: str, engine: Engine) -> None:
    assert picture(engine, "sd3", sampler=sampler, steps=3).std() > 1


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"sampler": "Euler a"}, "sd3 can't be sampled by Euler a, which can't follow a flow"),
        ({"sampler": "DDIM"}, "sd3 can't be sampled by DDIM"),
        ({"sampler": "DPM++ SDE"}, "sd3 can't be sampled by DPM.. SDE"),
        ({"scheduler": "Align Your Steps"}, "with the schedule Align Your Steps, which was not published"),
        ({"width": 72}, "sd3 makes pictures whose sides are multiples of 16, not 72x64; 64x64 fits"),
        (
            {"overrides": {"sd_model_checkpoint": "sd3", "sigma_max": 5.0}, "scheduler": "Karras"},
            "begins at noise level 5, beyond the model's 1",
        ),
    ],
)
def test_what_a_flow_cant_do_is_one_sentence(changes: dict[str, object], said: str, engine: Engine) -> None:
    with pytest.raises(InvalidRequest, match=said):
        picture(engine, "sd3", **changes)


def test_a_flow_takes_a_second_pass_from_its_first(engine: Engine) -> None:
    hires = {"upscaler": "Latent (nearest)", "scale": 1.0, "steps": 8, "denoising_strength": 0.05}
    apart = np.abs(picture(engine, "sd3", steps=8, hires=hires) - picture(engine, "sd3", steps=8)).mean()
    assert 0 < apart < 10


def test_the_refiner_takes_over_and_hears_the_aesthetic_score(engine: Engine) -> None:
    refined = {"steps": 4, "refiner": {"checkpoint": "sdxl-refiner", "switch_at": 0.5}}
    made = picture(engine, "sdxl", **refined)
    assert not np.array_equal(made, picture(engine, "sdxl", steps=4))
    scored = {"sd_model_checkpoint": "sdxl", "sdxl_refiner_high_aesthetic_score": 9.0}
    assert not np.array_equal(made, picture(engine, "sdxl", **refined, overrides=scored))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"refiner": {"checkpoint": "sd3", "switch_at": 0.5}}, "sd3 can't refine what sdxl begins"),
        (
            {"hires": {"upscaler": "Latent", "scale": 1.0, "checkpoint": "sd3", "denoising_strength": 0.5}},
            "sd3 can't go on from the first pass's latents: they have 4 channels, its own 16",
        ),
    ],
)
def test_models_of_different_latents_dont_work_on_one_picture(
    changes: dict[str, object], said: str, engine: Engine
) -> None:
    with pytest.raises(InvalidRequest, match=said):
        picture(engine, "sdxl", **changes)


@pytest.mark.parametrize(
    ("name", "override", "said"),
    [
        (
            "sd3",
            {"sd_noise_schedule": "Zero Terminal SNR"},
            "Noise schedule and downcast alpha bar have no effect on sd3",
        ),
        ("sd3", {"tiling": True}, "Token merging and tiling have no effect on sd3"),
        ("sdxl", {"CLIP_stop_at_last_layers": 2}, "Clip skip has no effect on sdxl; the setting sdxl_clip_l_skip"),
        ("sd2", {"CLIP_stop_at_last_layers": 2}, "Clip skip has no effect on sd2."),
    ],
)
def test_settings_without_effect_are_told(name: str, override: dict[str, object], said: str, engine: Engine) -> None:
    told = generated(engine, name, steps=1, overrides={"sd_model_checkpoint": name, **override}).comments
    assert any(sentence.startswith(said) for sentence in told)
    assert not generated(engine, name, steps=1).comments
