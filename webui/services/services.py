"""What `app` builds once and hands to the page, the API and the engine."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from webui.catalog.checkpoints import CheckpointCatalog
from webui.catalog.networks import Networks
from webui.catalog.vaes import VaeCatalog
from webui.core.choices import Choices
from webui.core.flags import Flags
from webui.core.paths import Paths
from webui.core.provenance import Machine
from webui.core.settings import SettingsStore
from webui.extensions.host import Host
from webui.jobs.runner import JobRunner
from webui.planning.planner import Planner
from webui.process.restart import Restart
from webui.process.safe_mode import SafeMode
from webui.prompts.styles import StyleStore
from webui.prompts.tokenizer import Tokenizer
from webui.services.belongings import Belongings


@dataclass(frozen=True, kw_only=True)
class Parts:
    """What the engine is built from, too. None of it loads torch.

    machine: the engine tells there what it runs on, once it is up.
    """

    flags: Flags
    paths: Paths
    settings: SettingsStore
    checkpoints: CheckpointCatalog
    networks: Networks
    vaes: VaeCatalog
    styles: StyleStore
    host: Host
    choices: Choices
    planner: Planner
    tokenizer: Callable[[], Tokenizer]
    machine: Machine = field(default_factory=Machine)


@dataclass(frozen=True, kw_only=True)
class Services(Parts):
    """The parts of a running Easel.

    problems: sentences about the start (a broken config file, a broken extension) for the page to show.
    belongings: whose the jobs on the page are.
    restart: how this server is asked to end and to be started anew. safe_mode: why it runs without extensions, if so.
    """

    jobs: JobRunner
    belongings: Belongings
    restart: Restart = field(default_factory=Restart)
    safe_mode: SafeMode = field(default_factory=SafeMode)
    problems: tuple[str, ...] = ()
