"""Maps for a pass; imported in the worker only."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

from webui.extensions.api import InvalidRequest
from webui.extensions.api import video as kit

from . import finishing, maps, sizes
from .correcting import Corrector, KeepsColours, KeepsOutside
from .image_prompts import ImagePrompt, Prompting
from .loading import kind_of, layout_of, lent_encoder
from .nudging import Nudging
from .ranges import Ranged
from .reference import Reference, Referring
from .steering import Guide, Steering
from .units import FOR_ALL, FOR_EACH, RESIZE_MODES, ControlNet, Unit

MAPS = "controlnet.maps"
LATENTS = "controlnet.latents"
MOST_LATENTS = 20
"""Remembered in a job: of two passes' maps of all units."""
FILLING = "inpaint_only+lama"
KEEPING = ("inpaint_only", FILLING)
"""Preprocessors that keep the picture outside of the mask, unless img2img does."""
RESIDUAL = ("ControlNet", "ControlNet Union", "Control-LoRA", "T2I-Adapter")
ON_FINISHED = (*KEEPING, "tile_colorfix", "tile_colorfix+sharp", "recolor_intensity", "recolor_luminance")
"""Preprocessors that go on with what is sampled, by their one picture."""


def hooks_for(group: ControlNet, this_pass: Any) -> list[Ranged]:
    """What the enabled units do in this pass, their maps at its size.

    The maps are left in the job's state under (number of the unit, 0 for the first pass and 1 for the second).
    """
    draws = Draws(this_pass)
    model, models = this_pass.model, this_pass.models
    residual: list[Guide] = []
    lite: list[Guide] = []
    references: list[Reference] = []
    prompts: list[ImagePrompt] = []
    for number, unit in enumerate(group.enabled):
        kind = None if unit.preprocessor.model_free else kind_of(Path(unit.file))
        _require_company(unit, kind, number)
        turn = (number, len(group.enabled)) if group.batch_option == FOR_EACH else None
        if turn is not None and kind not in RESIDUAL:
            raise InvalidRequest(
                f'ControlNet unit {number}: "{FOR_EACH}" is for ControlNets and T2I-Adapters; choose "{FOR_ALL}".'
            )
        if (unit.film or unit.frames) and (kind not in RESIDUAL or unit.preprocessor.id in ON_FINISHED):
            raise InvalidRequest(
                f"ControlNet unit {number}: only ControlNets and T2I-Adapters follow a video frame by frame, without "
                "preprocessors that work on the finished picture; give this unit a picture of its own."
            )
        if kind == "IP-Adapter":
            if _takes_part(unit, this_pass):
                prompts.append(_image_prompt(unit, number, this_pass))
            continue
        guide = _guide(unit, number, this_pass, draws, group.clip)
        if guide is None:
            continue
        if kind is None:
            references.append(Reference(unit, draws.latent(guide.hint), guide.is_second_pass))
        else:
            (lite if kind == "ControlLLLite" else residual).append(replace(guide, turn=turn))
    hooks: list[Ranged] = []
    if references:
        hooks.append(Referring(references, model.alphas_cumprod, draws.noise))
    if prompts:
        hooks.append(Prompting(prompts))
    if lite:
        hooks.append(Nudging(lite, models, model))
    if residual:
        hooks.append(Steering(residual, models, model))
    return hooks


def _require_company(unit: Unit, kind: str | None, number: int) -> None:
    """Raises: InvalidRequest for a preprocessor and a model that don't belong together."""
    name = Path(unit.file).name
    if kind == "IP-Adapter" and not unit.is_image_prompt:
        raise InvalidRequest(
            f"ControlNet unit {number}: {name} is an IP-Adapter, which reads no map; choose the preprocessor "
            f'ip-adapter-auto instead of "{unit.preprocessor.label}".'
        )
    if unit.is_image_prompt and kind != "IP-Adapter":
        raise InvalidRequest(
            f'ControlNet unit {number}: "{unit.preprocessor.label}" is for IP-Adapters and {name} is '
            f"{'an' if kind and kind[0] in 'AEIOU' else 'a'} {kind}; choose another preprocessor or model."
        )
    if kind == "ControlLLLite" and unit.weights:
        raise InvalidRequest(f"ControlNet unit {number}: {name} is a ControlLLLite, which has one weight for all.")


def _takes_part(unit: Unit, this_pass: Any) -> bool:
    return unit.hr_option == "Both" or (unit.hr_option == "High res only") == (this_pass.kind == "hires")


def _image_prompt(unit: Unit, number: int, this_pass: Any) -> ImagePrompt:
    """The unit with its adapter's keys and values still to be made; the picture is read once a job."""
    model, models = this_pass.model, this_pass.models
    layout = layout_of(Path(unit.file), model)
    key = ("controlnet.embedding", number, layout)
    if key not in this_pass.state:
        source, _ = _input(unit, number, this_pass)
        files = [Path(file) for file in unit.encoders]
        with lent_encoder(files, layout, models, model) as encoder, torch.inference_mode():
            this_pass.state[key] = encoder.read(source, layers=layout.reads_layers)
    return ImagePrompt(unit, this_pass.state[key], _region(unit, number), models, model, this_pass.kind == "hires")


class Draws:
    """What units draw at random: as the original does, from a stream seeded with the batch's last seed.

    noise: on the device of the computation; on a CPU the samples of latents come out of the same stream.
    """

    def __init__(self, this_pass: Any) -> None:
        plan, self.model = this_pass.plan, this_pass.model
        seed = int(plan.seeds_of(this_pass.indices)[-1]) % 2**64
        self.noise = torch.Generator(self.model.device).manual_seed(seed)
        is_cpu = self.model.device.type == "cpu"
        self.posterior = self.noise if is_cpu else torch.Generator("cpu").manual_seed(seed)
        self._known: list[tuple[torch.Tensor, torch.Tensor]] = this_pass.state.setdefault(LATENTS, [])

    def latent(self, colors: torch.Tensor) -> torch.Tensor:
        """(1, C, h, w) of a picture (1, 3, H, W) in [0, 1], drawn once a job."""
        for picture, latent in self._known:
            if torch.equal(picture, colors):
                return latent
        with torch.inference_mode():
            latent = self.model.encode((colors * 2 - 1).to(self.model.device), self.posterior).float()
        self._known[:] = [*self._known, (colors, latent)][-MOST_LATENTS:]
        return latent


def _guide(unit: Unit, number: int, this_pass: Any, draws: Draws, clip: int) -> Guide | None:
    """The unit with its maps, which are kept, of a clip the first frame's; None when it takes no part in this pass."""
    is_second = this_pass.kind == "hires"
    plan = this_pass.plan
    kept = this_pass.state.setdefault(MAPS, {})
    sources, mode = _inputs(unit, number, this_pass, clip)
    unit = unit.replace(resize_mode=mode)
    hints = {}
    for place, sampling in [(0, plan.first)] + ([(1, plan.hires.sampling)] if plan.hires else []):
        request = _request(this_pass, sampling)
        found = [maps.fitted(unit, maps.detect(unit, each, request, this_pass.models).map, request) for each in sources]
        kept.setdefault((number, place), found[0])
        hints[place] = _lasting(this_pass, number, place, found)
    if not _takes_part(unit, this_pass):
        return None
    now = 1 if is_second else 0
    corrector = _corrector(unit, kept[number, now], this_pass, is_second, draws)
    return Guide(unit, hints[now], hints[0], _region(unit, number), is_second, corrector)


def _request(this_pass: Any, sampling: Any) -> maps.Request:
    plan = this_pass.plan
    width, height = sizes.generation_size(sampling.width, sampling.height)
    asked = plan.request.variation.seed
    first = plan.seeds[0]
    return maps.Request(width, height, first + (first if asked == -1 else asked))


def _lasting(this_pass: Any, number: int, place: int, found: Sequence[Any]) -> torch.Tensor:
    """(N, 3, H, W), the same tensor in every batch, so that a network that has read it needn't again."""
    key = ("controlnet.hint", number, place)
    if key not in this_pass.state:
        this_pass.state[key] = torch.cat([maps.hint(each) for each in found])
    return this_pass.state[key]


def _inputs(unit: Unit, number: int, this_pass: Any, clip: int) -> tuple[list[Any], str]:
    """The unit's picture, or one for each frame of a clip that has them, and how they are brought to size."""
    image = this_pass.plan.request.image
    if unit.film:
        found = [_input(unit, number, this_pass, frame=frame) for frame in _filmed(unit, clip)]
    elif unit.frames:
        found = [_input(unit.replace(image=frame), number, this_pass) for frame in unit.frames[:clip]]
    elif clip and unit.image is None and image is not None and len(image.images) > 1:
        found = [_input(unit, number, this_pass, place=place) for place in range(clip)]
    else:
        found = [_input(unit, number, this_pass)]
    return [source for source, _ in found], found[0][1]


def _filmed(unit: Unit, clip: int) -> Iterator[Any]:
    """The first frames of the unit's video, (H, W, 3) uint8, or (H, W, 4) with their masks."""
    frames = (frame.picture for frame in kit.open_video(Path(unit.film)).selected(range(clip)))
    if not (unit.film_masks and unit.preprocessor.masked):
        yield from frames
        return
    masks = (frame.picture for frame in kit.open_video(Path(unit.film_masks)).selected(range(clip)))
    for picture, mask in zip(frames, masks, strict=True):
        size = picture.shape[1::-1]
        yield np.dstack([picture, cv2.resize(mask[:, :, 0], size, interpolation=cv2.INTER_NEAREST)])


def _input(unit: Unit, number: int, this_pass: Any, *, frame: Any = None, place: int = 0) -> tuple[Any, str]:
    """The unit's picture, or the one that img2img starts from, and how it is brought to size.

    What is inpainted alone is cut out of both alike. frame: of a video, in place of the unit's picture. place: of
    img2img's pictures.
    """
    request = this_pass.plan.request
    image, masking = request.image, None
    mode = unit.resize_mode
    own = None
    if image is not None and this_pass.source is not None and this_pass.source.canvas is not None:
        masking = this_pass.source.canvas.masking
        if unit.image is None and frame is None:
            own = maps.opaque(image.images[place], "The picture")
            mode = RESIZE_MODES[min(image.resize_mode, 2)] if image.resize_mode < 3 else RESIZE_MODES[0]
            if unit.preprocessor.masked and image.inpaint is not None:
                own = maps.with_mask(own, _own_mask(image.inpaint))
    found = maps.read_input(unit, number, own if frame is None else frame)
    crops = (unit.image is None and frame is None) or unit.inpaint_crop_input_image
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


def start_of(group: ControlNet, this_pass: Any) -> torch.Tensor | None:
    """(B, C, h, w) what a first pass begins with beside noise: the picture that LaMa has filled, if a unit has one."""
    if this_pass.kind != "first":
        return None
    for number, unit in enumerate(group.enabled):
        if unit.preprocessor.id == FILLING and _takes_part(unit, this_pass) and unit.weight > 0:
            latent = Draws(this_pass).latent(_colours(this_pass.state[MAPS][number, 0]))
            return latent.expand(len(this_pass.indices), -1, -1, -1)
    return None


def _colours(found: Any) -> torch.Tensor:
    """(1, 3, H, W) in [0, 1] of a map."""
    return torch.from_numpy(found[:, :, :3].astype(np.float32)).permute(2, 0, 1)[None] / 255


def _corrector(unit: Unit, found: Any, this_pass: Any, is_second: bool, draws: Draws) -> Corrector | None:
    """What corrects the network's output by the unit's map at the size of the pass."""
    name, model = unit.preprocessor.id, this_pass.model
    inpaints = this_pass.plan.request.image is not None and this_pass.plan.request.image.inpaint is not None
    if name not in ("tile_colorfix", "tile_colorfix+sharp") and (name not in KEEPING or inpaints):
        return None
    latent = draws.latent(_colours(found))
    if name in KEEPING:
        mask = torch.from_numpy(maps.mask_of(found))[None, None]
        return KeepsOutside(model, latent, unit.weight, mask)
    radius = int(unit.a) * (2 if is_second else 1)
    return KeepsColours(model, latent, unit.weight, radius, unit.b if name.endswith("+sharp") else 0.0)


def finished(picture: Any, group: ControlNet, this_pass: Any) -> Any:
    """A finished picture as those preprocessors want it that have the last word."""
    maps_found = this_pass.state.get(MAPS, {})
    inpaints = this_pass.plan.request.image is not None and this_pass.plan.request.image.inpaint is not None
    for number, unit in enumerate(group.enabled):
        name = unit.preprocessor.id
        found = maps_found.get((number, 1), maps_found.get((number, 0)))
        if found is None or found.shape[1::-1] != picture.size or unit.weight == 0:
            continue
        if name.startswith("recolor_"):
            picture = finishing.recoloured(picture, found, name)
        elif name in KEEPING and not inpaints:
            picture = finishing.kept_outside(picture, found)
    return picture


def _region(unit: Unit, number: int) -> torch.Tensor | None:
    if unit.effective_region_mask is None:
        return None
    mask = maps.levels(unit.effective_region_mask, f"The region mask of ControlNet unit {number}")
    return torch.from_numpy(np.ascontiguousarray(mask)).float()[None, None] / 255
