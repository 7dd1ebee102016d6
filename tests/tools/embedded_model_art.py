"""Art that tests draw themselves, laid out as the npm packages are, and a preset that learns it in seconds."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

from PIL import Image, ImageDraw

from tools.embedded_model.config import PRESETS, STYLES, Loop, NetworkSizes, Preset, Shares

SIDE = 64
SUBJECTS = {
    "circle": {"1F534": "red", "1F7E2": "green"},
    "square": {"1F7E6": "blue"},
    "triangle": {"1F53A": ""},
    "rainbow": {"1F308": ""},
    "dot": {"26AB": ""},
}


def small_preset(folder: Path) -> Preset:
    """Everything it writes goes into `folder`."""
    return replace(
        PRESETS["cpu"],
        name="small",
        native_size=SIDE,
        styles=("3d",),
        subjects=SUBJECTS,
        sizes=NetworkSizes(
            unet=(16, 16, 16, 16), unet_heads=2, unet_groups=8, vae=(8, 8, 8, 8), vae_groups=4,
            text=16, text_layers=2, text_heads=2,
        ),
        vae=Loop(batch=4, rate=1e-3, minutes=0.05, warmup=2),
        vae_crop=32,
        decoder=Loop(batch=4, rate=1e-3, minutes=0.02, warmup=2),
        unet=Loop(batch=4, rate=1e-3, minutes=0.05, warmup=2),
        composites=64,
        shares=Shares(
            pair=0.2, landscape=0.2, figure=0.2, recolour=0.2, fault=0.1, emphasis=0.2, general=0.3, clip_skip=0.25
        ),
        examples=("a circle", "a square", "a triangle"),
        checkpoint_minutes=0.005,
        log_every=2,
        data=folder / "data",
        runs=folder / "runs",
    )  # fmt: skip


def write_packages(modules: Path) -> Path:
    """A node_modules folder with the raster style and emojibase's records."""
    assets = modules / STYLES["3d"].package / "assets"
    assets.mkdir(parents=True)
    emoji = []
    for noun, codes in SUBJECTS.items():
        for code, colour in codes.items():
            picture(noun, colour).save(assets / f"{code.lower()}.webp", lossless=True)
            emoji.append(
                {"hexcode": code, "label": f"{colour} {noun}".strip(), "tags": [], "group": 8, "order": len(emoji)}
            )
    for number, code in enumerate(general_codes()):
        picture("square" if number % 2 else "circle", "orange").save(assets / f"{code.lower()}.webp", lossless=True)
    folder = modules / "emojibase-data" / "en"
    folder.mkdir(parents=True)
    (folder / "data.json").write_text(json.dumps(emoji))
    return modules


def general_codes() -> list[str]:
    """Emoji that are no subjects: some that the VAE is shown, some that it isn't."""
    return [f"1F{number:03X}" for number in range(0x600, 0x640)]


def picture(noun: str, colour: str) -> Image.Image:
    image = Image.new("RGBA", (SIDE, SIDE))
    draw = ImageDraw.Draw(image)
    box = (6, 6, SIDE - 7, SIDE - 7)
    if noun == "circle":
        draw.ellipse(box, fill={"red": (220, 40, 40), "green": (40, 180, 60)}.get(colour, (240, 140, 30)))
    elif noun == "square":
        draw.rectangle(box, fill=(40, 90, 220) if colour == "blue" else (240, 140, 30))
    elif noun == "triangle":
        draw.polygon([(32, 6), (58, 57), (6, 57)], fill=(230, 60, 50))
    elif noun == "rainbow":
        for number, stripe in enumerate([(220, 40, 40), (240, 200, 40), (60, 170, 70), (40, 90, 220)]):
            draw.rectangle((6, 8 + 12 * number, 57, 19 + 12 * number), fill=stripe)
    else:
        draw.ellipse(box, fill=(30, 30, 30))
    return image
