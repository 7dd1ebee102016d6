"""Tags of extra networks in a prompt: `<lora:name:0.8>`, `<lora:name:te=0.5:unet=1>`, `<hypernet:name:1>`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

_TAG = re.compile(r"<(\w+):([^>]+)>")


class NetworkTag(NamedTuple):
    """kind: "lora", "hypernet", ... args: the parts without "=", the name first. named: those with one."""

    kind: str
    args: tuple[str, ...]
    named: Mapping[str, str]


class Cut(NamedTuple):
    """A prompt without its tags, and the tags in order."""

    text: str
    tags: tuple[NetworkTag, ...]


def with_default_tags(prompt: str, defaults: Mapping[str, str | None], multiplier: float) -> str:
    """The prompt with a tag for each default network (kind -> name; None and "None" are none) it doesn't name."""
    named = {(tag.kind, tag.args[0]) for tag in cut_networks(prompt).tags if tag.args}
    wanted = [(kind, name) for kind, name in defaults.items() if name and name != "None"]
    return prompt + "".join(f"<{kind}:{name}:{multiplier}>" for kind, name in wanted if (kind, name) not in named)


def cut_networks(prompt: str) -> Cut:
    """Take the tags out of a prompt; the space around them stays.

    Tags of unknown kinds are cut too: the caller reports them.
    """
    end = prompt.rfind(">") + 1  # what has no ">" after it holds no tag, and looking for one is slow
    tags: list[NetworkTag] = []

    def collect(match: re.Match[str]) -> str:
        items = [item.partition("=") for item in match[2].split(":")]
        args = tuple(item for item, equals, _ in items if not equals)
        named = {item: value for item, equals, value in items if equals}
        tags.append(NetworkTag(match[1], args, MappingProxyType(named)))
        return ""

    return Cut(_TAG.sub(collect, prompt[:end]) + prompt[end:], tuple(tags))
