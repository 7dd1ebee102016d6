"""LoRAs and their relatives, as kohya's trainers make and save them."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from webui.core.errors import BadModelFile
from webui.core.training import LoraOptions
from webui.core.training_data import Item
from webui.diffusion.denoiser import Cond
from webui.models.families.base import LoadedModel
from webui.models.networks.names import ldm_paths
from webui.models.weights import open_weights
from webui.planning.blocks import BlockNumbers
from webui.planning.training import Phase, TrainingPlan, lora_rates
from webui.training.adapters import Adapter, LoRA, Shape, make_adapter
from webui.training.lora_file import write_lora
from webui.training.texts import MOST_KEPT, CaptionEncoder
from webui.training.trainee import Done, Trainee

TRANSFORMERS = ("Transformer2DModel",)
CONVOLUTIONS = ("ResnetBlock2D", "Downsample2D", "Upsample2D")
TEXT = ("CLIPAttention", "CLIPSdpaAttention", "CLIPMLP")
OUTER = ("conv_in", "conv_out", "time_embedding.linear_1", "time_embedding.linear_2")
"""Layers outside of the blocks that LyCORIS trains, too."""


class LoraTrainee(Trainee):
    """adapters: name in the file -> the module beside its layer."""

    def __init__(self, plan: TrainingPlan, model: LoadedModel) -> None:
        super().__init__(plan, model)
        options, numerics = plan.request.lora, plan.request.numerics
        unet_rate, text_rate = lora_rates(plan.request)
        self.blocks = BlockNumbers.read(options, sdxl=plan.family == "sdxl")
        self.adapters: dict[str, Adapter] = {}
        self.rates: dict[str, tuple[str, float]] = {}
        """Name -> which part of the model, and the factor of its rate."""
        self._handles: list[Any] = []
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(plan.seed)
            if text_rate:
                for name, linear in text_layers(model):
                    self._add(name, "text", linear, shape_of(options, conv=False), 1.0)
            if unet_rate:
                for name, path, layer in unet_layers(model, options):
                    self._add_unet(name, path, layer, options)
        if options.network_weights:
            self._go_on_from(options.network_weights)
        most = sys.maxsize if numerics.cache_text_encoder_outputs else MOST_KEPT
        self.encoder = CaptionEncoder(
            model, max(numerics.clip_skip, 1), numerics.max_token_length, keep=not text_rate, most=most
        )

    def begin(self, phase: Phase) -> list[dict[str, Any]]:
        peaks = {"unet": phase.unet_lr, "text": phase.text_lr}
        ratio = self.plan.request.lora.loraplus_lr_ratio or 1.0
        groups: dict[tuple[str, float], list[nn.Parameter]] = {}
        for name, adapter in self.adapters.items():
            part, factor = self.rates[name]
            ups = {id(weight) for weight in adapter.up_parameters()}
            for weight in adapter.parameters():
                rate = peaks[part] * factor * (ratio if id(weight) in ups else 1.0)
                groups.setdefault((part, rate), []).append(weight)
        return [{"params": weights, "lr": rate, "part": part} for (part, rate), weights in groups.items()]

    def conds(self, items: Sequence[Item], chance: str) -> Cond:
        return self.encoder.conds(items)

    def after_step(self, step: int) -> None:
        largest = self.plan.request.lora.scale_weight_norms
        for adapter in self.adapters.values() if largest else ():
            assert isinstance(adapter, LoRA)
            adapter.limit_norm(largest)

    def tensors(self) -> Mapping[str, Tensor]:
        return {
            f"{name}.{key}": weight
            for name, adapter in self.adapters.items()
            for key, weight in adapter.named_parameters()
        }

    def save(self, target: Path, done: Done) -> list[Path]:
        tensors = {
            f"{name}.{key}": tensor
            for name, adapter in self.adapters.items()
            for key, tensor in adapter.named_tensors().items()
        }
        write_lora(target, tensors, self.plan, done, self.model)
        return [target]

    @contextmanager
    def shown(self) -> Iterator[None]:
        for adapter in self.adapters.values():
            adapter.eval()
        try:
            yield
        finally:
            for adapter in self.adapters.values():
                adapter.train()

    def close(self) -> None:
        for handle in self._handles:
            handle.remove()

    def _add_unet(self, name: str, path: str, layer: nn.Linear | nn.Conv2d, options: LoraOptions) -> None:
        large = isinstance(layer, nn.Conv2d) and max(layer.kernel_size) > 1
        shape = shape_of(options, conv=large)
        number = self.blocks.number_of(path)
        if number is not None:
            dim, alpha = self.blocks.size(number, conv=large)
            if dim is not None:
                shape = replace(shape, dim=dim, alpha=shape.alpha if alpha is None else alpha)
        factor = self.blocks.rate(number)
        if shape.dim and factor is not None:
            self._add(name, "unet", layer, shape, factor)

    def _add(self, name: str, part: str, layer: nn.Linear | nn.Conv2d, shape: Shape, factor: float) -> None:
        adapter = make_adapter(layer, shape).to(layer.weight.device)
        adapter.train()
        self.adapters[name] = adapter
        self.rates[name] = part, factor
        self._handles.append(layer.register_forward_hook(_beside(adapter)))

    def _go_on_from(self, name: str) -> None:
        """Begin with the tensors of a LoRA that is there. Raises: BadModelFile when they don't fit."""
        path = self.plan.continued
        assert path is not None, "the plan found the file"
        file = open_weights(path)
        with torch.no_grad():
            for key, weight in self.tensors().items():
                if file.shapes.get(key) != tuple(weight.shape):
                    raise BadModelFile(
                        f"{path.name} can't be gone on from: it has no {key} of the shape {list(weight.shape)}; give "
                        "the kind and dim that it was made with."
                    )
                weight.copy_(file.tensor(key))


def _beside(adapter: Adapter) -> Any:
    """A hook on a layer that lets the adapter add to its answer."""

    def add(layer: Any, arguments: tuple[Any, ...], answer: Tensor) -> Tensor:
        added = adapter.added(arguments[0], layer.weight)
        return answer if added is None else answer + added.to(answer.dtype)

    return add


def shape_of(options: LoraOptions, *, conv: bool) -> Shape:
    """Of an adapter before blocks have their say; a dim of 0 leaves the layer out.

    conv: it is a convolution larger than 1x1.
    """
    dim, alpha = options.network_dim, options.network_alpha
    if conv and options.conv_dim:
        dim, alpha = options.conv_dim, options.conv_alpha
    elif conv and options.algo in ("lora", "locon"):
        dim = 0
    return Shape(
        options.algo,
        dim,
        alpha,
        options.network_dropout,
        options.rank_dropout,
        options.module_dropout,
        options.dora,
        options.wd_on_output,
        options.use_tucker,
        options.rs_lora,
        options.factor,
        options.decompose_both,
        options.full_matrix,
    )


def unet_layers(model: LoadedModel, options: LoraOptions) -> Iterator[tuple[str, str, nn.Linear | nn.Conv2d]]:
    """Name in the file, diffusers' path and module of each layer that is trained.

    kohya's LoRA takes the transformers, with a dim for convolutions the ResNets and samplers, too; LyCORIS' kinds
    all of these, and the outer layers. SDXL's files have LDM's names.
    """
    wide = is_lycoris(options) or options.conv_dim > 0
    kinds = (*TRANSFORMERS, *CONVOLUTIONS) if wide else TRANSFORMERS
    spelled = ldm_paths(model.unet) if model.family == "sdxl" else {}
    found: dict[str, nn.Linear | nn.Conv2d] = {}
    for path, block in model.unet.named_modules():
        if type(block).__name__ in kinds:
            for inner, layer in block.named_modules():
                if isinstance(layer, nn.Linear | nn.Conv2d):
                    found[f"{path}.{inner}"] = layer
    if is_lycoris(options):
        modules = dict(model.unet.named_modules())
        found |= {path: modules[path] for path in OUTER if isinstance(modules.get(path), nn.Linear | nn.Conv2d)}
    for path, layer in found.items():
        yield f"lora_unet_{spelled.get(path, path).replace('.', '_')}", path, layer


def text_layers(model: LoadedModel) -> Iterator[tuple[str, nn.Linear]]:
    """Name in the file and module of each linear layer of the text encoders' attention and MLPs."""
    several = len(model.text_encoders) > 1
    for number, encoder in enumerate(model.text_encoders, start=1):
        prefix = f"lora_te{number}_" if several else "lora_te_"
        for path, block in encoder.core.named_modules():
            if type(block).__name__ in TEXT:
                for inner, layer in block.named_modules():
                    if isinstance(layer, nn.Linear):
                        name = f"text_model.{path}.{inner}".replace("text_model.text_model.", "text_model.")
                        yield prefix + name.replace(".", "_"), layer


def is_lycoris(options: LoraOptions) -> bool:
    """Whether the kind is one of LyCORIS', whose files and targets are wider."""
    return options.dora or options.algo in ("loha", "lokr")
