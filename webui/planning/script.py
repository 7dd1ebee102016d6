"""What is decided about a script's many pictures before they wait in the queue."""

from __future__ import annotations

from dataclasses import dataclass

from webui.core.choices import Script
from webui.core.errors import InvalidRequest
from webui.core.request import MAX_PICTURES, GenerationRequest, drawn
from webui.core.settings import Settings
from webui.planning.planner import Planner


@dataclass(frozen=True)
class ScriptPlan:
    """The request that names a script, its seeds drawn, and the settings as they were when it was asked for.

    requests: what the script has made of it, each with its seeds drawn; empty for one that decides on its way.
    Their own plans are made when their turns come.
    """

    request: GenerationRequest
    settings: Settings
    requests: tuple[GenerationRequest, ...] = ()


def make_script_plan(request: GenerationRequest, planner: Planner, settings: Settings | None = None) -> ScriptPlan:
    """Every request is planned once, so that mistakes are told now. settings: None for those of now.

    Raises: InvalidRequest, NotFound, ExtensionFailed.
    """
    settings = settings or planner.settings.snapshot()
    script = planner.choices.find_script(request.script, request.mode)
    plain = request.replace(script="")
    requests = _expanded(script, plain, planner, settings)
    for own in requests or (plain,):
        planner.plan(own, settings)
    return ScriptPlan(_with_seeds(request), settings, requests)


def _expanded(
    script: Script, request: GenerationRequest, planner: Planner, settings: Settings
) -> tuple[GenerationRequest, ...]:
    """The script's requests, none for one that decides on its way."""
    if script.expand is None:
        return ()
    with planner.host.naming_the_culprit():
        requests = tuple(script.expand(request, settings.replace(**request.overrides)))
    count = sum(own.batch_count * own.batch_size for own in requests)
    if not 0 < count <= MAX_PICTURES:
        raise InvalidRequest(
            f"{script.title} would make {count} pictures; it can make up to {MAX_PICTURES}, and at least one."
        )
    return tuple(_with_seeds(own.replace(script="")) for own in requests)


def _with_seeds(request: GenerationRequest) -> GenerationRequest:
    variation = request.variation.replace(seed=drawn(request.variation.seed))
    if not request.variation.strength:
        variation = request.variation  # which nobody asks for
    return request.replace(seed=drawn(request.seed), variation=variation)
