"""What adapters add while they learn is what our reader makes of their tensors, and nothing at the beginning."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from webui.core.training import LoraOptions
from webui.models.networks.deltas import read_delta
from webui.models.networks.files import split_key
from webui.planning.blocks import BlockNumbers
from webui.training.adapters import LoRA, Shape, make_adapter, split

LAYERS = {
    "linear": (lambda: nn.Linear(12, 18), (2, 5, 12)),
    "1x1": (lambda: nn.Conv2d(12, 18, 1), (2, 12, 6, 6)),
    "3x3": (lambda: nn.Conv2d(12, 18, 3, padding=1), (2, 12, 6, 6)),
    "stride": (lambda: nn.Conv2d(12, 18, 3, stride=2, padding=1), (2, 12, 6, 6)),
}
SHAPES: dict[str, dict[str, Any]] = {
    "lora": {"algo": "lora"},
    "lora, alpha of the dim": {"algo": "lora", "alpha": 0.0},
    "rank-stabilised": {"algo": "lora", "rs_lora": True},
    "tucker": {"algo": "locon", "tucker": True},
    "loha": {"algo": "loha"},
    "lokr": {"algo": "lokr", "dim": 1},
    "lokr, both decomposed": {"algo": "lokr", "dim": 1, "decompose_both": True},
    "lokr, full": {"algo": "lokr", "full_matrix": True},
    "lokr by 2": {"algo": "lokr", "factor": 2, "dim": 2},
    "dora": {"algo": "lora", "dora": True},
    "dora by column": {"algo": "lora", "dora": True, "wd_on_output": False},
    "loha with dora": {"algo": "loha", "dora": True},
}


@pytest.mark.parametrize("layer_name", LAYERS)
@pytest.mark.parametrize("shape_name", SHAPES)
def test_what_is_added_is_what_the_file_says(shape_name: str, layer_name: str) -> None:
    torch.manual_seed(0)
    make, size = LAYERS[layer_name]
    layer, x = make(), torch.randn(size)
    adapter = make_adapter(layer, Shape(**{"dim": 3, "alpha": 1.5, **SHAPES[shape_name]}))
    nothing = adapter.added(x, layer.weight)
    assert nothing is not None
    assert torch.allclose(nothing, torch.zeros(()), atol=1e-5)
    with torch.no_grad():
        for weight in adapter.parameters():
            weight.add_(torch.randn(weight.shape) * 0.3)
    added = adapter.added(x, layer.weight)
    tensors = {split_key(f"m.{key}")[1]: tensor for key, tensor in adapter.named_tensors().items()}
    assert None not in tensors
    difference = read_delta(tensors).of_weight(layer.weight.detach())  # type: ignore[arg-type]
    before = layer(x)
    with torch.no_grad():
        layer.weight.add_(difference)
    assert added is not None
    assert torch.allclose(added, layer(x) - before, atol=1e-4)


def test_sizes_are_split_as_evenly_as_can_be() -> None:
    assert [split(size, -1) for size in (1280, 320, 7, 128)] == [(32, 40), (16, 20), (1, 7), (8, 16)]
    assert split(1280, 4) == (4, 320)
    assert split(1280, 7) == (5, 256)


def test_a_change_is_kept_below_the_largest_norm() -> None:
    adapter = make_adapter(nn.Linear(8, 8), Shape("lora", 2, 2.0))
    assert isinstance(adapter, LoRA)
    nn.init.ones_(adapter.lora_up.weight)
    adapter.limit_norm(0.5)
    assert float(adapter.delta().detach().norm()) == pytest.approx(0.5, rel=1e-4)


def test_a_module_is_left_out_by_chance_and_ranks_are_dropped_only_in_training() -> None:
    layer, x = nn.Linear(8, 8), torch.randn(64, 8)
    torch.manual_seed(1)
    adapter = make_adapter(layer, Shape("lora", 4, 4.0, module_dropout=0.5, rank_dropout=0.5))
    nn.init.ones_(adapter.lora_up.weight)  # type: ignore[union-attr, arg-type]
    seen = [adapter.added(x, layer.weight) for _ in range(20)]
    assert 0 < sum(each is None for each in seen) < 20
    adapter.eval()
    first, second = (adapter.added(x, layer.weight) for _ in range(2))
    assert first is not None
    assert second is not None
    assert first.equal(second)


def test_blocks_are_counted_as_kohya_counts_them() -> None:
    plain = LoraOptions()
    sd1, sdxl = BlockNumbers.read(plain, sdxl=False), BlockNumbers.read(plain, sdxl=True)
    paths = {
        "down_blocks.0.attentions.0.proj_in": (1, 2),
        "down_blocks.1.attentions.1.proj_in": (5, 6),
        "down_blocks.0.downsamplers.0.conv": (3, 4),
        "mid_block.attentions.0.proj_in": (12, 11),
        "up_blocks.1.attentions.2.proj_in": (18, 18),
        "up_blocks.0.upsamplers.0.conv": (15, 15),
    }
    assert {path: (sd1.number_of(path), sdxl.number_of(path)) for path in paths} == paths
    weighted = BlockNumbers.read(LoraOptions(down_lr_weight="reverse_linear+0.5", mid_lr_weight="0"), sdxl=False)
    assert weighted.rate(0) == 1.5
    assert weighted.rate(11) == 0.5
    assert weighted.rate(12) is None
    assert weighted.rate(13) == 1.0
