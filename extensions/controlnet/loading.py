"""From a file in models/ControlNet to the network that a unit uses; imported in the worker only."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, Protocol, TypeAlias, TypeVar

import torch
from torch import Tensor

from webui.extensions.api import InvalidRequest, read_weights

from .networks import clip_vision, control_lora, ip_adapter, kinds, lllite, names
from .networks.control import ControlNetwork, Layout, read_layout
from .networks.ip_adapter import IPAdapter
from .networks.lllite import LLLiteNetwork
from .networks.t2i_adapter import T2IAdapter
from .networks.t2i_adapter import load as load_adapter
from .unets import widths_of
from .units import Unit

T = TypeVar("T")
POOLED = "shuffle"
"""In a file's name: a network whose residuals are averaged over the picture."""
TITLES = {"sd1": "SD 1.x", "sd2": "SD 2.x", "sdxl": "SDXL", "sdxl-refiner": "SDXL's refiner"}
BASES = {768: "SD 1.x", 1024: "SD 2.x", 2048: "SDXL"}
"""Width of the text that a U-Net attends to -> its family, in words."""
Network: TypeAlias = ControlNetwork | T2IAdapter | IPAdapter | LLLiteNetwork


class Base(Protocol):
    """The checkpoint that is steered, as far as it matters here."""

    unet: Any
    family: str
    checkpoint: Any

    @property
    def device(self) -> torch.device: ...
    @property
    def dtype(self) -> torch.dtype: ...


def kind_of(path: Path) -> kinds.Kind:
    """What the file holds. Raises: InvalidRequest for what no unit can use; BadModelFile."""
    kind = kinds.recognise({name: tuple(weight.shape) for name, weight in read_weights(path).items()})
    if kind not in kinds.USABLE:
        told = f"a {kind} file, which this version can't use yet" if kind else "no control model"
        raise InvalidRequest(f"{path.name} is {told}. Known are: {kinds.KNOWN}.")
    return kind


def network_of(path: Path, base: Base, device: torch.device) -> Network:
    """The network in a file, made to steer the base's U-Net. device: where it is to lie.

    Raises: InvalidRequest for files that are none, for another base, or damaged; BadModelFile.
    """
    kind, weights = kind_of(path), read_weights(path)
    try:
        if kind == "T2I-Adapter":
            return _adapter(weights, path, base, device)
        if kind == "IP-Adapter":
            layout_of(path, base)
            return ip_adapter.load(weights, device, base.dtype)
        if kind == "ControlLLLite":
            return _lllite(weights, path, base, device)
        if kind == "Control-LoRA":
            return _control(_with_encoder(weights, path, base), path, base, device)
        if kinds.is_difference(weights):
            weights = _with_base(weights, base.unet)
        return _control(names.as_diffusers(names.bare(weights)), path, base, device)
    except (KeyError, ValueError, RuntimeError, IndexError) as error:
        if isinstance(error, torch.OutOfMemoryError):
            raise
        raise _damaged(path, kind, error) from error


def _damaged(path: Path, kind: str, error: Exception) -> InvalidRequest:
    told = str(error).splitlines()[0] if str(error) else type(error).__name__
    return InvalidRequest(
        f"{path.name} is damaged or of an unknown layout of {kind} ({told}); get the file anew, or choose another."
    )


def _control(named: Mapping[str, Tensor], path: Path, base: Base, device: torch.device) -> ControlNetwork:
    unet = base.unet
    layout = read_layout({name: tuple(weight.shape) for name, weight in named.items()})
    if layout.widths != tuple(unet.config.block_out_channels) or layout.context_width not in (
        0,
        unet.config.cross_attention_dim,
    ):
        raise _misfit(path, layout.family, base, "a ControlNet")
    return ControlNetwork.of(
        named, _heads(unet, layout), unet.config.norm_num_groups, device, base.dtype, POOLED in path.name.lower()
    )


def _heads(unet: Any, layout: Layout) -> tuple[int, ...]:
    heads = unet.config.attention_head_dim
    return (heads,) * len(layout.widths) if isinstance(heads, int) else tuple(heads)


def title(base: Base) -> str:
    return TITLES.get(base.family, base.family)


def _misfit(path: Path, made_for: str, base: Base, what: str) -> InvalidRequest:
    return InvalidRequest(
        f"{path.name} is made for {made_for} and the checkpoint is {title(base)}; choose {what} for {title(base)}."
    )


def _adapter(weights: Mapping[str, Tensor], path: Path, base: Base, device: torch.device) -> T2IAdapter:
    adapter = load_adapter(weights, device, base.dtype)
    if adapter.is_for_xl != (base.unet.config.addition_embed_type is not None):
        raise _misfit(path, "SDXL" if adapter.is_for_xl else "SD 1.x or 2.x", base, "an adapter")
    widths, own = {block.block1.out_channels for block in adapter.body}, set(base.unet.config.block_out_channels)
    if not widths <= own:
        raise _misfit(path, f"a U-Net {sorted(widths)} channels wide", base, "an adapter")
    return adapter


def layout_of(path: Path, base: Base) -> ip_adapter.Layout:
    """Of an IP-Adapter's file. Raises: InvalidRequest for one of another base, or one that reads faces alone."""
    try:
        layout = ip_adapter.read_layout({name: tuple(weight.shape) for name, weight in read_weights(path).items()})
    except (KeyError, IndexError) as error:
        raise _damaged(path, "IP-Adapter", error) from error
    if layout.projection == "face":
        raise InvalidRequest(
            f"{path.name} is a FaceID IP-Adapter, which reads faces as insightface tells them; this version can't. "
            "Choose a plain, plus or full one."
        )
    if layout.widths != widths_of(base.unet) or layout.context_width != base.unet.config.cross_attention_dim:
        raise _misfit(path, BASES.get(layout.context_width, "another U-Net"), base, "an IP-Adapter")
    return layout


def _lllite(weights: Mapping[str, Tensor], path: Path, base: Base, device: torch.device) -> LLLiteNetwork:
    try:
        return lllite.load(weights, base.unet, device, base.dtype)
    except KeyError as error:
        made_for = "SDXL" if lllite.is_for_xl(weights) else "SD 1.x"
        raise _misfit(path, made_for, base, "a ControlLLLite") from error


def _with_encoder(weights: Mapping[str, Tensor], path: Path, base: Base) -> dict[str, Tensor]:
    try:
        return control_lora.completed(weights, base.unet.state_dict())
    except (KeyError, RuntimeError) as error:
        made_for = "SD 1.x" if control_lora.is_for_sd1(weights) else "SDXL"
        raise _misfit(path, made_for, base, "a Control-LoRA") from error


def _with_base(weights: Mapping[str, Tensor], unet: Any) -> dict[str, Tensor]:
    """A difference model's weights with the U-Net's own added to those that it has, too."""
    bare = names.bare(weights)
    bare.pop("difference")
    named, base = names.as_diffusers(bare), unet.state_dict()
    return {
        name: weight.float() + base[name].to(weight.device, torch.float32)
        if name in base and base[name].shape == weight.shape
        else weight
        for name, weight in named.items()
    }


def lent(unit: Unit, models: Any, base: Base, make: Callable[[Any, torch.device], T]) -> AbstractContextManager[T]:
    """The unit's network for the length of a pass. make: called once with it and the device it works on."""
    path = Path(unit.file)
    state = path.stat()
    place = torch.device("cpu") if unit.low_vram else base.device
    key = (
        "controlnet", str(path), state.st_mtime_ns, str(place), str(base.device), str(base.dtype),
        str(base.checkpoint.path),
    )  # fmt: skip
    loan: AbstractContextManager[T] = models.borrow(
        key, lambda: make(network_of(path, base, place), base.device), bytes=state.st_size
    )
    return loan


@contextmanager
def lent_encoder(files: Sequence[Path], layout: ip_adapter.Layout, models: Any, base: Base) -> Iterator[Any]:
    """A ClipVision of those in `files` that the adapter can read. Raises: InvalidRequest when there is none."""
    place = 0 if layout.reads_layers else 1
    for file in files:
        weights = read_weights(file)
        shapes = {name: tuple(weight.shape) for name, weight in weights.items()}
        if clip_vision.is_encoder(shapes) and clip_vision.widths(shapes)[place] == layout.picture_width:
            state = file.stat()
            key = ("clip vision", str(file), state.st_mtime_ns, str(base.device), str(base.dtype))
            load = _loading(weights, file, base)
            with models.borrow(key, load, bytes=state.st_size) as encoder:
                yield encoder
            return
    name = {1024: "ViT-H", 1280: "ViT-H" if place == 0 else "ViT-bigG", 1664: "ViT-bigG"}.get(layout.picture_width)
    seen = ", ".join(file.name for file in files) or "none"
    raise InvalidRequest(
        f"The IP-Adapter reads {layout.picture_width} channels of a CLIP image encoder{f' ({name})' if name else ''}, "
        f"and there is no such file in models/ControlNet or models/clip_vision (found: {seen}). Put its "
        "model.safetensors there, in transformers' layout."
    )


def _loading(weights: Mapping[str, Tensor], file: Path, base: Base) -> Any:
    return lambda: clip_vision.load(weights, file, base.device, base.dtype)
