"""SD 1.x from file to pictures."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from diffusers import UNet2DConditionModel
from safetensors.torch import load_file, save_file
from torch.utils._python_dispatch import TorchDispatchMode

from tests.tiny import NATIVE_SIZE, tiny_checkpoint
from tools.random_checkpoint import TEXT, TINY, UNET, VAE
from webui.catalog.checkpoints import Checkpoint
from webui.core.errors import BadModelFile
from webui.diffusion.denoiser import Cond
from webui.models.components import Component, Source
from webui.models.devices import Placement, placement_on_cpu
from webui.models.families.base import LoadedModel
from webui.models.registry import open_checkpoint

CPU32 = placement_on_cpu(torch.float32)
HALF = torch.float16
STORED = Placement(torch.device("cpu"), HALF, HALF, HALF)
Described = Callable[[Path], Checkpoint]


class Operators(TorchDispatchMode):
    """Counts the operators that run, with the shape, dtype and strides of every tensor they get."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: Counter[object] = Counter()

    def __torch_dispatch__(self, operator, types, args=(), kwargs=None):
        given = tuple((tuple(t.shape), t.dtype, t.stride()) for t in args if isinstance(t, torch.Tensor))
        self.calls[str(operator), given] += 1
        return operator(*args, **(kwargs or {}))


@pytest.fixture
def batch() -> tuple[torch.Tensor, torch.Tensor, Cond]:
    random = torch.Generator().manual_seed(1)
    x = torch.randn(2, 4, 8, 8, generator=random)
    return x, torch.tensor([500.25, 3.0]), Cond(torch.randn(2, 77, TINY.text_width, generator=random))


def test_capabilities_come_from_shapes_and_sidecar(model: LoadedModel) -> None:
    said = model.capabilities
    assert (said.prediction, said.context_width, said.native_size) == ("eps", TINY.text_width, NATIVE_SIZE)
    assert (said.latent_channels, said.latent_scale, said.downscale, said.input_kind) == (4, 0.18215, 8, "plain")
    assert model.family == "sd1"
    assert model.text_encoders[0].module.config.num_attention_heads == TINY.text_heads
    assert model.unet.config.norm_num_groups == TINY.unet_groups


def test_the_noise_table_is_the_usual_one(model: LoadedModel) -> None:
    abar = model.alphas_cumprod
    sigmas = ((1 - abar.double()) / abar.double()).sqrt()
    assert abar.dtype == torch.float32
    assert sigmas[[0, 999]].tolist() == pytest.approx([0.0291675, 14.6146421], rel=1e-5)


def test_the_network_answers_in_its_dtype_and_is_not_constant(model: LoadedModel, batch) -> None:
    answer = model.network(*batch)
    assert answer.shape == batch[0].shape
    assert answer.dtype == model.dtype == torch.float32
    assert answer.isfinite().all()
    assert 0.05 < answer.std() < 20
    x, timesteps, cond = batch
    assert not torch.allclose(answer, model.network(x, timesteps + 0.5, cond))
    assert not torch.allclose(answer, model.network(x, timesteps, Cond(cond.context.flip(0))))


def test_gradients_flow_only_where_an_input_asks(model: LoadedModel, batch) -> None:
    assert not model.network(*batch).requires_grad
    x = batch[0].clone().requires_grad_()
    model.network(x, *batch[1:]).sum().backward()
    assert x.grad is not None
    assert all(weight.grad is None for weight in model.unet.parameters())


def test_a_batch_equals_its_parts(model: LoadedModel, batch) -> None:
    whole = model.network(*batch)
    x, timesteps, cond = batch
    rows = [slice(0, 1), slice(1, 2)]
    parts = torch.cat([model.network(x[row], timesteps[row], Cond(cond.context[row])) for row in rows])
    assert torch.allclose(whole, parts, atol=1e-5)


def test_it_is_the_diffusers_unet_at_multiples_of_64(model: LoadedModel, batch) -> None:
    plain = UNet2DConditionModel.from_config(model.unet.config)
    plain.load_state_dict(model.unet.state_dict())
    x, timesteps, cond = batch
    own, theirs = Operators(), Operators()
    with torch.no_grad(), theirs:
        expected = plain(x, timesteps, cond.context, return_dict=False)[0]
    with torch.no_grad(), own:
        answer = model.network(*batch)
    assert torch.equal(answer, expected)
    assert own.calls == theirs.calls, "a step costs what it costs there"


@pytest.mark.parametrize("size", [(9, 13), (11, 17), (1, 1), (8, 25), (5, 8)])
def test_any_latent_size_works(size: tuple[int, int], model: LoadedModel) -> None:
    x = torch.randn(1, 4, *size)
    answer = model.network(x, torch.tensor([10.0]), Cond(torch.randn(1, 77, TINY.text_width)))
    assert answer.shape == x.shape
    assert answer.isfinite().all()


def test_pictures_go_through_the_vae_one_by_one(model: LoadedModel) -> None:
    pictures = torch.rand(2, 3, 64, 40) * 2 - 1
    latents = model.encode(pictures, torch.Generator().manual_seed(5))
    assert latents.shape == (2, 4, 8, 5)
    assert latents.dtype == torch.float32
    decoded = model.decode(latents)
    assert decoded.shape == pictures.shape
    assert decoded.dtype == torch.float32
    assert decoded.isfinite().all()
    assert torch.allclose(decoded[1:], model.decode(latents[1:]), atol=1e-5)


def test_encoding_draws_from_the_given_or_the_global_generator(model: LoadedModel) -> None:
    picture = torch.rand(1, 3, 64, 64) * 2 - 1
    torch.manual_seed(5)
    drawn = model.encode(picture)
    assert torch.equal(drawn, model.encode(picture, torch.Generator().manual_seed(5)))


def test_half_precision_that_overflows_is_decoded_again_in_fp32(tiny: Path, described: Described) -> None:
    loaded = open_checkpoint(described(tiny)).load(replace(CPU32, vae=torch.bfloat16))
    latents = torch.randn(1, 4, 8, 8)
    expected = loaded.decode(latents)
    weight = loaded.vae.module.decoder.conv_out.weight
    loaded.vae.module.decoder.conv_in.register_forward_hook(
        lambda module, args, output: output * float("nan") if output.dtype != torch.float32 else output
    )
    again = loaded.decode(latents)
    assert loaded.vae.dtype == torch.float32
    assert weight.dtype == torch.float32
    assert (again - expected).abs().mean() < 0.05


def test_the_stored_dtype_is_used_without_a_copy(tiny: Path, described: Described) -> None:
    blueprint = open_checkpoint(described(tiny))
    loaded = blueprint.load(STORED)
    stored = blueprint.file.tensors.tensor(f"{UNET}input_blocks.0.0.weight")
    assert loaded.unet.conv_in.weight.data_ptr() == stored.data_ptr()
    assert blueprint.weight_bytes(STORED) == pytest.approx(tiny.stat().st_size, rel=0.02)


def test_bf16_weights_are_the_stored_ones_rounded(tiny: Path, described: Described, model: LoadedModel) -> None:
    loaded = open_checkpoint(described(tiny)).load(placement_on_cpu(torch.bfloat16))
    assert loaded.dtype == torch.bfloat16
    for name, weight in model.unet.named_parameters():
        assert loaded.unet.get_parameter(name).equal(weight.bfloat16()), name
    assert loaded.unet.conv_in.weight.is_contiguous(memory_format=torch.channels_last)
    x, cond = torch.randn(1, 4, 8, 8), Cond(torch.randn(1, 77, TINY.text_width))
    exact = model.network(x, torch.tensor([500.0]), cond)
    rounded = loaded.network(x, torch.tensor([500.0]), cond)
    assert rounded.dtype == torch.bfloat16
    assert not rounded.equal(loaded.network(x, torch.tensor([501.0]), cond)), "timesteps must not be rounded to bf16"
    assert (rounded.float() - exact).std() < 0.05 * exact.std()


def changed(tiny: Path, folder: Path, change: Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]]) -> Path:
    """A copy of the tiny checkpoint with other tensors, sidecar beside it."""
    path = folder / "changed.safetensors"
    save_file({k: v.contiguous() for k, v in change(load_file(tiny)).items()}, path)
    path.with_suffix(".yaml").write_text(tiny.with_suffix(".yaml").read_text())
    return path


EQUAL_CHANGES: dict[str, Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]]] = {
    "old text encoder names": lambda t: {k.replace("text_model.", ""): v for k, v in t.items()},
    "what training leaves behind": lambda t: {
        **t,
        "model_ema.decay": torch.tensor(0.9),
        "model_ema.diffusion_modelinput_blocks00weight": torch.zeros(3),
        "betas": torch.zeros(1000),
        "alphas_cumprod": torch.zeros(1000),
        f"{TEXT}embeddings.position_ids": torch.arange(77).unsqueeze(0),
        "first_stage_model.loss.logvar": torch.zeros(()),
    },
    "linear layers instead of 1x1 convolutions": lambda t: {
        k: v[:, :, 0, 0] if v.ndim == 4 and v.shape[-1] == 1 and ("proj_" in k or "attn_1" in k) else v
        for k, v in t.items()
    },
    "converted VAE attention names": lambda t: {
        k.replace("mid.attn_1.q.", "mid.attn_1.to_q.").replace("attn_1.proj_out.", "attn_1.to_out.0."): v
        for k, v in t.items()
    },
    "stored as fp32": lambda t: {k: v.float() for k, v in t.items()},
}


@pytest.mark.parametrize("change", EQUAL_CHANGES)
def test_variants_of_the_layout_load_the_same_weights(
    change: str, tiny: Path, model: LoadedModel, described: Described, tmp_path: Path
) -> None:
    loaded = open_checkpoint(described(changed(tiny, tmp_path, EQUAL_CHANGES[change]))).load(CPU32)
    for ours, theirs in (
        (loaded.unet, model.unet),
        (loaded.vae.module, model.vae.module),
        (loaded.text_encoders[0].module, model.text_encoders[0].module),
    ):
        for name, weight in theirs.named_parameters():
            assert ours.get_parameter(name).equal(weight), name


BAD_CHANGES: dict[str, tuple[Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]], str]] = {
    "a block is missing": (
        lambda t: {k: v for k, v in t.items() if "output_blocks.7" not in k},
        "incomplete: its U-Net lacks .* tensors .*output_blocks.7",
    ),
    "no VAE": (lambda t: {k: v for k, v in t.items() if not k.startswith(VAE)}, "has no VAE"),
    "no decoder": (lambda t: {k: v for k, v in t.items() if "decoder" not in k}, "lacks .*decoder"),
    "an empty text encoder": (
        lambda t: {k: v for k, v in t.items() if ".layers." not in k},
        "has no text encoder",
    ),
    "a tensor of another shape": (
        lambda t: {**t, f"{UNET}middle_block.0.in_layers.2.weight": torch.zeros(3, 3)},
        "its U-Net has .*middle_block.0.in_layers.2.weight .3, 3. instead of .64, 64, 3, 3.",
    ),
    "a scalar": (lambda t: {**t, f"{UNET}out.2.weight": torch.tensor(1.0)}, "impossible shape"),
    "five channels": (
        lambda t: {**t, f"{UNET}input_blocks.0.0.weight": torch.zeros(32, 5, 3, 3)},
        "depth checkpoint; these are not supported yet",
    ),
    "six channels": (lambda t: {**t, f"{UNET}input_blocks.0.0.weight": torch.zeros(32, 6, 3, 3)}, "takes 6"),
    "no blocks": (
        lambda t: {k: v for k, v in t.items() if ".input_blocks." not in k or ".input_blocks.0." in k},
        "no complete U-Net",
    ),
}


@pytest.mark.parametrize("change", BAD_CHANGES)
def test_incomplete_files_say_what_is_wrong(change: str, tiny: Path, described: Described, tmp_path: Path) -> None:
    alter, said = BAD_CHANGES[change]
    with pytest.raises(BadModelFile, match=said) as error:
        open_checkpoint(described(changed(tiny, tmp_path, alter)))
    assert str(error.value).startswith("changed.safetensors")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(("channels", "kind"), [(4, "plain"), (9, "inpaint"), (8, "edit")])
def test_the_first_convolution_tells_what_the_model_reads_beside_the_latent(
    channels: int, kind: str, tmp_path: Path, described: Described
) -> None:
    blueprint = open_checkpoint(described(tiny_checkpoint(tmp_path, in_channels=channels)))
    assert blueprint.capabilities.input_kind == kind
    x, extra = torch.zeros(1, 4, 8, 8), torch.zeros(1, channels - 4, 8, 8)
    cond = Cond(torch.zeros(1, 77, 32), channels=extra if channels > 4 else None)
    assert blueprint.load(CPU32).network(x, torch.tensor([5.0]), cond).shape == x.shape


def test_text_of_another_width_is_refused(tmp_path: Path, described: Described) -> None:
    tensors = load_file(tiny_checkpoint(tmp_path, "narrow"))
    wide = load_file(tiny_checkpoint(tmp_path, "wide", text_width=64))
    path = tmp_path / "mixed.safetensors"
    save_file({**tensors, **{k: v for k, v in wide.items() if k.startswith(TEXT)}}, path)
    path.with_suffix(".yaml").write_text((tmp_path / "narrow.yaml").read_text())
    with pytest.raises(BadModelFile, match="wants text 32 wide, its text encoder gives 64"):
        open_checkpoint(described(path))


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ("num_heads: 4", "num_heads: 7", "32 channels of the U-Net can't be split into 7 attention heads"),
        ("        norm_num_groups: 16", "        norm_num_groups: 31", "can't be split into 31 norm groups"),
        ("          norm_num_groups: 16", "          norm_num_groups: 31", "of the VAE can't be split into 31"),
        ("num_attention_heads: 4", "num_attention_heads: 5", "of the text encoder can't be split into 5"),
    ],
)
def test_impossible_head_counts_name_the_place_to_mend(
    before: str, after: str, said: str, tmp_path: Path, described: Described
) -> None:
    path = tiny_checkpoint(tmp_path)
    sidecar = path.with_suffix(".yaml")
    sidecar.write_text(
        sidecar.read_text().replace(
            f"\n{before}" if before[0] == " " else before, f"\n{after}" if before[0] == " " else after
        )
    )
    with pytest.raises(BadModelFile, match=said):
        open_checkpoint(described(path))


def test_heads_by_width_and_v_prediction_come_from_the_sidecar(tmp_path: Path, described: Described) -> None:
    path = tiny_checkpoint(tmp_path, prediction="v")
    sidecar = path.with_suffix(".yaml")
    sidecar.write_text(sidecar.read_text().replace("num_heads: 4", "num_head_channels: 16"))
    loaded = open_checkpoint(described(path)).load(CPU32)
    assert loaded.capabilities.prediction == "v"
    assert [block.attentions[0].transformer_blocks[0].attn1.heads for block in loaded.unet.down_blocks[:3]] == [2, 4, 4]


def test_a_component_without_all_its_sources_is_a_fault_of_ours(tiny: Path, described: Described) -> None:
    file = open_checkpoint(described(tiny)).file.tensors
    with pytest.raises(AssertionError):
        Component("thing", torch.nn.Linear(2, 2), {"weight": Source("a")}).check(file)
