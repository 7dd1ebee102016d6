"""Prompts that change along a clip: lines `frame: text` between lines that all frames share."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from webui.extensions.api import InvalidRequest

_KEY = re.compile(r"\s*(\d{1,9}):(?:\s+(.*))?")


@dataclass(frozen=True)
class Travel:
    """head, tail: what stands before and after the text of every frame. keys: frame -> its text, in order."""

    head: str
    keys: Mapping[int, str]
    tail: str

    def prompts(self, count: int) -> tuple[str, ...]:
        """What each frame's prompt is; between two keys that of the earlier one, whose vectors then move on.

        Raises: InvalidRequest for a key beyond the clip.
        """
        beyond = [key for key in self.keys if key >= count]
        if beyond:
            raise InvalidRequest(
                f'The prompt of frame {beyond[0]} ("{beyond[0]}: ...") lies beyond the clip, whose last frame is '
                f"{count - 1}."
            )
        keys = list(self.keys)
        return tuple(self._whole(max((key for key in keys if key <= frame), default=keys[0])) for frame in range(count))

    def _whole(self, key: int) -> str:
        return ", ".join(part for part in (self.head, self.keys[key], self.tail) if part)


def read_travel(prompt: str) -> Travel | None:
    """None for a prompt without lines of frames. A frame that is named twice has the later text."""
    head, keys, tail = [], {}, []
    for line in prompt.splitlines():
        key = _KEY.fullmatch(line) if not tail else None
        if key:
            keys[int(key[1])] = (key[2] or "").strip()
        elif line.strip():
            (tail if keys else head).append(line.strip())
    if not keys:
        return None
    return Travel(_joined(head), dict(sorted(keys.items())), _joined(tail))


def _joined(lines: list[str]) -> str:
    return ", ".join(line.rstrip(", ") for line in lines)


@dataclass(frozen=True)
class Between:
    """A frame's conditioning: that of frame `before`, moved towards that of `after` by `share`, 0 to 1."""

    before: int
    after: int
    share: float


def positions(keys: list[int], count: int, *, loops: bool) -> tuple[Between, ...]:
    """Where each frame is between the keys. loops: from the last key the way goes on to the first."""
    found = []
    for frame in range(count):
        earlier = [key for key in keys if key <= frame]
        later = [key for key in keys if key > frame]
        before = earlier[-1] if earlier else keys[-1] if loops else keys[0]
        after = later[0] if later else keys[0] if loops else keys[-1]
        passed, left = (frame - before) % count, (after - frame) % count
        found.append(Between(before, after, passed / (passed + left) if before != after else 0.0))
    return tuple(found)
