"""Each kind of network against its formula, written out with loops or numpy's own operations."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from webui.models.networks.deltas import _KINDS, Delta, DoesNotFit, LowRank, Whole, cayley, read_delta
from webui.models.networks.files import ROLES as ROLE_NAMES

OUT, IN, RANK = 12, 8, 3
RANDOM = torch.Generator().manual_seed(7)
LINEAR, CONV = (OUT, IN), (OUT, IN, 3, 3)


def random(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=RANDOM)


def changed(base: Tensor, rank_cut: int | None = None, /, **tensors: Tensor) -> np.ndarray:
    difference = read_delta(tensors).of_weight(base, rank_cut)
    assert difference is not None
    assert difference.shape == base.shape
    assert difference.dtype == torch.float32
    return difference.numpy()


def close(ours: np.ndarray, theirs: np.ndarray | Tensor) -> bool:
    return bool(np.allclose(ours, np.asarray(theirs), rtol=1e-5, atol=1e-5))


def test_lora_is_the_product_times_alpha_by_rank() -> None:
    up, down = random(OUT, RANK), random(RANK, IN)
    expected = np.zeros(LINEAR, dtype=np.float32)
    for rank in range(RANK):
        expected += np.outer(up[:, rank], down[rank])
    weight = random(*LINEAR)
    assert close(changed(weight, lora_up=up, lora_down=down), expected)
    assert close(changed(weight, lora_up=up, lora_down=down, alpha=torch.tensor(1.5)), expected * 0.5)
    assert close(changed(weight, lora_up=up, lora_down=down, alpha=torch.tensor([6.0]).bfloat16()), expected * 2)
    assert close(
        changed(weight, lora_up=up, lora_down=down, alpha=torch.tensor(9.0), scale=torch.tensor(0.1)), expected * 0.1
    )


def test_dyn_uses_the_first_ranks_and_leaves_the_scale() -> None:
    up, down = random(OUT, RANK), random(RANK, IN)
    expected = np.outer(up[:, 0], down[0]) + np.outer(up[:, 1], down[1])
    assert close(changed(random(*LINEAR), 2, lora_up=up, lora_down=down, alpha=torch.tensor(1.5)), expected * 0.5)
    assert close(changed(random(*LINEAR), 99, lora_up=up, lora_down=down), (up @ down).numpy())


def test_locon_is_the_down_convolution_followed_by_the_up_one() -> None:
    up, down = random(OUT, RANK, 1, 1), random(RANK, IN, 3, 3)
    picture = random(1, IN, 6, 6)
    expected = torch.nn.functional.conv2d(torch.nn.functional.conv2d(picture, down), up)
    ours = torch.from_numpy(changed(random(*CONV), lora_up=up, lora_down=down))
    assert torch.allclose(torch.nn.functional.conv2d(picture, ours), expected, atol=1e-4)


def test_a_tucker_core_is_a_convolution_between_the_two() -> None:
    up, mid, down = random(OUT, RANK, 1, 1), random(RANK, RANK, 3, 3), random(RANK, IN, 1, 1)
    picture, conv = random(1, IN, 6, 6), torch.nn.functional.conv2d
    expected = conv(conv(conv(picture, down), mid), up)
    ours = torch.from_numpy(changed(random(*CONV), lora_up=up, lora_down=down, lora_mid=mid))
    assert torch.allclose(conv(picture, ours), expected, atol=1e-4)


def test_a_linear_lora_fits_a_1x1_convolution_and_the_other_way_round() -> None:
    up, down = random(OUT, RANK), random(RANK, IN)
    as_conv = changed(random(OUT, IN, 1, 1), lora_up=up, lora_down=down)
    as_linear = changed(random(OUT, IN), lora_up=up[..., None, None], lora_down=down[..., None, None])
    assert close(as_conv[:, :, 0, 0], as_linear)


def test_an_inpainting_models_further_channels_stay() -> None:
    up, down = random(OUT, RANK, 1, 1), random(RANK, 4, 3, 3)
    ours = changed(random(OUT, 9, 3, 3), lora_up=up, lora_down=down)
    assert close(ours[:, :4], changed(random(OUT, 4, 3, 3), lora_up=up, lora_down=down))
    assert not ours[:, 4:].any()


def test_loha_multiplies_two_products() -> None:
    w1a, w1b, w2a, w2b = random(OUT, RANK), random(RANK, IN), random(OUT, RANK), random(RANK, IN)
    expected = (w1a.numpy() @ w1b.numpy()) * (w2a.numpy() @ w2b.numpy()) * (2 / RANK)
    tensors = {"hada_w1_a": w1a, "hada_w1_b": w1b, "hada_w2_a": w2a, "hada_w2_b": w2b, "alpha": torch.tensor(2.0)}
    assert close(changed(random(*LINEAR), **tensors), expected)


def test_loha_with_cores() -> None:
    factors = [random(RANK, OUT), random(RANK, IN), random(RANK, OUT), random(RANK, IN)]
    cores = [random(RANK, RANK, 3, 3), random(RANK, RANK, 3, 3)]
    products = []
    for core, a, b in ((cores[0], *factors[:2]), (cores[1], *factors[2:])):
        product = np.zeros(CONV, dtype=np.float32)
        for i in range(RANK):
            for j in range(RANK):
                product += np.einsum("o,n,hw->onhw", a[i], b[j], core[i, j])
        products.append(product)
    names = ("hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b")
    tensors = dict(zip(names, factors, strict=True)) | {"hada_t1": cores[0], "hada_t2": cores[1]}
    ours = changed(random(*CONV), **tensors)
    assert np.allclose(ours, products[0] * products[1], rtol=1e-4, atol=1e-4)


def test_lokr_is_a_kronecker_product_with_a_scale_only_when_factored() -> None:
    w1, w2 = random(3, 2), random(4, 4)
    expected = np.kron(w1.numpy(), w2.numpy())
    assert close(changed(random(*LINEAR), lokr_w1=w1, lokr_w2=w2, alpha=torch.tensor(7.0)), expected)
    a, b = random(4, 2), random(2, 4)
    expected = np.kron(w1.numpy(), a.numpy() @ b.numpy()) * (1.0 / 2)
    assert close(changed(random(*LINEAR), lokr_w1=w1, lokr_w2_a=a, lokr_w2_b=b, alpha=torch.tensor(1.0)), expected)
    c, d = random(3, 5), random(5, 2)
    both = {"lokr_w1_a": c, "lokr_w1_b": d, "lokr_w2_a": a, "lokr_w2_b": b, "alpha": torch.tensor(1.0)}
    assert close(changed(random(*LINEAR), **both), np.kron(c.numpy() @ d.numpy(), a.numpy() @ b.numpy()) / 2)


def test_lokr_of_a_convolution() -> None:
    w1, w2 = random(3, 2), random(4, 4, 3, 3)
    ours = changed(random(*CONV), lokr_w1=w1, lokr_w2=w2)
    for row in range(3):
        for column in range(3):
            assert close(ours[:, :, row, column], np.kron(w1.numpy(), w2[:, :, row, column].numpy()))
    core, a, b = random(2, 2, 3, 3), random(2, 4), random(2, 4)
    ours = changed(random(*CONV), lokr_w1=w1, lokr_t2=core, lokr_w2_a=a, lokr_w2_b=b)
    assert close(ours[:, :, 1, 2], np.kron(w1.numpy(), a.numpy().T @ core[:, :, 1, 2].numpy() @ b.numpy()))


def test_ia3_scales_outputs_or_inputs() -> None:
    weight, rows, columns = random(*LINEAR), random(OUT), random(IN)
    no, yes = torch.tensor(False), torch.tensor(True)
    assert close(changed(weight, weight=rows, on_input=no), weight * rows[:, None])
    assert close(changed(weight, weight=columns, on_input=yes), weight * columns)
    kernel = random(*CONV)
    assert close(changed(kernel, weight=columns, on_input=yes), kernel * columns[:, None, None])


def test_full_and_norm_differences_with_their_biases() -> None:
    diff, bias = random(*LINEAR), random(OUT)
    delta = read_delta({"diff": diff, "diff_b": bias})
    assert torch.equal(delta.of_weight(random(*LINEAR)), diff)
    assert torch.equal(delta.of_bias(), bias)
    delta = read_delta({"w_norm": bias, "b_norm": -bias})
    assert torch.equal(delta.of_weight(random(OUT)), bias)
    assert torch.equal(delta.of_bias(), -bias)
    only_bias = read_delta({"diff_b": bias})
    assert isinstance(only_bias, Whole)
    assert only_bias.of_weight(random(*LINEAR)) is None


def test_glora_adds_a_product_and_turns_the_weight() -> None:
    weight, a1, a2 = random(*LINEAR), random(RANK, IN), random(IN, RANK)
    b1, b2 = random(RANK, IN), random(OUT, RANK)
    expected = b2.numpy() @ b1.numpy() + weight.numpy() @ a2.numpy() @ a1.numpy()
    assert close(changed(weight, a1=a1, a2=a2, b1=b1, b2=b2), expected)


def test_oft_turns_blocks_of_rows_and_keeps_their_lengths() -> None:
    weight, blocks = random(*CONV), random(3, 4, 4)
    ours = changed(weight, oft_blocks=blocks) + weight.numpy()
    for block in range(3):
        skew = (blocks[block] - blocks[block].T).numpy()
        turn = (np.eye(4) + skew) @ np.linalg.inv(np.eye(4) - skew)
        rows = weight[4 * block : 4 * block + 4].reshape(4, -1).numpy()
        assert np.allclose(ours[4 * block : 4 * block + 4].reshape(4, -1), turn.T @ rows, atol=1e-4)
    assert np.allclose(np.linalg.norm(ours.reshape(OUT, -1), axis=0), weight.reshape(OUT, -1).norm(dim=0), atol=1e-4)


def test_oft_is_held_to_a_longest_turn_and_rescaled() -> None:
    blocks, rescale = random(3, 4, 4), random(OUT)
    weight, limit = random(*LINEAR), 0.01
    skew = blocks - blocks.transpose(1, 2)
    short = skew * (limit * OUT + 1e-8) / (skew.norm() + 1e-8)
    turn = torch.stack([(torch.eye(4) + q) @ torch.linalg.inv(torch.eye(4) - q) for q in short])
    rows = torch.cat([turn[n].T @ weight[4 * n : 4 * n + 4] for n in range(3)]) * rescale[:, None]
    ours = changed(weight, oft_blocks=blocks, alpha=torch.tensor(limit), rescale=rescale)
    assert np.allclose(ours, rows - weight, atol=1e-5)


def test_old_oft_files_hold_the_turns_themselves() -> None:
    weight, turn = random(*LINEAR), cayley(random(3, 4, 4), 0)
    rows = torch.cat([turn[n].T @ weight[4 * n : 4 * n + 4] for n in range(3)])
    assert close(changed(weight, oft_diag=turn), rows - weight)


def test_boft_is_a_product_of_orthogonal_butterflies() -> None:
    layers, size = 2, 4
    weight, blocks = random(16, IN), random(layers, 4, size, size)
    turn = cayley(blocks, 0).numpy()
    rows = weight.numpy()
    for layer in range(layers):
        reach = 2**layer * size // 2
        order = [
            start + side * reach + step
            for start in range(0, 16, 2 * reach)
            for step in range(reach)
            for side in range(2)
        ]
        moved = np.empty_like(rows)
        for block in range(4):
            places = order[size * block : size * block + size]
            moved[places] = turn[layer, block] @ rows[places]
        rows = moved
    assert np.allclose(changed(weight, oft_blocks=blocks) + weight.numpy(), rows, atol=1e-4)


@pytest.mark.parametrize("stored", ["column", "row", "peft"])
def test_dora_sets_the_lengths_of_rows_or_columns(stored: str) -> None:
    weight, up, down = random(*LINEAR), random(OUT, RANK), random(RANK, IN)
    sizes = random(1, IN) if stored == "column" else random(OUT, 1)
    magnitude = sizes.flatten() if stored == "peft" else sizes
    merged = weight + up @ down * 0.5
    axis = 0 if stored == "column" else 1
    expected = merged * sizes / merged.norm(dim=axis, keepdim=True) - weight
    ours = changed(weight, lora_up=up, lora_down=down, alpha=torch.tensor(1.5), dora_scale=magnitude)
    assert close(ours, expected)


def test_dora_of_a_convolution() -> None:
    weight, up, down = random(*CONV), random(OUT, RANK, 1, 1), random(RANK, IN, 3, 3)
    merged = weight + (up.flatten(1) @ down.flatten(1)).reshape(CONV)
    sizes = random(OUT, 1, 1, 1)
    expected = merged * sizes / merged.flatten(1).norm(dim=1).reshape(-1, 1, 1, 1) - weight
    assert close(changed(weight, lora_up=up, lora_down=down, dora_scale=sizes), expected)


def test_a_dense_or_sparse_addition_to_the_weight() -> None:
    weight, up, down, extra = random(*LINEAR), random(OUT, RANK), random(RANK, IN), random(*LINEAR)
    assert close(changed(weight, lora_up=up, lora_down=down, bias=extra), up @ down + extra)
    sparse = {
        "bias_indices": torch.tensor([[0, 11], [3, 7]]),
        "bias_values": torch.tensor([2.0, -1.0]),
        "bias_size": torch.tensor([OUT, IN]),
    }
    expected = up @ down
    expected[0, 3] += 2
    expected[11, 7] -= 1
    assert close(changed(weight, lora_up=up, lora_down=down, **sparse), expected)


MISFITS: dict[str, dict[str, Tensor]] = {
    "nothing": {},
    "unknown": {"mystery": random(3)},
    "half a lora": {"lora_up": random(OUT, RANK)},
    "other ranks": {"lora_up": random(OUT, 2), "lora_down": random(3, IN)},
    "other size": {"lora_up": random(OUT + 1, RANK), "lora_down": random(RANK, IN)},
    "a vector": {"lora_up": random(OUT), "lora_down": random(RANK)},
    "two alphas": {"lora_up": random(OUT, RANK), "lora_down": random(RANK, IN), "alpha": random(2)},
    "endless alpha": {"lora_up": random(OUT, RANK), "lora_down": random(RANK, IN), "alpha": torch.tensor(torch.inf)},
    "half a lokr": {"lokr_w1": random(3, 2)},
    "a large lokr": {"lokr_w1": random(1000, 1000), "lokr_w2": random(1000, 1000)},
    "a lokr of large factors": {
        "lokr_w1": random(3, 2),
        "lokr_w2_a": random(1_000_000, 1),
        "lokr_w2_b": random(1, 1_000_000),
    },
    "a lokr with a large core": {
        "lokr_w1": random(3, 2),
        "lokr_t2": random(1, 1, 3, 3),
        "lokr_w2_a": random(1, 1_000_000),
        "lokr_w2_b": random(1, 1_000_000),
    },
    "a loha whose second half is large": {
        "hada_w1_a": random(OUT, 1),
        "hada_w1_b": random(1, IN),
        "hada_w2_a": random(1_000_000, 1),
        "hada_w2_b": random(1, 1_000_000),
    },
    "a large sparse one": {
        "lora_up": random(OUT, RANK),
        "lora_down": random(RANK, IN),
        "bias_indices": torch.zeros(2, 1, dtype=torch.long),
        "bias_values": random(1),
        "bias_size": torch.tensor([1_000_000, 1_000_000]),
    },
    "wide ia3": {"weight": random(OUT + 1), "on_input": torch.tensor(False)},
    "other diff": {"diff": random(IN, OUT + 1)},
    "other blocks": {"oft_blocks": random(5, 4, 4)},
    "flat blocks": {"oft_blocks": random(5)},
    "a sparse one beyond its size": {
        "lora_up": random(OUT, RANK),
        "lora_down": random(RANK, IN),
        "bias_indices": torch.tensor([[99], [99]]),
        "bias_values": torch.tensor([1.0]),
        "bias_size": torch.tensor([OUT, IN]),
    },
    "magnitudes of another layer": {
        "lora_up": random(OUT, RANK),
        "lora_down": random(RANK, IN),
        "dora_scale": random(5, 1),
    },
}


@pytest.mark.parametrize("name", MISFITS)
def test_what_does_not_fit_is_said_and_not_computed(name: str) -> None:
    with pytest.raises(DoesNotFit):
        read_delta(MISFITS[name]).of_weight(random(*LINEAR))


def test_strength_of_zero_networks_is_plain() -> None:
    """A LoRA of zeros changes nothing, whatever it is applied to."""
    delta: Delta = read_delta({"lora_up": torch.zeros(OUT, RANK), "lora_down": random(RANK, IN)})
    assert isinstance(delta, LowRank)
    assert delta.is_plain
    assert not delta.of_weight(random(*LINEAR)).any()


ROLES = sorted(set(ROLE_NAMES.values()))
SHAPES = st.lists(st.sampled_from([0, 1, 2, 3, 4, 8, 12]), max_size=5).map(tuple)


def with_at_least(roles: Sequence[str]) -> st.SearchStrategy[dict[str, tuple[int, ...]]]:
    others = {role: SHAPES for role in ROLES if role not in roles}
    return st.fixed_dictionaries(dict.fromkeys(roles, SHAPES), optional=others)


@given(
    chosen=st.one_of(with_at_least(()), *[with_at_least(roles) for roles, _ in _KINDS]),
    weight=st.sampled_from([LINEAR, CONV, (OUT,), (OUT, 4, 1, 1), (IN, OUT)]),
)
@settings(max_examples=200)
def test_any_tensors_either_fit_or_are_said_not_to(chosen: dict[str, tuple[int, ...]], weight: tuple[int, ...]) -> None:
    base = torch.ones(weight)
    try:
        difference = read_delta({role: torch.ones(shape) for role, shape in chosen.items()}).of_weight(base)
    except DoesNotFit:
        return
    assert difference is None or difference.shape == base.shape
