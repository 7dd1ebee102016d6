"""What the checkpoint in use, or any other in the list, can do: for greyed-out controls and for API clients."""

from __future__ import annotations

from dataclasses import dataclass

from webui.catalog.checkpoints import Checkpoint
from webui.catalog.families import Family
from webui.catalog.inspection import inspect
from webui.core.capabilities import Capabilities
from webui.core.choices import Choices, Sampler, Scheduler
from webui.core.errors import BadModelFile, WebuiError
from webui.services.services import Services

CHOSEN = "sd_model_checkpoint"
AUTOMATIC = "automatic"


@dataclass(frozen=True)
class Offer:
    """What a checkpoint offers. problem: why it can't be loaded, when family and capabilities are None.

    samplers, schedules: names and labels of those that it can be sampled with.
    """

    checkpoint: Checkpoint
    family: Family | None
    capabilities: Capabilities | None
    samplers: tuple[str, ...]
    schedules: tuple[str, ...]
    problem: str | None = None


def offer_of(checkpoint: Checkpoint, choices: Choices) -> Offer:
    """Read from the file's header; a file that can't be loaded offers nothing and says why."""
    try:
        family, capabilities = inspect(checkpoint)
    except BadModelFile as error:
        return Offer(checkpoint, None, None, (), (), str(error))
    automatic, plain = choices.find_scheduler(AUTOMATIC), choices.all(Sampler)
    samplers = tuple(item.name for item in plain if capabilities.why_not(item, automatic) is None)
    first = next(item for item in plain if item.name in samplers)
    schedules = tuple(item.label for item in choices.all(Scheduler) if capabilities.why_not(first, item) is None)
    return Offer(checkpoint, family, capabilities, samplers, schedules)


def current_offer(services: Services) -> Offer | None:
    """Of the checkpoint that the next picture is made with; None when there is none at all."""
    try:
        return offer_of(services.checkpoints.default(services.settings.snapshot()[CHOSEN] or ""), services.choices)
    except WebuiError:
        return None
