"""Diffusing the frames of a film one after the other, and putting the film together from them.

Pictures are (H, W, 3) uint8 arrays. Nothing here knows of models or jobs: `process` makes a picture of a frame.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from webui.extensions.api import InvalidRequest, WebuiError
from webui.extensions.api import video as kit

from .plan import FramePlan, prompt_at, seed_at

if TYPE_CHECKING:
    from .folder import WorkFolder
    from .parameters import Mov2Mov, Temporal

log = logging.getLogger(__name__)
Picture = Any


@dataclass(frozen=True)
class FrameSettings:
    """What one frame is diffused with. number: of the source's frame; place: in the film; both counted from 0.

    index: how many were diffused before. prompt: whole.
    """

    index: int
    number: int
    place: int
    seed: int
    prompt: str
    noise_multiplier: float


@dataclass(frozen=True)
class Processed:
    pictures: Sequence[Picture]
    infotext: str = ""


Process = Callable[[Picture, FrameSettings], Processed]
Fit = Callable[[Picture], Picture]
"""Brings a frame of the source to the size of the results."""


@dataclass(frozen=True)
class FrameDone:
    """A frame that is in the folder now. failure: why it is the source's own, "" where it isn't."""

    index: int
    total: int
    picture: Picture
    failure: str = ""


def make_frames(
    source: kit.Video,
    plan: FramePlan,
    options: Mov2Mov,
    folder: WorkFolder,
    process: Process,
    fit: Fit,
    prompt: str = "",
    prompts: dict[int, str] | None = None,
) -> Iterator[FrameDone]:
    """Diffuse what the folder lacks, in order; a frame is saved before it is yielded. Ending early loses nothing.

    An error of `process` is tried once more, then the source's frame stands in; what the user can mend
    (`WebuiError`) passes, as does an error of the very first frame.
    """
    first = folder.first_missing
    if first is None:
        return
    steady = _Steadied(options.temporal, fit)
    begin = 0 if steady.remembers else first
    for index, frame in enumerate(source.selected(plan.made[begin:]), start=begin):
        if folder.has(index):
            if steady.remembers:
                steady.remember(frame.picture, folder.load(index))
            continue
        place = plan.first_shown(frame.number)
        settings = FrameSettings(
            index=index,
            number=frame.number,
            place=place,
            seed=seed_at(index, int(folder.facts["seed"]), options.temporal.seed_behaviour),
            prompt=prompt_at(place, prompt, prompts or {}),
            noise_multiplier=options.noise_multiplier,
        )
        given = steady.before(frame.picture)
        made, failure = _tried_twice(process, given, settings)
        if made is None:
            result, infotext = fit(frame.picture), ""
            folder.note_failure(index, failure)
        else:
            result, infotext = steady.after(frame.picture, made.pictures[0]), made.infotext
        folder.save(index, result, infotext)
        steady.remember(frame.picture, result)
        yield FrameDone(index, len(plan.made), result, failure)


def _tried_twice(process: Process, given: Picture, settings: FrameSettings) -> tuple[Processed | None, str]:
    for attempt in (1, 2):
        try:
            return process(given, settings), ""
        except WebuiError:
            raise
        except Exception as error:
            log.warning("Frame %d failed (attempt %d)", settings.index + 1, attempt, exc_info=True)
            failure = f"{type(error).__name__}: {error}"
            if attempt == 2 and settings.index == 0:
                raise
    return None, failure


class _Steadied:
    """What each frame takes over from those before it; scene cuts end it."""

    def __init__(self, temporal: Temporal, fit: Fit) -> None:
        self._temporal, self._fit = temporal, fit
        self._last: tuple[Picture, Picture] | None = None  # frame of the source, result
        self._first: Picture | None = None

    @property
    def remembers(self) -> bool:
        """Whether frames depend on those before them."""
        return self._temporal.previous_mix > 0 or self._temporal.colour_match == "First result"

    def before(self, frame: Picture) -> Picture:
        """What is diffused: the frame, with some of the last result moved to where it belongs now."""
        if self._last is not None and self._temporal.reset_at_cuts and kit.is_cut(self._last[0], frame):
            self._last = self._first = None
        share = self._temporal.previous_mix
        if self._last is None or share == 0:
            return frame
        earlier, result = self._last
        now = kit.resized(self._fit(frame), result.shape[1], result.shape[0])
        was = kit.resized(self._fit(earlier), result.shape[1], result.shape[0])
        moved, held = kit.carried(result, was, now, self._temporal.flow)
        mixed = now * (1.0 - share) + moved * share
        mixed[~held] = now[~held]
        return (mixed + 0.5).clip(0, 255).astype("uint8")

    def after(self, frame: Picture, result: Picture) -> Picture:
        wanted = {"First result": self._first, "Source frame": frame}.get(self._temporal.colour_match)
        return result if wanted is None else kit.match_colours(result, wanted, self._temporal.colour_method)

    def remember(self, frame: Picture, result: Picture) -> None:
        if not self.remembers:
            return
        if self._last is not None and self._temporal.reset_at_cuts and kit.is_cut(self._last[0], frame):
            self._first = None
        self._last = frame, result
        if self._first is None:
            self._first = result


def film(source: kit.Video, plan: FramePlan, options: Mov2Mov, folder: WorkFolder, fit: Fit) -> Iterator[Picture]:
    """The frames of the film as far as the folder goes, those between key frames moved there from both sides.

    Raises: InvalidRequest when no frame is finished.
    """
    finished = plan.made[: folder.finished]
    if not finished:
        raise InvalidRequest("No frame is finished yet, so there is no film to put together.")
    if folder.finished < len(plan.made):
        shown = [number for number in plan.shown if number <= finished[-1] or number < plan.made[0]]
    else:
        shown = list(plan.shown)
    pictures = _between_keys(source, shown, finished, folder, fit, options.temporal.flow, plan.cuts)
    if not options.temporal.deflicker:
        yield from pictures
        return
    cuts = {place for place in range(1, len(shown)) if any(shown[place - 1] < cut <= shown[place] for cut in plan.cuts)}
    yield from kit.deflickered(pictures, options.temporal.deflicker_window, cuts)


def _between_keys(
    source: kit.Video,
    shown: Sequence[int],
    keys: Sequence[int],
    folder: WorkFolder,
    fit: Fit,
    flow: kit.FlowMethod,
    cuts: frozenset[int],
) -> Iterator[Picture]:
    """The frames `shown`: a key's own result, or made from the keys around it; each is made once."""
    result = _Keys(source, keys, folder, fit)
    frames = source.selected([number for number in dict.fromkeys(shown) if number not in set(keys)])
    last: tuple[int, Picture] | None = None
    for number in shown:
        if last is None or last[0] != number:
            earlier, later = result.around(number)
            if earlier is not None and earlier.number == number:
                picture = earlier.result
            else:
                now = fit(next(frames).picture)
                if earlier is not None and any(earlier.number < cut <= number for cut in cuts):
                    earlier = None if later is not None else earlier
                if later is not None and any(number < cut <= later.number for cut in cuts):
                    later = None if earlier is not None else later
                picture = synthesised(now, number, earlier, later, flow)
            last = number, picture
        yield last[1]


@dataclass(frozen=True)
class Key:
    """A diffused frame. frame: the source's, at the size of the result."""

    number: int
    frame: Picture
    result: Picture


class _Keys:
    """The key frames before and after a frame; two are in memory."""

    def __init__(self, source: kit.Video, keys: Sequence[int], folder: WorkFolder, fit: Fit) -> None:
        self._keys = self._read(source, keys, folder, fit)
        self._earlier: Key | None = None
        self._later: Key | None = next(self._keys, None)

    def around(self, number: int) -> tuple[Key | None, Key | None]:
        """The last key up to `number` and the first beyond it. Numbers must not decrease."""
        while self._later is not None and self._later.number <= number:
            self._earlier, self._later = self._later, next(self._keys, None)
        return self._earlier, self._later

    @staticmethod
    def _read(source: kit.Video, keys: Sequence[int], folder: WorkFolder, fit: Fit) -> Iterator[Key]:
        for index, frame in enumerate(source.selected(keys)):
            result = folder.load(index)
            yield Key(frame.number, kit.resized(fit(frame.picture), result.shape[1], result.shape[0]), result)


def synthesised(now: Picture, number: int, earlier: Key | None, later: Key | None, flow: kit.FlowMethod) -> Picture:
    """The frame `now` in the look of the keys around it: their results, moved as the source moves, blended by distance.

    Where a movement doesn't hold in one direction the other is taken, and the nearer key where neither holds.
    """
    import numpy as np

    keys = [key for key in (earlier, later) if key is not None]
    assert keys, number
    moved = [kit.carried(key.result, key.frame, kit.resized(now, *key.frame.shape[1::-1]), flow) for key in keys]
    if len(moved) == 1:
        return moved[0][0]
    assert earlier is not None
    assert later is not None
    share = (number - earlier.number) / (later.number - earlier.number)
    (from_earlier, held_earlier), (from_later, held_later) = moved
    weight = np.full(held_earlier.shape, share, dtype=np.float32)
    weight[held_earlier & ~held_later] = 0
    weight[held_later & ~held_earlier] = 1
    weight[~held_earlier & ~held_later] = share >= 0.5
    mixed = from_earlier * (1 - weight[..., None]) + from_later * weight[..., None]
    return (mixed + 0.5).clip(0, 255).astype("uint8")
