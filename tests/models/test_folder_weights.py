"""Models as diffusers saves them: folders that generate what the same weights in one file generate."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from tools.random_checkpoint import TINY_SIZES, write_checkpoint
from webui.catalog.checkpoints import Checkpoint, CheckpointCatalog
from webui.catalog.hashes import HashCache
from webui.catalog.inspection import inspect
from webui.core.errors import BadModelFile
from webui.diffusion.denoiser import Cond
from webui.models.devices import placement_on_cpu
from webui.models.families.base import LoadedModel
from webui.models.registry import open_checkpoint

CPU32 = placement_on_cpu(torch.float32)
Described = Callable[[Path], Checkpoint]
WORDS = 100
CLASSES = {"sd1": "StableDiffusionPipeline", "sdxl": "StableDiffusionXLPipeline"}


def save_folder(model: LoadedModel, folder: Path, kind: str, prediction: str = "epsilon") -> None:
    """Write the parts with diffusers' and transformers' own writers."""
    model.unet.save_pretrained(folder / "unet")
    model.vae.module.save_pretrained(folder / "vae")
    for part, encoder in zip(("text_encoder", "text_encoder_2"), model.text_encoders, strict=False):
        encoder.module.save_pretrained(folder / (part if kind != "sdxl-refiner" else "text_encoder_2"))
    (folder / "scheduler").mkdir()
    (folder / "scheduler" / "scheduler_config.json").write_text(json.dumps({"prediction_type": prediction}))
    (folder / "model_index.json").write_text(json.dumps({"_class_name": CLASSES.get(kind, "Pipeline")}))


def single(folder: Path, kind: str, described: Described) -> LoadedModel:
    path = folder / f"{kind}.safetensors"
    write_checkpoint(path, replace(TINY_SIZES[kind], vocabulary=WORDS))
    return open_checkpoint(described(path)).load(CPU32)


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory, described: Described) -> tuple[Path, LoadedModel]:
    """An SDXL model as a folder, and the model it was written from."""
    folder = tmp_path_factory.mktemp("folders")
    model = single(folder, "sdxl", described)
    save_folder(model, folder / "drawn", "sdxl")
    return folder / "drawn", model


@pytest.mark.parametrize("kind", ["sd1", "sd2", "sdxl-refiner"])
def test_every_family_loads_from_a_folder(kind: str, tmp_path: Path, described: Described) -> None:
    model = single(tmp_path, kind, described)
    save_folder(model, tmp_path / "folder", kind)
    assert_equal(open_checkpoint(described(tmp_path / "folder")).load(CPU32), model)


def assert_equal(ours: LoadedModel, theirs: LoadedModel) -> None:
    assert ours.family == theirs.family
    for a, b in (
        (ours.unet, theirs.unet),
        (ours.vae.module, theirs.vae.module),
        *((x.module, y.module) for x, y in zip(ours.text_encoders, theirs.text_encoders, strict=True)),
    ):
        loaded = a.state_dict()
        for name, weight in b.state_dict().items():
            assert loaded[name].equal(weight), name
    tokens = torch.tensor([[WORDS - 2, 3, 20, *[WORDS - 1] * 74]])
    for x, y in zip(ours.text_encoders, theirs.text_encoders, strict=True):
        assert torch.allclose(x.encode(tokens).vectors, y.encode(tokens).vectors, atol=1e-6)
    said = theirs.capabilities
    random = torch.Generator().manual_seed(1)
    cond = Cond(
        torch.randn(1, 77, said.context_width, generator=random),
        torch.randn(1, said.pooled_width, generator=random) if said.pooled_width else None,
    )
    x, time = torch.randn(1, 4, 8, 8, generator=random), torch.tensor([500.0])
    with torch.inference_mode():
        assert torch.allclose(ours.network(x, time, cond), theirs.network(x, time, cond), atol=1e-5)


def test_sdxl_loads_from_a_folder(saved: tuple[Path, LoadedModel], described: Described) -> None:
    folder, model = saved
    loaded = open_checkpoint(described(folder)).load(CPU32)
    assert_equal(loaded, model)
    assert loaded.capabilities.latent_scale == 0.13025


def test_the_catalog_lists_the_folder_and_tells_what_it_can_do(saved: tuple[Path, LoadedModel], tmp_path: Path) -> None:
    folder, model = saved
    catalog = CheckpointCatalog([folder.parent], HashCache(tmp_path / "hashes.sqlite"))
    family, capabilities = inspect(catalog.find("drawn"))
    assert family.id == "sdxl"
    assert capabilities == model.capabilities


def copied(folder: Path, target: Path) -> Path:
    for file in folder.rglob("*.*"):
        if file.is_file():
            (target / file.relative_to(folder)).parent.mkdir(parents=True, exist_ok=True)
            (target / file.relative_to(folder)).write_bytes(file.read_bytes())
    return target


def test_shards_variants_and_configurations_are_understood(
    saved: tuple[Path, LoadedModel], tmp_path: Path, described: Described
) -> None:
    folder = copied(saved[0], tmp_path / "sharded")
    whole = folder / "unet" / "diffusion_pytorch_model.safetensors"
    tensors = load_file(whole)
    keys = sorted(tensors)
    for number, part in enumerate((keys[::2], keys[1::2]), start=1):
        name = f"diffusion_pytorch_model-0000{number}-of-00002.safetensors"
        save_file({key: tensors[key] for key in part}, folder / "unet" / name)
    whole.unlink()
    vae = folder / "vae" / "diffusion_pytorch_model.safetensors"
    vae.rename(vae.with_name("diffusion_pytorch_model.fp16.safetensors"))
    scheduler = {"prediction_type": "v_prediction", "rescale_betas_zero_snr": True}
    (folder / "scheduler" / "scheduler_config.json").write_text(json.dumps(scheduler))
    model = open_checkpoint(described(folder)).load(CPU32)
    assert model.unet.state_dict()["conv_in.weight"].equal(saved[1].unet.state_dict()["conv_in.weight"])
    assert model.capabilities.prediction == "v"
    assert model.levels.sigma_max > 4000


@pytest.mark.parametrize(
    ("remove", "said"),
    [
        ("unet/diffusion_pytorch_model.safetensors", "no weights in its folder unet"),
        ("vae/diffusion_pytorch_model.safetensors", "no weights in its folder vae"),
        ("text_encoder_2/model.safetensors", "no weights in its folder text_encoder_2"),
    ],
)
def test_an_incomplete_folder_is_one_sentence(
    remove: str, said: str, saved: tuple[Path, LoadedModel], tmp_path: Path, described: Described
) -> None:
    folder = copied(saved[0], tmp_path / "broken")
    (folder / remove).unlink()
    with pytest.raises(BadModelFile, match=said):
        open_checkpoint(described(folder))


@pytest.mark.parametrize("index", ["{", "[1]", '{"_class_name": "FluxPipeline"}'])
def test_other_kinds_of_folders_are_one_sentence(index: str, tmp_path: Path, described: Described) -> None:
    folder = tmp_path / "other"
    (folder / "transformer").mkdir(parents=True)
    (folder / "model_index.json").write_text(index)
    with pytest.raises(BadModelFile, match="other") as error:
        open_checkpoint(described(folder))
    assert "\n" not in str(error.value)
