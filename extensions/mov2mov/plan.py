"""Which frames are diffused, with which seed and prompt, and which of them each frame of the film shows."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction
from math import floor
from typing import TYPE_CHECKING

from webui.extensions.api import InvalidRequest

if TYPE_CHECKING:
    from webui.extensions.api import video as kit

    from .parameters import Editor, Frames, SeedBehaviour

_LINE = re.compile(r"\s*(\d+)\s*:\s?(.*)")


@dataclass(frozen=True)
class FramePlan:
    """rate: of the film. shown: for each of its frames, which frame of the source it shows.

    made: the frames of the source that are diffused, rising. cuts: those of `used` that begin another scene.
    start: second of the source at which the film begins.
    """

    rate: Fraction
    shown: tuple[int, ...]
    made: tuple[int, ...]
    cuts: frozenset[int] = frozenset()
    start: Fraction = Fraction(0)

    @property
    def used(self) -> tuple[int, ...]:
        """The frames of the source that are shown, each once."""
        return tuple(dict.fromkeys(self.shown))

    @property
    def duration(self) -> Fraction:
        return len(self.shown) / self.rate

    def first_shown(self, number: int) -> int:
        """The place in the film, counted from 0, where frame `number` of the source is first shown, or would be."""
        return next((place for place, shown in enumerate(self.shown) if shown >= number), len(self.shown) - 1)


def plan_frames(source: kit.Video, frames: Frames) -> FramePlan:
    """Every frame that is shown is also diffused. Raises: InvalidRequest for an empty part or rate."""
    from webui.extensions.api import video as kit

    if frames.max_frames == 0:
        raise InvalidRequest("Max frames is 0, so there would be no film; use -1 for all frames.")
    if frames.legacy_skip:
        rate, shown = legacy_frames(source, frames)
        start = Fraction(0)
    else:
        rate = source.rate if frames.keep_source_fps else kit.as_rate(frames.movie_fps)
        start = Fraction(frames.start)
        numbers = source.resampled(rate, start, Fraction(frames.end) if frames.end else None)
        shown = [numbers[place - place % frames.every_nth] for place in range(len(numbers))]
    if frames.max_frames > 0:
        shown = shown[: frames.max_frames]
    return FramePlan(rate, tuple(shown), tuple(dict.fromkeys(shown)), start=start)


def legacy_frames(source: kit.Video, frames: Frames) -> tuple[Fraction, list[int]]:
    """The film's rate and frames as sd-webui-mov2mov chooses them: whole steps, so that the duration may change."""
    from webui.extensions.api import video as kit

    if frames.start or frames.end or frames.every_nth > 1:
        raise InvalidRequest("Start, end and every n-th frame can't be used with sd-webui-mov2mov's choice of frames.")
    rate = source.rate if frames.keep_source_fps else kit.as_rate(frames.movie_fps)
    asked = rate if rate <= source.rate else Fraction(max(int(source.rate), 1))
    skip = max(floor(source.rate / asked), 1)
    shown = list(range(skip - 1, source.count, skip))
    if not shown:
        raise InvalidRequest(f"The video has {source.count} frames, fewer than the {skip} that one would be taken of.")
    return rate, shown


def with_key_frames(plan: FramePlan, editor: Editor, listed: Iterable[int], cuts: Iterable[int]) -> FramePlan:
    """The plan with key frames alone diffused: those listed, every n-th, and the first of each scene.

    listed: places in the film, counted from 0. cuts: frames of the source that begin a scene.
    """
    used = plan.used
    keys = {plan.shown[place] for place in listed if place < len(plan.shown)}
    if editor.interval:
        keys |= set(used[:: editor.interval])
    known_cuts = frozenset(cuts)
    if editor.at_cuts:
        keys |= known_cuts
    if not keys:
        raise InvalidRequest("There are no key frames: list some, or set the auto key frame interval above 0.")
    return FramePlan(plan.rate, plan.shown, tuple(sorted(keys)), known_cuts, plan.start)


def frame_prompts(text: str) -> dict[int, str]:
    """Lines "12: a text" as {place in the film, counted from 0: text}. Raises: InvalidRequest naming a bad line."""
    prompts = dict[int, str]()
    for line in text.splitlines():
        if not line.strip():
            continue
        match = _LINE.fullmatch(line)
        if match is None or int(match[1]) < 1:
            raise InvalidRequest(f'"{line.strip()}" isn\'t a frame\'s prompt; write lines such as "12: a text".')
        prompts[int(match[1]) - 1] = match[2].strip()
    return prompts


def prompt_at(place: int, prompt: str, prompts: dict[int, str]) -> str:
    """The prompt with what the last of `prompts` up to `place` adds."""
    latest = max((key for key in prompts if key <= place), default=None)
    added = prompts[latest] if latest is not None else ""
    return ", ".join(part for part in (prompt, added) if part)


def seed_at(index: int, seed: int, behaviour: SeedBehaviour) -> int:
    """The seed of the index-th diffused frame. ladder: 0, 2, 1, 3, 2, 4, ... more than the first."""
    if behaviour == "increment":
        return seed + index
    if behaviour == "ladder":
        return seed + index // 2 + 2 * (index % 2)
    return seed
