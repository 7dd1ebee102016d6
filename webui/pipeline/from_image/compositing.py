"""From what was painted to the finished picture: colours, and the original over what the mask leaves."""

from __future__ import annotations

from collections.abc import Sequence

from PIL import Image
from torch import Tensor

from webui.core.results import Picture
from webui.pipeline.from_image.color_correction import corrected
from webui.pipeline.from_image.masks import laid_over
from webui.pipeline.from_image.soft_inpainting import change_masks
from webui.pipeline.from_image.source import Canvas, Source
from webui.planning.plan import GenerationPlan


def composed(
    images: Sequence[Image.Image],
    samples: Tensor,
    source: Source | None,
    plan: GenerationPlan,
    color_reference: Image.Image | None = None,
) -> list[Picture]:
    """The finished pictures of a batch.

    images: as decoded from `samples`. color_reference: whose colours all take over, if not those of what each started
    from.
    """
    if source is None or source.canvas is None:
        return [Picture(image) for image in images]
    canvas = source.canvas
    masks, overlays = _masks_and_overlays(canvas, source, samples, plan, len(images))
    pictures = []
    for index, image in enumerate(images):
        overlay, box = overlays[index], canvas.masking.box if canvas.masking else None
        uncorrected = None
        if plan.settings["img2img_color_correction"]:
            uncorrected = image if overlay is None else laid_over(image, overlay, box)[0]
            image = corrected(image, color_reference or _of(canvas.pictures, index))
        finished, painted = (image, image) if overlay is None else laid_over(image, overlay, box)
        mask = masks[index]
        shown = painted if mask else None
        pictures.append(Picture(finished, mask=mask, painted=shown, uncorrected=uncorrected))
    return pictures


def _masks_and_overlays(
    canvas: Canvas, source: Source, samples: Tensor, plan: GenerationPlan, count: int
) -> tuple[Sequence[Image.Image | None], Sequence[Image.Image | None]]:
    """Each picture's mask, and what is laid over it; None for none."""
    if canvas.masking is None:
        return (None,) * count, (None,) * count
    inpaint = plan.request.image.inpaint if plan.request.image else None
    assert inpaint is not None
    assert source.mask is not None, "a canvas with a mask has one for its latents"
    masks: Sequence[Image.Image] = (canvas.masking.shown,) * count
    overlays: Sequence[Image.Image | None] = [_of(canvas.overlays, index) for index in range(count)]
    if inpaint.soft is not None:
        originals = [_of(canvas.originals, index).convert("RGBA") for index in range(count)]
        size = plan.first.width, plan.first.height
        pairs = change_masks(source.latents, samples, source.mask, inpaint.soft, originals, size, canvas.masking.box)
        masks, overlays = [mask for mask, _ in pairs], [overlay for _, overlay in pairs]
    return masks, overlays if plan.settings["overlay_inpaint"] else (None,) * count


def _of(pictures: Sequence[Image.Image], index: int) -> Image.Image:
    return pictures[index] if len(pictures) > 1 else pictures[0]
