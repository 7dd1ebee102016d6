"""DreamBooth: two phases one after the other, or both at once; class pictures; files that load."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from tests.training.conftest import Ask
from tests.training.test_lora import train
from webui.core.errors import InvalidRequest
from webui.core.request import GenerationRequest
from webui.core.training import DreamBoothOptions, Saving, TrainingRequest
from webui.jobs.context import JobContext
from webui.pipeline.engine import Engine, build
from webui.planning.training import TrainingPlan
from webui.services.services import Services

Plan = Callable[[TrainingRequest], TrainingPlan]
UNET, TEXT, VAE = "model.diffusion_model.", "cond_stage_model.", "first_stage_model."


@pytest.fixture(scope="module")
def engine(services: Services) -> Engine:
    return build(services)


def changed(target: Path, data: Path) -> set[str]:
    """Which parts differ from the base's."""
    base = load_file(data / "models" / "Stable-diffusion" / "tiny.safetensors")
    trained = load_file(target)
    assert set(base) == set(trained)
    return {
        part for part in (UNET, TEXT, VAE) for key in base if key.startswith(part) and not base[key].equal(trained[key])
    }


def test_sequential_trains_the_text_encoder_first_and_then_the_unet(
    engine: Engine, plan: Plan, ask: Ask, data: Path
) -> None:
    saving = Saving(save_precision="float", save_state_every=1)
    rates = {"te_learning_rate": 1e-3, "unet_learning_rate": 1e-3, "save_as": "both"}
    first_only = plan(
        ask("text", kind="dreambooth", saving=saving, dreambooth=DreamBoothOptions(te_steps=2, unet_steps=0, **rates))
    )
    assert [(phase.title, phase.steps) for phase in first_only.phases] == [("Text encoder", 2)]
    both = DreamBoothOptions(te_steps=2, unet_steps=2, **rates)
    whole = plan(ask("whole", kind="dreambooth", saving=saving, dreambooth=both))
    train(engine, whole)
    assert changed(whole.target, data) == {UNET, TEXT}
    for killed_at in (1, 3):  # in either phase
        cut = plan(ask(f"killed-{killed_at}", kind="dreambooth", saving=saving, dreambooth=both))
        train(engine, cut, stop_after=killed_at)
        train(engine, cut)
        first, second = load_file(whole.target), load_file(cut.target)
        assert all(first[key].equal(second[key]) for key in first)

    assert whole.phases[0].unet_lr == 1e-3, "the U-Net learns beside the text encoder, and is put back"
    still = DreamBoothOptions(te_steps=2, unet_steps=1, te_learning_rate=1e-3, unet_learning_rate=0.0)
    with pytest.raises(InvalidRequest, match="learning rate of the U-Net is 0"):
        plan(ask("still", kind="dreambooth", saving=saving, dreambooth=still))

    # Our engine and diffusers load what was saved, and see the same.
    engine.checkpoints.refresh()
    request = GenerationRequest(prompt="sks thing", steps=2, width=64, height=64, seed=1, cfg_scale=3.0)
    made = engine.generate(
        request.replace(overrides={"sd_model_checkpoint": "whole.safetensors"}), JobContext.alone(engine=engine)
    )
    assert made.pictures[0].getextrema() != ((0, 0),) * 3
    from diffusers import StableDiffusionPipeline

    pipeline = StableDiffusionPipeline.from_pretrained(whole.target.with_suffix(""), torch_dtype=torch.float32)
    trained = load_file(whole.target)
    assert pipeline.unet.conv_in.weight.equal(trained[f"{UNET}input_blocks.0.0.weight"])
    picture = pipeline("sks thing", num_inference_steps=2, height=64, width=64, output_type="np").images[0]
    assert np.isfinite(picture).all()


def test_joint_trains_both_and_stops_the_text_encoder(engine: Engine, plan: Plan, ask: Ask, data: Path) -> None:
    saving = Saving(save_precision="float")
    files = []
    for name, stop in (("never", 0), ("after-one", 1), ("not-at-all", -1)):
        options = DreamBoothOptions(te_mode="joint_stop", stop_text_encoder_training=stop)
        made = plan(ask(name, kind="dreambooth", steps=2, rate=1e-3, saving=saving, dreambooth=options))
        train(engine, made)
        files.append(made.target)
    assert [changed(file, data) for file in files] == [{UNET, TEXT}, {UNET, TEXT}, {UNET}]
    never, after_one = (load_file(file) for file in files[:2])
    key = "cond_stage_model.transformer.text_model.final_layer_norm.weight"
    assert not never[key].equal(after_one[key])


@pytest.mark.parametrize("prior", ["paired", "mixed"])
def test_class_pictures_are_made_where_they_are_missing(
    engine: Engine, plan: Plan, ask: Ask, data: Path, tmp_path: Path, prior: str
) -> None:
    folder = tmp_path / "classes"
    options = DreamBoothOptions(
        te_steps=0, unet_steps=2, class_dir=str(folder), class_prompt="thing", num_class_images=2, class_steps=1
    )
    request = ask(f"prior-{prior}", kind="dreambooth", dreambooth=options)
    made = plan(request.replace(data=request.data.replace(prior=prior)))
    train(engine, made)
    assert len(list(folder.glob("*.png"))) == 2
    before = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    train(engine, plan(request.replace(name=f"again-{prior}")))
    assert {path: path.stat().st_mtime_ns for path in folder.iterdir()} == before
