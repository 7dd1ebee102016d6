"""The script Poor man's outpainting: the picture gets wider borders, which img2img paints tile by tile."""

import math
from dataclasses import replace
from typing import Literal

from PIL import Image

from webui.extensions.api import (
    Inpaint,
    InvalidRequest,
    Params,
    Script,
    Tiling,
    decoded_picture,
    encode_image,
    flattened,
    hookimpl,
    joined,
    param,
)

SIDES = ("left", "right", "up", "down")
FILLS = ("fill", "original", "latent noise", "latent nothing")
STEP = 64
"""The wider picture's sides are multiples of it."""


class PoorMansOutpainting(Params, title="Poor man's outpainting"):
    """Paints more picture around the picture; width and height are the size of a tile.

    pixels: to add on each side that is chosen, or a little more. mask_blur: pixels.
    """

    pixels: int = param(128, label="Pixels to expand", ge=8, le=4096, slider=(8, 256, 8))
    mask_blur: int = param(4, label="Mask blur", ge=0, le=256, slider=(0, 64, 1))
    inpainting_fill: Literal["fill", "original", "latent noise", "latent nothing"] = param(
        "fill", label="Masked content", choices=FILLS, kind="radio"
    )
    direction: tuple[Literal["left", "right", "up", "down"], ...] = param(
        SIDES, label="Outpainting direction", choices=SIDES
    )

    @classmethod
    def from_api(cls, args):
        """A1111's masked content is a number."""
        values = dict(super().from_api(args))
        fill = values.get("inpainting_fill")
        if isinstance(fill, int) and 0 <= fill < len(FILLS):
            values["inpainting_fill"] = FILLS[fill]
        return values


@hookimpl
def register_choices(choices):
    choices.add(Script("Poor man's outpainting", run=run, params=PoorMansOutpainting, tabs=["img2img"]))


def run(request, job):
    """One picture whatever the batch; each tile is a seed higher than the last one."""
    values, settings = request.extension(PoorMansOutpainting), job.settings.replace(**request.overrides)
    if not values.direction:
        raise InvalidRequest("Outpainting direction names no side; choose at least one.")
    start = flattened(decoded_picture(request.image.images[0]), settings["img2img_background_color"])
    left, top, *size = frame(start.size, values.pixels, values.direction)
    box = (left, top, left + start.width, top + start.height)
    wide = Image.new("RGB", size)
    wide.paste(start, box)
    tiling = tiling_of(wide.size, values.pixels, request)
    tiles = [wide.crop(place) for place in tiling.boxes()]
    todo = [number for number, place in enumerate(tiling.boxes()) if not within(place, box)]
    masks = [hidden(wide.size, box, blur) for blur in (values.mask_blur * 2, values.mask_blur // 2)]
    results = []
    for number in todo:
        if job.interrupted or job.stopping:
            break
        cut = [as_png(mask.crop(tiling.boxes()[number])) for mask in masks]
        asked = tile_request(request, values, tiling.tile, as_png(tiles[number]), cut, len(results))
        result = job.child(1 / len(todo)).generate(asked, save=False)
        if not result.pictures:
            break
        results.append(result)
        tiles[number] = result.pictures[0].convert("RGB")
    if not results:
        return joined(results)
    saved = job.save_picture(tiling.joined(tiles), request, results[0].images[0].infotext)
    return told(request, saved, results)


def frame(size, pixels, sides):
    """(left, top, width, height): where the picture lies in the wider one, and how large that is."""
    placed = []
    for length, before, after in zip(size, ("left", "up"), ("right", "down"), strict=True):
        borders = [pixels if side in sides else 0 for side in (before, after)]
        whole = math.ceil((length + sum(borders)) / STEP) * STEP
        placed.append((borders[0] * (whole - length) // sum(borders) if any(borders) else 0, whole))
    (left, width), (top, height) = placed
    return left, top, width, height


def tiling_of(size, overlap, request):
    try:
        return Tiling.of(size, (request.width, request.height), overlap)
    except ValueError:
        raise InvalidRequest(
            f"Pixels to expand, {overlap}, must be less than the tiles' sides, which are {request.width}x"
            f"{request.height}."
        ) from None


def within(place, box):
    return place[0] >= box[0] and place[1] >= box[1] and place[2] <= box[2] and place[3] <= box[3]


def hidden(size, box, blur):
    """White where is painted: outside the box, and up to `blur` pixels into it where there is something outside."""
    (width, height), (left, top, right, bottom) = size, box
    mask = Image.new("L", size, 255)
    inner = (
        left + (blur if left > 0 else 0),
        top + (blur if top > 0 else 0),
        right - (blur if right < width else 0) + 1,
        bottom - (blur if bottom < height else 0) + 1,
    )
    if inner[0] < inner[2] and inner[1] < inner[3]:
        mask.paste(0, inner)
    return mask


def as_png(image):
    return encode_image(image, "png", None)


def tile_request(request, values, size, picture, masks, number):
    """The request of a tile. masks: encoded, the one for the picture and the one for the latent."""
    blur = values.mask_blur * 2
    painted = Inpaint(
        mask=masks[0],
        latent_mask=masks[1],
        blur_x=blur,
        blur_y=blur,
        fill=FILLS.index(values.inpainting_fill),
        soft=request.image.inpaint.soft if request.image.inpaint else None,
    )
    return request.replace(
        image=request.image.replace(images=(picture,), inpaint=painted),
        width=size[0],
        height=size[1],
        seed=request.seed + number,
        batch_size=1,
        batch_count=1,
    )


def told(request, saved, results):
    """The picture with the first tile's facts."""
    comments = list(dict.fromkeys(comment for one in (*results, saved) for comment in one.comments))
    if request.batch_size * request.batch_count > 1:
        comments.append("Poor man's outpainting makes one picture, whatever the batch count and size.")
    if request.image.inpaint is not None:
        comments.append("Poor man's outpainting has masks of its own; the mask has no effect.")
    first = results[0].info
    info = {**first, "infotexts": [saved.images[0].infotext], "index_of_first_image": 0}
    return replace(saved, info=info, comments=tuple(comments))
