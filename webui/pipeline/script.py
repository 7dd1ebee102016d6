"""The job of a script: many requests of one, and their pictures as one result."""

from __future__ import annotations

import time
from dataclasses import replace

from webui.core.choices import Script
from webui.core.errors import WebuiError
from webui.core.joining import joined
from webui.core.request import GenerationRequest, GenerationResult
from webui.jobs.context import JobContext
from webui.pipeline.engine import Engine
from webui.planning.script import ScriptPlan


def run(engine: Engine, plan: ScriptPlan, progress: JobContext) -> GenerationResult:
    """What the script makes. An interrupted job returns what it has. Raises: WebuiError."""
    started = time.monotonic()
    script = engine.choices.find_script(plan.request.script, plan.request.mode)
    request, job = plan.request.replace(script=""), progress.with_settings(plan.settings)
    with engine.host.naming_the_culprit():
        if script.run is not None:
            result = script.run(request, job)
        else:
            result = _combined(engine, script, request, job.spawn(plan.requests), job)
    if not isinstance(result, GenerationResult):
        raise WebuiError(f'The script "{script.title}" gave a {type(result).__name__}, not a GenerationResult.')
    return replace(result, pictures=(), seconds=time.monotonic() - started)


def _combined(
    engine: Engine, script: Script, request: GenerationRequest, results: list[GenerationResult], job: JobContext
) -> GenerationResult:
    """What the script makes of the results; all of them with a sentence where it can't."""
    if script.combine is None:
        return joined(results)
    try:
        with engine.host.naming_the_culprit():
            return script.combine(request, results, job)
    except WebuiError as error:
        whole = joined(results)
        return replace(whole, comments=(*whole.comments, str(error)))
