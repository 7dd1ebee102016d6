"""The jobs that page and routes submit; their work is imported in the worker."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from webui.extensions.api import JobKind

from .parameters import Swap


@dataclass(frozen=True)
class Exchange:
    """A picture of which the faces are to be exchanged. save_to: a file to write the result to, too."""

    target: bytes = field(repr=False)
    options: Swap = field(default_factory=Swap)
    save_to: Path | None = None


@dataclass(frozen=True)
class Exchanged:
    """picture: a PNG. comments: what was done, and what couldn't be."""

    picture: bytes = field(repr=False)
    comments: tuple[str, ...] = ()


@dataclass(frozen=True)
class Model:
    """A face model to be made of pictures. method: how several become one. save: False only looks whether it can be."""

    images: tuple[bytes, ...] = field(repr=False)
    name: str = ""
    method: str = "Mean"
    save: bool = True


@dataclass(frozen=True)
class Look:
    """A picture to be looked at: which faces it shows, in the order that the options say."""

    picture: bytes = field(repr=False)
    options: Swap = field(default_factory=Swap)
    source: bool = True


@dataclass(frozen=True)
class Forget:
    """Remembered faces to be forgotten: "source" or "target"; "" for those, and the networks too."""

    which: str = ""


@dataclass(frozen=True)
class Said:
    message: str


EXCHANGE = JobKind("reactor.image", f"{__package__}.jobs:exchange", Exchange, Exchanged, "ReActor")
MODEL = JobKind("reactor.facemodel", f"{__package__}.jobs:make_model", Model, Said, "ReActor: face model")
LOOK = JobKind("reactor.look", f"{__package__}.jobs:look", Look, Said, "ReActor: faces")
FORGET = JobKind("reactor.forget", f"{__package__}.jobs:forget", Forget, Said, "ReActor: forget")
KINDS = [EXCHANGE, MODEL, LOOK, FORGET]
