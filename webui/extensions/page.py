"""What an extension can add to the page, as data; the page itself stands in `webui.ui`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias

from webui.core.params import Params

Slot: TypeAlias = Literal[
    "prompt", "image", "inpaint", "sampler", "accordions", "checkboxes", "dimensions", "cfg", "denoising", "seed",
    "batch", "override_settings", "scripts",
]  # fmt: skip

SLOTS: Final[tuple[Slot, ...]] = (
    *("prompt", "image", "inpaint", "sampler", "accordions", "checkboxes", "dimensions", "cfg", "denoising", "seed"),
    *("batch", "override_settings", "scripts"),
)
"""The sections of a generation form under A1111's names. txt2img and img2img have all of them, some empty."""


@dataclass(frozen=True)
class Panel:
    """A group of parameters laid out by hand, once on each generation form, in place of the generated accordion.

    build: called as build(panel) inside the slot, with a `webui.ui.panels.GroupPanel`.
    """

    group: type[Params]
    build: Callable[[Any], None]
    slot: Slot = "scripts"

    def __post_init__(self) -> None:
        if self.slot not in SLOTS:
            raise ValueError(f'there is no slot "{self.slot}"; choose one of {", ".join(SLOTS)}')


@dataclass(frozen=True)
class Tab:
    """A tab beside txt2img. elem_id: its element is "tab_" + elem_id.

    build: called as build(page) inside the tab, with a `webui.ui.kit.PageKit`.
    """

    title: str
    elem_id: str
    build: Callable[[Any], None]


@dataclass(frozen=True)
class Assets:
    """Files that the page loads: scripts (ES modules), styles, and locales, which are JSON files {text: translation}.

    A locale is named as the language is in the setting "Localization": "de_DE.json".
    """

    scripts: Sequence[Path] = ()
    styles: Sequence[Path] = ()
    locales: Sequence[Path] = ()

    @property
    def files(self) -> tuple[Path, ...]:
        return (*self.scripts, *self.styles, *self.locales)
