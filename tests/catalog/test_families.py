"""Which family a file is of, or what else it is; what it can do, read from its header."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tools.random_checkpoint import TINY, UNET, VAE, checkpoint_shapes
from webui.catalog.families import detect_family, read_capabilities
from webui.catalog.model_hints import Hints
from webui.core.capabilities import Capabilities
from webui.core.errors import BadModelFile

P = UNET
TO_K = f"{P}input_blocks.4.1.transformer_blocks.0.attn2.to_k.weight"
CONV_IN = {f"{P}input_blocks.0.0.weight": (320, 4, 3, 3)}
NOTHING = Hints()
VECTOR = {f"{P}label_emb.0.0.weight": (1536, 2560)}


def test_sd1_is_recognised_whatever_its_size() -> None:
    assert detect_family(checkpoint_shapes(TINY), "x").id == "sd1"


def test_old_text_encoder_names_are_recognised() -> None:
    shapes = {key.replace("text_model.", ""): shape for key, shape in checkpoint_shapes(TINY).items()}
    assert detect_family(shapes, "x").id == "sd1"


@pytest.mark.parametrize(
    ("family", "shapes"),
    [
        ("sd3", {f"{P}joint_blocks.0.x_block.attn.qkv.weight": (1,), f"{P}x_embedder.proj.weight": (1536, 16, 2, 2)}),
        ("flux", {f"{P}double_blocks.0.img_attn.qkv.weight": (9216, 3072)}),
        (
            "chroma",
            {f"{P}double_blocks.0.img_attn.qkv.weight": (1,), f"{P}distilled_guidance_layer.norms.0.scale": (1,)},
        ),
        ("sdxl", {"conditioner.embedders.1.model.ln_final.weight": (1280,), **CONV_IN}),
        ("sdxl-refiner", {"conditioner.embedders.0.model.ln_final.weight": (1280,), **CONV_IN, **VECTOR}),
        ("sd2-turbo", {"conditioner.embedders.0.model.ln_final.weight": (1024,), **CONV_IN}),
        ("sd2", {"cond_stage_model.model.transformer.resblocks.0.attn.in_proj_weight": (3072, 1024), **CONV_IN}),
        ("sd2-depth", {"depth_model.model.pretrained.cls_token": (1,), **CONV_IN}),
        ("alt", {"cond_stage_model.roberta.embeddings.word_embeddings.weight": (1, 1), **CONV_IN}),
        ("sdxl-unet", {TO_K: (640, 2048), **CONV_IN}),
        ("sd2-unet", {TO_K: (640, 1024), **CONV_IN}),
        ("sd1-unet", {TO_K: (640, 768), **CONV_IN}),
    ],
)
def test_every_family_is_recognised(family: str, shapes: dict[str, tuple[int, ...]]) -> None:
    assert detect_family(shapes, "x").id == family


@pytest.mark.parametrize(
    ("key", "said"),
    [
        ("lora_unet_down_blocks_0_attentions_0_proj_in.lora_down.weight", "a LoRA"),
        ("control_model.input_hint_block.0.weight", "a ControlNet"),
        ("emb_params", "an embedding"),
        ("decoder.up.0.block.0.conv1.weight", "a VAE"),
        ("down_blocks.0.resnets.0.conv1.weight", "a diffusers U-Net"),
    ],
)
def test_other_files_are_called_by_name(key: str, said: str) -> None:
    with pytest.raises(BadModelFile, match=f"x.safetensors is not a checkpoint but {said}"):
        detect_family({key: (1, 1)}, "x.safetensors")


@pytest.mark.parametrize("shapes", [{}, {"a": (1,), "b": (2,)}, {f"{VAE}decoder.conv_in.weight": (1,)}])
def test_an_unknown_file_is_never_taken_for_sd1(shapes: dict[str, tuple[int, ...]]) -> None:
    with pytest.raises(BadModelFile, match="first tensors are: " + (sorted(shapes)[0] if shapes else "none")):
        detect_family(shapes, "x")


@pytest.mark.parametrize(
    ("key", "how"),
    [("a.weight.quant_state.bitsandbytes__nf4", "bitsandbytes"), ("a.qweight", "GPTQ")],
)
def test_files_quantised_by_others_are_refused_by_name(key: str, how: str) -> None:
    with pytest.raises(BadModelFile, match=f"x is quantised .{how}."):
        detect_family({key: (1,), **checkpoint_shapes(TINY)}, "x")


def capabilities(hints: Hints = NOTHING, **layout: object) -> Capabilities:
    shapes = checkpoint_shapes(replace(TINY, **layout))
    return read_capabilities(detect_family(shapes, "x"), shapes, hints, "x")


def test_capabilities_are_read_from_shapes_and_hints() -> None:
    assert capabilities().prediction == "eps"
    assert capabilities().native_size == 512
    assert capabilities().context_width == TINY.text_width
    assert capabilities(Hints(prediction="v", native_size=64)).prediction == "v"
    assert capabilities(Hints(native_size=64)).native_size == 64
    assert capabilities(in_channels=9).input_kind == "inpaint"
    assert capabilities(in_channels=8).input_kind == "edit"


@pytest.mark.parametrize("family", ["flux", "alt", "sd1-unet", "sd2-depth"])
def test_families_that_cant_be_loaded_say_so(family: str) -> None:
    from webui.catalog.families import FAMILIES

    found = next(item for item in FAMILIES if item.id == family)
    with pytest.raises(BadModelFile, match="x (can't be loaded|holds the U-Net alone)"):
        read_capabilities(found, {}, Hints(), "x")
