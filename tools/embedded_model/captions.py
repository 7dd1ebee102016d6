"""Captions: text that says what a scene shows, in many wordings."""

from __future__ import annotations

import json

import numpy as np

from .config import STYLES, Preset
from .data import Scene

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
}
OPENINGS = (
    "a photo of",
    "a picture of",
    "an image of",
    "a drawing of",
    "an illustration of",
    "an emoji of",
    "an icon of",
)
QUALITY = ("masterpiece", "best quality", "high quality", "detailed", "cute", "beautiful")
SMALL = ("small", "tiny", "little")
STYLE_WORDS = {style: (f"{style} style", style, f"in {style} style", f"{style} style") for style in STYLES}
STYLE_WORDS["3d"] = ("3d style", "3d", "3d render", "in 3d style")
STYLE_WORDS["flat"] = ("flat style", "flat", "flat design", "in flat style")
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
MENTION_BACKGROUND = {"white": 0.5}  # else 0.95: a prompt that names none should mostly mean white
MENTION_STYLE = {"3d": 0.5}  # else 0.85: likewise 3d


class Captioner:
    """Writes captions for the scenes of one preset. The same generator state gives the same caption."""

    def __init__(self, preset: Preset):
        self.nouns: dict[str, tuple[str, ...]] = {}
        self.colours: dict[str, str] = {}
        self.several: set[str] = set()  # hexcodes whose noun comes in several colours
        if preset.subjects is None:
            words = json.loads((preset.data / "words.json").read_text())
            self.nouns = {code: tuple(names) for code, names in words.items()}
            return
        for noun, codes in preset.subjects.items():
            for code, colour in codes.items():
                self.nouns[code] = (noun, *SYNONYMS.get(noun, ()))
                self.colours[code] = colour or TYPICAL.get(noun, "")
                if len(codes) > 1:
                    self.several.add(code)

    def noun_phrase(self, scene: Scene, rng: np.random.Generator) -> str:
        names = self.nouns[scene.hexcode]
        words = [names[0] if rng.random() < 0.8 else str(rng.choice(names))]
        colour = self.colours.get(scene.hexcode, "")
        if colour and rng.random() < (0.9 if scene.hexcode in self.several else 0.25):
            words.insert(0, colour)
        if scene.scale < 0.6 and rng.random() < 0.9:
            words.insert(0, str(rng.choice(SMALL)))
        phrase = " ".join(words)
        if rng.random() < 0.15:
            return phrase
        return ("an " if phrase[0] in "aeiou" else "a ") + phrase

    def write(self, scene: Scene, rng: np.random.Generator) -> str:
        text = self.noun_phrase(scene, rng)
        if rng.random() < 0.3:
            text = f"{rng.choice(OPENINGS)} {text}"
        place = place_words(scene)
        if place and rng.random() < 0.85:
            text += f"{'' if rng.random() < 0.5 else ','} {place}"
        tail = []
        if rng.random() < MENTION_BACKGROUND.get(scene.background, 0.95):
            colour = "grey" if scene.background == "gray" and rng.random() < 0.5 else scene.background
            tail.append(str(rng.choice(BACKGROUNDS)).format(colour))
        if rng.random() < MENTION_STYLE.get(scene.style, 0.85):
            tail.append(", " + str(rng.choice(STYLE_WORDS[scene.style])))
        if rng.random() < 0.08:
            tail.append(", " + str(rng.choice(QUALITY)))
        rng.shuffle(tail)
        return text + "".join(tail)


def place_words(scene: Scene) -> str:
    """Such as "on the left" or "at the top right"; empty in the middle."""
    across = "left" if scene.x < 0.35 else "right" if scene.x > 0.65 else ""
    along = "top" if scene.y < 0.35 else "bottom" if scene.y > 0.65 else ""
    if along:
        return f"at the {along} {across}".strip()
    return f"on the {across}" if across else ""
