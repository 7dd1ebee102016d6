"""Networks on a model: what they make of its weights, and that they come off without a trace."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from webui.catalog.checkpoints import Checkpoint
from webui.diffusion.denoiser import Cond
from webui.models.devices import placement_on_cpu
from webui.models.families.base import LoadedModel
from webui.models.memory import arrange
from webui.models.networks.files import LoraFile
from webui.models.networks.matching import Applied, Matched, Strength, match
from webui.models.networks.names import Target
from webui.models.networks.patches import WeightPatches
from webui.models.registry import open_checkpoint

Described = Callable[[Path], Checkpoint]

PROJECT = "lora_unet_down_blocks_1_attentions_0_transformer_blocks_0_attn2_to_k"
CONV = "lora_unet_input_blocks_1_0_in_layers_2"
NORM = "lora_unet_out_0"
TEXT = "lora_te_text_model_encoder_layers_0_mlp_fc1"
RANDOM = torch.Generator().manual_seed(3)


def random(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=RANDOM)


def low_rank(weight: Tensor, rank: int = 2) -> dict[str, Tensor]:
    return {"lora_up": random(weight.shape[0], rank), "lora_down": random(rank, *weight.shape[1:])}


def halves(weight: Tensor) -> tuple[int, int]:
    return weight.shape[0] // 2, weight.shape[1] // 2


KINDS: dict[str, Callable[[Tensor], dict[str, Tensor]]] = {
    "lora": low_rank,
    "loha": lambda w: {
        "hada_w1_a": random(w.shape[0], 2),
        "hada_w1_b": random(2, w.shape[1]),
        "hada_w2_a": random(w.shape[0], 2),
        "hada_w2_b": random(2, w.shape[1]),
    },
    "lokr": lambda w: {"lokr_w1": random(2, 2), "lokr_w2": random(*halves(w))},
    "ia3": lambda w: {"weight": random(w.shape[0]), "on_input": torch.tensor(False)},
    "full": lambda w: {"diff": random(*w.shape)},
    "glora": lambda w: {
        "a1": random(2, w.shape[1]),
        "a2": random(w.shape[1], 2),
        "b1": random(2, w.shape[1]),
        "b2": random(w.shape[0], 2),
    },
    "oft": lambda w: {"oft_blocks": random(w.shape[0] // 8, 8, 8)},
    "boft": lambda w: {"oft_blocks": random(2, w.shape[0] // 8, 8, 8)},
    "dora": lambda w: low_rank(w) | {"dora_scale": random(w.shape[0], 1)},
}


@pytest.fixture
def patches(model: LoadedModel) -> WeightPatches:
    return WeightPatches(model)


def module(patches: WeightPatches, name: str) -> nn.Module:
    return target_of(patches, name).module


def target_of(patches: WeightPatches, name: str) -> Target:
    target = patches.table.find(name)
    assert target is not None
    return target


def weight_of(patches: WeightPatches, name: str) -> Tensor:
    weight = module(patches, name).weight
    assert isinstance(weight, Tensor)
    return weight.detach()


def network(patches: WeightPatches, **modules: dict[str, Tensor]) -> Matched:
    return match(LoraFile("x", modules), patches.table)


def parameters(model: LoadedModel) -> dict[str, nn.Parameter]:
    parts = {"unet": model.unet, **{encoder.name: encoder.module for encoder in model.text_encoders}}
    return {f"{part}.{name}": value for part, module in parts.items() for name, value in module.named_parameters()}


def answer_of(patches: WeightPatches, name: str) -> Tensor:
    """What a linear layer makes of one question, always the same."""
    target = module(patches, name)
    question = torch.randn(2, 7, weight_of(patches, name).shape[1], generator=torch.Generator().manual_seed(7))
    with torch.no_grad():
        answer: Tensor = target(question.to(weight_of(patches, name).dtype))
    return answer


def digest(model: LoadedModel) -> str:
    found = hashlib.sha256()
    for name, value in parameters(model).items():
        found.update(name.encode() + value.detach().float().numpy().tobytes())
    return found.hexdigest()


@pytest.mark.parametrize("kind", KINDS)
def test_the_weight_is_the_merged_one(patches: WeightPatches, kind: str) -> None:
    before = weight_of(patches, PROJECT).clone()
    wanted = network(patches, **{PROJECT: KINDS[kind](before)})
    (delta,) = wanted.deltas.values()
    difference = delta.of_weight(before)
    assert difference is not None
    patches.apply([Applied(wanted, Strength(unet=0.7))])
    expected = before.double() + 0.7 * difference.double()
    assert torch.allclose(weight_of(patches, PROJECT).double(), expected, rtol=1e-5, atol=1e-5)
    patches.remove()
    assert torch.equal(weight_of(patches, PROJECT), before)


@pytest.mark.parametrize("kind", ["lora", "loha", "dora"])
def test_what_the_network_says_is_what_a_merged_one_says(model: LoadedModel, patches: WeightPatches, kind: str) -> None:
    before = weight_of(patches, PROJECT).clone()
    wanted = network(patches, **{PROJECT: KINDS[kind](before)})
    (delta,) = wanted.deltas.values()
    difference = delta.of_weight(before)
    assert difference is not None
    target = module(patches, PROJECT)
    original = target.weight
    question = random(1, 4, 8, 8), torch.tensor([500.0]), Cond(random(1, 77, model.capabilities.context_width))
    with torch.inference_mode():
        patches.apply([Applied(wanted, Strength())])
        ours = model.network(*question)
        patches.remove()
        target.weight = nn.Parameter(before + difference, requires_grad=False)
        merged = model.network(*question)
        target.weight = original  # type: ignore[assignment]
        assert torch.allclose(ours, merged, rtol=1e-5, atol=1e-5)
        assert not torch.allclose(ours, model.network(*question), rtol=1e-3, atol=1e-3)


def test_everything_comes_off_bit_by_bit_and_the_file_is_never_written(
    model: LoadedModel, patches: WeightPatches, tiny: Path
) -> None:
    before, digest_before, file_before = parameters(model), digest(model), tiny.read_bytes()
    modules = {name: low_rank(weight_of(patches, name)) for name in (PROJECT, CONV, TEXT)}
    modules[NORM] = {"w_norm": random(32), "b_norm": random(32)}
    for number in range(3):
        patches.apply([Applied(network(patches, **modules), Strength(0.3 * number, 1.7))])
    assert digest(model) != digest_before
    patches.remove()
    after = parameters(model)
    assert all(after[name] is value for name, value in before.items())
    assert digest(model) == digest_before
    assert tiny.read_bytes() == file_before


def test_several_networks_add_up_and_their_order_hardly_matters(patches: WeightPatches) -> None:
    before = weight_of(patches, PROJECT).clone()
    items = [Applied(network(patches, **{PROJECT: low_rank(before, 2 + n)}), Strength(unet=0.3 + n)) for n in range(3)]
    expected = before.double()
    for item in items:
        (delta,) = item.network.deltas.values()
        difference = delta.of_weight(before)
        assert difference is not None
        expected = expected + difference.double() * item.strength.unet
    for order in (items, items[::-1]):
        patches.apply(order)
        assert torch.allclose(weight_of(patches, PROJECT).double(), expected, atol=1e-4)
    patches.remove()


def test_what_multiplies_the_weight_sees_what_came_before_it(patches: WeightPatches) -> None:
    before, double = weight_of(patches, PROJECT).clone(), torch.tensor(False)
    added = network(patches, **{PROJECT: {"diff": random(*before.shape)}})
    doubled = network(patches, **{PROJECT: {"weight": torch.ones(before.shape[0]), "on_input": double}})
    patches.apply([Applied(added, Strength()), Applied(doubled, Strength())])
    (delta,) = added.deltas.values()
    assert torch.allclose(weight_of(patches, PROJECT), 2 * (before + delta.of_weight(before)), atol=1e-5)
    patches.remove()


def test_text_and_picture_have_their_own_strength(patches: WeightPatches) -> None:
    modules = {name: low_rank(weight_of(patches, name)) for name in (PROJECT, TEXT)}
    before = {name: answer_of(patches, name) for name in modules}
    patches.apply([Applied(network(patches, **modules), Strength(text=0.0, unet=1.0))])
    assert torch.equal(answer_of(patches, TEXT), before[TEXT])
    assert not torch.equal(answer_of(patches, PROJECT), before[PROJECT])
    patches.apply([Applied(network(patches, **modules), Strength(text=1.0, unet=0.0))])
    assert not torch.equal(answer_of(patches, TEXT), before[TEXT])
    assert torch.equal(answer_of(patches, PROJECT), before[PROJECT])
    patches.remove()


@pytest.mark.parametrize("strengths", [(0.7,), (0.7, 0.7), (0.7, -1.2)])
def test_low_rank_networks_on_text_are_computed_beside_the_weight(
    patches: WeightPatches, strengths: tuple[float, ...]
) -> None:
    before, bare = weight_of(patches, TEXT), answer_of(patches, TEXT)
    modules = [low_rank(before, 2 + n) | {"alpha": torch.tensor(1.5)} for n in range(len(strengths))]
    items = [
        Applied(network(patches, **{TEXT: tensors}), Strength(text=strength))
        for tensors, strength in zip(modules, strengths, strict=True)
    ]
    merged = before.clone()
    for item in items:
        (delta,) = item.network.deltas.values()
        difference = delta.of_weight(before)
        assert difference is not None
        merged = merged + difference * item.strength.text
    patches.apply(items)
    ours, target = answer_of(patches, TEXT), target_of(patches, TEXT)
    assert weight_of(patches, TEXT).data_ptr() == before.data_ptr()
    patches.remove()
    assert torch.equal(answer_of(patches, TEXT), bare)
    weight = target.weight
    target.put(nn.Parameter(merged, requires_grad=False))
    expected = answer_of(patches, TEXT)
    target.put(weight)
    assert torch.allclose(ours, expected, rtol=1e-5, atol=1e-5)


def test_networks_on_text_that_are_more_than_low_rank_are_merged(patches: WeightPatches) -> None:
    before = weight_of(patches, TEXT).clone()
    low, tripled = low_rank(before), {"weight": torch.full((before.shape[0],), 2.0), "on_input": torch.tensor(False)}
    both = [Applied(network(patches, **{TEXT: tensors}), Strength()) for tensors in (low, tripled)]
    patches.apply(both[:1])
    alone = answer_of(patches, TEXT)
    patches.apply(both)
    difference = both[0].network.deltas[target_of(patches, TEXT)].of_weight(before)
    assert torch.allclose(weight_of(patches, TEXT), 3 * (before + difference), atol=1e-5)
    patches.apply(both[:1])
    assert torch.equal(answer_of(patches, TEXT), alone)
    patches.remove()
    assert torch.equal(weight_of(patches, TEXT), before)


def test_the_same_set_again_is_no_work(patches: WeightPatches) -> None:
    wanted = [Applied(network(patches, **{PROJECT: low_rank(weight_of(patches, PROJECT))}), Strength())]
    patches.apply(wanted)
    target = module(patches, PROJECT)
    kept, version = target.weight, target.weight._version
    patches.apply(list(wanted))
    assert target.weight is kept
    assert kept._version == version
    patches.remove()


def test_a_set_that_was_on_before_comes_back_without_being_computed(patches: WeightPatches) -> None:
    bare = weight_of(patches, PROJECT).clone()
    first = [
        Applied(network(patches, **{name: low_rank(weight_of(patches, name)) for name in (PROJECT, TEXT)}), Strength())
    ]
    biased = {"diff": random(*bare.shape), "diff_b": random(bare.shape[0])}
    second = [Applied(network(patches, **{PROJECT: biased, "lora_unet_out_0": {"diff_b": random(5)}}), Strength())]
    seen = []
    for _ in range(2):
        for wanted in (first, second, []):
            patches.apply(wanted)
            target = module(patches, PROJECT)
            seen.append((target.weight, target.bias, target.weight._version, answer_of(patches, TEXT), patches.misfits))
    for before, now in zip(seen[:3], seen[3:], strict=True):
        assert now[0] is before[0], "the very parameter, not a new one"
        assert now[1] is before[1]
        assert now[2] == before[2], "nothing was written into it"
        assert torch.equal(now[3], before[3])
        assert now[4] == before[4]
    assert not torch.equal(seen[0][3], seen[1][3])
    assert seen[1][4] == {"x": 1}
    assert torch.equal(weight_of(patches, PROJECT), bare)
    patches.release()
    patches.apply(second)
    assert module(patches, PROJECT).weight is not seen[1][0], "it was let go of"
    assert torch.equal(weight_of(patches, PROJECT), seen[1][0])
    assert torch.equal(seen[3][0], bare + first[0].network.deltas[target_of(patches, PROJECT)].of_weight(bare))
    patches.remove()


def test_of_sets_that_are_off_only_as_many_are_kept_as_the_limit_allows(model: LoadedModel) -> None:
    size = target_of(WeightPatches(model), PROJECT).weight.nbytes
    patches = WeightPatches(model, kept_bytes=2 * size)
    sets = [
        [Applied(network(patches, **{PROJECT: low_rank(weight_of(patches, PROJECT))}), Strength())] for _ in range(4)
    ]
    made = []
    for wanted in (*sets, sets[2], sets[1], sets[0]):
        patches.apply(wanted)
        made.append(module(patches, PROJECT).weight)
    assert made[3] is made[0], "the oldest one's memory is used again"
    assert made[4] is made[2]
    assert made[5] is made[1]
    expected = WeightPatches(model, kept_bytes=0)
    now = weight_of(patches, PROJECT).clone()
    patches.remove()
    expected.apply(sets[0])
    assert torch.equal(weight_of(expected, PROJECT), now)
    expected.apply(sets[1])
    other = module(expected, PROJECT).weight
    expected.apply(sets[0])
    assert module(expected, PROJECT).weight is other, "nothing is kept, so the memory is the same"
    assert torch.equal(weight_of(expected, PROJECT), now)
    expected.remove()


@pytest.mark.parametrize("kept", [0.0, 1.5, 9.0])
def test_sets_are_the_same_whatever_memory_was_made_ready_for_them(narrow: LoadedModel, kept: float) -> None:
    size = sum(target_of(WeightPatches(narrow), name).weight.nbytes for name in (PROJECT, CONV))
    patches, plain = WeightPatches(narrow, kept_bytes=int(kept * size)), WeightPatches(narrow, kept_bytes=0)
    names = [(PROJECT, CONV), (PROJECT,), (CONV,), (PROJECT, CONV), (), (PROJECT, CONV)]
    sets = [
        [Applied(network(patches, **{name: low_rank(weight_of(patches, name)) for name in some}), Strength(unet=0.3))]
        for some in names
    ]
    ours = []
    for wanted in (*sets, *sets):
        patches.apply(wanted)
        ours.append([weight_of(patches, name).clone() for name in (PROJECT, CONV)])
        time.sleep(0.02)  # in which memory is made ready
    patches.remove()
    for wanted, (project, conv) in zip((*sets, *sets), ours, strict=True):
        plain.apply(wanted)
        assert torch.equal(weight_of(plain, PROJECT), project)
        assert torch.equal(weight_of(plain, CONV), conv)
    plain.remove()


def test_a_bias_stays_when_the_weight_no_longer_changes(patches: WeightPatches) -> None:
    before, change = weight_of(patches, PROJECT), random(weight_of(patches, PROJECT).shape[0])
    item = network(patches, **{PROJECT: {"diff": random(*before.shape)}})
    patches.apply([Applied(item, Strength())])
    patches.apply([Applied(network(patches, **{PROJECT: {"diff_b": change}}), Strength())])
    assert torch.equal(weight_of(patches, PROJECT), before)
    assert torch.equal(module(patches, PROJECT).bias, change)
    patches.remove()


def test_biases_are_added_also_where_there_was_none(patches: WeightPatches) -> None:
    target = module(patches, PROJECT)
    assert target.bias is None
    change = random(weight_of(patches, PROJECT).shape[0])
    patches.apply([Applied(network(patches, **{PROJECT: {"diff_b": change}}), Strength(unet=0.5))])
    assert torch.allclose(target.bias, change * 0.5)
    patches.remove()
    assert target.bias is None


def test_what_does_not_fit_is_counted_and_left_out(patches: WeightPatches) -> None:
    before = weight_of(patches, PROJECT).clone()
    modules = {
        PROJECT: {"lora_up": random(3, 2), "lora_down": random(2, 3)},
        TEXT: low_rank(weight_of(patches, TEXT)),
        "lora_unet_nowhere": low_rank(before),
        CONV: {"mystery": before},
        NORM: {"diff_b": random(5)},
    }
    found = network(patches, **modules)
    assert (found.unmatched, found.misfits) == (("lora_unet_nowhere",), (CONV,))
    patches.apply([Applied(found, Strength())])
    assert patches.misfits == {"x": 2}
    assert torch.equal(weight_of(patches, PROJECT), before)
    patches.remove()


def test_an_error_in_between_leaves_the_bare_model(model: LoadedModel, patches: WeightPatches) -> None:
    before = digest(model)
    broken = network(patches, **{CONV: low_rank(weight_of(patches, CONV)), PROJECT: low_rank(before_weight(patches))})
    last = list(broken.deltas)[-1]
    object.__setattr__(broken.deltas[last], "up", None)
    with pytest.raises(AttributeError):
        patches.apply([Applied(broken, Strength())])
    assert digest(model) == before
    assert patches.active == ()


def before_weight(patches: WeightPatches) -> Tensor:
    return weight_of(patches, PROJECT)


@pytest.fixture(scope="module")
def narrow(tiny: Path, described: Described) -> LoadedModel:
    """The tiny checkpoint as CPUs with bf16 have it: convolutions in channels_last."""
    return open_checkpoint(described(tiny)).load(placement_on_cpu(torch.bfloat16))


def test_bf16_weights_are_rounded_once_and_keep_their_layout(narrow: LoadedModel) -> None:
    patches = WeightPatches(narrow)
    for name in (PROJECT, CONV):
        original = weight_of(patches, name)
        items = [Applied(network(patches, **{name: low_rank(original)}), Strength(unet=n + 0.1)) for n in range(3)]
        exact = original.double()
        for item in items:
            (delta,) = item.network.deltas.values()
            difference = delta.of_weight(original.float())
            assert difference is not None
            exact = exact + difference.double() * item.strength.unet
        patches.apply(items)
        ours = weight_of(patches, name)
        assert ours.dtype == torch.bfloat16
        assert ours.stride() == original.stride()
        factors = 2**-7 * 3 * (exact - original).abs().max()
        assert ((ours.double() - exact).abs() <= 2**-8 * exact.abs() + factors).all()
        patches.remove()
        assert torch.equal(weight_of(patches, name), original)


def test_weights_stored_in_8_bits_take_networks_and_give_them_back(tiny: Path, described: Described) -> None:
    stored = open_checkpoint(described(tiny)).load(placement_on_cpu(torch.float32))
    placement = replace(stored.placement, storage=torch.float8_e4m3fn)
    arrange(stored.parts, placement)
    patches = WeightPatches(stored)
    original = weight_of(patches, PROJECT)
    before = original.float().clone()
    question = random(1, 4, 8, 8), torch.tensor([500.0]), Cond(random(1, 77, stored.capabilities.context_width))
    with torch.inference_mode():
        bare = stored.network(*question)
    wanted = network(patches, **{PROJECT: low_rank(original), CONV: low_rank(weight_of(patches, CONV))})
    patches.apply([Applied(wanted, Strength())])
    assert weight_of(patches, PROJECT).dtype == torch.float8_e4m3fn
    with torch.inference_mode():
        assert not torch.allclose(stored.network(*question), bare, atol=1e-3)
    patches.remove()
    assert torch.equal(weight_of(patches, PROJECT).float(), before)
    with torch.inference_mode():
        assert torch.equal(stored.network(*question), bare)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no second device")
def test_a_model_that_moved_meanwhile_gets_its_weights_where_it_is_now(narrow: LoadedModel) -> None:
    patches = WeightPatches(narrow)
    original = weight_of(patches, PROJECT).clone()
    patches.apply([Applied(network(patches, **{PROJECT: low_rank(original)}), Strength())])
    module(patches, PROJECT).to("cuda")
    patches.remove()
    assert weight_of(patches, PROJECT).device.type == "cuda"
    module(patches, PROJECT).to("cpu")
    assert torch.equal(weight_of(patches, PROJECT), original)
