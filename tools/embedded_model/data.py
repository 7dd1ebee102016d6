"""Stage `data`: render the emoji art to arrays, and paste pictures over backgrounds."""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from .config import COLOURS, HERE, STYLES, Preset

HOLD_OUT_EVERY = 25  # one general emoji in so many is never trained on


@dataclass(frozen=True)
class Art:
    """Pictures of one style. pixels: (N, S, S, 4) uint8 RGBA, not premultiplied. hexcodes: N names."""

    style: str
    pixels: np.ndarray
    hexcodes: list[str]

    def find(self, hexcode: str) -> int | None:
        return self.hexcodes.index(hexcode) if hexcode in self.hexcodes else None


@dataclass(frozen=True)
class Scene:
    """What a composite shows; captions are written from this alone."""

    style: str
    hexcode: str
    background: str  # a name in COLOURS
    scale: float  # side of the picture's box over the side of the frame
    x: float  # centre of the box, 0 is left, 1 is right
    y: float  # 0 is top


def plain_hexcode(name: str) -> str:
    """`2764-fe0f` -> `2764`, the form that emojibase's data and our tables use."""
    return "-".join(part for part in name.lower().split("-") if part != "fe0f").upper()


def install_packages(preset: Preset, packages: Path | None) -> Path:
    """The node_modules folder with the art; installed by pinned version unless `packages` names one."""
    if packages is not None:
        return packages
    folder = preset.data / "npm"
    if not (folder / "node_modules").exists():
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "package.json").write_text((HERE / "npm" / "package.json").read_text())
        subprocess.run(["npm", "install", "--no-audit", "--no-fund"], cwd=folder, check=True)
    return folder / "node_modules"


def render_style(style: str, modules: Path, size: int, out: Path) -> None:
    package = STYLES[style].package
    if style == "3d":
        files = sorted((modules / package / "assets").glob("*.webp"))
        files = [file for file in files if not any(f"1f3f{tone}" in file.stem for tone in "bcdef")]
        pixels = np.stack(
            [
                np.asarray(Image.open(file).convert("RGBA").resize((size, size), Image.Resampling.LANCZOS))
                for file in files
            ]
        )
        names = [plain_hexcode(file.stem) for file in files]
    else:
        raw = out / style
        command = ["node", HERE / "npm" / "render.mjs", modules, package, str(size), raw]
        subprocess.run(command, check=True)
        names = json.loads(raw.with_suffix(".json").read_text())
        pixels = np.fromfile(raw.with_suffix(".rgba"), np.uint8).reshape(len(names), size, size, 4)
        raw.with_suffix(".rgba").unlink()
    np.save(out / f"{style}.npy", pixels)
    (out / f"{style}.json").write_text(json.dumps(names))


def art_folder(preset: Preset) -> Path:
    return preset.data / f"art-{preset.native_size}"


def run(preset: Preset, packages: Path | None = None) -> None:
    modules = install_packages(preset, packages)
    out = art_folder(preset)
    out.mkdir(parents=True, exist_ok=True)
    for style in preset.styles:
        if not (out / f"{style}.npy").exists():
            render_style(style, modules, preset.native_size, out)
        print(f"{style}: {len(json.loads((out / f'{style}.json').read_text()))} pictures")
    labels = json.loads((modules / "emojibase-data" / "en" / "data.json").read_text())
    words = {plain_hexcode(item["hexcode"]): [item["label"], *item.get("tags", [])] for item in labels}
    (preset.data / "words.json").write_text(json.dumps(words))


def load_art(preset: Preset) -> dict[str, Art]:
    folder = art_folder(preset)
    return {
        style: Art(
            style, np.load(folder / f"{style}.npy", mmap_mode="r"), json.loads((folder / f"{style}.json").read_text())
        )
        for style in preset.styles
    }


def compose(picture: np.ndarray, background: tuple[int, int, int], scale: float, x: float, y: float) -> np.ndarray:
    """Paste a picture over one colour.

    picture: (S, S, 4) uint8 RGBA. scale: side of the pasted box over S. x, y: its centre over S.
    Returns: (S, S, 3) uint8.
    """
    size = picture.shape[0]
    side = max(8, round(size * scale))
    # Pillow resizes RGBA premultiplied, so transparent pixels bleed no colour into the edge.
    image = Image.fromarray(np.ascontiguousarray(picture)).resize((side, side), Image.Resampling.BICUBIC)
    frame = Image.new("RGB", (size, size), background)
    frame.paste(image, (round(x * size - side / 2), round(y * size - side / 2)), image)
    return np.asarray(frame)


def draw_scene(preset: Preset, rng: np.random.Generator, style: str, hexcode: str) -> Scene:
    background = str(rng.choice(preset.colours))
    if rng.random() < preset.small_share:
        scale, reach = 0.45, 0.25
        x, y = (0.5 + reach * float(rng.integers(-1, 2)) for _ in range(2))
    else:
        scale, reach = 0.8, 1 / 16
        x, y = (0.5 + round(float(rng.uniform(-1.4, 1.4)) * reach / preset.shift) * preset.shift for _ in range(2))
    return Scene(style, hexcode, background, scale, x, y)


def paint(art: dict[str, Art], scene: Scene) -> np.ndarray:
    """Returns: (S, S, 3) uint8."""
    index = art[scene.style].find(scene.hexcode)
    if index is None:
        raise KeyError(f"no picture of {scene.hexcode} in the style {scene.style}")
    return compose(art[scene.style].pixels[index], COLOURS[scene.background], scene.scale, scene.x, scene.y)


def held_out(hexcode: str) -> bool:
    return sum(hexcode.encode()) % HOLD_OUT_EVERY == 0


def general_picture(preset: Preset, art: dict[str, Art], rng: np.random.Generator, test: bool = False) -> np.ndarray:
    """Any emoji, any place and size, over any colour: what the VAE should cope with beyond the subjects.

    test: draw only from the held-out emoji. Returns: (S, S, 3) uint8.
    """
    while True:
        source = art[str(rng.choice(preset.styles))]
        index = int(rng.integers(len(source.hexcodes)))
        if held_out(source.hexcodes[index]) == test:
            break
    named = np.array(COLOURS[str(rng.choice(preset.colours))])
    colour = tuple(int(c) for c in (named if rng.random() < 0.5 else rng.integers(0, 256, 3)))
    scale = float(rng.uniform(0.5, 1.0))
    x, y = rng.uniform(0.4, 0.6, 2)
    return compose(source.pixels[index], colour, scale, float(x), float(y))


def subject_list(preset: Preset, art: dict[str, Art]) -> list[tuple[str, str, str]]:
    """(noun, hexcode, style) of every picture that the UNet learns. Skin tones never occur in the art."""
    if preset.subjects is None:
        words = json.loads((preset.data / "words.json").read_text())
        nouns = {hexcode: names[0] for hexcode, names in words.items()}
    else:
        nouns = {hexcode: noun for noun, codes in preset.subjects.items() for hexcode in codes}
    return [
        (noun, hexcode, style)
        for hexcode, noun in nouns.items()
        for style in preset.styles
        if art[style].find(hexcode) is not None
    ]
