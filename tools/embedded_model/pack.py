"""Stage `pack`: everything that a bare machine without a network needs beside the repository, in one folder."""

from __future__ import annotations

import importlib.metadata
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import diffusers

from .config import STYLES, Preset
from .sources import RENDERER, pack_folder, read_packages, write_pack
from .sources import install_packages as install

LIMIT = 40e6  # bytes
# Three fifths of diffusers, none of which its models import.
LEFT_OUT = ("diffusers/pipelines/", "diffusers/modular_pipelines/", "diffusers/experimental/", "diffusers/commands/")


def slim_diffusers(out: Path) -> Path:
    """The installed diffusers (pure Python, version pinned by requirements.txt) without its pipelines."""
    root = Path(diffusers.__file__).parent.parent
    version = importlib.metadata.version("diffusers")
    wheel = out / f"diffusers-{version}-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as file:
        for path in sorted((root / "diffusers").rglob("*.py")) + sorted(
            root.glob(f"diffusers-{version}.dist-info/**/*")
        ):
            name = path.relative_to(root).as_posix()
            if path.is_file() and not name.startswith(LEFT_OUT):
                file.write(path, name)
    return wheel


def download_renderer(out: Path) -> None:
    """For Linux on x86-64, whatever this machine is."""
    platforms = ("manylinux_2_17_x86_64", "manylinux2014_x86_64", "manylinux_2_28_x86_64")
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:", "-d", str(out)]
    pip += ["--python-version", "3.12", "--implementation", "cp"]
    for platform in platforms:
        pip += ["--platform", platform]
    subprocess.run([*pip, RENDERER], check=True)


def run(preset: Preset, packages: Path | None = None) -> None:
    """packages: a node_modules folder that has the art already."""
    out = pack_folder(preset)
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    write_pack(read_packages(packages or install(preset), preset.styles), out)
    slim_diffusers(out)
    if any(not STYLES[style].raster for style in preset.styles):
        download_renderer(out)
    sizes = {path.name: path.stat().st_size for path in sorted(out.iterdir())}
    for name, size in sizes.items():
        print(f"{name}: {size / 1e6:.2f} MB")
    total = sum(sizes.values())
    print(f"{out}: {total / 1e6:.1f} MB")
    assert total < LIMIT, f"the pack has {total / 1e6:.1f} MB; at most {LIMIT / 1e6:.0f} may travel"
