"""Which family a file is of, or what else it is."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from pathlib import Path

import pytest

from tools.random_checkpoint import TINY, UNET, VAE, checkpoint_shapes
from webui.catalog.checkpoints import Checkpoint
from webui.core.errors import BadModelFile
from webui.models.registry import detect, open_checkpoint

P = UNET
TO_K = f"{P}input_blocks.4.1.transformer_blocks.0.attn2.to_k.weight"
CONV_IN = {f"{P}input_blocks.0.0.weight": (320, 4, 3, 3)}


def test_sd1_is_recognised_whatever_its_size() -> None:
    assert detect(checkpoint_shapes(TINY), "x").id == "sd1"


def test_old_text_encoder_names_are_recognised() -> None:
    shapes = {key.replace("text_model.", ""): shape for key, shape in checkpoint_shapes(TINY).items()}
    assert detect(shapes, "x").id == "sd1"


@pytest.mark.parametrize(
    ("family", "shapes"),
    [
        ("sd3", {f"{P}joint_blocks.0.x_block.attn.qkv.weight": (1,), f"{P}x_embedder.proj.weight": (1536, 16, 2, 2)}),
        ("flux", {f"{P}double_blocks.0.img_attn.qkv.weight": (9216, 3072)}),
        ("sdxl", {"conditioner.embedders.1.model.ln_final.weight": (1280,), **CONV_IN}),
        ("sdxl-refiner", {"conditioner.embedders.0.model.ln_final.weight": (1280,), **CONV_IN}),
        ("sd2-turbo", {"conditioner.embedders.0.model.ln_final.weight": (1024,), **CONV_IN}),
        ("sd2", {"cond_stage_model.model.transformer.resblocks.0.attn.in_proj_weight": (3072, 1024), **CONV_IN}),
        ("sd2-depth", {"depth_model.model.pretrained.cls_token": (1,), **CONV_IN}),
        ("alt", {"cond_stage_model.roberta.embeddings.word_embeddings.weight": (1, 1), **CONV_IN}),
        ("sdxl-unet", {TO_K: (640, 2048), **CONV_IN}),
        ("sd2-unet", {TO_K: (640, 1024), **CONV_IN}),
        ("sd1-unet", {TO_K: (640, 768), **CONV_IN}),
    ],
)
def test_families_to_come_are_recognised(family: str, shapes: dict[str, tuple[int, ...]]) -> None:
    assert detect(shapes, "x").id == family


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
        detect({key: (1, 1)}, "x.safetensors")


@pytest.mark.parametrize("shapes", [{}, {"a": (1,), "b": (2,)}, {f"{VAE}decoder.conv_in.weight": (1,)}])
def test_an_unknown_file_is_never_taken_for_sd1(shapes: dict[str, tuple[int, ...]]) -> None:
    with pytest.raises(BadModelFile, match="first tensors are: " + (sorted(shapes)[0] if shapes else "none")):
        detect(shapes, "x")


def write_empty(path: Path, keys: list[str]) -> Path:
    header = json.dumps({key: {"dtype": "F16", "shape": [0], "data_offsets": [0, 0]} for key in keys}).encode()
    path.write_bytes(struct.pack("<Q", len(header)) + header)
    return path


def test_a_family_to_come_is_refused_by_its_name(tmp_path: Path, described: Callable[[Path], Checkpoint]) -> None:
    path = write_empty(tmp_path / "xl.safetensors", ["conditioner.embedders.1.model.ln_final.weight"])
    with pytest.raises(BadModelFile, match="xl.safetensors can't be loaded: SDXL checkpoints are not supported yet"):
        open_checkpoint(described(path))


def test_a_problem_that_the_catalog_saw_is_repeated(tmp_path: Path) -> None:
    with pytest.raises(BadModelFile, match="is a pickle"):
        open_checkpoint(Checkpoint(tmp_path / "x.ckpt", "x.ckpt", 1, 1, problem="x.ckpt is a pickle."))


@pytest.mark.parametrize("garbage", [b"", b"garbage", bytes(5000), b"PK\x03\x04" + bytes(5000)])
def test_garbage_is_one_sentence(garbage: bytes, tmp_path: Path, described: Callable[[Path], Checkpoint]) -> None:
    path = tmp_path / "x.safetensors"
    path.write_bytes(garbage)
    with pytest.raises(BadModelFile, match=r"^x\.safetensors [^\n]*$"):
        open_checkpoint(described(path))
