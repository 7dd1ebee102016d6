"""What img2img starts from: the pictures and their mask brought to size, then their latents."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageOps
from torch import Tensor

from webui.core.errors import InvalidRequest
from webui.core.pictures import decoded_picture, flattened
from webui.core.request import Inpaint
from webui.diffusion.noise import ImageNoise, RandomSource
from webui.models.families.base import LoadedModel
from webui.pipeline.from_image.image_input import (
    JUST_RESIZE,
    LATENT_UPSCALE,
    RESIZE_AND_FILL,
    fitted,
)
from webui.pipeline.from_image.masks import (
    Box,
    blurred,
    covered,
    filled,
    latent_weights,
    only_masked_box,
    read_mask,
    strengthened,
)
from webui.pipeline.postprocess import to_tensor
from webui.pipeline.upscaling import Enlarger
from webui.planning.plan import GenerationPlan

FILL, ORIGINAL, LATENT_NOISE, LATENT_NOTHING = range(4)
MASKED_CONTENT = {FILL: "fill", LATENT_NOISE: "latent noise", LATENT_NOTHING: "latent nothing"}
BLANK_MASK = 'The mask is empty, so "Only masked" has nothing to paint; the whole picture was painted instead.'


@dataclass(frozen=True)
class Masking:
    """A mask at the sizes that are needed.

    mask: of the size that is painted. latent_mask: the same, or the one given for the latent alone.
    shown: where the original is hidden afterwards. box: the part of the original that is painted, None for all.
    """

    mask: Image.Image
    latent_mask: Image.Image
    shown: Image.Image
    box: Box | None = None


@dataclass(frozen=True)
class Canvas:
    """The pictures that are painted on; each of the tuples holds one for the whole batch, or one an image.

    pictures: RGB, as they are encoded. originals: RGB, of the size that the result has.
    overlays: RGBA, what stays of the originals; none without a mask.
    """

    pictures: tuple[Image.Image, ...]
    originals: tuple[Image.Image, ...]
    overlays: tuple[Image.Image, ...] = ()
    masking: Masking | None = None

    def part(self, first: int, end: int) -> Canvas:
        """The canvas of some pictures of the batch."""
        return replace(
            self,
            pictures=_some(self.pictures, first, end),
            originals=_some(self.originals, first, end),
            overlays=_some(self.overlays, first, end),
        )


@dataclass(frozen=True)
class Source:
    """Where a pass starts.

    latents: (B, C, h, w) clean. pictures: (1 or B, 3, H, W) in [-1, 1], for models that read a picture beside the
    latent; None shows them none. picture_mask: (1, 1, H, W) in 0..1, where it is painted anew; None for everywhere.
    mask: (1, 1, h, w) in 0..1, where the latent is painted anew; None for everywhere.
    """

    latents: Tensor
    pictures: Tensor | None = None
    picture_mask: Tensor | None = None
    mask: Tensor | None = None
    canvas: Canvas | None = None

    def part(self, first: int, end: int) -> Source:
        """The start of some pictures of the batch, from number `first` of it up to `end`."""
        if (first, end) == (0, len(self.latents)):
            return self
        pictures = self.pictures
        if pictures is not None and len(pictures) > 1:
            pictures = pictures[first:end]
        canvas = self.canvas.part(first, end) if self.canvas else None
        return replace(self, latents=self.latents[first:end], pictures=pictures, canvas=canvas)


def _some(pictures: tuple[Image.Image, ...], first: int, end: int) -> tuple[Image.Image, ...]:
    return pictures[first:end] if len(pictures) > 1 else pictures


def rounds_mask(inpaint: Inpaint) -> bool:
    return inpaint.round_mask and inpaint.soft is None


def make_masking(plan: GenerationPlan, inpaint: Inpaint) -> Masking | None:
    """The request's mask, None when it is empty and only what is masked should be painted."""
    assert plan.request.image is not None
    size = plan.first.width, plan.first.height
    mask = read_mask(decoded_picture(inpaint.mask, "The mask"), rounded=rounds_mask(inpaint))
    if inpaint.invert:
        mask = ImageOps.invert(mask)
    mask = blurred(mask, inpaint.blur_x, inpaint.blur_y)
    given = (
        read_mask(decoded_picture(inpaint.latent_mask, "latent_mask"), rounded=False) if inpaint.latent_mask else None
    )
    if not inpaint.only_masked:
        mode = _pixel_mode(plan.request.image.resize_mode)
        whole = fitted(mask, mode, *size)
        return Masking(whole, fitted(given, mode, *size) if given else whole, strengthened(whole))
    box = only_masked_box(mask, inpaint.padding, *size)
    if box is None:
        return None
    part = _part(mask, box, size)
    return Masking(part, _part(given, box, size) if given else part, mask, box)


def make_canvas(
    plan: GenerationPlan, inputs: Sequence[Image.Image], masking: Masking | None, enlarger: Enlarger | None = None
) -> Canvas:
    """The input pictures at the size that is painted, and what is laid over the result.

    enlarger: how a picture is enlarged where it has to grow.
    Raises: InvalidRequest for a mask of another size than the picture that it says a part of.
    """
    asked = plan.request.image
    assert asked is not None
    size = plan.first.width, plan.first.height
    pictures, originals = [], []
    for image in inputs:
        opaque = flattened(image, plan.settings["img2img_background_color"])
        box = masking.box if masking else None
        if box is not None:
            assert masking is not None
            _require_size(opaque, masking.shown)
            original, picture = opaque, fitted(opaque.crop(box.corners), RESIZE_AND_FILL, *size, enlarger)
        else:
            original = fitted(opaque, _pixel_mode(asked.resize_mode), *size, enlarger)
            picture = opaque if asked.resize_mode == LATENT_UPSCALE else original
        if masking is not None and asked.inpaint is not None and asked.inpaint.fill != ORIGINAL:
            picture = filled(picture, fitted(masking.latent_mask, JUST_RESIZE, *picture.size))
        pictures.append(picture)
        originals.append(original)
    overlays = [covered(original, masking.shown) for original in originals] if masking else []
    return Canvas(tuple(pictures), tuple(originals), tuple(overlays), masking)


def inpaint_fields(inpaint: Inpaint, masking: Masking | None) -> dict[str, object]:
    """What the infotext says about a mask; None ones are left out."""
    fields: dict[str, object] = {}
    if inpaint.soft is not None:
        fields["Soft inpainting enabled"] = True
        fields |= {str(spec.infotext): getattr(inpaint.soft, spec.name) for spec in type(inpaint.soft).specs()}
    equal = inpaint.blur_x == inpaint.blur_y
    fields["Mask mode"] = "Inpaint not masked" if inpaint.invert else None
    fields["Mask blur"] = inpaint.blur_x if equal and inpaint.blur_x else None
    if masking is not None:
        fields["Inpaint area"] = "Only masked" if masking.box else None
        fields["Masked area padding"] = inpaint.padding if masking.box else None
        fields["Masked content"] = MASKED_CONTENT.get(inpaint.fill)
    return fields


def encoded(canvas: Canvas, plan: GenerationPlan, model: LoadedModel) -> Source:
    """The canvas in latents, for every batch of the job alike.

    The encoder draws its noise from the seeds of the pictures, so that the same request gives the same bytes.
    """
    asked = plan.request.image
    assert asked is not None
    size = plan.first.height // 8, plan.first.width // 8
    tensors = [to_tensor(picture)[None].to(model.device) for picture in canvas.pictures]
    with torch.inference_mode():
        parts = [
            model.encode(tensor, torch.Generator().manual_seed(seed))
            for tensor, seed in zip(tensors, plan.seeds, strict=False)
        ]
        if asked.resize_mode == LATENT_UPSCALE:
            parts = [F.interpolate(part, size=size, mode="bilinear") for part in parts]
            tensors = [to_tensor(original)[None].to(model.device) for original in canvas.originals]
        latents, pictures = torch.cat(parts).float(), torch.cat(tensors)
        count = plan.request.batch_size
        latents = latents.repeat(count, 1, 1, 1) if len(latents) == 1 else latents
        if canvas.masking is None or asked.inpaint is None:
            return Source(latents, pictures, canvas=canvas)
        rounded = rounds_mask(asked.inpaint)
        weights = latent_weights(canvas.masking.latent_mask, size[1], size[0], rounded=rounded)
        mask = torch.from_numpy(weights)[None, None].to(latents.device)
        latents = _refilled(latents, mask, asked.inpaint.fill, plan, model)
    return Source(latents, pictures, _as_tensor(canvas.masking.mask, rounded).to(model.device), mask, canvas)


def _refilled(latents: Tensor, mask: Tensor, fill: int, plan: GenerationPlan, model: LoadedModel) -> Tensor:
    """The latents with noise of the first batch's seeds, or nothing, in the mask."""
    if fill == LATENT_NOISE:
        count, *shape = latents.shape
        source = RandomSource(plan.settings["randn_source"], model.device)
        noise = ImageNoise((shape[0], shape[1], shape[2]), plan.seeds[:count], source).next()
        return latents * (1 - mask) + noise.to(latents.device) * mask
    return latents * (1 - mask) if fill == LATENT_NOTHING else latents


def _as_tensor(mask: Image.Image, rounded: bool) -> Tensor:
    """(1, 1, H, W) float32 in 0..1."""
    values = torch.from_numpy(np.asarray(mask, dtype=np.float32) / 255)[None, None]
    return values.round() if rounded else values


def _part(mask: Image.Image, box: Box, size: tuple[int, int]) -> Image.Image:
    return fitted(mask.crop(box.corners), RESIZE_AND_FILL, *size)


def _pixel_mode(resize_mode: int) -> int:
    """How pixels go where a latent is stretched: they are stretched, too."""
    return JUST_RESIZE if resize_mode == LATENT_UPSCALE else resize_mode


def _require_size(image: Image.Image, mask: Image.Image) -> None:
    if image.size != mask.size:
        raise InvalidRequest(
            f"The mask has {mask.width} x {mask.height} pixels and the picture {image.width} x {image.height}; "
            'for "Only masked" they must be of the same size.'
        )
