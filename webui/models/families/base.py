"""What every model family answers, so that the pipeline needs to know none by name.

    registry.open_checkpoint(checkpoint) -> Blueprint       # checked, nothing big read
    blueprint.load(placement)            -> LoadedModel     # weights on the device

A family is code; what a checkpoint of it can do is data (`webui.core.capabilities`).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from webui.catalog.checkpoints import Checkpoint
from webui.catalog.model_hints import Hints
from webui.catalog.shapes import Shapes
from webui.core.capabilities import Capabilities
from webui.diffusion.denoiser import Cond
from webui.diffusion.schedules import NoiseTable
from webui.models.components import Component
from webui.models.devices import Placement
from webui.models.memory import InTurn
from webui.models.text_encoders import ClipEncoder, Encoded, PictureFacts
from webui.models.vae import Vae
from webui.models.weights import WeightsFile


@dataclass(frozen=True)
class ModelFile:
    """An opened checkpoint: the catalog's entry, its tensors, and what shapes can't tell."""

    checkpoint: Checkpoint
    tensors: WeightsFile
    hints: Hints

    @property
    def name(self) -> str:
        return self.checkpoint.path.name

    @property
    def shapes(self) -> Shapes:
        return self.tensors.shapes


class LoadedModel(ABC):
    """A checkpoint's parts on their device, frozen: no gradient is recorded unless an input asks for one.

    unet: the denoising network's module, whatever its kind. text_encoders: in the order their outputs are joined.
    levels: the noise levels it was trained on. turns: how its parts share the device, None when all are there.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        family: str,
        capabilities: Capabilities,
        placement: Placement,
        unet: Any,
        text_encoders: tuple[ClipEncoder, ...],
        vae: Vae,
        levels: NoiseTable,
    ):
        self.checkpoint = checkpoint
        self.family = family
        self.capabilities = capabilities
        self.placement = placement
        self.unet = unet
        self.text_encoders = text_encoders
        self.vae = vae
        self.levels = levels
        self.turns: InTurn | None = None

    @property
    def parts(self) -> tuple[Any, ...]:
        """Its modules with weights, the denoising network first."""
        return self.unet, *(encoder.module for encoder in self.text_encoders), self.vae.module

    @property
    def device(self) -> torch.device:
        return self.placement.device

    @property
    def dtype(self) -> torch.dtype:
        """The network's dtype: what `network` computes and answers in."""
        return self.placement.unet

    @property
    def alphas_cumprod(self) -> Tensor:
        """(1000,) fp32 on the CPU: the picture's share of each training timestep."""
        return self.levels.alphas_cumprod

    @abstractmethod
    def network(self, x: Tensor, timesteps: Tensor, cond: Cond) -> Tensor:
        """The network's raw output; see `capabilities.prediction` for its meaning.

        x: (N, C, h, w) scaled input, any h and w. timesteps: (N,) fp32, may be fractional.
        cond: its context is (N, T, context_width). The network casts them itself.
        Returns: (N, C, h, w) in `dtype`.
        """

    def conditioning(self, encoded: Sequence[Encoded], facts: PictureFacts) -> tuple[Tensor, Tensor | None]:
        """What the network is conditioned on, from what each text encoder gave and facts of the picture.

        Returns: context (N, T, context_width), and one vector a row (N, P) for networks that take it.
        """
        vectors = [part.vectors for part in encoded]
        return vectors[0] if len(vectors) == 1 else torch.cat(vectors, dim=-1), None

    def decode(self, latents: Tensor) -> Tensor:
        """latents: (B, C, h, w). Returns: (B, 3, 8h, 8w) fp32, about -1 to 1."""
        return self.vae.decode(latents)

    def encode(self, images: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """images: (B, 3, H, W) in [-1, 1]. Returns: (B, C, H/8, W/8) fp32, a sample (see `Vae.encode`)."""
        return self.vae.encode(images, generator)


class Blueprint(ABC):
    """A checkpoint that was checked whole and of which no weight has been read; `load` it once.

    texts: in the order their outputs are joined.
    """

    def __init__(
        self,
        file: ModelFile,
        family: str,
        capabilities: Capabilities,
        texts: Sequence[Component],
        network: Component,
        vae: Component,
    ):
        """Raises: BadModelFile when a component's weights aren't all in the file."""
        self.file = file
        self.family = family
        self.capabilities = capabilities
        self.texts = tuple(texts)
        self.network = network
        self.vae = vae
        for component in (*self.texts, network, vae):
            component.check(file.tensors)

    def weight_bytes(self, placement: Placement) -> int:
        """How much memory the loaded weights take at `placement`."""
        network, vae = self.network.weight_bytes(placement.unet), self.vae.weight_bytes(placement.vae)
        return network + vae + sum(text.weight_bytes(placement.text) for text in self.texts)

    def load(self, placement: Placement) -> LoadedModel:
        """Read the weights."""
        tensors, device = self.file.tensors, placement.device
        for text in self.texts:
            text.fill(tensors, placement.text, device)
        self.network.fill(tensors, placement.unet, device, placement.channels_last)
        self.vae.fill(tensors, placement.vae, device, placement.channels_last)
        return self.assemble(placement)

    @abstractmethod
    def assemble(self, placement: Placement) -> LoadedModel:
        """The model, of components that have their weights."""


class ModelFamily(ABC):
    """How checkpoints of a kind become models; what they are called and can do stands in `webui.catalog.families`."""

    @abstractmethod
    def open(self, file: ModelFile, family: str, capabilities: Capabilities) -> Blueprint:
        """Read sizes and names, and check that everything is there. family: its id.

        Raises: BadModelFile with one sentence.
        """
