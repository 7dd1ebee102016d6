"""Where the art comes from: npm packages here, or the pack that was made of them."""

from __future__ import annotations

import json
import lzma
import re
import subprocess
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .config import HERE, STYLES, Preset
from .words import plain_hexcode

RENDERER = "resvg_py==0.5.0"
SKIN_TONE = re.compile(r"1f3f[b-f]", re.IGNORECASE)
SVGS, WEBPS = "svgs.json.xz", "{}.zip"


@dataclass(frozen=True)
class Sources:
    """pictures: style -> hexcode -> SVG text or WebP bytes. emoji: emojibase's records, cut to what we use."""

    pictures: dict[str, dict[str, bytes]]
    emoji: list[dict[str, Any]]


def load_sources(preset: Preset, modules: Path | None) -> Sources:
    """From node_modules where it is given, else from the pack, else from packages installed now by pinned version."""
    if modules is None and (pack_folder(preset) / SVGS).exists():
        return read_pack(pack_folder(preset), preset.styles)
    return read_packages(modules or install_packages(preset), preset.styles)


def pack_folder(preset: Preset) -> Path:
    return preset.data / "pack"


def install_packages(preset: Preset) -> Path:
    folder = preset.data / "npm"
    if not (folder / "node_modules").exists():
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "package.json").write_text((HERE / "npm" / "package.json").read_text())
        subprocess.run(["npm", "install", "--no-audit", "--no-fund"], cwd=folder, check=True)
    return folder / "node_modules"


def read_packages(modules: Path, styles: tuple[str, ...]) -> Sources:
    items = json.loads((modules / "emojibase-data" / "en" / "data.json").read_text())
    kept = ("hexcode", "label", "tags", "group", "subgroup", "order")
    emoji = [{key: item[key] for key in kept if key in item} for item in items]
    labels = {slug(item["label"]): plain_hexcode(item["hexcode"]) for item in items}
    pictures = {}
    for style in styles:
        folder = modules / STYLES[style].package
        pictures[style] = webps(folder) if STYLES[style].raster else svgs(folder, labels)
    return Sources(pictures, emoji)


def slug(label: str) -> str:
    """Iconify's name of an emoji: "1st place medal" -> "1st-place-medal"."""
    return re.sub(r"[^a-z0-9]+", "-", label.lower().replace("’", "").replace("'", "")).strip("-")


def webps(folder: Path) -> dict[str, bytes]:
    files = sorted((folder / "assets").glob("*.webp"))
    return {plain_hexcode(file.stem): file.read_bytes() for file in files if not SKIN_TONE.search(file.stem)}


def svgs(folder: Path, labels: dict[str, str]) -> dict[str, bytes]:
    """The pictures of an Iconify set. Some sets tell hexcodes; the others' names are emojibase's labels."""
    icons = json.loads((folder / "icons.json").read_text())
    names: dict[str, str] = json.loads((folder / "chars.json").read_text())
    if not names:
        names = {labels[name]: name for name in [*icons["icons"], *icons.get("aliases", {})] if name in labels}
    found = {}
    for hexcode, name in sorted(names.items()):
        if not SKIN_TONE.search(hexcode) and (body := icon_body(icons, name)):
            found.setdefault(plain_hexcode(hexcode), body.encode())
    return found


def icon_body(icons: dict[str, Any], name: str) -> str:
    """A whole square SVG; empty if the set lacks it."""
    while name not in icons["icons"]:
        if name not in icons.get("aliases", {}):
            return ""
        name = icons["aliases"][name]["parent"]
    icon = icons["icons"][name]
    width, height = (icon.get(key, icons.get(key, 16)) for key in ("width", "height"))
    side = max(width, height)
    left, top = icon.get("left", 0) - (side - width) / 2, icon.get("top", 0) - (side - height) / 2
    head = '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"'
    return f'{head} viewBox="{left} {top} {side} {side}" width="{side}" height="{side}">{icon["body"]}</svg>'


def write_pack(sources: Sources, folder: Path) -> None:
    """SVGs of all styles together in one xz, which finds what styles repeat; WebPs as they are."""
    drawn = {style: found for style, found in sources.pictures.items() if not STYLES[style].raster}
    texts = {style: {code: body.decode() for code, body in found.items()} for style, found in drawn.items()}
    content = json.dumps({"emoji": sources.emoji, "svgs": texts}, ensure_ascii=False, separators=(",", ":"))
    (folder / SVGS).write_bytes(lzma.compress(content.encode(), preset=6))
    for style, found in sources.pictures.items():
        if STYLES[style].raster:
            with zipfile.ZipFile(folder / WEBPS.format(style), "w", zipfile.ZIP_STORED) as file:
                for code, data in found.items():
                    file.writestr(code, data)


def read_pack(folder: Path, styles: tuple[str, ...]) -> Sources:
    content = json.loads(lzma.decompress((folder / SVGS).read_bytes()))
    pictures: dict[str, dict[str, bytes]] = {}
    for style in styles:
        if STYLES[style].raster:
            with zipfile.ZipFile(folder / WEBPS.format(style)) as file:
                pictures[style] = {code: file.read(code) for code in file.namelist()}
        else:
            pictures[style] = {code: body.encode() for code, body in content["svgs"][style].items()}
    return Sources(pictures, content["emoji"])


def site_folder(preset: Preset) -> Path:
    """Python packages that only this tool uses."""
    return preset.data / "site"


def unpack_wheels(preset: Preset) -> None:
    """Make the pack's own Python packages importable, before any other of their name."""
    site = site_folder(preset)
    for wheel in sorted(pack_folder(preset).glob("*.whl")):
        if not (site / f"{wheel.name}.unpacked").exists():
            site.mkdir(parents=True, exist_ok=True)
            with zipfile.ZipFile(wheel) as file:
                file.extractall(site)
            (site / f"{wheel.name}.unpacked").touch()
    if site.exists() and str(site) not in sys.path:
        sys.path.insert(0, str(site))


def install_renderer(preset: Preset) -> None:
    """Make the SVG renderer importable."""
    site = site_folder(preset)
    if not (site / "resvg_py").exists():
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(site), RENDERER]
        subprocess.run(pip, check=True)
    if str(site) not in sys.path:
        sys.path.insert(0, str(site))
