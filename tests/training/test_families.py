"""SD 2 and SDXL are trained, too; what is saved is found again in every module, by our reader and by diffusers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from tests.training.conftest import Ask
from tests.training.test_lora import train
from tools.random_checkpoint import TINY_SIZES, write_checkpoint
from webui.core.training import DreamBoothOptions, LoraOptions, Saving, TrainingRequest
from webui.models.networks.files import read_lora
from webui.models.networks.matching import match
from webui.models.networks.names import NameTable
from webui.pipeline.engine import Engine, build
from webui.planning.training import TrainingPlan
from webui.services.services import Services

Plan = Callable[[TrainingRequest], TrainingPlan]
LYCORIS = {"algo": "lokr", "dora": True, "network_dim": 2, "network_alpha": 1.0}


@pytest.fixture(scope="module")
def engine(services: Services, data: Path) -> Engine:
    for family in ("sd2-v", "sdxl"):
        write_checkpoint(data / "models" / "Stable-diffusion" / f"{family}.safetensors", TINY_SIZES[family], "F32", 0)
    services.checkpoints.refresh()
    return build(services)


@pytest.mark.parametrize(
    "options", [{"algo": "lora"}, {"algo": "locon", "conv_dim": 2}, LYCORIS], ids=["lora", "locon", "lokr"]
)
@pytest.mark.parametrize(
    ("checkpoint", "version", "some"),
    [
        ("tiny", "sd_v1", ("lora_unet_mid_block_attentions_0_proj_in", "lora_te_text_model_encoder_layers_1_mlp_fc2")),
        ("sd2-v", "sd_v2", ("lora_unet_mid_block_attentions_0_proj_in", "lora_te_text_model_encoder_layers_1_mlp_fc2")),
        (
            "sdxl",
            "sdxl_base_v1-0",
            (
                "lora_unet_input_blocks_4_1_transformer_blocks_0_attn2_to_k",
                "lora_te1_text_model_encoder_layers_0_self_attn_q_proj",
                "lora_te2_text_model_encoder_layers_1_mlp_fc1",
            ),
        ),
    ],
)
def test_every_module_of_a_lora_is_found_again(
    engine: Engine,
    plan: Plan,
    ask: Ask,
    checkpoint: str,
    version: str,
    some: tuple[str, ...],
    options: dict[str, object],
) -> None:
    name = f"{checkpoint}-{options['algo']}"
    made = plan(ask(name, steps=1, checkpoint=checkpoint, lora=LoraOptions(**options)))
    train(engine, made)
    with safe_open(made.target, "pt") as file:
        modules = {key.split(".")[0] for key in file.keys()}  # noqa: SIM118
        metadata = file.metadata()
    assert set(some) <= modules
    assert metadata["ss_base_model_version"] == version
    assert metadata["ss_v2"] == str(version == "sd_v2")
    with engine.models.lease(made.checkpoint) as model:
        matched = match(read_lora(made.target), NameTable(model))
    assert len(matched.deltas) == len(modules)
    convolutions = [name for name in modules if name.endswith(("conv1", "in_layers_2"))]
    assert bool(convolutions) == (options["algo"] != "lora")
    assert metadata["ss_network_module"] == ("lycoris.kohya" if options["algo"] == "lokr" else "networks.lora")


@pytest.mark.parametrize("checkpoint", ["sd2-v", "sdxl"])
def test_dreambooth_saves_every_family_as_it_was_laid_out(
    engine: Engine, plan: Plan, ask: Ask, data: Path, checkpoint: str
) -> None:
    options = DreamBoothOptions(
        te_steps=1, unet_steps=1, te_learning_rate=1e-3, unet_learning_rate=1e-3, save_as="both"
    )
    made = plan(
        ask(
            f"db-{checkpoint}",
            kind="dreambooth",
            checkpoint=checkpoint,
            dreambooth=options,
            saving=Saving(save_precision="float"),
        )
    )
    train(engine, made)
    base, trained = load_file(made.checkpoint.path), load_file(made.target)
    assert {key: value.shape for key, value in base.items()} == {key: value.shape for key, value in trained.items()}
    changed = {key for key in base if not base[key].equal(trained[key])}
    assert any(key.startswith("model.diffusion_model.") for key in changed)
    assert any(key.endswith("attn.in_proj_weight") for key in changed)  # three of our layers in one tensor
    assert not any(key.startswith("first_stage_model.") for key in changed)
    engine.checkpoints.refresh()
    with engine.models.lease(engine.checkpoints.find(made.target.name)) as model:
        assert model.unet.conv_in.weight.equal(trained["model.diffusion_model.input_blocks.0.0.weight"])
    from diffusers import DiffusionPipeline

    pipeline = DiffusionPipeline.from_pretrained(made.target.with_suffix(""))
    assert pipeline.unet.conv_in.weight.equal(trained["model.diffusion_model.input_blocks.0.0.weight"])


def test_diffusers_loads_a_lora_of_ours(engine: Engine, plan: Plan, ask: Ask) -> None:
    peft = pytest.importorskip("peft")
    assert peft
    from diffusers import StableDiffusionPipeline

    base = plan(
        ask(
            "base",
            kind="dreambooth",
            dreambooth=DreamBoothOptions(te_steps=0, unet_steps=1, unet_learning_rate=1e-9, save_as="diffusers"),
            saving=Saving(save_precision="float"),
        )
    )
    train(engine, base)
    lora = plan(ask("for-diffusers", steps=2, saving=Saving(save_precision="float"), lora=LoraOptions(network_dim=2)))
    train(engine, lora)
    pipeline = StableDiffusionPipeline.from_pretrained(base.target.with_suffix(""))
    path = "down_blocks.1.attentions.0.transformer_blocks.0.attn2.to_k"
    before = pipeline.unet.get_submodule(path).weight.detach().clone()
    pipeline.load_lora_weights(str(lora.target))
    pipeline.fuse_lora()
    after = pipeline.unet.get_submodule(path).weight.detach()
    tensors, name = load_file(lora.target), f"lora_unet_{path.replace('.', '_')}"
    change = tensors[f"{name}.lora_up.weight"] @ tensors[f"{name}.lora_down.weight"] * (1.0 / 2)
    assert torch.allclose(after - before, change, atol=1e-6)
    assert float(change.abs().max()) > 0
