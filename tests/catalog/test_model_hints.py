"""What shapes can't tell, from the .yaml and the metadata."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from webui.catalog.model_hints import MAX_SIDECAR, Hints, read_hints
from webui.core.errors import BadModelFile

LDM_YAML = """
model:
  base_learning_rate: 1.0e-4
  target: ldm.models.diffusion.ddpm.LatentDiffusion
  params:
    parameterization: "v"
    linear_start: 0.0001
    linear_end: 2e-2
    scale_factor: 0.2
    native_size: 128
    unet_config:
      target: ldm.modules.diffusionmodules.openaimodel.UNetModel
      params: {num_heads: 4, num_head_channels: -1, norm_num_groups: 16, image_size: 32}
    first_stage_config:
      params: {ddconfig: {norm_num_groups: 8}}
    cond_stage_config:
      params: {num_attention_heads: 6}
"""


@pytest.fixture
def sidecar(tmp_path: Path) -> Path:
    return tmp_path / "model.yaml"


def test_the_yaml_says_it_all(sidecar: Path) -> None:
    sidecar.write_text(LDM_YAML)
    assert read_hints("m", {}, sidecar) == Hints("v", 0.0001, 0.02, 0.2, 128, 4, None, 16, 8, 6)


def test_without_anything_nothing_is_said() -> None:
    assert read_hints("m", {"format": "pt"}, None) == Hints()


def test_metadata_speaks_and_the_yaml_wins(sidecar: Path) -> None:
    metadata = {
        "easel": json.dumps({"num_heads": 2, "native_size": 256, "future": 1}),
        "modelspec.prediction_type": "v",
    }
    assert read_hints("m", metadata, None) == Hints("v", native_size=256, num_heads=2)
    sidecar.write_text("model: {params: {native_size: 64, cfg_scale: 4.5}}")
    assert read_hints("m", metadata, sidecar) == Hints("v", native_size=64, num_heads=2, cfg_scale=4.5)
    assert read_hints("m", {"easel": '{"cfg_scale": 5}'}, None) == Hints(cfg_scale=5)


BOMB = "a: &a [x, x]\nb: &b [*a, *a]\nc: [*b, *b]\n"


@pytest.mark.parametrize(
    "text",
    [
        "model: [unclosed",
        "just a sentence",
        "- a\n- list",
        "",
        BOMB,
        "model: !!python/object/apply:os.system ['echo hacked']",
        "[" * 30_000,
        "model: {params: {parameterization: x0}}",
        "model: {params: {native_size: -5}}",
        "model: {params: {native_size: 1.5}}",
        "model: {params: {scale_factor: .inf}}",
        "model: {params: {scale_factor: yes}}",
        "model: {params: {unet_config: {params: {num_heads: [1, 2]}}}}",
        "model: {params: {unet_config: {params: {num_heads: 99999999}}}}",
        f"x: {'9' * 5000}",
        "x: 2024-99-99",
        "a" * (MAX_SIDECAR + 1),
    ],
)
def test_a_broken_yaml_is_one_sentence_and_runs_nothing(text: str, sidecar: Path) -> None:
    sidecar.write_text(text)
    with pytest.raises(BadModelFile, match=r"model\.yaml") as error:
        read_hints("m", {}, sidecar)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 300


@pytest.mark.parametrize("value", ["{", "[1]", "[" * 60_000, '{"num_heads": "many"}', '{"num_heads": NaN}'])
def test_broken_metadata_is_one_sentence(value: str) -> None:
    with pytest.raises(BadModelFile, match="model.safetensors"):
        read_hints("model.safetensors", {"easel": value}, None)
