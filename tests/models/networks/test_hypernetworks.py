"""Hypernetworks: built as their file says, in front of keys and values, and gone afterwards."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from webui.core.errors import BadModelFile
from webui.diffusion.denoiser import Cond
from webui.models.families.base import LoadedModel
from webui.models.networks.hypernetworks import read_hypernetwork

WIDTH = 32


def states(width: int, structure: list[float], norms: bool = False, seed: int = 0) -> dict[str, Tensor]:
    """Weights as the trainer of hypernetworks names them, without activation or dropout."""
    random, found, index = torch.Generator().manual_seed(seed), {}, 0
    for inner, outer in zip(structure, structure[1:], strict=False):
        sizes = int(width * inner), int(width * outer)
        found[f"linear.{index}.weight"] = torch.randn(sizes[1], sizes[0], generator=random) * 0.3
        found[f"linear.{index}.bias"] = torch.randn(sizes[1], generator=random)
        index += 1
        if norms:
            found[f"linear.{index}.weight"], found[f"linear.{index}.bias"] = torch.rand(sizes[1]), torch.rand(sizes[1])
            index += 1
    return found


def saved(path: Path, pairs: dict[int, tuple[dict[str, Tensor], dict[str, Tensor]]], **told: Any) -> Path:
    torch.save({"step": 1, "name": "h", **told, **pairs}, path)
    return path


def test_a_plain_network_is_two_linear_layers(tmp_path: Path) -> None:
    keys, values = states(WIDTH, [1, 2, 1]), states(WIDTH, [1, 2, 1], seed=1)
    found = read_hypernetwork(saved(tmp_path / "h.pt", {WIDTH: (keys, values)}))
    x = torch.randn(2, 5, WIDTH)
    for network, state in zip(found.pairs[WIDTH], (keys, values), strict=True):
        hidden = x @ state["linear.0.weight"].T + state["linear.0.bias"]
        assert torch.allclose(network(x), hidden @ state["linear.1.weight"].T + state["linear.1.bias"], atol=1e-5)


@pytest.mark.parametrize("output", [True, False, None])
def test_activation_norm_and_dropout_count_as_layers(tmp_path: Path, output: bool | None) -> None:
    layers = [nn.Linear(WIDTH, 2 * WIDTH), nn.Hardswish(), nn.LayerNorm(2 * WIDTH), nn.Dropout(0.3)]
    layers += [nn.Linear(2 * WIDTH, WIDTH), *([] if output is False else [nn.Hardswish()]), nn.LayerNorm(WIDTH)]
    trained = nn.Sequential(*layers).eval()
    state = {f"linear.{key}": value for key, value in trained.state_dict().items()}
    told = {"layer_structure": [1, 2, 1], "activation_func": "swish", "is_layer_norm": True, "activate_output": output}
    path = saved(tmp_path / "h.pt", {WIDTH: (state, state)}, **told, dropout_structure=[0, 0.3, 0])
    x = torch.randn(3, WIDTH)
    network, _ = read_hypernetwork(path).pairs[WIDTH]
    assert torch.allclose(network(x), trained(x), atol=1e-6)


def test_the_first_versions_names_are_read(tmp_path: Path) -> None:
    state = {
        key.replace("linear.0", "linear1").replace("linear.1", "linear2"): v for key, v in states(8, [1, 2, 1]).items()
    }
    assert set(read_hypernetwork(saved(tmp_path / "h.pt", {8: (state, state)})).pairs) == {8}


def test_keys_and_values_read_the_shifted_context_and_only_inside(model: LoadedModel, tmp_path: Path) -> None:
    width = model.capabilities.context_width
    keys, values = states(width, [1, 2, 1]), states(width, [1, 2, 1], seed=1)
    found = read_hypernetwork(saved(tmp_path / "h.pt", {width: (keys, values), 96: (states(96, [1, 2, 1]),) * 2}))
    read: dict[str, Tensor] = {}
    attention = model.unet.mid_block.attentions[0].transformer_blocks[0].attn2
    handles = []
    for role in ("to_k", "to_v", "to_q"):

        def see(module: nn.Module, arguments: tuple[Tensor], output: Tensor, role: str = role) -> None:
            read[role] = arguments[0].clone()

        handles.append(getattr(attention, role).register_forward_hook(see))
    context = torch.randn(1, 77, width)
    question = torch.randn(1, 4, 8, 8), torch.tensor([300.0]), Cond(context)
    with torch.inference_mode():
        before = model.network(*question)
        assert torch.equal(read["to_k"], context)
        with found.attached(model.unet, 0.5) as count:
            inside = model.network(*question)
        assert count > 0
        for role, network in zip(("to_k", "to_v"), found.pairs[width], strict=True):
            assert torch.allclose(read[role], context + 0.5 * network(context), atol=1e-6)
        assert not torch.allclose(inside, before, atol=1e-4)
        assert torch.equal(model.network(*question), before)
    for handle in handles:
        handle.remove()


def test_several_compose_in_their_order(model: LoadedModel, tmp_path: Path) -> None:
    width = model.capabilities.context_width
    files = [saved(tmp_path / f"{n}.pt", {width: (states(width, [1, 2, 1], seed=n),) * 2}) for n in range(2)]
    first, second = (read_hypernetwork(path) for path in files)
    layer = model.unet.mid_block.attentions[0].transformer_blocks[0].attn2.to_k
    context = torch.randn(1, 77, width)
    with torch.inference_mode(), first.attached(model.unet, 1.0), second.attached(model.unet, 0.3):
        once = context + first.pairs[width][0](context)
        twice = once + 0.3 * second.pairs[width][0](once)
        assert torch.allclose(layer(context), nn.functional.linear(twice, layer.weight), atol=1e-5)


BROKEN: dict[str, dict[str, Any]] = {
    "structure of text": {"layer_structure": "long"},
    "structure without end": {"layer_structure": [1] * 1000},
    "huge layers": {"layer_structure": [1, 1e9, 1]},
    "open ends": {"layer_structure": [2, 1]},
    "unknown activation": {"activation_func": "os.system"},
    "activation of numbers": {"activation_func": 3},
    "layers missing": {"layer_structure": [1, 2, 2, 1]},
    "norms missing": {"is_layer_norm": True},
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_file_that_contradicts_itself_is_one_sentence(tmp_path: Path, name: str) -> None:
    state = states(8, [1, 2, 1])
    with pytest.raises(BadModelFile, match=r"h\.pt"):
        read_hypernetwork(saved(tmp_path / "h.pt", {8: (state, state)}, **BROKEN[name]))


@pytest.mark.parametrize("pairs", [{}, {8: ({},)}, {8: ({}, {}, {})}, {8: (1, 2)}])
def test_what_is_no_hypernetwork_is_said(tmp_path: Path, pairs: dict[int, Any]) -> None:
    with pytest.raises(BadModelFile, match=r"h\.pt"):
        read_hypernetwork(saved(tmp_path / "h.pt", pairs))
