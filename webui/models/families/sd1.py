"""Stable Diffusion 1.x: CLIP text encoder, U-Net with one transformer a block, 4-channel VAE.

Any width and depth of that graph loads; the usual sizes are 320 channels, 768-wide text, 512 pixels.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor

from webui.catalog.model_hints import Hints
from webui.catalog.shapes import Shapes
from webui.core.errors import BadModelFile
from webui.diffusion.denoiser import Cond
from webui.diffusion.schedules import scaled_linear_alphas_cumprod
from webui.models.clip_text import TextLayout, build_text_encoder, read_text_layout, stored_text_keys, text_prefix
from webui.models.components import Component
from webui.models.devices import Placement
from webui.models.families.base import Blueprint, Capabilities, LoadedModel, ModelFamily, ModelFile
from webui.models.ldm_unet import UNetLayout, build_unet, ldm_unet_keys, read_unet_layout
from webui.models.ldm_vae import VaeLayout, build_vae, ldm_vae_keys, read_vae_layout
from webui.models.text_encoders import ClipEncoder
from webui.models.vae import Vae

UNET_PREFIX = "model.diffusion_model."
VAE_PREFIX = "first_stage_model."
TEXT_PREFIX = "cond_stage_model.transformer."

DOWNSCALE = 8
USUAL_HEADS = 8
USUAL_GROUPS = 32
USUAL_SIZE = 512
USUAL_SCALE = 0.18215
INPUT_KINDS: Mapping[int, Literal["plain", "inpaint", "edit"]] = {4: "plain", 9: "inpaint", 8: "edit"}


class SD1(ModelFamily):
    id = "sd1"
    title = "Stable Diffusion 1.x"

    def detect(self, shapes: Shapes) -> bool:
        text = any(key.startswith(TEXT_PREFIX) for key in shapes)
        return text and f"{UNET_PREFIX}input_blocks.0.0.weight" in shapes

    def open(self, file: ModelFile) -> Blueprint:
        return SD1Blueprint(file)


class SD1Blueprint(Blueprint):
    family = SD1.id

    def __init__(self, file: ModelFile):
        shapes, hints, name = file.shapes, file.hints, file.name
        text_keys_at = text_prefix(shapes, TEXT_PREFIX)
        unet_layout = read_unet_layout(shapes, UNET_PREFIX, name)
        vae_layout = read_vae_layout(shapes, VAE_PREFIX, name)
        text_layout = read_text_layout(shapes, text_keys_at, name)
        input_kind = _input_kind(unet_layout, name)
        native_size = hints.native_size or USUAL_SIZE
        scale = hints.latent_scale or USUAL_SCALE

        unet_heads = _unet_heads(unet_layout, hints, name)
        unet = build_unet(unet_layout, unet_heads, _unet_groups(unet_layout, hints, name), native_size // DOWNSCALE)
        vae = build_vae(vae_layout, _vae_groups(vae_layout, hints, name), scale, native_size)
        text = build_text_encoder(text_layout, _text_heads(text_layout, hints, name))
        self.file = file
        self._unet = Component(
            "U-Net", unet, {k: UNET_PREFIX + v for k, v in ldm_unet_keys(unet_layout, unet.state_dict()).items()}
        )
        self._vae = Component("VAE", vae, ldm_vae_keys(vae_layout, vae.state_dict(), VAE_PREFIX, shapes))
        self._text = Component("text encoder", text, stored_text_keys(text.state_dict(), text_keys_at))
        for component in (self._unet, self._vae, self._text):
            component.check(file.tensors)
        if unet_layout.context_width != text_layout.width:
            raise BadModelFile(
                f"{name} doesn't fit together: its U-Net wants text {unet_layout.context_width} wide, "
                f"its text encoder gives {text_layout.width}."
            )
        self.capabilities = Capabilities(
            prediction=hints.prediction or "eps",
            context_width=unet_layout.context_width,
            latent_channels=vae_layout.latent_channels,
            latent_scale=scale,
            native_size=native_size,
            input_kind=input_kind,
        )

    def weight_bytes(self, placement: Placement) -> int:
        return (
            self._unet.weight_bytes(placement.unet)
            + self._vae.weight_bytes(placement.vae)
            + self._text.weight_bytes(placement.text)
        )

    def load(self, placement: Placement) -> LoadedModel:
        tensors, device, hints = self.file.tensors, placement.device, self.file.hints
        self._text.fill(tensors, placement.text, device)
        self._unet.fill(tensors, placement.unet, device, placement.channels_last)
        self._vae.fill(tensors, placement.vae, device, placement.channels_last)
        return SD1Model(
            checkpoint=self.file.checkpoint,
            family=self.family,
            capabilities=self.capabilities,
            placement=placement,
            unet=self._unet.module,
            text_encoders=(ClipEncoder("clip_l", self._text.module),),
            vae=Vae(self._vae.module, self.capabilities.latent_scale),
            alphas_cumprod=scaled_linear_alphas_cumprod(hints.linear_start or 0.00085, hints.linear_end or 0.0120),
        )


class SD1Model(LoadedModel):
    """unet: UNet2DConditionModel."""

    def network(self, x: Tensor, timesteps: Tensor, cond: Cond) -> Tensor:
        if self.dtype == torch.float16:
            timesteps = timesteps.half()  # to half a step, as A1111; bf16 would round to four steps
        if cond.channels is not None:
            x = torch.cat([x, cond.channels.to(x.device)], dim=1)
        x, context = x.to(self.device, self.dtype), cond.context.to(self.device, self.dtype)
        return self.unet(x, timesteps.to(self.device), context, return_dict=False)[0]


def _input_kind(layout: UNetLayout, name: str) -> Literal["plain", "inpaint", "edit"]:
    """What the U-Net reads beside x: nothing, an inpainting model's five channels, or a picture's four."""
    if layout.in_channels == 5:
        raise BadModelFile(f"{name} is a depth checkpoint; these are not supported yet by this version.")
    if layout.in_channels not in INPUT_KINDS or layout.out_channels != 4:
        raise BadModelFile(
            f"{name} takes {layout.in_channels} and answers {layout.out_channels} channels; "
            "Stable Diffusion 1.x has 4 of each."
        )
    return INPUT_KINDS[layout.in_channels]


def _unet_heads(layout: UNetLayout, hints: Hints, name: str) -> tuple[int, ...]:
    """Attention heads per level."""
    if hints.num_head_channels and not hints.num_heads:
        heads = tuple(max(width // hints.num_head_channels, 1) for width in layout.widths)
    else:
        heads = (hints.num_heads or USUAL_HEADS,) * len(layout.widths)
    for width, count in zip(layout.widths, heads, strict=True):
        _require_divisor(name, "U-Net", width, count, "attention heads", "unet_config.params.num_heads")
    return heads


def _unet_groups(layout: UNetLayout, hints: Hints, name: str) -> int:
    groups = hints.norm_num_groups or USUAL_GROUPS
    for width in layout.widths:
        _require_divisor(name, "U-Net", width, groups, "norm groups", "unet_config.params.norm_num_groups")
    return groups


def _vae_groups(layout: VaeLayout, hints: Hints, name: str) -> int:
    groups = hints.vae_norm_num_groups or USUAL_GROUPS
    place = "first_stage_config.params.ddconfig.norm_num_groups"
    for width in layout.widths:
        _require_divisor(name, "VAE", width, groups, "norm groups", place)
    return groups


def _text_heads(layout: TextLayout, hints: Hints, name: str) -> int:
    heads = hints.text_heads or layout.usual_heads
    place = "cond_stage_config.params.num_attention_heads"
    _require_divisor(name, "text encoder", layout.width, heads, "attention heads", place)
    return heads


def _require_divisor(name: str, part: str, width: int, count: int, what: str, place: str) -> None:
    if width % count:
        raise BadModelFile(
            f"{name}: {width} channels of the {part} can't be split into {count} {what}; "
            f"say how many there are in the .yaml beside it (model.params.{place})."
        )
