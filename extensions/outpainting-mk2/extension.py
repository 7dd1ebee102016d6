"""The script Outpainting mk2: the picture grows side by side into noise that has its colours and its texture."""

import math
from dataclasses import replace
from typing import Literal

from PIL import Image

from webui.extensions.api import (
    Inpaint,
    InvalidRequest,
    Params,
    Script,
    decoded_picture,
    encode_image,
    flattened,
    grid_rows,
    hookimpl,
    joined,
    make_grid,
    param,
)

from .noise import continued

SIDES = ("left", "right", "up", "down")
ORIGINAL = 1
"""What the masked part begins with: what is there, which is the noise."""
STEP = 64
"""Sides of what is painted are multiples of it."""


class OutpaintingMk2(Params, title="Outpainting mk2"):
    """Recommended: Euler a, 80 to 100 steps, denoising strength 0.8.

    pixels: to add on each side that is chosen, or a little more. noise_q: how much more the strong frequencies of the
    picture count in the noise. color_variation: 0 is grey noise.
    """

    pixels: int = param(128, label="Pixels to expand", ge=8, le=4096, slider=(8, 256, 8))
    mask_blur: int = param(8, label="Mask blur", ge=0, le=256, slider=(0, 64, 1))
    direction: tuple[Literal["left", "right", "up", "down"], ...] = param(
        SIDES, label="Outpainting direction", choices=SIDES
    )
    noise_q: float = param(1.0, label="Fall-off exponent (lower=higher detail)", ge=0, le=4, step=0.01)
    color_variation: float = param(0.05, label="Color variation", ge=0, le=1, step=0.01)

    @classmethod
    def from_api(cls, args):
        """In A1111's list a sentence for the reader comes first."""
        return super().from_api(args[1:] if isinstance(args, list) else args)


@hookimpl
def register_choices(choices):
    choices.add(Script("Outpainting mk2", run=run, params=OutpaintingMk2, tabs=["img2img"]))


def run(request, job):
    """Each batch grows from the request's picture, to the left, right, top and bottom."""
    values, settings = request.extension(OutpaintingMk2), job.settings.replace(**request.overrides)
    if not values.direction:
        raise InvalidRequest("Outpainting direction names no side; choose at least one.")
    start = flattened(decoded_picture(request.image.images[0]), settings["img2img_background_color"])
    borders = borders_of(start.size, values.pixels, values.direction)
    sides = [side for side in SIDES if borders[side]]
    made, wholes = [], []
    for number in range(request.batch_count):
        own = request.replace(seed=request.seed + number * request.batch_size)
        pictures, results = [start] * request.batch_size, []
        for side in sides:
            part = job.child(1 / (len(sides) * request.batch_count))
            pictures, result = grow(pictures, side, borders, own, part)
            results.append(result)
            if job.interrupted or job.stopping or not result.pictures:
                break
        made += results
        if results[0].images:
            wholes += [job.save_picture(picture, own, results[0].images[0].infotext) for picture in pictures]
        if job.interrupted or job.stopping or wholes[-1].out_of_space:
            break
    return told(request, wholes, made, job, settings)


def borders_of(size, pixels, sides):
    """Pixels to add on each side, in all so many that the picture's sides are multiples of STEP."""
    found = {}
    for length, before, after in zip(size, ("left", "up"), ("right", "down"), strict=True):
        first, second = (pixels if side in sides else 0 for side in (before, after))
        added = math.ceil((length + first + second) / STEP) * STEP - length if first or second else 0
        found[before] = first * added // (first + second) if added else 0
        found[after] = added - found[before]
    return found


def grow(pictures, side, borders, request, job):
    """(the pictures, larger on that side, the result that this comes from)."""
    values, added, size = request.extension(OutpaintingMk2), borders[side], pictures[0].size
    upright, blur = side in ("up", "down"), values.mask_blur
    grown = (size[0], size[1] + added) if upright else (size[0] + added, size[1])
    canvas = tuple(math.ceil(length / STEP) * STEP for length in grown)
    mask = hidden(canvas, side, added + blur, grown)
    view = view_of(side, canvas, (request.width, request.height), grown)
    wide = []
    for picture in pictures:
        image = Image.new("RGB", canvas)
        image.paste(picture, (added if side == "left" else 0, added if side == "up" else 0))
        wide.append(continued(image, mask, values.noise_q, values.color_variation))
    part = (view[2] - view[0], view[3] - view[1])
    painted = Inpaint(
        mask=as_png(mask.crop(view)),
        latent_mask=as_png(hidden(part, side, added + blur * 2, grown)),
        fill=ORIGINAL,
        blur_x=blur * 4 if borders["left"] or borders["right"] else 0,
        blur_y=blur * 4 if borders["up"] or borders["down"] else 0,
        soft=request.image.inpaint.soft if request.image.inpaint else None,
    )
    asked = request.replace(
        image=request.image.replace(images=tuple(as_png(image.crop(view)) for image in wide), inpaint=painted),
        width=part[0],
        height=part[1],
        batch_count=1,
        save_grid=False,
    )
    result = job.generate(asked, save=False)
    for image, made in zip(wide, result.pictures, strict=False):
        image.paste(made, view[:2])
    return [image.crop((0, 0, *grown)) for image in wide], result


def hidden(size, side, reach, grown):
    """White where is painted: `reach` pixels from that side, and what lies beyond the grown picture."""
    box = {
        "left": (reach, 0, grown[0], grown[1]),
        "up": (0, reach, grown[0], grown[1]),
        "right": (0, 0, size[0] - reach, grown[1]),
        "down": (0, 0, grown[0], size[1] - reach),
    }[side]
    mask = Image.new("L", size, 255)
    if box[0] <= box[2] and box[1] <= box[3]:
        mask.paste(0, (box[0], box[1], box[2] + 1, box[3] + 1))  # A1111's boxes take their last pixel in
    return mask


def view_of(side, canvas, asked, grown):
    """The part of the canvas that is painted: of the size that was asked for across the side, whole along it."""
    width, height = min(asked[0], grown[0]), min(asked[1], grown[1])
    return {
        "left": (0, 0, width, canvas[1]),
        "right": (canvas[0] - width, 0, *canvas),
        "up": (0, 0, canvas[0], height),
        "down": (0, canvas[1] - height, *canvas),
    }[side]


def as_png(image):
    return encode_image(image, "png", None)


def told(request, wholes, made, job, settings):
    """The pictures with a grid of them in front, and the facts of the first."""
    if not wholes:
        return joined(made)
    first, sheet = made[0].info, []
    if len(wholes) > 1 and (settings["return_grid"] or settings["grid_save"]):
        shown = [decoded_picture(one.images[0].data) for one in wholes]
        sheet = [
            job.save_grid(
                make_grid(
                    shown, grid_rows(len(shown), request.batch_size, settings), settings["grid_background_color"]
                ),
                request,
            )
        ]
    whole = joined([*sheet, *wholes])
    comments = list(dict.fromkeys(comment for one in (*made, *wholes) for comment in one.comments))
    if request.image.inpaint is not None:
        comments.append("Outpainting mk2 has masks of its own; the mask has no effect.")
    facts = {name: first[name][:1] * len(wholes) for name in ("all_prompts", "all_negative_prompts", "all_subseeds")}
    facts["all_seeds"] = [request.seed + number for number in range(len(wholes))]
    facts["infotexts"] = [image.infotext for image in whole.images]
    start = 1 if whole.images and whole.images[0].is_grid else 0
    return replace(whole, info={**first, **facts, "index_of_first_image": start}, comments=tuple(comments))
