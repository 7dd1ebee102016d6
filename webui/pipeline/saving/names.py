"""File and folder names from patterns such as [date] and [seed]-[prompt_spaces]."""

from __future__ import annotations

import datetime
import hashlib
import re
import zoneinfo
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from webui.core.file_names import safe_name

LONGEST_PART = 128
_TOKEN = re.compile(r"\[(\w+)((?:<[^<>]*>)*)\]")
_ARGUMENT = re.compile(r"<([^<>]*)>")


@dataclass(frozen=True)
class NameFacts:
    """What a pattern can mention. A value of None makes its token, and the text before it, vanish.

    negative_prompt: as typed, without the styles' part.
    """

    values: Mapping[str, str | None]
    prompt: str
    prompt_without_styles: str
    negative_prompt: str
    image_bytes: Callable[[], bytes]
    now: datetime.datetime
    max_prompt_words: int = 8


def safe_part(text: str, *, spaces: bool = True) -> str:
    """`text` as a component of a path, or part of one: `safe_name` of at most LONGEST_PART characters.

    spaces: keep them; otherwise they become underscores.
    """
    if not spaces:
        text = text.replace(" ", "_")
    return safe_name(text.strip(" ")[:LONGEST_PART], 240)


def fill_pattern(pattern: str, facts: NameFacts) -> str:
    """The pattern with every token filled in. Unknown tokens stay as they are.

    Tokens that don't apply take the text before them away too.
    """
    result, end = "", 0
    for match in _TOKEN.finditer(pattern):
        before, name, arguments = pattern[end : match.start()], match.group(1).lower(), match.group(2)
        end = match.end()
        known, value = _value(name, _ARGUMENT.findall(arguments), facts)
        if not known:
            result += before + match.group(0)
        elif value is not None:
            result += before + value
    return result + pattern[end:]


def _value(name: str, arguments: list[str], facts: NameFacts) -> tuple[bool, str | None]:
    """(whether the token is known, its text; None makes it vanish)."""
    if name in facts.values:
        value = facts.values[name]
        return True, None if value is None else safe_part(value)
    if name in _COMPUTED:
        return True, _COMPUTED[name](arguments, facts)
    return False, None


def _digest(data: bytes, arguments: list[str]) -> str:
    length = int(arguments[0]) if arguments and arguments[0].isdigit() and int(arguments[0]) else 8
    return hashlib.sha256(data).hexdigest()[:length]


def _datetime(arguments: list[str], facts: NameFacts) -> str:
    now = facts.now
    if len(arguments) > 1 and arguments[1] in zoneinfo.available_timezones():
        now = now.astimezone(zoneinfo.ZoneInfo(arguments[1]))
    try:
        return safe_part(now.strftime(arguments[0] if arguments and arguments[0] else "%Y%m%d%H%M%S"))
    except ValueError:
        return now.strftime("%Y%m%d%H%M%S")


def _has_prompt(arguments: list[str], facts: NameFacts) -> str:
    """[hasprompt<word|otherwise>...]: each word that the prompt has, or what stands for its absence."""
    found = ""
    for argument in arguments:
        word, _, otherwise = argument.partition("|")
        found += word if word.lower() in facts.prompt.lower() else otherwise
    return safe_part(found)


def _words(arguments: list[str], facts: NameFacts) -> str:
    words = [word for word in re.split(r"\W+", facts.prompt) if word]
    return safe_part(" ".join(words[: facts.max_prompt_words]))


_COMPUTED: Mapping[str, Callable[[list[str], NameFacts], str | None]] = {
    "date": lambda arguments, facts: facts.now.strftime("%Y-%m-%d"),
    "datetime": _datetime,
    "prompt": lambda arguments, facts: safe_part(facts.prompt, spaces=False),
    "prompt_spaces": lambda arguments, facts: safe_part(facts.prompt),
    "prompt_no_styles": lambda arguments, facts: safe_part(facts.prompt_without_styles),
    "prompt_words": _words,
    "prompt_hash": lambda arguments, facts: _digest(facts.prompt.encode(), arguments),
    "negative_prompt_hash": lambda arguments, facts: _digest(facts.negative_prompt.encode(), arguments),
    "full_prompt_hash": lambda arguments, facts: _digest(
        f"{facts.prompt_without_styles} {facts.negative_prompt}".encode(), arguments
    ),
    "image_hash": lambda arguments, facts: _digest(facts.image_bytes(), arguments),
    "hasprompt": _has_prompt,
    "none": lambda arguments, facts: "",
}
