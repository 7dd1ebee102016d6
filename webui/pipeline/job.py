"""One job on its way through the pipeline, and what it has to tell."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from PIL import Image

from webui.pipeline.engine import Engine
from webui.pipeline.from_image.source import Source
from webui.pipeline.saving.saver import Saver
from webui.planning.plan import GenerationPlan

if TYPE_CHECKING:
    from webui.jobs.context import JobContext


@dataclass
class Report:
    """What the stages find worth telling: infotext entries by key, sentences for the user."""

    fields: dict[str, object] = field(default_factory=dict)
    comments: list[str] = field(default_factory=list)

    def comment(self, sentence: str) -> None:
        if sentence not in self.comments:
            self.comments.append(sentence)


@dataclass(frozen=True)
class Job:
    """What every stage of one job shares.

    source: what img2img starts from, None for noise alone. color_reference: the picture whose colours all results take
    over, if not those of what they start from. state: see `Pass.state`.
    """

    engine: Engine
    plan: GenerationPlan
    progress: JobContext
    saver: Saver
    report: Report
    source: Source | None = None
    color_reference: Image.Image | None = None
    state: dict[str, Any] = field(default_factory=dict)
