"""VAE files in every layout, in a model's place of its own; TAESD; half precision and memory that run out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers.models.autoencoders.autoencoder_tiny import AutoencoderTiny
from safetensors.torch import load_file, save_file
from torch import Tensor

from tests.tiny import tiny_checkpoint
from tools.random_checkpoint import TINY
from webui.catalog.vaes import VaeFile, VaeUse
from webui.core.errors import BadModelFile, NotFound
from webui.diffusion.denoiser import NotANumber
from webui.models.families.base import LoadedModel
from webui.models.ldm_vae import ldm_vae_keys, read_vae_layout
from webui.models.tiny_vae import open_tiny
from webui.models.vae import TILES, Vae
from webui.models.vae_shelf import VaeShelf, open_vae

PREFIX = "first_stage_model."
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Tensor]:
    """An LDM VAE without prefix, other than the tiny model's own."""
    file = tiny_checkpoint(tmp_path_factory.mktemp("other"), seed=7)
    return {key.removeprefix(PREFIX): value for key, value in load_file(file).items() if key.startswith(PREFIX)}


def as_diffusers(weights: Mapping[str, Tensor], model: LoadedModel, old: bool = False) -> dict[str, Tensor]:
    """The same weights under diffusers' names; old: attention as it was called before version 0.15."""
    shapes = {key: tuple(value.shape) for key, value in weights.items()}
    wanted = model.vae.module.state_dict()
    keys = ldm_vae_keys(read_vae_layout(shapes, "", "x"), wanted, "", shapes)
    renamed = {key: weights[stored].reshape(wanted[key].shape) for key, stored in keys.items()}
    if not old:
        return renamed
    names = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    for new, before in names.items():
        renamed = {key.replace(f".{new}.", f".{before}."): value for key, value in renamed.items()}
    return renamed


LAYOUTS = ["ldm", "ldm with prefix", "ldm in a pickle", "diffusers", "diffusers of old"]


def write(layout: str, weights: Mapping[str, Tensor], model: LoadedModel, folder: Path) -> Path:
    if layout == "ldm in a pickle":
        torch.save({"state_dict": {**weights, "loss.logvar": torch.zeros(1)}}, folder / "a.vae.pt")
        return folder / "a.vae.pt"
    prefix = PREFIX if layout == "ldm with prefix" else ""
    named = {f"{prefix}{key}": value for key, value in weights.items()}
    if layout.startswith("diffusers"):
        named = as_diffusers(weights, model, old=layout.endswith("old"))
    save_file({key: value.contiguous() for key, value in named.items()}, folder / "a.safetensors")
    return folder / "a.safetensors"


def file_at(path: Path) -> VaeFile:
    stat = path.stat()
    return VaeFile(path, (str(path), stat.st_size, stat.st_mtime_ns))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_decodes_alike(
    layout: str, weights: dict[str, Tensor], model: LoadedModel, tmp_path: Path
) -> None:
    latents = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(1))
    own = model.decode(latents)
    plain = write("ldm", weights, model, tmp_path)
    expected = Vae(open_vae(plain, model.placement, 4, 16), model.vae.scale).decode(latents)
    path = write(layout, weights, model, tmp_path)
    before = model.vae
    with VaeShelf(tmp_path).used(model, VaeUse(file_at(path))):
        assert model.decode(latents).equal(expected)
    assert not own.equal(expected)
    assert model.vae is before
    assert model.decode(latents).equal(own)


def test_a_file_is_opened_once_and_the_last_ones_stay(
    weights: dict[str, Tensor], model: LoadedModel, tmp_path: Path
) -> None:
    paths = []
    for name in "abc":
        save_file(weights, tmp_path / f"{name}.safetensors")
        paths.append(tmp_path / f"{name}.safetensors")
    shelf = VaeShelf(tmp_path)

    def module(path: Path, kept: int = 0) -> Any:
        with shelf.used(model, VaeUse(file_at(path)), kept):
            return model.vae.module

    first = module(paths[0])
    assert module(paths[0]) is first
    module(paths[1])
    assert module(paths[0]) is first
    module(paths[1])
    module(paths[2])
    assert module(paths[0]) is not first
    modules = [module(path, kept=1) for path in paths]
    assert [module(path, kept=1) for path in paths] == modules


def test_a_vae_of_another_family_is_refused_and_the_model_keeps_its_own(model: LoadedModel, tmp_path: Path) -> None:
    save_file({"decoder.conv_in.weight": torch.zeros(64, 16, 3, 3)}, tmp_path / "a.safetensors")
    save_file({"x": torch.zeros(1)}, tmp_path / "b.safetensors")
    before = model.vae
    for name in "ab":
        path = tmp_path / f"{name}.safetensors"
        with pytest.raises(BadModelFile, match=path.name), VaeShelf(tmp_path).used(model, VaeUse(file_at(path))):
            pass
    assert model.vae is before


def test_latents_of_another_depth_are_refused(weights: dict[str, Tensor], model: LoadedModel, tmp_path: Path) -> None:
    path = write("ldm", weights, model, tmp_path)
    with pytest.raises(BadModelFile, match="latents of 4 channels, the checkpoint needs 16"):
        open_vae(path, model.placement, 16, 16)


# TAESD


def taesd(channels: int = 4, seed: int = 0) -> AutoencoderTiny:
    torch.manual_seed(seed)
    return AutoencoderTiny(latent_channels=channels).eval().requires_grad_(False)


def original(whole: AutoencoderTiny, side: str) -> dict[str, Tensor]:
    """Weights of one half as madebyollin's files name them: the decoder's first layer has none."""
    shift = 1 if side == "decoder" else 0
    state = getattr(whole, side).state_dict()
    return {f"{int(key.split('.')[1]) + shift}.{key.split('.', 2)[2]}": value for key, value in state.items()}


def put_taesd(models: Path, whole: AutoencoderTiny, how: str) -> None:
    folder = models / "VAE-taesd"
    folder.mkdir()
    for side in ("encoder", "decoder"):
        weights = original(whole, side)
        if how == "pth":
            torch.save(weights, folder / f"taesd_{side}.pth", _use_new_zipfile_serialization=False)
        elif how == "safetensors":
            save_file(weights, folder / f"taesd_{side}.safetensors")
    if how == "diffusers":
        save_file(whole.state_dict(), folder / "taesd.safetensors")


@pytest.mark.parametrize("how", ["pth", "safetensors", "diffusers"])
def test_taesd_takes_the_place_of_either_side(how: str, model: LoadedModel, tmp_path: Path) -> None:
    whole = taesd()
    put_taesd(tmp_path, whole, how)
    images = torch.rand(2, 3, 64, 64) * 2 - 1
    with VaeShelf(tmp_path).used(model, VaeUse(encoder="TAESD", decoder="TAESD")):
        latents = model.encode(images)
        pictures = model.decode(latents)
    assert latents.allclose(whole.encode(images).latents, atol=1e-5)
    assert pictures.allclose(whole.decode(latents).sample.clamp(-1, 1), atol=1e-5)


def test_one_side_only(model: LoadedModel, tmp_path: Path) -> None:
    put_taesd(tmp_path, taesd(), "pth")
    latents, images = torch.randn(1, 4, 8, 8), torch.rand(1, 3, 64, 64)
    own = model.encode(images, torch.Generator().manual_seed(1))
    with VaeShelf(tmp_path).used(model, VaeUse(decoder="TAESD")):
        assert model.encode(images, torch.Generator().manual_seed(1)).equal(own)
        assert model.decode(latents).equal(model.vae.tiny().decode(latents))


def test_missing_taesd_is_one_sentence(model: LoadedModel, tmp_path: Path) -> None:
    with (
        pytest.raises(NotFound, match=r"put taesd_decoder\.safetensors or \.pth into .*VAE-taesd, or choose Full"),
        VaeShelf(tmp_path).used(model, VaeUse(decoder="TAESD")),
    ):
        pass
    with VaeShelf(tmp_path).used(model, VaeUse()), pytest.raises(NotFound, match="TAESD"):
        model.vae.tiny()


def test_a_broken_taesd_is_refused(tmp_path: Path) -> None:
    weights = original(taesd(), "decoder")
    weights.pop("3.conv.0.weight")
    save_file(weights, tmp_path / "a.safetensors")
    save_file({"x": torch.zeros(1)}, tmp_path / "b.safetensors")
    for name, said in (("a", "incomplete"), ("b", "no plain sequence")):
        with pytest.raises(BadModelFile, match=said):
            open_tiny(tmp_path / f"{name}.safetensors", "decoder", torch.float32, CPU)


def test_taesd_of_sixteen_channels(tmp_path: Path) -> None:
    whole = taesd(channels=16)
    for side in ("encoder", "decoder"):
        save_file(original(whole, side), tmp_path / f"{side}.safetensors")
    latents = open_tiny(tmp_path / "encoder.safetensors", "encoder", torch.float32, CPU).encode(
        torch.zeros(1, 3, 16, 16)
    )
    assert latents.shape == (1, 16, 2, 2)
    assert open_tiny(tmp_path / "decoder.safetensors", "decoder", torch.float32, CPU).decode(latents).shape == (
        1,
        3,
        16,
        16,
    )


# Half precision and memory


@pytest.mark.parametrize(("retry", "dtype"), [("fp32", torch.float32), ("bf16", torch.bfloat16)])
def test_nan_is_computed_again_as_the_settings_say(
    retry: Any, dtype: torch.dtype, model: LoadedModel, weights: dict[str, Tensor], tmp_path: Path
) -> None:
    path = write("ldm", weights, model, tmp_path)
    latents = torch.randn(1, 4, 8, 8) * 1e6  # beyond fp16's range, as SDXL's activations are
    placement = replace(model.placement, vae=torch.float16)
    module = open_vae(path, placement, 4, TINY.vae_groups)
    with pytest.raises(NotANumber, match="no valid picture"):
        Vae(module, 1.0, retry=None).decode(latents)
    vae = Vae(module, 1.0, retry={"fp32": torch.float32, "bf16": torch.bfloat16}[retry])
    assert vae.decode(latents).isfinite().all()
    assert vae.dtype == dtype


@contextmanager
def only_room_for(layer: Any, pixels: int) -> Iterator[list[int]]:
    """Memory for inputs of `layer` of so many pixels; yields the sizes that were tried."""
    tried: list[int] = []

    def ask(module: Any, arguments: tuple[Tensor, ...]) -> None:
        tried.append(arguments[0].shape[-1] * arguments[0].shape[-2])
        if tried[-1] > pixels:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 9 GiB.")

    hook = layer.register_forward_pre_hook(ask)
    try:
        yield tried
    finally:
        hook.remove()


def test_a_picture_that_does_not_fit_is_decoded_in_pieces(model: LoadedModel) -> None:
    vae = model.vae
    latents = torch.randn(1, 4, 40, 48, generator=torch.Generator().manual_seed(2)) * 0.1
    whole = vae.decode(latents)
    with only_room_for(vae.module.decoder.conv_in, (TILES[1] // 8) ** 2) as tried:
        pieces = vae.decode(latents)
    assert tried[:2] == [40 * 48, 40 * 48]
    assert max(tried[2:]) == (TILES[1] // 8) ** 2
    assert pieces.shape == whole.shape
    assert (pieces - whole).abs().mean() < 0.5 * whole.std()  # random weights see further than a piece
    assert not vae.module.use_tiling
    assert vae.decode(latents).equal(whole)


def test_a_picture_that_does_not_fit_is_encoded_in_pieces(model: LoadedModel) -> None:
    images = torch.rand(1, 3, 576, 640, generator=torch.Generator().manual_seed(2)) * 2 - 1
    with only_room_for(model.vae.module.encoder.conv_in, TILES[0] ** 2) as tried:
        assert model.encode(images, torch.Generator().manual_seed(1)).shape == (1, 4, 72, 80)
    assert tried[0] == 576 * 640
    assert max(tried[1:]) <= TILES[0] ** 2


def test_when_nothing_fits_the_error_comes_through(model: LoadedModel) -> None:
    with only_room_for(model.vae.module.decoder.conv_in, 0), pytest.raises(torch.OutOfMemoryError):
        model.decode(torch.randn(1, 4, 8, 8))


def test_other_errors_are_not_taken_for_memory(model: LoadedModel) -> None:
    with pytest.raises(RuntimeError, match="channels"):
        model.decode(torch.randn(1, 5, 8, 8))
