"""Where control models lie."""

from __future__ import annotations

from pathlib import Path

from webui.extensions.api import Easel


def folders_of(easel: Easel) -> tuple[Path, ...]:
    """models/ControlNet, and the folder that the settings name beside it."""
    extra = str(easel.settings.snapshot()["control_net_models_path"])
    return (easel.paths.models / "ControlNet", *([Path(extra)] if extra else []))
