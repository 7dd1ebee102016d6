"""The frame loop: settings and a function that paints one picture in, numbered frames out.

The loop knows neither models nor files. `generate` may be the pipeline, the preview below, or a test's; what the loop
needs to go on after any frame is in its `State`.
"""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np

from webui.extensions.api import InvalidRequest, WebuiError

from . import antiblur, colors, hybrid, looper, masks
from .animation import Animation, Diffusion
from .cadence import Kept, Pair, mix, moved_to, with_flow
from .camera import move
from .flow import along, optical_flow
from .noise import add_noise
from .seeds import Seeds, drawn_seed

Picture = Any
"""(H, W, 3) uint8, BGR."""
Generate = Callable[[Picture | None, Diffusion], Picture]
"""Paints one picture; without an init from the prompt alone."""


class BlankFrame(WebuiError):
    """The model gave a black picture, and the settings say to stop then."""


@dataclass(frozen=True)
class Materials:
    """What the animation is made from besides prompts; all pictures of the frames' size.

    mask: (H, W) of 0 to 1 by frame, white is painted. noise_mask: the same, for the noise. video: frames of the source
    by number. guides: by key frame. color_sample: of an image that rules the colours. depth: distances of a picture's
    points, for the frame that it moves to.
    """

    init: Picture | None = None
    mask: Callable[[int], Any] | None = None
    noise_mask: Callable[[int], Any] | None = None
    video: Callable[[int], Picture] | None = None
    guides: Mapping[int, Picture] = field(default_factory=dict)
    color_sample: Picture | None = None
    depth: Callable[[Picture, int], Any] | None = None


@dataclass(frozen=True)
class State:
    """All that the loop remembers. frame: to be painted next. written: frames below it are out."""

    frame: int
    written: int
    seeds: Seeds
    previous: Picture | None = None
    sample: Picture | None = None
    pair: Pair | None = None

    def to_bytes(self) -> bytes:
        """A file in NumPy's .npz format, for `from_bytes`."""
        pair = self.pair
        arrays = {
            "previous": self.previous,
            "sample": self.sample,
            "later": pair and pair.later.picture,
            "earlier": pair and pair.earlier and pair.earlier.picture,
            "flow": None if pair is None else pair.flow,
        }
        facts = {
            "frame": self.frame,
            "written": self.written,
            "seeds": asdict(self.seeds),
            "later": pair and pair.later.frame,
            "earlier": pair and pair.earlier and pair.earlier.frame,
        }
        file = io.BytesIO()
        there = {name: array for name, array in arrays.items() if array is not None}
        np.savez(file, facts=np.array(json.dumps(facts)), **there)
        return file.getvalue()

    @classmethod
    def from_bytes(cls, data: bytes) -> State:
        """Raises: InvalidRequest when the bytes are no state."""
        try:
            with np.load(io.BytesIO(data), allow_pickle=False) as found:
                arrays = {name: found[name] for name in found.files}
            facts = json.loads(str(arrays.pop("facts")))
            pair = None
            if "later" in arrays:
                earlier = Kept(arrays["earlier"], facts["earlier"]) if "earlier" in arrays else None
                pair = Pair(Kept(arrays["later"], facts["later"]), earlier, arrays.get("flow"))
            seeds = Seeds(**facts["seeds"])
            return cls(facts["frame"], facts["written"], seeds, arrays.get("previous"), arrays.get("sample"), pair)
        except (ValueError, KeyError, TypeError, EOFError, OSError, zipfile.BadZipFile) as error:
            raise InvalidRequest(f"The state of the animation can't be read: {error}.") from error


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
    color_target: Picture | None = None


class _Loop:
    def __init__(self, animation: Animation, materials: Materials, generate: Generate) -> None:
        self.animation = animation
        self.settings = animation.settings
        self.materials = materials
        self.generate = generate

    def in_betweens(self, state: State, end: int) -> Iterator[Frame]:
        """The frames from those that are written to the one that is painted next, or to the end."""
        step = self.animation.cadence
        if step == 1 or state.pair is None:
            return
        begin = state.frame - step
        for number in range(max(begin, state.written), min(state.frame, end)):
            tween = (number - begin + 1) / step
            pair = state.pair
            if number == begin:
                pair = with_flow(pair, self.settings.optical_flow_cadence)
            share = tween * self.animation.value("cadence_flow_factor_schedule", number)
            pair = moved_to(pair, number, share, partial(self._follow, number, state.previous))
            picture = self._overlaid(mix(pair, tween), number)
            state = replace(state, written=number + 1, pair=pair, previous=picture)
            yield Frame(number, picture, state)

    def paint(self, state: State) -> State:
        """One diffusion, and all that leads to it and follows it."""
        animation, frame = self.animation, state.frame
        seeds = state.seeds
        if animation.seed_behavior == "schedule":
            seeds = replace(seeds, seed=animation.scheduled_seed(frame))
        begin = self._beginning(replace(state, seeds=seeds))
        begin = self._redone(begin, state)
        picture = self._painted(begin, frame, seeds.seed)
        picture = self._finished(picture, begin, frame)
        sample = begin.sample
        if sample is None and begin.init is None and not self.settings.legacy_colormatch:
            sample = picture
        return replace(
            state,
            frame=frame + animation.cadence,
            seeds=seeds.following(animation.scheduled_seed(frame)),
            previous=picture,
            sample=sample,
            pair=Pair(Kept(picture, frame), state.pair and state.pair.later),
        )

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
            return self._guided(self._prepared(state, denoising, sample), frame)
        if self.materials.guides:
            return _Beginning(looper.guide_for(self.materials.guides, frame), denoising, sample)
        if self.materials.init is None or (settings.strength == 0 and settings.strength_0_no_init):
            return _Beginning(None, 1.0, sample)
        return _Beginning(self.materials.init, 1 - settings.strength, sample)

    def _prepared(self, state: State, denoising: float, sample: Picture | None) -> _Beginning:
        """The previous picture moved on, matched, sharpened and made noisy."""
        frame, settings = state.frame, self.settings
        value = self.animation.value
        picture = self._move(state.previous, state.previous, frame)
        picture = self._composed(picture, frame, "Before Motion")
        picture = self._follow_video(picture, state.previous, frame)
        picture = self._composed(picture, frame, "Normal")
        if sample is None:
            # Old animations, and those that begin with an init image, match to the first picture after its first move.
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

    def _guided(self, begin: _Beginning, frame: int) -> _Beginning:
        """With the guide of the frame blended in, where there are guides."""
        guides, value = self.materials.guides, self.animation.value
        if not guides:
            return begin
        guide = looper.guide_for(guides, frame)
        share = looper.guide_share(
            sorted(guides),
            frame,
            value("tweening_frames_schedule", frame),
            value("blendFactorMax", frame),
            value("blendFactorSlope", frame),
        )
        init = looper.blend(begin.init, guide, share)
        colours = min(max(value("color_correction_factor", frame), 0.0), 1.0)
        return replace(begin, init=init, color_target=looper.blend(init, guide, colours))

    def _redone(self, begin: _Beginning, state: State) -> _Beginning:
        """After the passes that are painted, with random seeds, only to begin with their results."""
        frame, settings = state.frame, self.settings
        if begin.init is None or state.previous is None:
            return begin
        if settings.optical_flow_redo_generation != "None":
            extra = self._painted(begin, frame, drawn_seed(self.animation.seed, frame, "flow"))
            flow = optical_flow(state.previous, extra, settings.optical_flow_redo_generation)
            factor = self.animation.value("redo_flow_factor_schedule", frame)
            begin = replace(begin, init=along(begin.init, flow, factor))
        for time in range(settings.diffusion_redo):
            extra = self._painted(begin, frame, drawn_seed(self.animation.seed, frame, f"redo {time}"))
            begin = replace(begin, init=self._matched(extra, begin.sample))
        return begin

    def _painted(self, begin: _Beginning, frame: int, seed: int) -> Picture:
        """What the model paints; black pictures are painted again, or end the animation, if the settings say so."""
        settings, mask = self.settings, self._mask(frame)
        tries = settings.reroll_patience if settings.reroll_blank_frames == "reroll" else 0
        for time in range(tries + 1):
            asked = self.animation.diffusion(
                frame, drawn_seed(self.animation.seed, frame, f"reroll {time}") if time else seed,
                begin.denoising, mask, begin.color_target,
            )  # fmt: skip
            picture = self.generate(begin.init, asked)
            if picture.any():
                return picture
        if settings.reroll_blank_frames == "ignore":
            return picture
        raise BlankFrame(
            f"Frame {frame} came out black{f' {tries + 1} times' if tries else ''}, so the animation ends."
        )

    def _finished(self, picture: Picture, begin: _Beginning, frame: int) -> Picture:
        picture = self._composed(picture, frame, "After Generation")
        if not self.settings.legacy_colormatch:
            picture = self._matched(picture, begin.sample)
        if self.settings.color_force_grayscale:
            picture = colors.grayscale(picture)
        return self._overlaid(picture, frame)

    def _move(self, array: Any, seen: Picture, frame: int) -> Any:
        """A picture or flow by the camera's motion. seen: the picture that its depth is judged by."""
        depth = None
        if self.animation.camera.mode == "3D" and self.settings.use_depth_warping and self.materials.depth is not None:
            depth = self.materials.depth(seen, frame)
        return move(array, self.animation.camera, self.animation.motion(frame), depth)

    def _follow(self, frame: int, previous: Picture, array: Any, seen: Picture) -> Any:
        return self._follow_video(self._move(array, seen, frame), previous, frame)

    def _follow_video(self, picture: Any, previous: Picture, frame: int) -> Any:
        """Moved as the source video moves to the frame."""
        settings, video = self.settings, self.materials.video
        if settings.hybrid_motion == "None" or video is None or frame < 1:
            return picture
        first = previous if settings.hybrid_motion_use_prev_img else video(frame - 1)
        if settings.hybrid_motion != "Optical Flow":
            return hybrid.move_by_features(picture, first, video(frame), settings.hybrid_motion)
        return hybrid.move_by_flow(
            picture,
            first,
            video(frame),
            settings.hybrid_flow_method,
            self.animation.value("hybrid_flow_factor_schedule", frame),
            settings.hybrid_flow_consistency,
            settings.hybrid_consistency_blur,
        )

    def _composed(self, picture: Picture, frame: int, when: str) -> Picture:
        """With the video's frame laid over it, if this is the moment for it."""
        settings, video, value = self.settings, self.materials.video, self.animation.value
        if settings.hybrid_composite != when or video is None:
            return picture
        below, depth = video(frame), None
        if self.materials.depth is not None and settings.hybrid_comp_mask_type in ("Depth", "Video Depth"):
            depth = self.materials.depth(picture if settings.hybrid_comp_mask_type == "Depth" else below, frame)
        cutoffs = (
            value("hybrid_comp_mask_auto_contrast_cutoff_low_schedule", frame),
            value("hybrid_comp_mask_auto_contrast_cutoff_high_schedule", frame),
        )
        how = hybrid.Composite(
            alpha=value("hybrid_comp_alpha_schedule", frame),
            mask=settings.hybrid_comp_mask_type,
            inverse=settings.hybrid_comp_mask_inverse,
            equalize=settings.hybrid_comp_mask_equalize,
            contrast=value("hybrid_comp_mask_contrast_schedule", frame),
            cutoffs=cutoffs if settings.hybrid_comp_mask_auto_contrast else None,
            mask_alpha=value("hybrid_comp_mask_blend_alpha_schedule", frame),
        )
        return hybrid.composite(picture, below, how, depth)

    def _ruling_sample(self, frame: int) -> Picture | None:
        """The picture that colours are matched to at a frame, where an image or the video rules them."""
        settings, materials = self.settings, self.materials
        if settings.color_coherence == "Image":
            return materials.color_sample
        if settings.color_coherence == "Video Input" and materials.video is not None:
            return materials.video(frame - frame % settings.color_coherence_video_every_N_frames)
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
