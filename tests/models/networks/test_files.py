"""LoRA files of every producer: what their tensors are called, what a broken one is answered with."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from webui.core.errors import BadModelFile
from webui.models.networks.files import read_lora, split_key

UP, DOWN = torch.ones(4, 2), torch.ones(2, 4)


def lora(path: Path, tensors: dict[str, Tensor], metadata: dict[str, str] | None = None) -> Path:
    save_file({key: tensor.clone() for key, tensor in tensors.items()}, path, metadata)
    return path


@pytest.mark.parametrize(
    ("key", "name", "role"),
    [
        (
            "lora_unet_mid_block_attentions_0_proj_in.lora_up.weight",
            "lora_unet_mid_block_attentions_0_proj_in",
            "lora_up",
        ),
        ("lora_te1_text_model_encoder_layers_0_mlp_fc1.alpha", "lora_te1_text_model_encoder_layers_0_mlp_fc1", "alpha"),
        ("unet.mid_block.attentions.0.proj_in.lora_A.weight", "unet.mid_block.attentions.0.proj_in", "lora_down"),
        ("unet.mid_block.attentions.0.proj_in.lora.up.weight", "unet.mid_block.attentions.0.proj_in", "lora_up"),
        ("unet.conv_in.lora_magnitude_vector", "unet.conv_in", "dora_scale"),
        ("unet.conv_in.lora_magnitude_vector.default.weight", "unet.conv_in", "dora_scale"),
        ("base_model.model.conv_in.lora_B.default.weight", "base_model.model.conv_in", "lora_up"),
        ("unet.a.attn1.processor.to_q_lora.down.weight", "unet.a.attn1.to_q", "lora_down"),
        ("unet.a.attn1.processor.to_out_lora.up.weight", "unet.a.attn1.to_out.0", "lora_up"),
        ("text_encoder.a.self_attn.to_out_lora.up.weight", "text_encoder.a.self_attn.out_proj", "lora_up"),
        ("text_encoder.a.q_proj.lora_linear_layer.down.weight", "text_encoder.a.q_proj", "lora_down"),
        (
            "diffusion_model.middle_block.1.proj_in.lora_down.weight",
            "diffusion_model.middle_block.1.proj_in",
            "lora_down",
        ),
        ("lycoris_mid_block_attentions_0_proj_in.hada_w1_a", "lycoris_mid_block_attentions_0_proj_in", "hada_w1_a"),
        ("oft_unet_conv_in.oft_blocks", "oft_unet_conv_in", "oft_blocks"),
        ("lora_unet_conv_in.a1.weight", "lora_unet_conv_in", "a1"),
        ("lora_unet_conv_in.weight", "lora_unet_conv_in", "weight"),
        ("lora_unet_conv_in.something", "lora_unet_conv_in.something", None),
    ],
)
def test_every_producers_spelling_is_split_into_module_and_role(key: str, name: str, role: str | None) -> None:
    assert split_key(key) == (name, role)


def test_a_file_is_read_into_memory_of_its_own(tmp_path: Path) -> None:
    path = lora(tmp_path / "x.safetensors", {"lora_unet_conv_in.lora_up.weight": UP, "lora_unet_conv_in.odd": DOWN})
    file = read_lora(path)
    assert (file.name, file.unknown, file.size) == ("x", ("lora_unet_conv_in.odd",), UP.nbytes)
    path.write_bytes(b"\0" * path.stat().st_size)
    assert torch.equal(file.modules["lora_unet_conv_in"]["lora_up"], UP)


def test_a_torch_file_is_read_like_any_other(tmp_path: Path) -> None:
    torch.save({"lora_unet_conv_in.lora_up.weight": UP, "lora_unet_conv_in.lora_down.weight": DOWN}, tmp_path / "x.pt")
    assert set(read_lora(tmp_path / "x.pt").modules["lora_unet_conv_in"]) == {"lora_up", "lora_down"}


def test_bundled_embeddings_are_found_in_both_spellings(tmp_path: Path) -> None:
    tensors = {"bundle_emb.one.string_to_param.*": UP, "bundle_emb.two.clip_l": UP, "bundle_emb.two.clip_g": DOWN}
    file = read_lora(lora(tmp_path / "x.safetensors", tensors))
    assert {name: set(parts) for name, parts in file.embeddings.items()} == {"one": {"*"}, "two": {"clip_l", "clip_g"}}


def test_alphas_that_diffusers_keeps_in_the_header(tmp_path: Path) -> None:
    names = [f"unet.{place}.lora_{side}.weight" for place in ("a.to_q", "b.to_k") for side in "AB"]
    tensors = {name: DOWN if "lora_A" in name else UP for name in names}
    stored = {"unet.lora_alpha": 8, "unet.alpha_pattern": {"b.to_k": 3.0}, "unet.use_rslora": False}
    path = lora(tmp_path / "x.safetensors", tensors, {"lora_adapter_metadata": json.dumps(stored)})
    modules = read_lora(path).modules
    assert [float(modules[name]["alpha"]) for name in ("unet.a.to_q", "unet.b.to_k")] == [8.0, 3.0]
    rooted = {"lora_adapter_metadata": json.dumps({"unet.lora_alpha": 8, "unet.use_rslora": True})}
    modules = read_lora(lora(tmp_path / "y.safetensors", tensors, rooted)).modules
    assert float(modules["unet.a.to_q"]["alpha"]) == pytest.approx(8 * 2**0.5)


def test_alphas_of_a_raw_peft_adapter_stand_beside_it(tmp_path: Path) -> None:
    tensors = {"base_model.model.conv_in.lora_A.weight": DOWN, "base_model.model.conv_in.lora_B.weight": UP}
    path = lora(tmp_path / "adapter_model.safetensors", tensors)
    (tmp_path / "adapter_config.json").write_text(json.dumps({"r": 2, "lora_alpha": 5}))
    assert float(read_lora(path).modules["base_model.model.conv_in"]["alpha"]) == 5.0


@pytest.mark.parametrize("metadata", ["{", "[1]", '{"unet.lora_alpha": "much"}', '{"unet.alpha_pattern": 3}'])
def test_broken_alphas_in_the_header_count_as_none(tmp_path: Path, metadata: str) -> None:
    tensors = {"unet.a.lora_A.weight": DOWN, "unet.a.lora_B.weight": UP}
    path = lora(tmp_path / "x.safetensors", tensors, {"lora_adapter_metadata": metadata})
    assert "alpha" not in read_lora(path).modules["unet.a"]


@pytest.mark.parametrize(
    ("tensors", "sentence"),
    [
        ({"decoder.conv_in.weight2": UP}, "is no LoRA"),
        ({"lora_unet_conv_in.lora_up.weight": torch.full((2, 2), torch.nan)}, "NaN or infinity"),
        ({"lora_unet_conv_in.lora_up.weight": torch.tensor([1.0, -torch.inf, torch.inf])}, "NaN or infinity"),
    ],
)
def test_what_is_no_lora_is_said(tmp_path: Path, tensors: dict[str, Tensor], sentence: str) -> None:
    with pytest.raises(BadModelFile, match=sentence):
        read_lora(lora(tmp_path / "x.safetensors", tensors))


def test_large_numbers_are_no_infinity(tmp_path: Path) -> None:
    tensors = {"lora_unet_conv_in.lora_up.weight": torch.full((4,), 3e38)}
    assert read_lora(lora(tmp_path / "x.safetensors", tensors)).modules


@pytest.mark.parametrize("content", [b"", b"no tensors at all, but long enough", b"\x80\x02}q\0."])
def test_a_broken_file_is_one_sentence(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.safetensors").write_bytes(content)
    with pytest.raises(BadModelFile, match=r"x\.safetensors"):
        read_lora(tmp_path / "x.safetensors")
