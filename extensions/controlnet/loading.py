"""From a file in models/ControlNet to the network that a unit uses; imported in the worker only."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from webui.extensions.api import InvalidRequest, read_weights

from .networks import kinds, names
from .networks.control import ControlNetwork, read_layout
from .networks.t2i_adapter import T2IAdapter
from .networks.t2i_adapter import load as load_adapter

POOLED = "shuffle"
"""In a file's name: a network whose residuals are averaged over the picture."""


def network_of(path: Path, unet: Any, family: str, device: torch.device, dtype: torch.dtype) -> Any:
    """The network in a file, made to steer this U-Net. family: of the checkpoint, for sentences.

    Returns: a ControlNetwork or a T2IAdapter. Raises: InvalidRequest for files that are none, or for another base.
    """
    weights = read_weights(path)
    found = kinds.recognise({name: tuple(weight.shape) for name, weight in weights.items()})
    if found.kind == "T2I-Adapter":
        return _adapter(weights, path, unet, device, dtype)
    if found.kind != "ControlNet":
        kind = f"a {found.kind} file, which this version can't use yet" if found.kind else "no control model"
        raise InvalidRequest(f"{path.name} is {kind}. Known are: {kinds.KNOWN}.")
    if found.difference:
        weights = _with_base(weights, unet)
    named = names.as_diffusers(names.bare(weights))
    layout = read_layout({name: tuple(weight.shape) for name, weight in named.items()})
    if layout.widths != tuple(unet.config.block_out_channels) or layout.context_width not in (
        0,
        unet.config.cross_attention_dim,
    ):
        raise InvalidRequest(
            f"{path.name} is made for {layout.family} and the checkpoint is {family}; choose a ControlNet for {family}."
        )
    heads = unet.config.attention_head_dim
    heads = (heads,) * len(layout.widths) if isinstance(heads, int) else tuple(heads)
    pooled = POOLED in path.name.lower()
    return ControlNetwork.of(weights, heads, unet.config.norm_num_groups, device, dtype, pooled)


def _adapter(
    weights: Mapping[str, Tensor], path: Path, unet: Any, device: torch.device, dtype: torch.dtype
) -> T2IAdapter:
    adapter = load_adapter(weights, device, dtype)
    widths = {block.block1.out_channels for block in adapter.body}
    if not widths <= set(unet.config.block_out_channels):
        raise InvalidRequest(
            f"{path.name} adds to {sorted(widths)} channels, the checkpoint has "
            f"{list(unet.config.block_out_channels)}; choose an adapter for its family."
        )
    return adapter


def _with_base(weights: Mapping[str, Tensor], unet: Any) -> dict[str, Tensor]:
    """A difference model's weights with the U-Net's own added to those that it has, too."""
    bare = names.bare(weights)
    bare.pop("difference")
    named, base = names.as_diffusers(bare), unet.state_dict()
    return {
        name: weight + base[name].to(weight) if name in base and base[name].shape == weight.shape else weight
        for name, weight in named.items()
    }
