"""What a composite shows, as data. Captions are written from a scene alone, and painting goes by it alone."""

from __future__ import annotations

import hashlib
import random
from bisect import bisect
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from itertools import accumulate

from .config import COLOURS, HUES, Preset, Shares
from .words import Noun, commonest, nouns_of

GOLDEN = 0.6180339887498949
HOLD_OUT_EVERY = 25  # one general emoji in so many is never shown to the VAE
SINGLE, BIG, SMALL = 0.8, 0.98, 0.45  # sides of a picture's box over the frame's
WHOLE = 0.92  # as large as it gets with air around it
COUNTED = (2, 3, 4)
RELATIONS = {"left": (-1, 0), "right": (1, 0), "above": (0, -1), "below": (0, 1), "beside": (-1, 0)}
FIGURES = ("stripes", "dots", "checkers")
LANDSCAPES = ("meadow", "night", "beach", "snow", "sunset")
FAULTS = ("blurred", "jpeg", "pixelated")


@dataclass(frozen=True)
class Scene:
    """One composite. What is left at its default isn't there."""

    style: str
    hexcode: str
    background: str  # a name in COLOURS, or "#rrggbb", which no caption can tell
    scale: float  # side of the picture's box over the side of the frame
    x: float  # centre of the box, 0 is left, 1 is right
    y: float  # 0 is top
    colour: str = ""  # a name in HUES that the picture is recoloured to
    ground: str = "plain"  # plain, gradient, or one of FIGURES or LANDSCAPES
    second: str = ""  # the other colour of a gradient or figure
    layout: str = ""  # a key of RELATIONS, "pattern", "many", or a number of COUNTED as text
    other: str = ""  # hexcode of the second subject, where the layout is a relation
    fault: str = ""  # one of FAULTS
    emphasis: float = 1.0  # the weight of the subject's words; see `emphasised`
    detail: int = 0  # seeds what no word tells: where stars and pictures in a crowd lie
    angle: float = 0.0  # degrees that a single subject is turned by, clockwise


@dataclass(frozen=True)
class Box:
    """One picture in a scene; x, y: its centre, scale: its side, all over the frame's. angle: degrees, clockwise."""

    hexcode: str
    colour: str
    scale: float
    x: float
    y: float
    angle: float = 0.0


@dataclass(frozen=True)
class Subject:
    """A picture that the denoiser learns. weight: how often it is drawn, relative to the others."""

    noun: Noun
    hexcode: str
    style: str
    weight: float


def pair_held_out(hexcode: str, style: str, share: float) -> bool:
    """Whether this subject is never trained on in this style. The same answer everywhere and always."""
    digest = hashlib.sha256(f"{hexcode} {style}".encode()).digest()
    return int.from_bytes(digest[:4], "big") < share * 2**32


def picture_held_out(hexcode: str) -> bool:
    """Whether the VAE never sees this emoji among its general pictures."""
    return sum(hexcode.encode()) % HOLD_OUT_EVERY == 0


class Subjects:
    """All subjects of a preset that there is art of, and how they are drawn.

    recolourable: the (style, hexcode) pairs whose hue may be turned.
    """

    def __init__(
        self, preset: Preset, pictures: set[tuple[str, str]], recolourable: frozenset[tuple[str, str]] = frozenset()
    ):
        self.preset, self.recolourable = preset, recolourable
        self.nouns = nouns_of(preset)
        found = Counter(code for style, code in pictures if style in preset.styles and code in self.nouns)
        self.commonest = commonest(preset, found)
        pairs = [(code, style) for code in self.nouns for style in preset.styles if (style, code) in pictures]
        self.held_out = [pair for pair in pairs if self._is_held_out(*pair, found[pair[0]])]
        left_out = set(self.held_out)
        pairs = [pair for pair in pairs if pair not in left_out]
        of_noun = Counter(self.nouns[code].name for code, _ in pairs)
        common = set(self.commonest)
        boost = preset.shares.common / max(1, len(common))
        rest = (1 - preset.shares.common) / max(1, len(of_noun))
        self.trained = [
            Subject(noun, code, style, (rest + boost * (noun.name in common)) / of_noun[noun.name])
            for code, style in pairs
            for noun in (self.nouns[code],)
        ]
        self._limits = list(accumulate(subject.weight for subject in self.trained))
        self.general = sorted((code, style) for style, code in pictures if style in preset.styles)

    def _is_held_out(self, hexcode: str, style: str, styles: int) -> bool:
        return styles > 2 and pair_held_out(hexcode, style, self.preset.shares.held_out)

    def pick(self, u: float) -> Subject:
        """u: in [0, 1)."""
        place = bisect(self._limits, u * self._limits[-1])
        return self.trained[min(place, len(self.trained) - 1)]

    def pick_other(self, rng: random.Random, subject: Subject) -> str:
        """Hexcode of another noun that comes in the same style; "" if a few tries find none."""
        for _ in range(20):
            other = self.pick(rng.random())
            if other.style == subject.style and other.noun.name != subject.noun.name:
                return other.hexcode
        return ""


def choose(rng: random.Random, options: list[tuple[str, float]]) -> str:
    """One of the options by its probability, "" with what is left of 1."""
    u = rng.random()
    for name, share in options:
        if u < share:
            return name
        u -= share
    return ""


def draw_scene(subjects: Subjects, stream: str, number: int) -> Scene:
    """Scene `number` of a stream: always the same one. Numbers in a row go evenly through the subjects."""
    preset = subjects.preset
    rng = random.Random(f"{preset.seed} {stream} {number}")
    return scene_of(subjects, subjects.pick((stream_start(preset.seed, stream) + number * GOLDEN) % 1.0), rng)


@cache
def stream_start(seed: int, stream: str) -> float:
    return random.Random(f"{seed} {stream}").random()


def scene_of(subjects: Subjects, subject: Subject, rng: random.Random) -> Scene:
    """A scene around this subject."""
    preset, shares = subjects.preset, subjects.preset.shares
    layout, other = draw_layout(subjects, subject, rng)
    scale, x, y = SINGLE, 0.5, 0.5
    if not layout:
        scale, x, y = place_single(preset, rng)
    background = rng.choice(preset.colours)
    ground = draw_ground(shares, rng)
    second = ""
    if ground == "gradient" or ground in FIGURES:
        second = rng.choice([colour for colour in preset.colours if colour != background])
    recolour = (subject.style, subject.hexcode) in subjects.recolourable and rng.random() < shares.recolour
    return Scene(
        subject.style,
        subject.hexcode,
        background,
        scale,
        x,
        y,
        colour=rng.choice(list(HUES)) if recolour else "",
        ground=ground,
        second=second,
        layout=layout,
        other=other,
        fault=rng.choice(FAULTS) if rng.random() < shares.fault else "",
        detail=rng.randrange(1 << 20) if layout or ground != "plain" else 0,
        emphasis=draw_emphasis(shares, rng) if not layout and scale != BIG else 1.0,
    )


def draw_emphasis(shares: Shares, rng: random.Random) -> float:
    """A weight for the subject's words: mostly 1, else more often under it than over, as there is more to learn."""
    if rng.random() >= shares.emphasis:
        return 1.0
    return round(rng.uniform(0.4, 0.95) if rng.random() < 0.6 else rng.uniform(1.1, 1.6), 2)


def draw_layout(subjects: Subjects, subject: Subject, rng: random.Random) -> tuple[str, str]:
    """Returns: the layout, "" for one subject, and the second subject's hexcode."""
    shares = subjects.preset.shares
    kinds = [("pair", shares.pair), ("pattern", shares.pattern), ("many", shares.many), ("counted", shares.counted)]
    kind = choose(rng, kinds)
    if kind == "counted":
        return str(rng.choice(COUNTED)), ""
    if kind == "pair":
        other = subjects.pick_other(rng, subject)
        return (rng.choice(list(RELATIONS)), other) if other else ("", "")
    return kind, ""


def draw_ground(shares: Shares, rng: random.Random) -> str:
    kind = choose(rng, [("gradient", shares.gradient), ("figure", shares.figure), ("landscape", shares.landscape)])
    if kind == "figure":
        return rng.choice(FIGURES)
    if kind == "landscape":
        return rng.choice(LANDSCAPES)
    return kind or "plain"


def place_single(preset: Preset, rng: random.Random) -> tuple[float, float, float]:
    """Scale and centre of a single subject. Half of the small ones lie in the middle, half in any third of the frame;
    others near the middle."""
    size = choose(rng, [("small", preset.shares.small), ("large", preset.shares.large)])
    if size == "small" and rng.random() < 0.5:
        return SMALL, 0.5, 0.5
    if size == "small":
        return SMALL, 0.5 + 0.25 * rng.randint(-1, 1), 0.5 + 0.25 * rng.randint(-1, 1)
    if size == "large":
        return BIG, 0.5, 0.5
    steps = int(1.4 / 16 / preset.shift)
    return SINGLE, 0.5 + rng.randint(-steps, steps) * preset.shift, 0.5 + rng.randint(-steps, steps) * preset.shift


def general_scene(subjects: Subjects, stream: str, number: int, test: bool = False) -> Scene:
    """Any emoji, size and place over any colour: what the VAE should cope with beyond the captioned scenes.

    test: one of the emoji that the VAE never sees, else one of the others.
    """
    preset = subjects.preset
    rng = random.Random(f"{preset.seed} {stream} general {number}")
    while True:
        hexcode, style = rng.choice(subjects.general)
        if picture_held_out(hexcode) == test and not (test and hexcode in subjects.nouns and preset.subjects):
            break
    plain = rng.choice(preset.colours) if rng.random() < 0.5 else f"#{rng.randrange(1 << 24):06x}"
    return Scene(style, hexcode, plain, rng.uniform(0.5, 1.0), rng.uniform(0.4, 0.6), rng.uniform(0.4, 0.6))


def rgb(name: str) -> tuple[int, int, int]:
    """A name in COLOURS, or #rrggbb."""
    if name.startswith("#"):
        value = int(name[1:], 16)
        return value >> 16, value >> 8 & 255, value & 255
    return COLOURS[name]


def boxes(scene: Scene) -> Iterator[Box]:
    """Where each picture of the scene lies, in the order of pasting."""
    rng = random.Random(scene.detail)
    if not scene.layout:
        yield emphasised(scene)
    elif scene.layout in RELATIONS:
        right, down = RELATIONS[scene.layout]
        scale = 0.46
        yield Box(scene.hexcode, scene.colour, scale, 0.5 + 0.24 * right, 0.5 + 0.24 * down)
        yield Box(scene.other, "", scale, 0.5 - 0.24 * right, 0.5 - 0.24 * down)
    elif scene.layout == "pattern":
        side = rng.choice((3, 4))
        for row in range(side):
            for column in range(side):
                x, y = (column + 0.5) / side, (row + 0.5) / side
                yield Box(scene.hexcode, scene.colour, 0.8 / side, x, y)
    elif scene.layout == "many":
        for cell in rng.sample(range(9), rng.randint(6, 8)):
            x, y = (cell % 3 + rng.uniform(0.35, 0.65)) / 3, (cell // 3 + rng.uniform(0.35, 0.65)) / 3
            yield Box(scene.hexcode, scene.colour, rng.uniform(0.26, 0.36), x, y)
    else:
        yield from row_of(scene, int(scene.layout))


def emphasised(scene: Scene) -> Box:
    """The single subject as large as its words' weight makes it; over 1 it stays whole, with air around it."""
    if scene.emphasis <= 1:
        return Box(scene.hexcode, scene.colour, scene.scale * scene.emphasis, scene.x, scene.y, scene.angle)
    scale = max(scene.scale, min(scene.scale * scene.emphasis, WHOLE))
    reach = max(0.0, WHOLE - scale) / 2
    x, y = (min(max(place, 0.5 - reach), 0.5 + reach) for place in (scene.x, scene.y))
    return Box(scene.hexcode, scene.colour, scale, x, y, scene.angle)


def row_of(scene: Scene, count: int) -> Iterator[Box]:
    """Two or three side by side, four as two rows."""
    if count == 4:
        for x, y in ((0.27, 0.27), (0.73, 0.27), (0.27, 0.73), (0.73, 0.73)):
            yield Box(scene.hexcode, scene.colour, 0.42, x, y)
        return
    for place in range(count):
        yield Box(scene.hexcode, scene.colour, 0.92 / count, (place + 0.5) / count, 0.5)
