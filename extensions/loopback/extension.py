"""The script Loopback: img2img over and over, each result being the next picture to start from."""

import math
from dataclasses import replace
from typing import Literal

from webui.extensions.api import (
    Params,
    Script,
    decoded_picture,
    encode_image,
    flattened,
    hookimpl,
    joined,
    make_grid,
    param,
)

ORIGINAL = 1
"""What a masked part begins with in later loops: the picture, where it is painted already."""
CURVES = {
    "Aggressive": lambda way: math.sin(way * math.pi / 2),
    "Linear": lambda way: way,
    "Lazy": lambda way: 1 - math.cos(way * math.pi / 2),
}


class Loopback(Params):
    """Loopback

    final_denoising_strength: of the last loop; the curve says how the loops between go there.
    """

    loops: int = param(4, label="Loops", ge=1, le=1000, slider=(1, 32, 1))
    final_denoising_strength: float = param(
        0.5, label="Final denoising strength", infotext="Final denoising strength", ge=0, le=1, step=0.01
    )
    denoising_curve: Literal["Aggressive", "Linear", "Lazy"] = param(
        "Linear",
        label="Denoising strength curve",
        infotext="Denoising curve",
        choices=("Aggressive", "Linear", "Lazy"),
    )
    append_interrogation: Literal["None", "CLIP", "DeepBooru"] = param(
        "None", label="Append interrogated prompt at each iteration", choices=("None", "CLIP", "DeepBooru")
    )

    def to_infotext(self, *, everything=False):
        """Its strength and curve in any case, as A1111 tells them."""
        return super().to_infotext(everything=True)

    def strength(self, first, loop):
        """The denoising strength of loop 0, 1, ...: from the request's own to the final one along the curve."""
        if self.loops == 1:
            return first
        way = CURVES[self.denoising_curve](loop / (self.loops - 1))
        return first + (self.final_denoising_strength - first) * way


@hookimpl
def register_choices(choices):
    choices.add(Script("Loopback", run=run, params=Loopback, tabs=["img2img"]))


def run(request, job):
    """Each loop begins with the last one's picture, a seed higher; each batch with the request's picture again.

    One batch hands back the pictures of all its loops, several the last one of each.
    """
    looped, start = request.extension(Loopback), request.image
    start = start.replace(color_reference=start.images[0])
    single = request.replace(batch_count=1, batch_size=1)
    made, kept = [], []
    for _ in range(request.batch_count):
        image, loops = start, []
        for loop in range(looped.loops):
            if made and (job.interrupted or job.stopping or made[-1].out_of_space):
                break
            strength = looped.strength(start.denoising_strength, loop)
            asked = single.replace(
                image=image.replace(denoising_strength=strength),
                seed=request.seed + len(made),
                prompt=prompt_of(request.prompt, image, looped.append_interrogation, job),
            )
            made.append(job.child(1 / (looped.loops * request.batch_count)).generate(asked))
            if not made[-1].pictures:  # stopped before it was decoded, or an extension dropped it
                break
            loops.append(made[-1])
            image = continued(start, made[-1].pictures[0])
        kept += loops if request.batch_count == 1 else loops[-1:]
    if not kept:
        return joined(made)
    whole = joined([*with_grid(single, kept, job), *kept])
    first = kept[0].images[0].infotext  # which A1111 shows of all
    return replace(whole, info={**whole.info, "infotexts": [first for _ in whole.images]})


def prompt_of(prompt, image, captioner, job):
    """The request's prompt, followed by what is seen in the picture that the loop starts from, if that is wished."""
    if captioner == "None":
        return prompt
    seen = job.describe(
        flattened(decoded_picture(image.images[0]), job.settings["img2img_background_color"]), captioner
    )
    return f"{prompt}, {seen}" if prompt else seen


def continued(start, picture):
    """What the next loop starts from: the picture, whose masked part is already painted."""
    inpaint = start.inpaint.replace(fill=ORIGINAL) if start.inpaint else None
    return start.replace(images=(encode_image(picture, "png", None),), inpaint=inpaint)


def with_grid(request, kept, job):
    """The results' pictures in one row."""
    settings = job.settings.replace(**request.overrides)
    if len(kept) < 2 or not (settings["return_grid"] or settings["grid_save"]):
        return []
    grid = make_grid([result.pictures[0] for result in kept], 1, settings["grid_background_color"])
    return [job.save_grid(grid, request)]
