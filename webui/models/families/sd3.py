"""Stable Diffusion 3: a transformer that learned a flow, 16 latent channels, CLIP-L and OpenCLIP's bigG.

T5, its third text encoder, is left out as its authors allow: its place in the context is zeros.
Source: Esser et al. 2024, arXiv:2403.03206.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from webui.catalog.families import UNET as NETWORK_PREFIX
from webui.core.capabilities import Capabilities
from webui.core.errors import BadModelFile, InvalidRequest
from webui.diffusion.denoiser import Cond
from webui.diffusion.schedules import FlowTable
from webui.models.clip_text import read_text_layout
from webui.models.components import Component
from webui.models.devices import Placement
from webui.models.families.base import Blueprint, LoadedModel, ModelFamily, ModelFile
from webui.models.families.unet import VAE_PREFIX, TextPart, text_components, vae_component
from webui.models.ldm_vae import read_vae_layout
from webui.models.sd3_transformer import build_transformer, read_transformer_layout, transformer_sources
from webui.models.text_encoders import Encoded, PictureFacts
from webui.models.vae import Vae

SHIFT = 3.0
TEXTS = (
    TextPart("clip_l", "text_encoders.clip_l.transformer.", layer=2, normed=False, skips="never", pools=True),
    TextPart(
        "clip_g",
        "text_encoders.clip_g.transformer.",
        "gelu",
        open_clip=True,
        layer=2,
        normed=False,
        skips="never",
        pools=True,
        projects=True,
    ),
)


class SD3Family(ModelFamily):
    def open(self, file: ModelFile, family: str, capabilities: Capabilities) -> Blueprint:
        return SD3Blueprint(file, family, capabilities)


class SD3Blueprint(Blueprint):
    def __init__(self, file: ModelFile, family: str, capabilities: Capabilities):
        shapes, name = file.shapes, file.name
        layout = read_transformer_layout(shapes, NETWORK_PREFIX, name)
        vae_layout = read_vae_layout(shapes, VAE_PREFIX, name)
        texts = [read_text_layout(shapes, part.prefix, name) for part in TEXTS]
        if layout.channels != vae_layout.latent_channels:
            raise BadModelFile(
                f"{name} doesn't fit together: its network works on {layout.channels} channels, its VAE on "
                f"{vae_layout.latent_channels}."
            )
        network = build_transformer(layout, capabilities.native_size // capabilities.downscale)
        sources = transformer_sources(layout, network.state_dict(), NETWORK_PREFIX)
        super().__init__(
            file,
            family,
            capabilities,
            texts=text_components(TEXTS, texts, file),
            network=Component("network", network, sources),
            vae=vae_component(vae_layout, capabilities, file),
        )
        context = sum(text.width for text in texts)
        pooled = texts[0].width + (texts[1].projection or texts[1].width)
        if layout.pooled_width != pooled or layout.context_width < context:
            raise BadModelFile(
                f"{name} doesn't fit together: its network wants text {layout.context_width} wide and "
                f"{layout.pooled_width} pooled channels, its text encoders give {context} and {pooled}."
            )

    def assemble(self, placement: Placement) -> LoadedModel:
        capabilities = self.capabilities
        return SD3Model(
            checkpoint=self.file.checkpoint,
            family=self.family,
            capabilities=capabilities,
            placement=placement,
            unet=self.network.module,
            text_encoders=tuple(part.encoder(text.module) for part, text in zip(TEXTS, self.texts, strict=True)),
            vae=Vae(self.vae.module, capabilities.latent_scale, capabilities.latent_shift),
            levels=FlowTable.of(SHIFT),
        )


class SD3Model(LoadedModel):
    """unet: SD3Transformer2DModel."""

    def network(self, x: Tensor, timesteps: Tensor, cond: Cond) -> Tensor:
        assert cond.pooled is not None, "SD 3 reads pooled text"
        if cond.residuals is not None:
            raise InvalidRequest(
                f"{self.checkpoint.model_name} takes no control network or adapter: it is a Stable Diffusion 3 model, "
                "and those are for U-Nets. Turn them off, or choose another checkpoint."
            )
        answer: Tensor = self.unet(
            x.to(self.device, self.dtype),
            encoder_hidden_states=cond.context.to(self.device, self.dtype),
            pooled_projections=cond.pooled.to(self.device, self.dtype),
            timestep=timesteps.to(self.device),
            return_dict=False,
        )[0]
        return answer

    def conditioning(self, encoded: Sequence[Encoded], facts: PictureFacts) -> tuple[Tensor, Tensor | None]:
        clip = torch.cat([part.vectors for part in encoded], dim=-1)
        clip = F.pad(clip, (0, self.capabilities.context_width - clip.shape[-1]))
        pooled = [part.pooled for part in encoded if part.pooled is not None]
        return torch.cat([clip, torch.zeros_like(clip)], dim=1), torch.cat(pooled, dim=-1)
