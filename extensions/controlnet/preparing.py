"""Maps for a pass; imported in the worker only."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import torch

from . import finishing, maps, sizes
from .correcting import Corrector, KeepsColours, KeepsOutside
from .steering import Guide
from .units import RESIZE_MODES, ControlNet, Unit

MAPS = "controlnet.maps"


def guides_for(group: ControlNet, this_pass: Any) -> list[Guide]:
    """Every enabled unit that takes part in this pass, with its map at the pass's size.

    The maps are left in the job's state under (number of the unit, 0 for the first pass and 1 for the second).
    """
    is_second = this_pass.kind == "hires"
    plan = this_pass.plan
    kept = this_pass.state.setdefault(MAPS, {})
    guides = []
    for number, unit in enumerate(group.enabled):
        source, mode = _input(unit, number, this_pass)
        unit = unit.replace(resize_mode=mode)
        wanted = [(0, plan.first)] + ([(1, plan.hires.sampling)] if plan.hires else [])
        hints = {}
        for place, sampling in wanted:
            request = _request(this_pass, sampling)
            found = maps.fitted(unit, maps.detected(unit, source, request, this_pass.models), request)
            kept.setdefault((number, place), maps.picture_of(found))
            hints[place] = _lasting(this_pass, number, place, found)
        if unit.hr_option != "Both" and (unit.hr_option == "High res only") != is_second:
            continue
        hint, shown = hints[1 if is_second else 0], kept[number, 1 if is_second else 0]
        corrector = _corrector(unit, shown, this_pass, is_second)
        guides.append(Guide(unit, hint, hints[0], _region(unit, number), is_second, corrector))
    return guides


def _request(this_pass: Any, sampling: Any) -> maps.Request:
    plan = this_pass.plan
    width, height = sizes.generation_size(sampling.width, sampling.height)
    asked = plan.request.variation.seed
    first = plan.seeds[0]
    return maps.Request(width, height, first + (first if asked == -1 else asked))


def _lasting(this_pass: Any, number: int, place: int, found: Any) -> torch.Tensor:
    """The same tensor in every batch, so that a network that has read it needn't again."""
    key = ("controlnet.hint", number, place)
    if key not in this_pass.state:
        this_pass.state[key] = maps.hint(found)
    return this_pass.state[key]


def _input(unit: Unit, number: int, this_pass: Any) -> tuple[Any, str]:
    """The unit's picture, or the one that img2img starts from, and how it is brought to size.

    What is inpainted alone is cut out of both alike.
    """
    request = this_pass.plan.request
    image, masking = request.image, None
    mode = unit.resize_mode
    own = None
    if image is not None and this_pass.source is not None and this_pass.source.canvas is not None:
        masking = this_pass.source.canvas.masking
        if unit.image is None:
            own = maps.opaque(image.images[0], "The picture")
            mode = RESIZE_MODES[min(image.resize_mode, 2)] if image.resize_mode < 3 else RESIZE_MODES[0]
            if unit.preprocessor.masked and image.inpaint is not None:
                own = maps.with_mask(own, _own_mask(image.inpaint))
    found = maps.read_input(unit, number, own)
    crops = unit.image is None or unit.inpaint_crop_input_image
    if masking is not None and masking.box is not None and crops:
        found = maps.cropped(
            found, RESIZE_MODES.index(mode), masking.shown.size, masking.box.corners, this_pass.plan.first
        )
    return found, mode


def _own_mask(inpaint: Any) -> Any:
    """(H, W) uint8 of img2img's mask, as it is before it is brought to size."""
    mask = np.asarray(maps.decoded_picture(inpaint.mask, "The mask").convert("L"))
    if inpaint.invert:
        mask = 255 - mask
    for blur, shape in ((inpaint.blur_x, (1, 0)), (inpaint.blur_y, (0, 1))):
        if blur > 0:
            size = 2 * int(2.5 * blur + 0.5) + 1
            kernel = (size, 1) if shape == (1, 0) else (1, size)
            mask = cv2.GaussianBlur(mask, kernel, blur)
    return mask


def _corrector(unit: Unit, shown: Any, this_pass: Any, is_second: bool) -> Corrector | None:
    """What corrects the network's output by the unit's picture, which `shown` is at the size of the pass."""
    name, model = unit.preprocessor.id, this_pass.model
    inpaints = this_pass.plan.request.image is not None and this_pass.plan.request.image.inpaint is not None
    if name not in ("tile_colorfix", "tile_colorfix+sharp") and (name != "inpaint_only" or inpaints):
        return None
    pixels = np.asarray(shown)
    colors = torch.from_numpy(pixels[:, :, :3].astype(np.float32)).permute(2, 0, 1)[None] / 255
    with torch.inference_mode():
        latent = model.encode((colors * 2 - 1).to(model.device)).float()
    if name == "inpaint_only":
        mask = torch.from_numpy(maps.mask_of(pixels))[None, None]
        return KeepsOutside(model, latent, unit.weight, mask)
    radius = int(unit.a) * (2 if is_second else 1)
    return KeepsColours(model, latent, unit.weight, radius, unit.b if name.endswith("+sharp") else 0.0)


def finished(picture: Any, group: ControlNet, this_pass: Any) -> Any:
    """A finished picture as those preprocessors want it that have the last word."""
    maps_found = this_pass.state.get(MAPS, {})
    inpaints = this_pass.plan.request.image is not None and this_pass.plan.request.image.inpaint is not None
    for number, unit in enumerate(group.enabled):
        name = unit.preprocessor.id
        found = maps_found.get((number, 1)) or maps_found.get((number, 0))
        if found is None or found.size != picture.size or unit.weight == 0:
            continue
        if name.startswith("recolor_"):
            picture = finishing.recoloured(picture, found, name)
        elif name == "inpaint_only" and not inpaints:
            picture = finishing.kept_outside(picture, found)
    return picture


def _region(unit: Unit, number: int) -> torch.Tensor | None:
    if unit.effective_region_mask is None:
        return None
    mask = maps.levels(unit.effective_region_mask, f"The region mask of ControlNet unit {number}")
    return torch.from_numpy(np.ascontiguousarray(mask)).float()[None, None] / 255
