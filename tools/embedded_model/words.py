"""What subjects are called: the names, tags and colour words of every emoji that a preset knows."""

from __future__ import annotations

import json
import re
from collections import Counter, defaultdict
from dataclasses import dataclass
from typing import Any

from .config import COLOURS, Preset

COMMON = 200  # how many subjects "the commonest" are
MARKS = ("\x02", "\x03")  # stand around a noun until its caption is cut into pieces

SYNONYMS = {
    "cat": ("kitten", "cat face", "kitty"),
    "dog": ("puppy", "dog face"),
    "fox": ("fox face",),
    "panda": ("panda bear",),
    "frog": ("toad", "frog face"),
    "fish": ("goldfish",),
    "pumpkin": ("jack o lantern", "halloween pumpkin"),
    "mushroom": ("toadstool",),
    "tree": ("oak tree",),
    "rose": ("rose flower",),
    "sun": ("sunshine",),
    "moon": ("crescent moon",),
    "circle": ("ball", "disc"),
    "square": ("box",),
    "car": ("automobile",),
    "house": ("home", "cottage"),
    "rabbit": ("bunny",),
    "bear": ("teddy bear", "bear face"),
    "lion": ("lion face",),
    "pig": ("piggy", "pig face"),
    "bee": ("honeybee",),
    "donut": ("doughnut",),
    "rocket": ("spaceship",),
    "cherry": ("cherries",),
    "smiley": ("smiling face", "happy face", "smiley face"),
}
# Colours of subjects that come in one only: mentioned now and then.
TYPICAL = {
    "frog": "green",
    "banana": "yellow",
    "strawberry": "red",
    "pumpkin": "orange",
    "fox": "orange",
    "mushroom": "red",
    "tree": "green",
    "rose": "red",
    "sunflower": "yellow",
    "sun": "yellow",
    "moon": "yellow",
    "star": "yellow",
    "balloon": "red",
    "smiley": "yellow",
    "fish": "blue",
    "bear": "brown",
    "pig": "pink",
    "bee": "yellow",
    "octopus": "red",
    "watermelon": "red",
    "cherry": "red",
    "cactus": "green",
    "ghost": "white",
}
# The word people would type, where emojibase says something longer.
SHORTER = {
    "1F344": "mushroom", "1F642": "smiley", "1F333": "tree", "1F319": "moon", "1F697": "car", "1F383": "pumpkin",
    "1F33D": "corn", "2709": "envelope", "1F60A": "smiling face", "1F4A3": "bomb", "2615": "coffee",
    "1F6B2": "bicycle", "1F37A": "beer", "1F382": "cake", "1F4F1": "phone", "1F99C": "parrot",
}  # fmt: skip
# Emojibase's subgroups that are letters and signs rather than things: regional and national flags, keycaps, buttons.
LEFT_OUT = frozenset({32, 33, 94, 95, 98, 99})
FAMILIES = re.compile(r"^(family|kiss|couple with heart|person|man|woman|people)\b.*:")
GENDERED = re.compile(r"-200D-(2640|2642)$")
UNWANTED = frozenset({"1F595", "1F51E"})  # the middle finger; "no one under eighteen"
CLOCKS = re.compile(r"o'clock$|-thirty$")
COLOURED = re.compile(rf"^({'|'.join(COLOURS)}) (.+)$")


@dataclass(frozen=True)
class Noun:
    """names: what a subject is called, the commonest first. tags: more words that fit it.

    colour: the word for its colour, "" where it has no one. several: the same name comes in other colours too, so
    captions must say which.
    """

    names: tuple[str, ...]
    tags: tuple[str, ...] = ()
    colour: str = ""
    several: bool = False

    @property
    def name(self) -> str:
        return self.names[0]


def plain_hexcode(name: str) -> str:
    """`2764-fe0f` -> `2764`, the form that emojibase's data and our tables use."""
    return "-".join(part for part in name.lower().split("-") if part != "fe0f").upper()


def clean(label: str) -> str:
    """Lower case, straight quotes, no colons, no accents: "rescue worker’s helmet" as one types it."""
    label = label.lower().replace("’", "'").replace(":", "").replace("“", "").replace("”", "")
    return " ".join(label.encode("ascii", "ignore").decode().split())


def is_subject(item: dict[str, Any]) -> bool:
    """Whether an emoji is a thing worth a name of its own.

    Left out: skin tones and hair alone, regional letters, keycaps and buttons, flags of countries and regions, the
    many families and couples, `man ...` and `woman ...` beside the same `person ...`, and the 24 clock faces.
    """
    label = clean(item["label"])
    if item.get("group") is None or item.get("subgroup") in LEFT_OUT or item["hexcode"] in UNWANTED:
        return False
    return not (FAMILIES.match(item["label"]) or GENDERED.search(item["hexcode"]) or CLOCKS.search(label))


def is_variant(label: str, known: set[str]) -> bool:
    """Whether it is the man or the woman of an emoji that is there without: "man student" beside "student"."""
    first, _, rest = label.partition(" ")
    return first in {"man", "woman"} and (rest in known or f"person {rest}" in known)


def named_emoji(items: list[dict[str, Any]]) -> dict[str, Noun]:
    """Hexcode -> noun of every subject, in emojibase's order.

    A label that begins with a colour gives a noun in several colours where the rest is a name of two or more emoji
    (red, green, blue heart). A tag is a synonym where at most two emoji have it.
    """
    known = {clean(item["label"]) for item in items}
    chosen = sorted((item for item in items if is_subject(item)), key=lambda item: item.get("order", 0))
    chosen = [item for item in chosen if not is_variant(clean(item["label"]), known)]
    labels = {plain_hexcode(item["hexcode"]): clean(item["label"]) for item in chosen}
    labels |= {code: word for code, word in SHORTER.items() if code in labels}
    rests = Counter(found[2] for label in labels.values() if (found := COLOURED.match(label)))
    tags = {plain_hexcode(item["hexcode"]): [clean(tag) for tag in item.get("tags", [])] for item in chosen}
    rarity = Counter(tag for words in tags.values() for tag in set(words))
    nouns, taken = {}, set(labels.values())
    for code, label in labels.items():
        colour, several = "", False
        if (found := COLOURED.match(label)) and rests[found[2]] > 1:
            colour, label, several = found[1], found[2], True
        own = [tag for tag in tags[code] if tag and tag not in label and tag not in COLOURS]
        synonyms = [tag for tag in own if rarity[tag] <= 2 and tag not in taken]
        nouns[code] = Noun((label, *synonyms[:4]), tuple(tag for tag in own if tag not in synonyms), colour, several)
    return nouns


def nouns_of(preset: Preset) -> dict[str, Noun]:
    """Hexcode -> noun of the preset's subjects, whether or not there is art of them."""
    if preset.subjects is None:
        return named_emoji(json.loads((preset.data / "emoji.json").read_text()))
    return {
        code: Noun((noun, *SYNONYMS.get(noun, ())), (), colour or TYPICAL.get(noun, ""), len(codes) > 1)
        for noun, codes in preset.subjects.items()
        for code, colour in codes.items()
    }


def commonest(preset: Preset, found: dict[str, int]) -> list[str]:
    """Names of the commonest subjects, 200 at most: all of a preset that lists its subjects.

    The rule for `subjects=None`: those in most styles come first; among equals the groups of emojibase (smileys,
    people, animals, food, travel, activities, objects, symbols) take turns, each in emojibase's order.
    found: hexcode -> in how many styles there is art of it.
    """
    nouns = nouns_of(preset)
    if preset.subjects is not None:
        return list(dict.fromkeys(noun.name for code, noun in nouns.items() if found.get(code)))[:COMMON]
    items = json.loads((preset.data / "emoji.json").read_text())
    group = {plain_hexcode(item["hexcode"]): item.get("group", 0) for item in items}
    turn: defaultdict[tuple[int, int], int] = defaultdict(int)
    ranked = []
    for code, noun in nouns.items():
        styles = found.get(code, 0)
        if styles:
            turn[styles, group[code]] += 1
            ranked.append((-styles, turn[styles, group[code]], group[code], noun.name))
    return list(dict.fromkeys(name for *_, name in sorted(ranked)))[:COMMON]


def plural(noun: str) -> str:
    """As a rule of thumb: cats, cherries, boxes; only the last word changes, or the one before `of`, `with` or `in`."""
    if found := re.match(r"(.+?)( (?:of|with|in|on|without) .+)$", noun):
        return plural(found[1]) + found[2]
    if noun.endswith(("s", "x", "z", "ch", "sh")):
        return noun if noun.endswith("s") and not noun.endswith(("ss", "us")) else noun + "es"
    if noun.endswith("y") and noun[-2:-1] not in "aeiou":
        return noun[:-1] + "ies"
    return noun + "s"


def with_article(phrase: str) -> str:
    """phrase: its first word may be between MARKS."""
    return ("an " if phrase.lstrip(MARKS[0])[:1] in "aeiou" else "a ") + phrase
