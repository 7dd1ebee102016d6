"""What is trained: subjects, styles, colours, shares, network sizes. One preset per kind of machine."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

HERE = Path(__file__).parent
REPOSITORY = HERE.parent.parent

LATENT_SCALE = 0.18215  # SD 1.x: latents are multiplied by this before the UNet sees them
CFG_SCALE = 5.0  # that suits the model


@dataclass(frozen=True)
class Style:
    """One set of pictures. `word` is what captions call it.

    home: where the art comes from. notice: what NOTICE says of it; `raster` sets come as WebP, the others as SVG.
    """

    word: str
    package: str
    version: str
    licence: str
    author: str
    home: str
    raster: bool = False
    packaging: str = "packaging by Iconify"

    @property
    def credit(self) -> str:
        """The line in the checkpoint's metadata."""
        return f"{self.author}: {self.licence}"

    @property
    def notice(self) -> str:
        """The paragraph that NOTICE must have once this style is trained on."""
        text = LICENCE_TEXTS[self.licence]
        return (
            f'Emoji art of the style "{self.word}"\n'
            f"  Copyright (c) {self.author}. {self.home}.\n"
            f"  {text}\n"
            f"  Taken from the npm package {self.package} {self.version} ({self.packaging}).\n"
        )


LICENCE_TEXTS = {
    "MIT": "MIT License (text below).",
    "Apache-2.0": "Apache License, Version 2.0 (text in LICENSE).",
    "CC BY 4.0": (
        "Creative Commons Attribution 4.0 International,\n"
        "  https://creativecommons.org/licenses/by/4.0/. Changed: drawn as pixels, placed over backgrounds, partly\n"
        "  recoloured and blurred, and learned from."
    ),
}
FLUENT = "https://github.com/microsoft/fluentui-emoji"
NOTO = "https://github.com/googlefonts/noto-emoji"

STYLES = {
    style.word: style
    for style in (
        Style(
            "3d", "@lobehub/fluent-emoji-3d", "1.1.0", "MIT",
            "Microsoft Corporation (Fluent Emoji), packaged by LobeHub", FLUENT, True,
            "packaging copyright (c) 2023 LobeHub, MIT License",
        ),
        Style(
            "flat", "@iconify-json/fluent-emoji-flat", "1.2.6", "MIT", "Microsoft Corporation (Fluent Emoji)", FLUENT
        ),
        Style(
            "fluent", "@iconify-json/fluent-emoji", "1.2.7", "MIT", "Microsoft Corporation (Fluent Emoji, colour)",
            FLUENT,
        ),
        Style("noto", "@iconify-json/noto", "1.2.9", "Apache-2.0", "Google (Noto Emoji)", NOTO),
        Style("blob", "@iconify-json/noto-v1", "1.2.5", "Apache-2.0", "Google (Noto Emoji, old)", NOTO),
        Style(
            "twemoji", "@iconify-json/twemoji", "1.2.5", "CC BY 4.0", "Twitter and contributors (Twemoji)",
            "https://github.com/twitter/twemoji",
        ),
        Style(
            "firefox", "@iconify-json/fxemoji", "1.2.2", "Apache-2.0", "Mozilla (FxEmojis)",
            "https://github.com/mozilla/fxemoji",
        ),
        Style(
            "emojione", "@iconify-json/emojione", "1.2.3", "CC BY 4.0", "EmojiOne (version 2)",
            "https://github.com/EmojiTwo/emojitwo",
        ),
        Style(
            "outline", "@iconify-json/streamline-emojis", "1.2.4", "CC BY 4.0", "Streamline",
            "https://github.com/webalys-hq/streamline-vectors",
        ),
    )
}  # fmt: skip

COLOURS: dict[str, tuple[int, int, int]] = {
    "white": (255, 255, 255),
    "black": (16, 16, 16),
    "gray": (136, 136, 136),
    "red": (214, 40, 40),
    "orange": (245, 140, 30),
    "yellow": (250, 215, 50),
    "green": (60, 165, 70),
    "blue": (45, 100, 220),
    "purple": (135, 65, 185),
    "pink": (250, 160, 195),
    "brown": (120, 75, 45),
    "cyan": (70, 205, 220),
}
# Degrees on the colour wheel of the words that a picture may be recoloured to.
HUES = {"red": 0, "orange": 28, "yellow": 50, "green": 125, "cyan": 185, "blue": 218, "purple": 275, "pink": 330}

# noun -> {hexcode: colour word, "" where the picture has no one colour}
Subjects = dict[str, dict[str, str]]

FEW_SUBJECTS: Subjects = {
    "cat": {"1F431": ""},
    "dog": {"1F436": ""},
    "fox": {"1F98A": ""},
    "panda": {"1F43C": ""},
    "frog": {"1F438": ""},
    "rabbit": {"1F430": ""},
    "bear": {"1F43B": ""},
    "lion": {"1F981": ""},
    "pig": {"1F437": ""},
    "penguin": {"1F427": ""},
    "owl": {"1F989": ""},
    "bee": {"1F41D": ""},
    "butterfly": {"1F98B": ""},
    "octopus": {"1F419": ""},
    "fish": {"1F41F": ""},
    "apple": {"1F34E": "red", "1F34F": "green"},
    "banana": {"1F34C": ""},
    "strawberry": {"1F353": ""},
    "watermelon": {"1F349": ""},
    "cherry": {"1F352": ""},
    "pizza": {"1F355": ""},
    "donut": {"1F369": ""},
    "mushroom": {"1F344": ""},
    "tree": {"1F333": ""},
    "sunflower": {"1F33B": ""},
    "rose": {"1F339": ""},
    "cactus": {"1F335": ""},
    "sun": {"2600": ""},
    "moon": {"1F319": ""},
    "star": {"2B50": ""},
    "cloud": {"2601": ""},
    "rainbow": {"1F308": ""},
    "heart": {
        "2764": "red", "1F9E1": "orange", "1F49B": "yellow", "1F49A": "green", "1F499": "blue", "1F49C": "purple",
    },
    "circle": {
        "1F534": "red", "1F7E0": "orange", "1F7E1": "yellow", "1F7E2": "green", "1F535": "blue", "1F7E3": "purple",
    },
    "square": {
        "1F7E5": "red", "1F7E7": "orange", "1F7E8": "yellow", "1F7E9": "green", "1F7E6": "blue", "1F7EA": "purple",
    },
    "car": {"1F697": "red", "1F699": "blue"},
    "house": {"1F3E0": ""},
    "rocket": {"1F680": ""},
    "balloon": {"1F388": ""},
    "ghost": {"1F47B": ""},
    "robot": {"1F916": ""},
    "smiley": {"1F642": ""},
}  # fmt: skip


@dataclass(frozen=True)
class NetworkSizes:
    """Widths of the SD 1.x graph. Widths must be multiples of the group counts."""

    unet: tuple[int, int, int, int]
    unet_heads: int
    unet_groups: int
    vae: tuple[int, int, int, int]
    vae_groups: int
    text: int
    text_layers: int
    text_heads: int


@dataclass(frozen=True)
class Loop:
    """One training loop: batch size, peak learning rate, and its length, in steps or in minutes of training.

    muon: see `optimizer.Optimizer`.
    """

    batch: int
    rate: float
    steps: int = 0
    minutes: float = 0.0
    warmup: int = 200
    muon: bool = False


@dataclass(frozen=True)
class Shares:
    """How often a scene or a caption has something, 0 to 1. `Shares()` is one subject on one colour.

    The layouts exclude each other, and so do the backgrounds; what is left is one subject, and one colour.
    """

    pair: float = 0.0  # layout: "a cat left of a red apple"
    pattern: float = 0.0  # layout: "pattern of cats"
    many: float = 0.0  # layout: "many cats"
    counted: float = 0.0  # layout: "three cats"
    gradient: float = 0.0  # background: "red to blue gradient background"
    figure: float = 0.0  # background: stripes, dots, checkers
    landscape: float = 0.0  # background: meadow, starry night, ...
    small: float = 0.0  # of single subjects: small and anywhere
    large: float = 0.0  # of single subjects: filling the frame
    recolour: float = 0.0  # of the pictures that can be
    emphasis: float = 0.0  # of single subjects: the words weighted as in "(cat:0.5)", and the picture so
    fault: float = 0.0  # blurred, JPEG, pixelated
    general: float = 0.0  # of the VAE's pictures: any emoji over any colour rather than a captioned scene
    common: float = 0.0  # of draws that go to the 200 commonest subjects beyond their even part
    tags: float = 0.0  # of captions with one more word of the emoji's tags
    shuffled: float = 0.0  # of captions with their parts in any order
    clip_skip: float = 0.0  # of steps that read the text encoder's last layer but one
    unknown: float = 0.15  # of captions with a word that we never teach, so that such words do little harm
    empty: float = 0.1  # of captions dropped, for classifier-free guidance
    held_out: float = 0.0  # of subject-style pairs that are never trained on


@dataclass(frozen=True)
class Preset:
    name: str
    native_size: int  # px
    styles: tuple[str, ...]
    subjects: Subjects | None  # None: every labelled emoji, see `words`
    sizes: NetworkSizes
    vae: Loop
    vae_crop: int  # px; the VAE trains on crops, since steps count for more than pixels; the decoder later on wholes
    decoder: Loop  # whole pictures, the encoder frozen
    unet: Loop
    control: Loop  # the ControlNet for Canny edges, beside the finished checkpoint
    motion: Loop  # the motion module, beside the finished checkpoint; its batch is one of clips
    composites: int  # that `encode` makes latents of
    clips: int  # that `motion` makes latents of, 16 frames each
    shift: float  # places of the picture lie on a grid this fine, as a share of the frame; 1/16 is a latent cell
    shares: Shares
    colours: tuple[str, ...] = tuple(COLOURS)
    examples: tuple[str, ...] = ()  # prompts that show it well; they go into the file's metadata
    seed: int = 20240501
    ema: float = 0.999
    min_snr: float = 5.0
    noise_boost: float = 100.0
    checkpoint_minutes: float = 4.0
    log_every: int = 50  # steps
    compile: bool = False  # on an accelerator
    data: Path = field(default=HERE / "data")
    runs: Path = field(default=HERE / "runs")

    @property
    def run(self) -> Path:
        return self.runs / self.name


PRESETS = {
    preset.name: preset
    for preset in (
        Preset(
            name="cpu",
            native_size=128,
            styles=("3d", "flat"),
            subjects=FEW_SUBJECTS,
            sizes=NetworkSizes(
                unet=(64, 96, 128, 160), unet_heads=4, unet_groups=8,
                vae=(16, 32, 64, 128), vae_groups=4,
                text=96, text_layers=3, text_heads=4,
            ),
            vae=Loop(batch=32, steps=5400, rate=3e-3, warmup=50, muon=True),
            vae_crop=64,
            decoder=Loop(batch=8, steps=400, rate=6e-4, warmup=20),
            unet=Loop(batch=32, steps=10_400, rate=2e-3, warmup=60, muon=True),
            control=Loop(batch=16, minutes=115, rate=1e-3, warmup=60, muon=True),
            motion=Loop(batch=4, minutes=180, rate=2e-3, warmup=60, muon=True),
            composites=7000,
            clips=256,
            shift=1 / 16,
            shares=Shares(small=0.15, emphasis=0.35, general=0.8, shuffled=0.1),
            ema=0.999,
            colours=("white", "black", "gray", "red", "orange", "yellow", "green", "blue", "purple", "pink"),
            examples=(
                "a red apple, blue background",
                "a penguin, flat style, blue background",
                "a rainbow, flat style, pink background",
            ),
        ),
        Preset(
            name="full",
            native_size=256,
            styles=tuple(STYLES),
            subjects=None,
            sizes=NetworkSizes(
                unet=(64, 96, 128, 160), unet_heads=4, unet_groups=16,
                vae=(48, 64, 96, 96), vae_groups=16,
                text=96, text_layers=4, text_heads=4,
            ),
            vae=Loop(batch=96, minutes=5.5, rate=8e-4, warmup=400),
            vae_crop=128,
            decoder=Loop(batch=32, minutes=1.0, rate=3e-4, warmup=50),
            unet=Loop(batch=256, minutes=13.0, rate=8e-4, warmup=300),
            control=Loop(batch=128, minutes=4.0, rate=4e-4, warmup=100),
            motion=Loop(batch=32, minutes=4.0, rate=4e-4, warmup=100),
            composites=65_536,
            clips=8192,
            shift=1 / 256,
            shares=Shares(
                pair=0.10, pattern=0.03, many=0.03, counted=0.05, gradient=0.08, figure=0.08, landscape=0.12,
                small=0.10, large=0.06, emphasis=0.08, recolour=0.25, fault=0.06, general=0.3, common=0.3, tags=0.2,
                shuffled=0.2, clip_skip=0.25, unknown=0.05, held_out=0.05,
            ),
            ema=0.999,
            checkpoint_minutes=2.5,
            compile=True,
            examples=(
                "a cat left of a red apple, 3d style, blue background",
                "three balloons in a meadow under a blue sky, flat style",
                "pattern of strawberries, noto style, pink background",
            ),
        ),
    )
}  # fmt: skip
