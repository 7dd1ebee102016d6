"""The frame loop: settings and a function that paints one picture in, numbered frames out.

The loop knows neither models nor files. `generate` may be the pipeline, the preview below, or a test's; what the loop
needs to go on after any frame is in its `State`.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np

from webui.extensions.api import WebuiError

from . import antiblur, cadence, colors, looper, masks
from .animation import Animation, Diffusion
from .camera import move
from .noise import add_noise
from .seeds import Seeds

Picture = Any
"""(H, W, 3) uint8, BGR."""
Generate = Callable[[Picture | None, Diffusion], Picture]
"""Paints one picture; without an init from the prompt alone."""


class BlankFrame(WebuiError):
    """The model gave a black picture, and the settings say to stop then."""


@dataclass(frozen=True)
class Materials:
    """What the animation is made from besides prompts; all pictures of the frames' size.

    mask: (H, W) of 0 to 1 by frame, white is painted. noise_mask: the same, for the noise. video: frames of the source by
    number. guides: by key frame. color_sample: of an image that rules the colours. depth: distances of a picture's points.
    """

    init: Picture | None = None
    mask: Callable[[int], Any] | None = None
    noise_mask: Callable[[int], Any] | None = None
    video: Callable[[int], Picture] | None = None
    guides: Mapping[int, Picture] = field(default_factory=dict)
    color_sample: Picture | None = None
    depth: Callable[[Picture], Any] | None = None


@dataclass(frozen=True)
class State:
    """All that the loop remembers. frame: to be painted next. written: frames below it are out."""

    frame: int
    written: int
    seeds: Seeds
    previous: Picture | None = None
    sample: Picture | None = None
    earlier: cadence.Kept | None = None
    later: cadence.Kept | None = None
    source_flow: Any = None

    def to_bytes(self) -> bytes:
        arrays: dict[str, Any] = {
            "previous": self.previous,
            "sample": self.sample,
            "source_flow": self.source_flow,
            "earlier": self.earlier and self.earlier.picture,
            "later": self.later and self.later.picture,
        }
        facts = {
            "frame": self.frame,
            "written": self.written,
            "seeds": asdict(self.seeds),
            "earlier": self.earlier and self.earlier.frame,
            "later": self.later and self.later.frame,
        }
        file = io.BytesIO()
        kept = {name: array for name, array in arrays.items() if array is not None}
        np.savez(file, facts=np.array(json.dumps(facts)), **kept)
        return file.getvalue()

    @classmethod
    def from_bytes(cls, data: bytes) -> State:
        with np.load(io.BytesIO(data), allow_pickle=False) as found:
            arrays = {name: found[name] for name in found.files}
        facts = json.loads(str(arrays.pop("facts")))

        def kept(name: str) -> cadence.Kept | None:
            return cadence.Kept(arrays[name], facts[name]) if name in arrays else None

        return cls(
            frame=facts["frame"],
            written=facts["written"],
            seeds=Seeds(**facts["seeds"]),
            previous=arrays.get("previous"),
            sample=arrays.get("sample"),
            earlier=kept("earlier"),
            later=kept("later"),
            source_flow=arrays.get("source_flow"),
        )


@dataclass(frozen=True)
class Frame:
    """One finished frame, and the state after it."""

    number: int
    picture: Picture
    state: State


def start(animation: Animation) -> State:
    seeds = Seeds(animation.seed, animation.seed_behavior, animation.seed, animation.settings.seed_iter_N)
    return State(0, 0, seeds)


def frames(
    animation: Animation, materials: Materials, generate: Generate, state: State | None = None
) -> Iterator[Frame]:
    """Every frame of the animation in order; with a `state`, those after it."""
    loop = _Loop(animation, materials, generate)
    state = state or start(animation)
    while state.frame < animation.frames:
        if animation.cadence > 1:
            for frame in loop.in_betweens(state, state.frame):
                yield frame
                state = frame.state
        state = loop.paint(state)
        if animation.cadence == 1:
            state = replace(state, written=state.frame)
            yield Frame(state.frame - 1, state.previous, state)
    yield from loop.in_betweens(state, animation.frames)


@dataclass(frozen=True)
class _Beginning:
    """What a diffusion starts from. init: None paints from the prompt alone. sample: rules the colours."""

    init: Picture | None
    denoising: float
    sample: Picture | None


class _Loop:
    def __init__(self, animation: Animation, materials: Materials, generate: Generate) -> None:
        self.animation = animation
        self.settings = animation.settings
        self.materials = materials
        self.generate = generate

    def in_betweens(self, state: State, end: int) -> Iterator[Frame]:
        """The frames from those that are written to the one that is painted next, or to the end."""
        step = self.animation.cadence
        if step == 1 or state.later is None:
            return
        begin = state.frame - step
        last = min(state.frame, end)
        for number in range(max(begin, state.written), last):
            tween = (number - begin + 1) / step
            earlier = cadence.moved_to(state.earlier, number, self._move)
            later = cadence.moved_to(state.later, number, self._move)
            assert later is not None
            picture = cadence.mix(earlier and earlier.picture, later.picture, tween)
            picture = self._overlaid(picture, number)
            state = replace(state, written=number + 1, earlier=earlier, later=later, previous=picture)
            yield Frame(number, picture, state)

    def paint(self, state: State) -> State:
        """One diffusion, and all that leads to it and follows it."""
        animation, frame = self.animation, state.frame
        seeds = state.seeds
        if animation.feeds_back and animation.seed_behavior == "schedule":
            seeds = replace(seeds, seed=self._scheduled_seed(frame))
        state = replace(state, seeds=seeds)
        begin = self._beginning(state)
        picture = self._painted(begin, frame, seeds)
        picture = self._finished(picture, frame, begin.sample)
        sample = begin.sample
        if sample is None and not self.settings.legacy_colormatch:
            sample = picture
        return replace(
            state,
            frame=frame + animation.cadence,
            seeds=seeds.following(self._scheduled_seed(frame) if animation.seed_behavior == "schedule" else -1),
            previous=picture,
            sample=sample,
            earlier=state.later,
            later=cadence.Kept(picture, frame),
        )

    def _scheduled_seed(self, frame: int) -> int:
        seed = int(self.animation.value("seed_schedule", frame))
        return Seeds(0, "random", self.animation.seed).drawn(frame) if seed == -1 else seed

    def _move(self, picture: Picture, frame: int) -> Picture:
        return move(picture, self.animation.camera, self.animation.motion(frame), self._depth(picture))

    def _depth(self, picture: Picture) -> Any:
        if self.animation.camera.mode != "3D" or not self.settings.use_depth_warping or self.materials.depth is None:
            return None
        return self.materials.depth(picture)

    def _beginning(self, state: State) -> _Beginning:
        frame, settings = state.frame, self.settings
        denoising = 1 - self.animation.strength(frame)
        ruling = self._ruling_sample(frame)
        sample = state.sample if ruling is None else ruling
        if settings.animation_mode == "Video Input" and self.materials.video is not None:
            return _Beginning(self.materials.video(frame), denoising, sample)
        if not self.animation.feeds_back:
            return _Beginning(None, 1.0, sample)
        if state.previous is not None:
            return self._prepared(state, denoising, sample)
        if self.materials.guides:
            return _Beginning(looper.guide_for(self.materials.guides, frame), denoising, sample)
        if settings.strength == 0 and settings.strength_0_no_init:
            return _Beginning(None, 1.0, sample)
        return _Beginning(self.materials.init, 1 - settings.strength, sample)

    def _prepared(self, state: State, denoising: float, sample: Picture | None) -> _Beginning:
        """The previous picture moved on, matched, sharpened and made noisy."""
        frame, settings = state.frame, self.settings
        value = self.animation.value
        picture = self._move(state.previous, frame)
        if sample is None:
            # Old animations match to the first picture after its first move, not to the picture itself.
            sample = picture
        else:
            picture = self._matched(picture, sample)
        if settings.color_force_grayscale:
            picture = colors.grayscale(picture)
        picture = colors.scale_contrast(picture, value("contrast_schedule", frame), settings.original_arithmetic)
        mask = self._mask(frame)
        picture = antiblur.sharpen(
            picture,
            value("amount_schedule", frame),
            int(value("kernel_schedule", frame)),
            value("sigma_schedule", frame),
            value("threshold_schedule", frame),
            mask,
            settings.original_arithmetic,
        )
        noise_mask = mask
        if settings.use_noise_mask and self.materials.noise_mask is not None:
            noise_mask = self.materials.noise_mask(frame)
        amount = min(max(value("noise_schedule", frame), 0.0), 1.0)
        noisy = add_noise(picture, amount, state.seeds.seed, self.animation.perlin, noise_mask)
        return _Beginning(noisy, denoising, sample)

    def _painted(self, begin: _Beginning, frame: int, seeds: Seeds) -> Picture:
        mask = self._mask(frame)
        return self.generate(begin.init, self.animation.diffusion(frame, seeds.seed, begin.denoising, mask))

    def _finished(self, picture: Picture, frame: int, sample: Picture | None) -> Picture:
        if not self.settings.legacy_colormatch:
            picture = self._matched(picture, sample)
        if self.settings.color_force_grayscale:
            picture = colors.grayscale(picture)
        return self._overlaid(picture, frame)

    def _ruling_sample(self, frame: int) -> Picture | None:
        """The picture that colours are matched to at a frame, where an image or the video rules them."""
        settings, materials = self.settings, self.materials
        if settings.color_coherence == "Image":
            return materials.color_sample
        if settings.color_coherence == "Video Input" and materials.video is not None:
            every = settings.color_coherence_video_every_N_frames
            return materials.video(frame - frame % every)
        return None

    def _matched(self, picture: Picture, sample: Picture | None) -> Picture:
        space = self.settings.color_coherence
        if space == "None" or sample is None:
            return picture
        space = "LAB" if space in ("Image", "Video Input") else space
        return colors.match_colors(picture, sample, space, self.settings.original_arithmetic)

    def _mask(self, frame: int) -> Any:
        return self.materials.mask(frame) if self.materials.mask is not None else None

    def _overlaid(self, picture: Picture, frame: int) -> Picture:
        mask = self._mask(frame)
        original = self.materials.init
        if self.materials.video is not None:
            original = self.materials.video(frame)
        if mask is None or original is None or not self.settings.overlay_mask:
            return picture
        return masks.overlay(picture, original, mask)
