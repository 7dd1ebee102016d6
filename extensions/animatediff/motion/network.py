"""A motion module's file as the layers it puts into a U-Net, and the clip that they work on while they are there."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from webui.extensions.api import BadModelFile, InvalidRequest, read_weights, read_weights_metadata

from .layers import MotionModule, Windows, built, clips_first, frames_first
from .names import Family, Place, family_of, placed_all, told


@dataclass
class Clip:
    """What the layers are told of the call that runs. frames: of each clip. windows: see `TemporalBlock`."""

    frames: int = 1
    windows: Windows | None = None
    over_clip: bool = False


@dataclass
class Motion:
    """The motion modules of one file. name: the file's."""

    name: str
    family: Family
    modules: dict[Place, MotionModule]
    clip: Clip = field(default_factory=Clip)

    @classmethod
    def read(cls, path: Path, device: torch.device, dtype: torch.dtype) -> Motion:
        """Raises: BadModelFile for a file without motion modules, or with half of one."""
        places = placed_all(read_weights(path))
        if not any(side == "down" for side, _, _ in places):
            raise BadModelFile(f"{path.name} holds no motion module; put those of AnimateDiff into models/AnimateDiff.")
        try:
            family = family_of({place: {n: t.shape for n, t in part.items()} for place, part in places.items()})
            modules = {place: built(part, family.positions) for place, part in places.items()}
            family = told(family, read_weights_metadata(path).get("easel"))
        except (KeyError, RuntimeError, ValueError, IndexError) as error:
            reason = " ".join(str(error).split())[:200]
            raise BadModelFile(f"{path.name} isn't whole, or of an unknown layout ({reason}).") from error
        for module in modules.values():
            module.to(device, dtype)
        return cls(path.name, family, modules)

    def move(self, device: torch.device) -> None:
        for module in self.modules.values():
            module.to(device)

    def require_fit(self, unet: Any, base: str) -> None:
        """base: what the checkpoint is, for the sentence. Raises: InvalidRequest for one of another base."""
        widths = tuple(unet.config.block_out_channels)
        layers = {place for place, _ in layers_of(unet)}
        if self.family.widths != widths or not set(self.modules) <= layers:
            raise InvalidRequest(
                f"{self.name} is a motion module of {self.family.name} for {self.family.base} and doesn't fit the "
                f"checkpoint, which is {base}; choose a motion module for it."
            )

    @contextmanager
    def attached(self, unet: Any) -> Iterator[None]:
        """Behind their layers until the context ends. No weight of the U-Net is touched."""
        with ExitStack() as hooks:
            for place, layer in layers_of(unet):
                if place in self.modules:
                    hooks.callback(layer.register_forward_hook(self._behind(self.modules[place])).remove)
            for norm in clip_norms(unet) if self.family.norms_clips else ():
                hooks.callback(norm.register_forward_pre_hook(self._clips_first).remove)
                hooks.callback(norm.register_forward_hook(_frames_first).remove)
            yield

    def _behind(self, module: MotionModule) -> Callable[[nn.Module, Any, Any], Any]:
        def hook(layer: nn.Module, given: Any, output: Any) -> Any:
            clip = self.clip
            if isinstance(output, tuple):
                moved = module(output[0], clip.frames, over_clip=clip.over_clip, windows=clip.windows)
                return (moved, *output[1:])
            return module(output, clip.frames, over_clip=clip.over_clip, windows=clip.windows)

        return hook

    def _clips_first(self, norm: nn.Module, given: tuple[Tensor, ...]) -> tuple[Tensor]:
        return (clips_first(given[0], self.clip.frames),)


def _frames_first(norm: nn.Module, given: Any, output: Tensor) -> Tensor:
    return frames_first(output)


def layers_of(unet: Any) -> Iterator[tuple[Place, nn.Module]]:
    """The layers that motion modules come behind, of a `UNet2DConditionModel`."""
    for side, blocks in (("down", unet.down_blocks), ("up", unet.up_blocks)):
        for level, block in enumerate(blocks):
            for number, layer in enumerate(getattr(block, "attentions", None) or block.resnets):
                yield (side, level, number), layer
    middle = unet.mid_block
    yield ("mid", 0, 0), (getattr(middle, "attentions", None) or middle.resnets)[0]


def clip_norms(unet: Any) -> Iterator[nn.GroupNorm]:
    """Those of the ResNets and of the output; transformers norm each frame by itself."""
    for block in (*unet.down_blocks, unet.mid_block, *unet.up_blocks):
        for resnet in block.resnets:
            yield resnet.norm1
            yield resnet.norm2
    yield unet.conv_norm_out
