"""The script SD upscale: the picture is enlarged, and img2img goes over it tile by tile."""

from dataclasses import replace

from webui.extensions.api import (
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

MOST_TILES = 4096


class SdUpscale(Params, title="SD upscale"):
    """Will enlarge the picture by the scale factor; the width and height sliders are the size of a tile."""

    overlap: int = param(64, label="Tile overlap", infotext="SD upscale overlap", ge=0, le=2048, slider=(0, 256, 16))
    upscaler_index: str = param("None", label="Upscaler", infotext="SD upscale upscaler", choices="upscalers")
    scale_factor: float = param(2.0, label="Scale Factor", ge=1, le=16, slider=(1, 4, 0.05))

    @classmethod
    def from_api(cls, args):
        """In A1111's list a sentence for the reader comes first."""
        return super().from_api(args[1:] if isinstance(args, list) else args)

    def to_infotext(self, *, everything=False):
        """Overlap and upscaler in any case, as A1111 tells them."""
        return super().to_infotext(everything=True)


@hookimpl
def register_choices(choices):
    choices.add(Script("SD upscale", run=run, params=SdUpscale, tabs=["img2img"]))


def run(request, job):
    """Each of the batch count begins a seed higher than the last one; so does each batch of tiles."""
    values, settings = request.extension(SdUpscale), job.settings.replace(**request.overrides)
    start = decoded_picture(request.image.images[0])
    require_tiles(start.size, values, request)
    start = flattened(start, settings["img2img_background_color"])
    large = job.enlarge(start, values.upscaler_index, values.scale_factor)
    tiling = tiling_of(large.size, values.overlap, request)
    wholes, made = [], []
    for number in range(request.batch_count):
        if wholes and (job.interrupted or job.stopping or wholes[-1].out_of_space):
            break
        own = request.replace(seed=request.seed + number)
        whole, results = painted(large, tiling, own, job)
        if not results:
            break
        made += results
        wholes.append(job.save_picture(whole, own, results[0].images[0].infotext))
    return summed(request, wholes, made)


def require_tiles(size, values, request):
    """Raises: InvalidRequest, before anything is computed, for tiles that don't cover the picture or are too many."""
    tiling = tiling_of([int(side * values.scale_factor) for side in size], values.overlap, request)
    count = len(tiling.boxes()) * request.batch_count
    if count > MOST_TILES:
        raise InvalidRequest(
            f"SD upscale would paint {count} tiles; {MOST_TILES} are the most. Make the tiles larger by width and "
            "height, or the scale factor smaller."
        )


def tiling_of(size, overlap, request):
    try:
        return Tiling.of(tuple(size), (request.width, request.height), overlap)
    except ValueError:
        raise InvalidRequest(
            f"Tile overlap {overlap} must be smaller than the tiles, which are {request.width}x{request.height}."
        ) from None


def painted(large, tiling, request, job):
    """(the picture with every tile gone over by img2img, the tiles' results); tiles that weren't reached stay."""
    tiles, results = [large.crop(box) for box in tiling.boxes()], []
    batches = range(0, len(tiles), request.batch_size)
    image = request.image.replace(inpaint=None)
    seed = request.seed
    for first in batches:
        if job.interrupted or job.stopping:
            break
        part = tiles[first : first + request.batch_size]
        asked = request.replace(
            image=image.replace(images=tuple(encode_image(tile, "png", None) for tile in part)),
            seed=seed,
            width=tiling.tile[0],
            height=tiling.tile[1],
            batch_size=len(part),
            batch_count=1,
        )
        result = job.child(1 / (len(batches) * request.batch_count)).generate(asked, save=False)
        if not result.pictures:
            break
        results.append(result)
        tiles[first : first + len(result.pictures)] = result.pictures
        seed += 1
    return tiling.joined([tile.convert("RGB") for tile in tiles]), results


def summed(request, wholes, made):
    """The whole pictures as one result, with the facts of the first tile."""
    if not wholes:
        return joined(made)
    shown, first = joined(wholes), made[0].info
    comments = list(dict.fromkeys(comment for one in (*made, *wholes) for comment in one.comments))
    if request.image.inpaint is not None:
        comments.append("SD upscale paints the whole picture; the mask has no effect.")
    facts = {name: first[name][:1] * len(wholes) for name in ("all_prompts", "all_negative_prompts", "all_subseeds")}
    facts["all_seeds"] = [request.seed + number for number in range(len(wholes))]
    facts["infotexts"] = [image.infotext for image in shown.images]
    return replace(shown, info={**first, **facts, "index_of_first_image": 0}, comments=tuple(comments))
