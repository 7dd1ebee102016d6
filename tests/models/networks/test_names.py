"""Names in network files find the modules they mean, in every spelling and family."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tools.random_checkpoint import TINY_SIZES, write_checkpoint
from webui.catalog.checkpoints import Checkpoint
from webui.models.devices import placement_on_cpu
from webui.models.families.base import LoadedModel
from webui.models.networks.files import read_lora
from webui.models.networks.names import NameTable, Target, ldm_paths
from webui.models.registry import open_checkpoint


@pytest.fixture(scope="module")
def sd1(model: LoadedModel) -> NameTable:
    return NameTable(model)


@pytest.fixture(scope="module")
def sdxl_model(tmp_path_factory: pytest.TempPathFactory, described: Callable[[Path], Checkpoint]) -> LoadedModel:
    """As many layers as the recorded SDXL checkpoint has."""
    path = tmp_path_factory.mktemp("sdxl") / "xl.safetensors"
    write_checkpoint(path, replace(TINY_SIZES["sdxl"], text_layers=12, big_layers=6))
    return open_checkpoint(described(path)).load(placement_on_cpu(torch.float32))


@pytest.fixture(scope="module")
def sdxl(sdxl_model: LoadedModel) -> NameTable:
    return NameTable(sdxl_model)


def path_of(target: Target | None) -> str | None:
    return None if target is None else f"{target.part}:{target.path}"


KEY = "down_blocks.1.attentions.0.transformer_blocks.0.attn2.to_k"


@pytest.mark.parametrize(
    "name",
    [
        "lora_unet_down_blocks_1_attentions_0_transformer_blocks_0_attn2_to_k",
        "lora_unet_input_blocks_4_1_transformer_blocks_0_attn2_to_k",
        "unet.down_blocks.1.attentions.0.transformer_blocks.0.attn2.to_k",
        "diffusion_model.input_blocks.4.1.transformer_blocks.0.attn2.to_k",
        "lycoris_down_blocks_1_attentions_0_transformer_blocks_0_attn2_to_k",
        "base_model.model.down_blocks.1.attentions.0.transformer_blocks.0.attn2.to_k",
        "oft_unet_down_blocks_1_attentions_0_transformer_blocks_0_attn2_to_k",
        "down_blocks.1.attentions.0.transformer_blocks.0.attn2.to_k",
    ],
)
def test_one_module_has_many_names(sd1: NameTable, name: str) -> None:
    assert path_of(sd1.find(name)) == f"unet:{KEY}"


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("lora_unet_conv_in", "conv_in"),
        ("lora_unet_input_blocks_0_0", "conv_in"),
        ("lora_unet_out_2", "conv_out"),
        ("lora_unet_out_0", "conv_norm_out"),
        ("lora_unet_time_embed_2", "time_embedding.linear_2"),
        ("lora_unet_input_blocks_1_0_in_layers_2", "down_blocks.0.resnets.0.conv1"),
        ("lora_unet_input_blocks_1_0_emb_layers_1", "down_blocks.0.resnets.0.time_emb_proj"),
        ("lora_unet_input_blocks_3_0_op", "down_blocks.0.downsamplers.0.conv"),
        ("lora_unet_input_blocks_4_0_skip_connection", "down_blocks.1.resnets.0.conv_shortcut"),
        ("lora_unet_middle_block_2_out_layers_3", "mid_block.resnets.1.conv2"),
        ("lora_unet_output_blocks_2_1_conv", "up_blocks.0.upsamplers.0.conv"),
        ("lora_unet_output_blocks_5_2_conv", "up_blocks.1.upsamplers.0.conv"),
        ("lora_unet_up_blocks_1_attentions_2_transformer_blocks_0_ff_net_0_proj",)
        + ("up_blocks.1.attentions.2.transformer_blocks.0.ff.net.0.proj",),
        ("lora_unet_output_blocks_11_1_transformer_blocks_0_attn1_to_out_0",)
        + ("up_blocks.3.attentions.2.transformer_blocks.0.attn1.to_out.0",),
        ("lora_unet_conv_inn", None),
        ("lora_unet_down_blocks_9_resnets_0_conv1", None),
    ],
)
def test_names_of_sd1(sd1: NameTable, name: str, path: str | None) -> None:
    assert path_of(sd1.find(name)) == (None if path is None else f"unet:{path}")


@pytest.mark.parametrize(
    "prefix", ["lora_te_text_model_", "lora_te1_text_model_", "text_encoder.text_model.", "lora_te_"]
)
def test_text_encoders_of_sd1(sd1: NameTable, prefix: str) -> None:
    name = "encoder.layers.1.self_attn.q_proj"
    found = sd1.find(prefix + (name.replace(".", "_") if prefix.endswith("_") else name))
    assert path_of(found) in (f"te0:{name}", f"te0:text_model.{name}")
    assert found is not None
    assert found.is_text


def test_sdxl_has_two_text_encoders(sdxl: NameTable) -> None:
    name = "text_model_encoder_layers_0_mlp_fc1"
    first, second = sdxl.find(f"lora_te1_{name}"), sdxl.find(f"lora_te2_{name}")
    assert first is not None
    assert second is not None
    assert (first.part, second.part) == ("te0", "te1")
    assert sdxl.find("text_encoder_2.text_model.encoder.layers.0.mlp.fc1") is second
    assert sdxl.find(f"lora_te_{name}") is None, "an SD 1.x file's text encoder is another one"
    assert sdxl.find(f"lora_te_{name}", sdxl=True) is first
    assert sdxl.find("lora_te2_text_projection") is not None


def test_ldm_names_are_those_that_checkpoints_are_loaded_by(model: LoadedModel, sdxl_model: LoadedModel) -> None:
    for loaded in (model, sdxl_model):
        paths = ldm_paths(loaded.unet)
        for path, module in loaded.unet.named_modules():
            if isinstance(getattr(module, "weight", None), torch.nn.Parameter):
                assert path in paths
        assert len(set(paths.values())) == len(paths)


@pytest.mark.parity
@pytest.mark.parametrize("name", ["xlora", "xlora_unet", "xlora_te", "xlocon", "xlora_diffusers", "rlora"])
def test_modules_are_those_that_a1111_found(sdxl: NameTable, sdxl_model: LoadedModel, parity: Path, name: str) -> None:
    recorded = json.loads((parity / "more" / "lora-matched.json").read_text())[name]
    folder = parity / "lora" if name == "rlora" else parity / "more" / "lora"
    file = read_lora(folder / f"{name}.safetensors")
    ldm = ldm_paths(sdxl_model.unet)
    found = [sdxl.find(module, sdxl=file.sdxl) for module in file.modules]
    assert {a1111_name(target, ldm) for target in found if target} == set(recorded)


OPEN_CLIP = {"mlp_fc1": "mlp_c_fc", "mlp_fc2": "mlp_c_proj"}


def a1111_name(target: Target, ldm: dict[str, str]) -> str:
    if target.part == "unet":
        return "diffusion_model_" + ldm[target.path].replace(".", "_")
    inner = target.path.removeprefix("text_model.").replace(".", "_")
    if target.part == "te0":
        return f"0_transformer_text_model_{inner}"
    number, _, rest = inner.removeprefix("encoder_layers_").partition("_")
    return f"1_model_transformer_resblocks_{number}_{OPEN_CLIP.get(rest, rest.replace('self_attn', 'attn'))}"
