"""Captions: text that says what a scene shows, in many wordings. Written from the scene alone."""

from __future__ import annotations

import random
import re

from .config import COLOURS, HUES, STYLES, Preset
from .scenes import BIG, FIGURES, LANDSCAPES, RELATIONS, Scene
from .words import MARKS, Noun, nouns_of, plural, with_article

OPENINGS = (
    "a photo of",
    "a picture of",
    "an image of",
    "a drawing of",
    "an illustration of",
    "an emoji of",
    "an icon of",
)
QUALITY = ("masterpiece", "best quality", "high quality", "detailed", "cute", "beautiful", "sharp")
SMALL = ("small", "tiny", "little")
LARGE = ("large", "big", "huge", "close-up of a")
STYLE_WORDS = {style: (f"{style} style", style, f"in {style} style", f"{style} style") for style in STYLES}
STYLE_WORDS["3d"] = ("3d style", "3d", "3d render", "in 3d style")
STYLE_WORDS["flat"] = ("flat style", "flat", "flat design", "in flat style")
STYLE_WORDS["outline"] = ("outline style", "outline", "line art", "in outline style")
BACKGROUNDS = (
    ", {} background",
    ", {} background",
    ", {} background",
    " on a {} background",
    " on a {} background",
    " with a {} background",
    " in front of a {} background",
    " on {}",
)
GROUNDS = {
    "gradient": (
        ", {0} to {1} gradient background",
        ", gradient background, {0} and {1}",
        " on a {0} and {1} gradient",
    ),
    "stripes": (", {0} and {1} striped background", ", {0} background with {1} stripes", " on {0} and {1} stripes"),
    "dots": (", {0} background with {1} dots", ", {1} polka dots on {0}", " on a {0} polka dot background"),
    "checkers": (", {0} and {1} checkered background", " on a {0} and {1} checkerboard", ", checkers, {0} and {1}"),
    "meadow": (" in a meadow, blue sky", " on green grass under a blue sky", ", sky and grass", ", meadow background"),
    "night": (" at night, starry sky", " under a night sky with stars", ", starry night", ", night background, stars"),
    "beach": (" on the beach", " on a sandy beach by the sea", ", beach, sea and sand", ", beach background"),
    "snow": (" in the snow", ", snowy winter landscape", ", snow background", ", winter, snow"),
    "sunset": (" at sunset", ", sunset sky", ", sunset background", " in front of an orange sunset"),
}
RELATION_WORDS = {
    "left": ("{0} left of {1}", "{0} to the left of {1}", "{0} on the left of {1}"),
    "right": ("{0} right of {1}", "{0} to the right of {1}", "{0} on the right of {1}"),
    "above": ("{0} above {1}", "{0} over {1}", "{0} on top of {1}"),
    "below": ("{0} below {1}", "{0} under {1}", "{0} beneath {1}"),
    "beside": ("{0} next to {1}", "{0} and {1}", "{0} beside {1}", "{0} with {1}"),
}
CROWDS = {
    "pattern": ("pattern of {}", "a pattern of many {}", "seamless pattern of {}", "{} pattern"),
    "many": ("many {}", "lots of {}", "a group of {}", "several {}"),
    "2": ("two {}", "2 {}", "a pair of {}"),
    "3": ("three {}", "3 {}"),
    "4": ("four {}", "4 {}"),
}
FAULT_WORDS = {
    "blurred": ("blurry", "blurry, low quality", "out of focus, blurry", "blurred, bad quality"),
    "jpeg": ("jpeg artifacts", "jpeg artifacts, low quality", "low quality", "worst quality, jpeg artifacts"),
    "pixelated": ("pixelated", "pixelated, low quality", "low resolution, pixelated", "lowres, bad quality"),
}
PLACES = ("on the left", "on the right", "at the top", "at the bottom", "in the corner")
MENTION_BACKGROUND = {"white": 0.5}  # else 0.95: a prompt that names none should mostly mean white
MENTION_STYLE = {"3d": 0.5}  # else 0.85: likewise 3d


class Captioner:
    """Writes captions for the scenes of one preset. The same generator state gives the same caption."""

    def __init__(self, preset: Preset):
        self.shares = preset.shares
        self.nouns: dict[str, Noun] = nouns_of(preset)

    def vocabulary(self) -> set[str]:
        """Every text that a caption can be put together from, so that their words are all its words."""
        words = {
            *COLOURS,
            "grey",
            *OPENINGS,
            *QUALITY,
            *SMALL,
            *LARGE,
            *BACKGROUNDS,
            *PLACES,
            "a",
            "an",
            "left",
            "right",
        }
        for templates in (STYLE_WORDS, GROUNDS, RELATION_WORDS, CROWDS, FAULT_WORDS):
            words |= {text for texts in templates.values() for text in texts}
        for noun in self.nouns.values():
            words |= {*noun.names, *noun.tags, *map(plural, noun.names)}
        return {word.replace("{}", " ").replace("{0}", " ").replace("{1}", " ") for word in words}

    def noun_phrase(
        self, noun: Noun, rng: random.Random, colour: str = "", size: tuple[str, ...] = (), mark: bool = False
    ) -> str:
        """Such as "small red apple". colour: what it was recoloured to. size: words to choose from.

        mark: put the noun between MARKS.
        """
        words = [noun.name if rng.random() < 0.8 else rng.choice(noun.names)]
        if mark:
            words[0] = words[0].join(MARKS)
        if colour:
            words.insert(0, colour)
        elif noun.colour and rng.random() < (0.9 if noun.several else 0.25):
            words.insert(0, noun.colour)
        if size and rng.random() < 0.9:
            words.insert(0, rng.choice(size))
        return " ".join(words)

    def head(self, scene: Scene, rng: random.Random) -> str:
        """What is shown, without background and style."""
        noun = self.nouns[scene.hexcode]
        if scene.layout in RELATIONS:
            first = with_article(self.noun_phrase(noun, rng, scene.colour))
            second = with_article(self.noun_phrase(self.nouns[scene.other], rng))
            if scene.layout == "beside" and rng.random() < 0.5:
                first, second = second, first
            return rng.choice(RELATION_WORDS[scene.layout]).format(first, second)
        if scene.layout:
            return rng.choice(CROWDS[scene.layout]).format(plural(self.noun_phrase(noun, rng, scene.colour)))
        size = SMALL if scene.scale < 0.6 else LARGE if scene.scale >= BIG else ()
        phrase = self.noun_phrase(noun, rng, scene.colour, size, mark=True)
        text = phrase if rng.random() < 0.15 or phrase.startswith("close-up") else with_article(phrase)
        place = place_words(scene)
        if place and rng.random() < 0.85:
            text += f"{'' if rng.random() < 0.5 else ','} {place}"
        return text

    def ground(self, scene: Scene, rng: random.Random) -> str:
        """Begins with a comma or a space; empty where it goes without saying."""
        colour = grey(scene.background, rng)
        if scene.ground != "plain":
            if rng.random() > 0.95:
                return ""
            return rng.choice(GROUNDS[scene.ground]).format(colour, grey(scene.second, rng))
        if rng.random() > MENTION_BACKGROUND.get(scene.background, 0.95):
            return ""
        return rng.choice(BACKGROUNDS).format(colour)

    def write(self, scene: Scene, rng: random.Random) -> str:
        """The caption as plain text."""
        return "".join(text for text, _ in self.pieces(scene, rng))

    def pieces(self, scene: Scene, rng: random.Random) -> list[tuple[str, bool]]:
        """The caption in pieces, and which of them is the one subject's noun."""
        parts = re.split("|".join(MARKS), self._marked(scene, rng))
        return [(part, place % 2 == 1) for place, part in enumerate(parts)]

    def _marked(self, scene: Scene, rng: random.Random) -> str:
        text = self.head(scene, rng)
        if rng.random() < 0.3:
            text = f"{rng.choice(OPENINGS)} {text}"
        tail = [self.ground(scene, rng)]
        if rng.random() < MENTION_STYLE.get(scene.style, 0.85):
            tail.append(", " + rng.choice(STYLE_WORDS[scene.style]))
        if scene.fault:
            tail.append(", " + rng.choice(FAULT_WORDS[scene.fault]))
        elif rng.random() < 0.1:
            praise = rng.choice(QUALITY)
            if rng.random() < 0.5:
                text = f"{praise}, {text}"
            else:
                tail.append(f", {praise}")
        tags = self.nouns[scene.hexcode].tags
        if tags and rng.random() < self.shares.tags:
            tail.append(", " + rng.choice(tags))
        rng.shuffle(tail)
        if rng.random() < self.shares.shuffled:
            parts = [part.strip(", ") for part in (text, *tail) if part]
            rng.shuffle(parts)
            return ", ".join(parts)
        return text + "".join(tail)


def grey(colour: str, rng: random.Random) -> str:
    """Gray is spelt either way."""
    return "grey" if colour == "gray" and rng.random() < 0.5 else colour


def place_words(scene: Scene) -> str:
    """Such as "on the left" or "at the top right"; empty in the middle."""
    across = "left" if scene.x < 0.35 else "right" if scene.x > 0.65 else ""
    along = "top" if scene.y < 0.35 else "bottom" if scene.y > 0.65 else ""
    if along:
        return f"at the {along} {across}".strip()
    return f"on the {across}" if across else ""


def facts(scene: Scene) -> tuple[str, str, str, str, str]:
    """What a caption tells, for `unet.CaptionReader`: subject, background, style, arrangement, second subject."""
    background = scene.background if scene.ground == "plain" else scene.ground
    place = scene.layout or f"{scene.scale} {place_words(scene)}"
    return scene.hexcode, background, scene.style, place, scene.other or scene.colour


def known_facts(preset: Preset) -> list[list[str]]:
    """All values that `facts` can take, in an order that depends on the preset alone."""
    nouns = list(nouns_of(preset))
    spots = [""] + [f"at the {a} {b}".strip() for a in ("top", "bottom") for b in ("", "left", "right")]
    spots += ["on the left", "on the right"]
    places = [*RELATIONS, *CROWDS, *(f"{scale} {spot}" for scale in (0.45, 0.8, 0.98) for spot in spots)]
    grounds = ["gradient", *FIGURES, *LANDSCAPES]
    return [nouns, [*preset.colours, *grounds], list(preset.styles), places, ["", *HUES, *nouns]]
