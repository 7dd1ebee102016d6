"""Which versions are at work, found without importing any of them."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version

from webui.core.version import VERSION


def versions() -> dict[str, str]:
    """Easel, Python, and the packages that decide how pictures come out."""
    return {"version": VERSION, "python": platform.python_version()} | {
        package: _installed(package) for package in ("torch", "diffusers", "gradio")
    }


def _installed(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"
