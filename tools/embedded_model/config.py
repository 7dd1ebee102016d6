"""What is trained: subjects, styles, colours, network sizes. One preset per kind of machine."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

HERE = Path(__file__).parent
REPOSITORY = HERE.parent.parent

LATENT_SCALE = 0.18215  # SD 1.x: latents are multiplied by this before the UNet sees them


@dataclass(frozen=True)
class Style:
    """One set of pictures. `word` is what captions call it."""

    word: str
    package: str
    licence: str
    author: str


STYLES = {
    style.word: style
    for style in (
        Style("3d", "@lobehub/fluent-emoji-3d", "MIT", "Microsoft Corporation (Fluent Emoji), packaged by LobeHub"),
        Style("flat", "@iconify-json/fluent-emoji-flat", "MIT", "Microsoft Corporation (Fluent Emoji)"),
        Style("fluent", "@iconify-json/fluent-emoji", "MIT", "Microsoft Corporation (Fluent Emoji)"),
        Style("noto", "@iconify-json/noto", "Apache-2.0", "Google (Noto Emoji)"),
        Style("blob", "@iconify-json/noto-v1", "Apache-2.0", "Google (Noto Emoji, old)"),
        Style("twemoji", "@iconify-json/twemoji", "CC BY 4.0", "Twitter and contributors (Twemoji)"),
        Style("firefox", "@iconify-json/fxemoji", "Apache-2.0", "Mozilla (FxEmojis)"),
        Style("emojione", "@iconify-json/emojione", "CC BY 4.0", "EmojiOne (version 2)"),
        Style("outline", "@iconify-json/streamline-emojis", "CC BY 4.0", "Streamline"),
    )
}

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

# noun -> {hexcode: colour word, "" where the picture has no one colour}
Subjects = dict[str, dict[str, str]]

FEW_SUBJECTS: Subjects = {
    "cat": {"1F431": ""},
    "dog": {"1F436": ""},
    "fox": {"1F98A": ""},
    "panda": {"1F43C": ""},
    "frog": {"1F438": ""},
    "fish": {"1F41F": ""},
    "apple": {"1F34E": "red", "1F34F": "green"},
    "strawberry": {"1F353": ""},
    "mushroom": {"1F344": ""},
    "tree": {"1F333": ""},
    "sunflower": {"1F33B": ""},
    "sun": {"2600": ""},
    "moon": {"1F319": ""},
    "star": {"2B50": ""},
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
    """One training loop: batch size, end, peak learning rate."""

    batch: int
    steps: int
    rate: float
    warmup: int = 200


@dataclass(frozen=True)
class Preset:
    name: str
    native_size: int  # px
    styles: tuple[str, ...]
    subjects: Subjects | None  # None: every labelled emoji, under its label and tags
    sizes: NetworkSizes
    vae: Loop
    vae_crop: int  # px; the VAE trains on crops first, since steps count for more than pixels
    vae_crop_steps: int  # after so many steps it trains on whole pictures, half a batch at a time
    decoder: Loop  # whole pictures, the encoder frozen
    unet: Loop
    variants: int  # composites that `encode` makes of each picture
    shift: float  # places of the picture lie on a grid this fine, as a share of the frame; 1/16 is a latent cell
    small_share: float  # of pictures that are captioned small and lie anywhere
    general_share: float  # of the VAE's pictures that show any emoji rather than a subject
    colours: tuple[str, ...] = tuple(COLOURS)
    seed: int = 20240501
    ema: float = 0.999
    caption_dropout: float = 0.1
    min_snr: float = 5.0
    noise_boost: float = 100.0
    checkpoint_minutes: float = 4.0
    data: Path = field(default=HERE / "data")
    runs: Path = field(default=HERE / "runs")

    @property
    def run(self) -> Path:
        return self.runs / self.name


PRESETS = {
    preset.name: preset
    for preset in (
        Preset(
            name="cpu-first",
            native_size=128,
            styles=("3d", "flat"),
            subjects=FEW_SUBJECTS,
            sizes=NetworkSizes(
                unet=(32, 64, 96, 128), unet_heads=2, unet_groups=8,
                vae=(16, 32, 64, 128), vae_groups=4,
                text=96, text_layers=3, text_heads=4,
            ),
            vae=Loop(batch=16, steps=1480, rate=1.5e-3, warmup=50),
            vae_crop=48,
            vae_crop_steps=1480,
            decoder=Loop(batch=8, steps=450, rate=1e-3, warmup=20),
            unet=Loop(batch=32, steps=2700, rate=1.6e-3, warmup=80),
            variants=60,
            shift=1 / 16,
            small_share=0.06,
            ema=0.998,
            general_share=0.2,
            colours=("white", "black", "gray", "red", "orange", "yellow", "green", "blue", "purple", "pink"),
        ),
        Preset(
            name="full",
            native_size=256,
            styles=tuple(STYLES),
            subjects=None,
            sizes=NetworkSizes(
                unet=(64, 96, 160, 160), unet_heads=8, unet_groups=32,
                vae=(32, 64, 128, 128), vae_groups=8,
                text=192, text_layers=4, text_heads=6,
            ),
            vae=Loop(batch=96, steps=12000, rate=6e-4, warmup=500),
            vae_crop=128,
            vae_crop_steps=10000,
            decoder=Loop(batch=48, steps=2000, rate=3e-4),
            unet=Loop(batch=384, steps=20000, rate=5e-4, warmup=1000),
            variants=16,
            shift=1 / 256,
            small_share=0.2,
            general_share=1.0,
            ema=0.9995,
        ),
    )
}  # fmt: skip
