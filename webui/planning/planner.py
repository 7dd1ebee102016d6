"""From a request to its plan: what page and API do at once when a job is submitted, and long jobs do on their way."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from webui.catalog.checkpoints import CheckpointCatalog
from webui.catalog.vaes import VaeCatalog
from webui.core.choices import Choices
from webui.core.request import GenerationRequest
from webui.core.settings import Settings, SettingsStore
from webui.extensions.host import Host
from webui.planning.plan import GenerationPlan, make_plan
from webui.planning.vaes import with_vaes
from webui.prompts.styles import StyleStore


@dataclass(frozen=True)
class Planner:
    """All that a plan is made from. vae_path: --vae-path."""

    settings: SettingsStore
    checkpoints: CheckpointCatalog
    vaes: VaeCatalog
    styles: StyleStore
    host: Host
    choices: Choices
    vae_path: Path | None = None

    def plan(self, request: GenerationRequest, settings: Settings | None = None) -> GenerationPlan:
        """Takes milliseconds: no large file is read. settings: as a longer job has copied them, else those of now.

        Raises: InvalidRequest, NotFound, ExtensionFailed; then nothing was begun.
        """
        return self.replan(self.host.revise_request(request), settings or self.settings.snapshot())

    def replan(self, request: GenerationRequest, settings: Settings) -> GenerationPlan:
        """As `plan`, of a request that extensions have revised already."""
        plan = make_plan(request, settings, self.checkpoints, self.styles, self.choices)
        plan = with_vaes(plan, self.vaes, self.checkpoints, self.vae_path)
        return self.host.revise_plan(plan)
