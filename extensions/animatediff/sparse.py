"""SparseCtrl: a control network with motion modules that is shown some frames of the clip."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers.models.controlnets.controlnet_sparsectrl import SparseControlNetModel
from diffusers.models.unets.unet_motion_model import AnimateDiffTransformer3D
from torch import Tensor, nn

from webui.extensions.api import (
    BadModelFile,
    InvalidRequest,
    Residuals,
    decoded_picture,
    fit_picture,
    read_weights,
)

from .motion.layers import frames_first, sinusoids
from .parameters import AnimateDiff

_RENAMED = (
    (re.compile(r"^(?:module\.|control_model\.|controlnet\.)+"), ""),
    (re.compile(r"\.temporal_transformer\."), "."),
    (re.compile(r"\.attention_blocks\.0\.pos_encoder\."), ".pos_embed."),
    (re.compile(r"\.attention_blocks\.0\."), ".attn1."),
    (re.compile(r"\.norms\.0\."), ".norm1."),
    (re.compile(r"\.ff_norm\."), ".norm3."),
)
_HINT = re.compile(r"^input_hint_block\.(\d+)\.")


def as_diffusers(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors under the names of `SparseControlNetModel`."""
    hints = {int(found[1]) for name in weights if (found := _HINT.match(name))}
    named = {}
    for name, tensor in weights.items():
        for pattern, replacement in _RENAMED:
            name = pattern.sub(replacement, name)
        if found := _HINT.match(name):
            name = _hint_name(int(found[1]), max(hints)) + name[found.end() :]
        named[name] = tensor
    return named


def _hint_name(place: int, last: int) -> str:
    """Of a convolution of the picture's way in: the only one, the first, the last, or one between."""
    if last == 0:
        return "controlnet_cond_embedding."
    if place in (0, last):
        return f"controlnet_cond_embedding.{'conv_in' if place == 0 else 'conv_out'}."
    return f"controlnet_cond_embedding.blocks.{place // 2 - 1}."


class FrameNorm(nn.Module):
    """A group norm of each frame by itself. x: (clips, C, frames, h, w)."""

    def __init__(self, norm: nn.GroupNorm) -> None:
        super().__init__()
        self.norm = norm

    def forward(self, x: Tensor) -> Tensor:
        normed: Tensor = self.norm(frames_first(x))
        return normed.unflatten(0, (len(x), -1)).transpose(1, 2)


def network_of(
    path: Path, unet: Any, base: str, device: torch.device, dtype: torch.dtype, *, over_clip: bool
) -> SparseControlNetModel:
    """The network in a file, for this U-Net. base: what the checkpoint is, for the sentence. over_clip: see `Clip`.

    Raises: BadModelFile for a file that holds none, InvalidRequest for one of another base.
    """
    named = as_diffusers(read_weights(path))
    simple = "controlnet_cond_embedding.weight" in named
    entry = named.get("controlnet_cond_embedding.weight" if simple else "controlnet_cond_embedding.conv_in.weight")
    if entry is None or "down_blocks.0.motion_modules.0.norm.weight" not in named:
        raise BadModelFile(f"{path.name} is no SparseCtrl model; its files are called v3_sd15_sparsectrl_...")
    config = unet.config
    widths = tuple(config.block_out_channels)
    last = f"down_blocks.{len(widths) - 1}.resnets.0.conv1.weight"
    if last not in named or named[last].shape[0] != widths[-1] or named["conv_in.weight"].shape[0] != widths[0]:
        raise InvalidRequest(f"{path.name} is made for other channels than the checkpoint has, which is {base}.")
    positions = next((tensor.shape[1] for name, tensor in named.items() if name.endswith("pos_embed.pe")), 32)
    blocks = [name for name in named if re.fullmatch(r"controlnet_cond_embedding\.blocks\.\d+\.weight", name)]
    ways = [named[f"controlnet_cond_embedding.blocks.{n}.weight"].shape[0] for n in range(1, len(blocks), 2)]
    with torch.device("meta"):
        network = SparseControlNetModel(
            conditioning_channels=entry.shape[1] - 1,
            down_block_types=tuple(
                "CrossAttnDownBlockMotion" if "CrossAttn" in kind else "DownBlockMotion"
                for kind in config.down_block_types
            ),
            block_out_channels=widths,
            layers_per_block=config.layers_per_block,
            norm_num_groups=config.norm_num_groups,
            cross_attention_dim=config.cross_attention_dim,
            attention_head_dim=config.attention_head_dim,
            use_linear_projection=config.use_linear_projection,
            conditioning_embedding_out_channels=(entry.shape[0], *ways) if ways else None,
            motion_max_seq_length=positions,
            use_simplified_condition_embedding=simple,
        )
    wanted = network.state_dict()
    missing = [name for name in wanted if name not in named and not name.endswith("pos_embed.pe")]
    if missing:
        raise BadModelFile(f"{path.name} isn't whole: {missing[0]} and {len(missing) - 1} others are missing.")
    network.to_empty(device="cpu")
    for name, module in network.named_modules():
        if hasattr(module, "pe") and f"{name}.pe" not in named:
            named[f"{name}.pe"] = sinusoids(positions, module.pe.shape[-1])
    network.load_state_dict({name: named[name] for name in wanted}, assign=True)
    for module in network.modules():
        if isinstance(module, AnimateDiffTransformer3D) and not over_clip:
            module.norm = FrameNorm(module.norm)
    return network.to(device, dtype).requires_grad_(False).eval()


@dataclass
class Sparse:
    """What the network is shown of a clip. shown: (F, C, h, w), zeros in frames without a picture.

    mask: (F, 1, h, w), 1 in frames with one.
    """

    shown: Tensor
    mask: Tensor
    weight: float

    def residuals(
        self, network: SparseControlNetModel, x: Tensor, timesteps: Tensor, cond: Any, frames: list[int]
    ) -> Residuals:
        """What is added in a call. x: (clips * frames, C, h, w), clip by clip."""
        clips = len(x) // len(frames)
        index = torch.tensor(frames, device=self.shown.device)
        shown, mask = (
            part[index].transpose(0, 1)[None].expand(clips, -1, -1, -1, -1) for part in (self.shown, self.mask)
        )
        down, mid = network(
            x.unflatten(0, (clips, -1)).transpose(1, 2).to(network.dtype),
            timesteps[:: len(frames)],
            cond.context.to(network.device, network.dtype),
            shown.to(network.dtype),
            conditioning_scale=self.weight,
            conditioning_mask=mask.to(network.dtype),
            return_dict=False,
        )
        return Residuals(tuple(down), mid)


def shown_to(network: SparseControlNetModel, asked: AnimateDiff, this_pass: Any) -> Sparse:
    """The pictures as this network wants them, at the size of the pass: as latents, or as they are."""
    sampling, model = this_pass.sampling, this_pass.model
    pictures = []
    for number, data in enumerate(asked.sparse_pictures):
        picture = decoded_picture(data, f"SparseCtrl's picture {number}").convert("RGB")
        fitted = fit_picture(picture, 1, sampling.width // 8 * 8, sampling.height // 8 * 8)
        pictures.append(torch.from_numpy(np.asarray(fitted, dtype=np.float32) / 255).permute(2, 0, 1))
    pixels = torch.stack(pictures).to(model.device)
    if network.use_simplified_condition_embedding:
        generator = torch.Generator().manual_seed(this_pass.plan.seeds[this_pass.indices[0]] % 2**63)
        with torch.inference_mode():
            pixels = model.encode(pixels * 2 - 1, generator).float()
    shown = pixels.new_zeros((asked.frames, *pixels.shape[1:]))
    mask = pixels.new_zeros((asked.frames, 1, *pixels.shape[2:]))
    places = list(asked.sparse_places)
    shown[places], mask[places] = pixels, 1
    return Sparse(shown, mask, asked.sparse_weight)
