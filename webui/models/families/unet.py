"""What the families with a U-Net share: SD 1.x, 2.x, SDXL and its refiner, and everything trained from them.

They differ in their text encoders and in what the network is told beside the text. Any width and depth loads.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor

from webui.catalog.families import UNET as UNET_PREFIX
from webui.catalog.ldm_names import UNetLayout, ldm_unet_keys, read_unet_layout
from webui.catalog.model_hints import Hints
from webui.core.capabilities import Capabilities
from webui.core.errors import BadModelFile
from webui.core.hooks import Residuals
from webui.diffusion.denoiser import Cond
from webui.diffusion.schedules import EdmTable, NoiseTable, scaled_linear_alphas_cumprod
from webui.models.clip_text import TextLayout, build_text_encoder, read_text_layout, text_sources
from webui.models.components import Component, Source
from webui.models.devices import Placement
from webui.models.families.base import Blueprint, LoadedModel, ModelFamily, ModelFile
from webui.models.ldm_unet import build_unet
from webui.models.ldm_vae import VaeLayout, build_vae, ldm_vae_keys, read_vae_layout
from webui.models.text_encoders import ClipEncoder
from webui.models.vae import Vae

VAE_PREFIX = "first_stage_model."
USUAL_GROUPS = 32
SIZE_WIDTH = 256
"""Channels that one number about the picture becomes."""


@dataclass(frozen=True)
class TextPart:
    """One text encoder of a family: where it is, and how it is read.

    name, open_clip, layer, normed, skips, pools: see `ClipEncoder`. activation: see `build_text_encoder`.
    cut: the last layer is never read and not loaded. projects: what is pooled goes through a projection.
    """

    name: str
    prefix: str
    activation: str = "quick_gelu"
    cut: bool = False
    open_clip: bool = False
    layer: int = 1
    normed: bool = True
    skips: Literal["always", "when asked", "never"] = "always"
    pools: bool = False
    projects: bool = False

    def encoder(self, module: Any) -> ClipEncoder:
        return ClipEncoder(self.name, module, self.open_clip, self.layer, self.normed, self.skips, self.pools)


@dataclass(frozen=True)
class UNetFamily(ModelFamily):
    """texts: in the order their vectors are joined. heads: of every level, or None for heads of `head_width`.

    sizes: how many numbers about the picture the network is told, each as 256 channels beside the pooled text.
    linear: see `UNetLayout`.
    """

    texts: tuple[TextPart, ...]
    model: type[UNetModel]
    heads: int | None = None
    head_width: int = 64
    sizes: int = 0
    linear: bool = True

    def open(self, file: ModelFile, family: str, capabilities: Capabilities) -> Blueprint:
        return UNetBlueprint(self, file, family, capabilities)


class UNetBlueprint(Blueprint):
    def __init__(self, kind: UNetFamily, file: ModelFile, family: str, capabilities: Capabilities):
        shapes, name = file.shapes, file.name
        layout = read_unet_layout(shapes, UNET_PREFIX, name, linear=kind.linear)
        vae_layout = read_vae_layout(shapes, VAE_PREFIX, name)
        texts = [read_text_layout(shapes, part.prefix, name) for part in kind.texts]
        if layout.out_channels != vae_layout.latent_channels:
            raise BadModelFile(
                f"{name} doesn't fit together: its U-Net works on {layout.out_channels} channels, "
                f"its VAE on {vae_layout.latent_channels}."
            )
        self.kind = kind
        super().__init__(
            file,
            family,
            replace(capabilities, latent_channels=vae_layout.latent_channels),
            texts=text_components(kind.texts, texts, file),
            network=_unet_component(kind, layout, capabilities.native_size // capabilities.downscale, file),
            vae=vae_component(vae_layout, capabilities, file),
        )
        _check_widths(kind, layout, texts, name)

    def assemble(self, placement: Placement) -> LoadedModel:
        pairs = zip(self.kind.texts, self.texts, strict=True)
        model = self.kind.model(
            checkpoint=self.file.checkpoint,
            family=self.family,
            capabilities=self.capabilities,
            placement=placement,
            unet=self.network.module,
            text_encoders=tuple(part.encoder(text.module) for part, text in pairs),
            vae=Vae(self.vae.module, self.capabilities.latent_scale),
            levels=noise_levels(self.file, self.capabilities),
        )
        if self.capabilities.prediction is None:
            prediction = predicts(model)
            native_size = (
                512 if prediction == "eps" and not self.file.hints.native_size else self.capabilities.native_size
            )
            model.capabilities = replace(self.capabilities, prediction=prediction, native_size=native_size)
        return model


class UNetModel(LoadedModel):
    """unet: UNet2DConditionModel."""

    def network(self, x: Tensor, timesteps: Tensor, cond: Cond) -> Tensor:
        if self.dtype == torch.float16:
            timesteps = timesteps.half()  # to half a step, as A1111; bf16 would round to four steps
        if cond.channels is not None:
            x = torch.cat([x, cond.channels.to(x.device)], dim=1)
        x, context = x.to(self.device, self.dtype), cond.context.to(self.device, self.dtype)
        more: dict[str, Any] = {}
        if cond.pooled is not None:
            more["added_cond_kwargs"] = {"vector": cond.pooled.to(self.device)}
        if cond.residuals is not None:
            more |= self._added(cond.residuals)
        return self.unet(x, timesteps.to(self.device), context, **more, return_dict=False)[0]

    def _added(self, residuals: Residuals) -> dict[str, Any]:
        """What control networks and adapters add, as diffusers' U-Net takes it."""
        down, inside = (
            [part.to(self.device, self.dtype) for part in parts] for parts in (residuals.down, residuals.inside)
        )
        added: dict[str, Any] = {}
        if residuals.mid is not None:
            mid = residuals.mid.to(self.device, self.dtype)
            added = {"down_block_additional_residuals": down, "mid_block_additional_residual": mid}
        if inside:
            added["down_intrablock_additional_residuals"] = inside
        return added


def predicts(model: LoadedModel) -> Literal["eps", "v"]:
    """What the network predicts, which the files of SD 2.x don't tell: asked on a flat input.

    A network that predicts noise answers with about what it was given, one that predicts v far below.
    Source: AUTOMATIC1111's test for SD 2.x.
    """
    capabilities = model.capabilities
    x = torch.full((1, capabilities.latent_channels, 8, 8), 0.5)
    with torch.inference_mode():
        answer = model.network(x, torch.tensor([999.0]), Cond(torch.full((1, 2, capabilities.context_width), 0.5)))
    return "v" if float((answer.float().cpu() - x).mean()) < -1 else "eps"


def noise_levels(file: ModelFile, capabilities: Capabilities) -> NoiseTable:
    """Of the betas that the hints name or the usual ones; CosXL's files bring the limits of an even range."""
    hints = file.hints
    if "edm_vpred.sigma_max" in file.shapes:
        lowest = file.tensors.tensor("edm_vpred.sigma_min").item() if "edm_vpred.sigma_min" in file.shapes else 0.002
        return EdmTable.of(float(lowest), float(file.tensors.tensor("edm_vpred.sigma_max").item()))
    alphas = scaled_linear_alphas_cumprod(hints.linear_start or 0.00085, hints.linear_end or 0.0120)
    levels = NoiseTable(alphas, published=capabilities.step_levels)
    return levels.zero_terminal_snr() if "ztsnr" in file.shapes or hints.zero_snr else levels


def text_components(parts: Sequence[TextPart], layouts: Sequence[TextLayout], file: ModelFile) -> list[Component]:
    told = (file.hints.text_heads, file.hints.text_heads_2)
    return [text_component(*each, file) for each in zip(parts, layouts, told, strict=False)]


def text_component(part: TextPart, layout: TextLayout, told_heads: int | None, file: ModelFile) -> Component:
    heads = told_heads or layout.usual_heads
    place = "cond_stage_config.params.num_attention_heads"
    _require_divisor(file.name, "text encoder", layout.width, heads, "attention heads", place)
    if part.cut and layout.open_clip:
        layout = layout.without_last()
    module = build_text_encoder(layout, heads, activation=part.activation, projected=part.projects)
    return Component("text encoder", module, text_sources(layout, module.state_dict(), file.shapes))


def _unet_component(kind: UNetFamily, layout: UNetLayout, sample_size: int, file: ModelFile) -> Component:
    hints, name = file.hints, file.name
    heads = _unet_heads(kind, layout, hints, name)
    groups = hints.norm_num_groups or USUAL_GROUPS
    for width in layout.widths:
        _require_divisor(name, "U-Net", width, groups, "norm groups", "unet_config.params.norm_num_groups")
    unet = build_unet(layout, heads, groups, sample_size)
    keys = ldm_unet_keys(layout, unet.state_dict())
    return Component("U-Net", unet, {key: Source(UNET_PREFIX + stored) for key, stored in keys.items()})


def _unet_heads(kind: UNetFamily, layout: UNetLayout, hints: Hints, name: str) -> tuple[int, ...]:
    """Attention heads per level."""
    count = hints.num_heads or (None if hints.num_head_channels else kind.heads)
    head_width = hints.num_head_channels or kind.head_width
    heads = tuple(count or max(width // head_width, 1) for width in layout.widths)
    for width, each in zip(layout.widths, heads, strict=True):
        _require_divisor(name, "U-Net", width, each, "attention heads", "unet_config.params.num_heads")
    return heads


def vae_component(
    layout: VaeLayout, capabilities: Capabilities, file: ModelFile, prefix: str = VAE_PREFIX
) -> Component:
    groups = file.hints.vae_norm_num_groups or USUAL_GROUPS
    place = "first_stage_config.params.ddconfig.norm_num_groups"
    for width in layout.widths:
        _require_divisor(file.name, "VAE", width, groups, "norm groups", place)
    vae = build_vae(layout, groups, capabilities.latent_scale, capabilities.native_size)
    keys = ldm_vae_keys(layout, vae.state_dict(), prefix, file.shapes)
    return Component("VAE", vae, {key: Source(stored) for key, stored in keys.items()})


def _check_widths(kind: UNetFamily, layout: UNetLayout, texts: Sequence[TextLayout], name: str) -> None:
    """Raises: BadModelFile when the text encoders don't give what the U-Net wants."""
    context = sum(text.width for text in texts)
    if layout.context_width != context:
        raise BadModelFile(
            f"{name} doesn't fit together: its U-Net wants text {layout.context_width} wide, "
            f"its text encoder gives {context}."
        )
    pooled = [text.projection or text.width for part, text in zip(kind.texts, texts, strict=True) if part.pools]
    vector = sum(pooled) + kind.sizes * SIZE_WIDTH
    if layout.vector_width != vector:
        raise BadModelFile(
            f"{name} doesn't fit together: its U-Net wants a vector of {layout.vector_width} channels beside the text, "
            f"{vector} are there."
        )


def _require_divisor(name: str, part: str, width: int, count: int, what: str, place: str) -> None:
    if width % count:
        raise BadModelFile(
            f"{name}: {width} channels of the {part} can't be split into {count} {what}; "
            f"say how many there are in the .yaml beside it (model.params.{place})."
        )
