"""What is said about a picture before it is made again: each fact the same, different, or unknown."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.tiny import tiny_checkpoint
from webui.core.flags import parse_flags
from webui.core.provenance import CHUNK, Provenance
from webui.core.request import GenerationRequest
from webui.services.building import build_services
from webui.services.infotexts import form_from_infotext
from webui.services.reproduce import Fact, Reproduction, check
from webui.services.services import Services

HERE = Provenance("0.1.0", "fp32", "fp32", "cpu", "2.14.1", "sdpa")
BASE = "Steps: 4, Sampler: Euler a, Schedule type: Karras, CFG scale: 7, Seed: 1, Size: 64x64"


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Services]:
    """A server with two checkpoints, the first one chosen, whose engine has told what it runs on."""
    for seed, name in enumerate(("first", "second")):
        tiny_checkpoint(tmp_path / "models" / "Stable-diffusion", name, seed)
    services = build_services(parse_flags(["--data-dir", str(tmp_path)], {})[0])
    for checkpoint in services.checkpoints.all():
        services.checkpoints.hashed(checkpoint)
    services.settings.update({"sd_model_checkpoint": services.checkpoints.find("first").title})
    services.machine.provenance = HERE
    yield services
    services.checkpoints.close()


def told(services: Services, name: str = "first", more: str = "", prompt: str = "a cat") -> str:
    digits = services.checkpoints.find(name).shorthash
    return f"{prompt}\n{BASE}, Model hash: {digits}, Model: {name}{more}, Version: v1.10.1"


def facts(made: Reproduction) -> dict[str, Fact]:
    return {fact.name: fact for fact in made.facts}


def own(**changes: Any) -> dict[str, str]:
    """The further text of a picture made by a machine like this one but for the changes."""
    return {CHUNK: replace(HERE, **changes).to_text()}


def test_a_picture_made_here_comes_out_again(here: Services) -> None:
    made = check(here, told(here), own())
    assert (made.verdict, made.sentence) == ("same", "The same picture is to be expected.")
    assert {fact.state for fact in made.facts} == {"same"}
    assert {"Checkpoint", "VAE", "Sampler", "Schedule type", "RNG", "Precision", "Torch"} <= facts(made).keys()


def test_what_the_original_program_does_not_tell_stays_unknown(here: Services) -> None:
    made = check(here, told(here))
    assert made.verdict == "unknown"
    assert {name for name, fact in facts(made).items() if fact.state == "unknown"} == {"RNG", "Precision"}
    assert '"NV"' in facts(made)["RNG"].note
    here.machine.provenance = None
    assert check(here, told(here), own()).verdict == "unknown"


def test_checkpoints(here: Services) -> None:
    assert "choose second.safetensors [" in facts(check(here, told(here, "second")))["Checkpoint"].note
    absent = facts(check(here, f"x\n{BASE}, Model hash: 0123456789, Model: elsewhere"))["Checkpoint"]
    assert (absent.state, absent.note) == ("different", "No checkpoint with this hash is here.")
    alike = facts(check(here, f"x\n{BASE}, Model hash: 0123456789, Model: first"))["Checkpoint"]
    assert (alike.state, "other weights" in alike.note) == ("different", True)
    assert facts(check(here, f"x\n{BASE}, Model: first"))["Checkpoint"].state == "unknown"
    assert facts(check(here, f"x\n{BASE}"))["Checkpoint"].state == "unknown"
    with (here.paths.checkpoints[0] / "first.safetensors").open("rb") as file:
        file.seek(0x100000)
        legacy = hashlib.sha256(file.read(0x10000)).hexdigest()[:8]
    assert facts(check(here, f"x\n{BASE}, Model hash: {legacy}"))["Checkpoint"].state == "same"
    here.settings.update({"disable_weights_auto_swap": False})
    assert facts(check(here, told(here, "second")))["Checkpoint"].state == "same"


def test_a_checkpoint_without_a_hash_may_be_the_one(here: Services) -> None:
    tiny_checkpoint(here.paths.checkpoints[0], "third", 3)
    here.checkpoints.refresh()
    unsure = facts(check(here, f"x\n{BASE}, Model hash: 0123456789, Model: elsewhere"))["Checkpoint"]
    assert (unsure.state, "no hash yet" in unsure.note) == ("unknown", True)


def test_refiner_and_hires_checkpoint(here: Services) -> None:
    second = here.checkpoints.find("second")
    more = f", Refiner: second [{second.shorthash}], Refiner switch at: 0.5, Hires checkpoint: nowhere"
    found = facts(check(here, told(here, more=more)))
    assert (found["Refiner"].state, found["Hires checkpoint"].state) == ("same", "different")


def test_vae(here: Services) -> None:
    here.paths.vae.mkdir(parents=True, exist_ok=True)
    (here.paths.vae / "soft.vae.safetensors").write_bytes(b"weights")
    here.vaes.refresh()
    digits = hashlib.sha256(b"weights").hexdigest()[:10]

    def state(more: str) -> str:
        return facts(check(here, told(here, more=more)))["VAE"].state

    assert state(f", VAE hash: {digits}, VAE: soft.vae.safetensors") == "same"
    assert state(", VAE hash: 0123456789, VAE: soft.vae.safetensors") == "different"
    assert state(", VAE: soft.vae.safetensors") == "unknown"
    assert state(f", VAE hash: {digits}, VAE: other.safetensors") == "different"
    assert state("") == "same"
    here.settings.update({"sd_vae": "soft.vae.safetensors"})
    assert state("") == "different"


def write_lora(path: Path, data: bytes) -> str:
    """A safetensors file with these bytes as its only tensor; returns the hash that infotexts show."""
    entry = {"x": {"dtype": "U8", "shape": [len(data)], "data_offsets": [0, len(data)]}}
    header = json.dumps(entry).encode()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(len(header).to_bytes(8, "little") + header + data)
    return hashlib.sha256(data).hexdigest()[:12]


def test_networks(here: Services) -> None:
    digits = write_lora(here.paths.lora / "ink.safetensors", b"12345678")
    here.networks.refresh()
    prompt = "a cat <lora:ink:1> <lora:ink:0.5> <lora:gone:1> <hypernet:none:1>"
    more = f', Lora hashes: "ink: {digits}", TI hashes: "bad: 0123456789ab"'
    found = facts(check(here, told(here, more=more, prompt=prompt)))
    assert found["LoRA ink"].state == "same"
    assert found["LoRA gone"].state == found["Hypernetwork none"].state == found["Embedding bad"].state == "different"
    wrong = facts(check(here, told(here, more=', Lora hashes: "ink: ffffffffffff"')))["LoRA ink"]
    assert (wrong.state, "not this content" in wrong.note) == ("different", True)
    assert facts(check(here, told(here, prompt="<lora:ink:1>")))["LoRA ink"].state == "unknown"


def test_names(here: Services) -> None:
    text = told(here, more=", Hires upscale: 2, Hires upscaler: ESRGAN_4x, Hires sampler: Warp")
    found = facts(check(here, text.replace("Euler a", "Warp 9").replace("Karras", "Bent")))
    assert {found[name].state for name in ("Sampler", "Schedule type", "Hires upscaler", "Hires sampler")} == {
        "different"
    }
    assert facts(check(here, "only a prompt"))["Sampler"].state == "unknown"


@pytest.mark.parametrize(
    ("rng", "device", "state"),
    [("NV", "cuda", "same"), ("CPU", "cuda", "same"), ("GPU", "cpu", "same"), ("GPU", "cuda", "different")],
)
def test_random_numbers(here: Services, rng: str, device: str, state: str) -> None:
    made = check(here, told(here, more="" if rng == "GPU" else f", RNG: {rng}"), own(device=device))
    assert facts(made)["RNG"].state == state


def test_precision_and_what_only_rounds(here: Services) -> None:
    made = check(here, told(here), own(torch="2.0.0", attention="xformers"))
    assert made.verdict == "same"
    assert made.sentence == "The same picture is to be expected, but for rounding: Torch, Attention."
    here.machine.provenance = replace(HERE, precision="bf16", vae_precision="bf16")
    made = check(here, told(here), own())
    assert made.sentence == "Not the same picture as things are: Precision."
    assert "--no-half --precision full" in facts(made)["Precision"].note


def test_settings(here: Services) -> None:
    made = check(here, told(here, more=", Clip skip: 2, ENSD: 31337"), own())
    assert made.verdict == "same"
    assert facts(made)["Settings"].wanted == "ENSD: 31337, Clip skip: 2"
    here.settings.update({"eta_noise_seed_delta": 31337, "skip_early_cond": 0.2, "s_churn": 5.0})
    found = facts(check(here, told(here), own()))
    assert (found["ENSD"].state, found["Skip Early CFG"].state) == ("different", "different")
    assert "Sigma churn" not in found  # Euler a has none
    assert facts(check(here, told(here, more=", NGMS: many"), own()))["NGMS"].state == "different"


def test_starting_pictures_and_foreign_keys(here: Services) -> None:
    found = facts(check(here, told(here, more=", Denoising strength: 0.5, Mask blur: 4, ADetailer model: face"), own()))
    assert "picture and mask" in found["Starting picture"].note
    assert found["ADetailer model"].state == "unknown"
    hires = told(here, more=", Denoising strength: 0.5, Hires upscale: 2, Hires upscaler: Latent")
    assert check(here, hires, own()).verdict == "same"
    assert facts(check(here, told(here).replace("v1.10.1", "ComfyUI"), own()))["Program"].state == "unknown"


def test_hostile_texts(here: Services) -> None:
    for text in ("", "x" * 100_000, "Steps: " * 5000, told(here, more=", Lora hashes: ::::,,,:,"), "<lora:" * 5000):
        assert check(here, text, {CHUNK: text}).verdict in ("same", "different", "unknown")


# The form that will be sent


def form_of(services: Services, infotext: str, **changes: Any) -> dict[str, Any]:
    """A fresh page's form after the paste, with changes by the user."""
    fresh = {spec.dotted: spec.default for spec in GenerationRequest.specs() if spec.path[0] != "image"}
    switches = {"hires": False, "refiner": False, "variation": False}
    return {**fresh, **switches, **form_from_infotext(infotext, services).form, **changes}


VARIED = ", Variation seed: 5, Variation seed strength: 0.1, RNG: CPU"


def verdict(services: Services, infotext: str, **changes: Any) -> str:
    return check(services, infotext, own(), form_of(services, infotext, **changes)).verdict


@pytest.mark.parametrize(
    "changes",
    [
        {"variation": True, "variation.strength": 0.1},
        {"variation": True, "variation.strength": 0.1, "variation.seed": 5},
        {"cfg_scale": 5},
        {"prompt": "a dog"},
        {"negative_prompt": "ugly"},
        {"seed": 2},
        {"width": 128},
        {"sampler": "Euler"},
        {"styles": ["Ink"]},
        {"hires": True},
        {"refiner": True, "refiner.checkpoint": "second"},
        {"overrides": ["RNG: CPU", "Clip skip: 2"]},
        {"overrides": []},
        {"overrides": ["No such setting: 1"]},
    ],
)
def test_a_form_changed_after_the_paste_makes_another_picture(here: Services, changes: dict[str, Any]) -> None:
    text = told(here, more=", RNG: CPU")
    assert verdict(here, text) == "same"
    assert verdict(here, text, **changes) == "different"


@pytest.mark.parametrize(
    "changes",
    [
        {"variation.strength": 0.1, "variation.seed": 5},
        {"hires.scale": 3.0, "hires.prompt": "other"},
        {"refiner.checkpoint": "second", "refiner.switch_at": 0.1},
        {"batch_count": 3, "batch_size": 2},
    ],
)
def test_what_is_switched_off_or_only_adds_pictures_changes_nothing(here: Services, changes: dict[str, Any]) -> None:
    assert verdict(here, told(here, more=", RNG: CPU"), **changes) == "same"


def test_a_variation_is_pasted_and_must_stay(here: Services) -> None:
    text = told(here, more=VARIED)
    assert verdict(here, text) == "same"
    assert verdict(here, text, variation=False) == "different"
    assert verdict(here, text, **{"variation.seed": 6}) == "different"


def test_a_setting_put_back_in_the_form_counts(here: Services) -> None:
    text = told(here, more=", RNG: CPU")
    here.settings.update({"CLIP_stop_at_last_layers": 2})
    assert verdict(here, text, overrides=["RNG: CPU"]) == "different"
    assert verdict(here, text, overrides=["RNG: CPU", "Clip skip: 1"]) == "same"


def test_a_picture_from_text_alone_is_not_made_by_img2img(here: Services) -> None:
    text = told(here, more=", RNG: CPU")
    form = form_of(here, text)
    assert check(here, text, own(), form, "img2img").verdict == "different"


def test_what_is_never_pasted_is_judged_all_the_same(here: Services) -> None:
    here.settings.update({"infotext_skip_pasting": ["CFG scale"]})
    assert verdict(here, told(here, more=", RNG: CPU"), cfg_scale=3) == "different"
