"""RIFE's network: what its weights mean, and files that are none of its."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from webui.core.errors import BadModelFile
from webui.models.rife import Rife, load_rife, pictures_between

CPU = torch.device("cpu")


def picture(seed: int) -> np.ndarray:
    """Smooth, and of sides that no power of two divides."""
    small = torch.rand(1, 3, 6, 7, generator=torch.Generator().manual_seed(seed))
    large = torch.nn.functional.interpolate(small, (45, 70), mode="bicubic").clamp(0, 1)
    return large[0].permute(1, 2, 0).mul(255).byte().numpy()


@pytest.fixture(scope="module")
def still() -> Rife:
    """Weights that see no movement anywhere."""
    network = Rife()
    for name, weight in network.named_parameters():
        if ".lastconv." in name:
            torch.nn.init.zeros_(weight)
    return network


def test_without_movement_both_pictures_count_alike(still: Rife) -> None:
    first, second = picture(1), picture(2)
    (between,) = pictures_between(still, first, second, [0.3])
    assert between.shape == first.shape
    assert np.abs(between.astype(float) - (first.astype(float) + second) / 2).max() <= 1


def test_pictures_are_pulled_along_the_flow_of_all_levels(still: Rife) -> None:
    """Channel c of what a level finds is made of the weights 4 c to 4 c + 3: x and y of either flow, then the mask."""
    first, second = picture(1), picture(2)
    with torch.no_grad():
        for level, pixels in ((0, 8.0), (2, -6.0)):  # told at an eighth and a half of the size
            bias = still.get_submodule(f"block{level}.lastconv")[0].bias
            bias.zero_()
            bias[:4] = pixels / (8, 4, 2, 1)[level]
            bias[16:20] = 50.0
    (between,) = pictures_between(still, first, second, [0.5])
    assert np.abs(between[:, :-2].astype(int) - first[:, 2:]).max() <= 1


@pytest.mark.parametrize("ending", ["safetensors", "pkl"])
def test_files_of_the_authors_layout(still: Rife, tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"flownet.{ending}"
    weights = {f"module.{name}": weight.half() for name, weight in Rife().state_dict().items()}
    weights["module.teacher.extra"] = torch.zeros(3)
    save_file(weights, path) if ending == "safetensors" else torch.save(weights, path)
    loaded = load_rife(path, CPU)
    assert all(weight.dtype == torch.float32 and not weight.is_meta for weight in loaded.parameters())
    (between,) = pictures_between(loaded, picture(1), picture(2), [0.5])
    assert between.shape == (45, 70, 3)


def test_other_networks_are_told(tmp_path: Path) -> None:
    weights = {name: weight.half() for name, weight in Rife().state_dict().items()}
    path = tmp_path / "other.safetensors"
    save_file({**weights, "block0.conv0.0.0.weight": torch.zeros(96, 23, 3, 3)}, path)
    with pytest.raises(BadModelFile, match=r"other.safetensors is no RIFE v4.6: .*\(96, 23, 3, 3\)"):
        load_rife(path, CPU)
    del weights["block3.lastconv.0.bias"]
    save_file(weights, path)
    with pytest.raises(BadModelFile, match="block3.lastconv.0.bias is missing"):
        load_rife(path, CPU)
