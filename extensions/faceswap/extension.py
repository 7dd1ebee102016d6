"""ReActor: faces of finished pictures exchanged for those of another picture, while generating and in Extras."""

from __future__ import annotations

from dataclasses import replace

from webui.extensions.api import COMPOSITE, ExtrasStep, Panel, Section, Setting, WebuiError, hookimpl

from . import axes, kinds, routes
from .parameters import KEY, ReActor, ReActorStep, told

SECTION = Section("reactor", "ReActor", "other")
SOURCE_SWAPPED = "reactor.source"
"""The key under which a job remembers that faces of its source picture were exchanged."""


@hookimpl
def register_params():
    return ReActor


@hookimpl
def register_settings():
    return [
        Setting(
            "reactor_content_check",
            True,
            "Check content before faces are exchanged",
            help="A small network leaves explicit pictures as they are. It may err in both directions",
            section=SECTION,
        ),
        Setting("reactor_unload", False, "Unload the networks after each run", section=SECTION),
        Setting("reactor_note", True, "Show the note on consent", section=SECTION),
    ]


@hookimpl
def register_panels():
    return [Panel(ReActor, build_panel, slot="scripts")]


def build_panel(panel):
    from .panel import build

    build(panel)


@hookimpl
def register_jobs():
    return kinds.KINDS


@hookimpl
def register_choices(choices):
    choices.add(ExtrasStep("ReActor", 20000, ReActorStep, f"{__package__}.extras:step"), *axes.AXES)


@hookimpl
def api_routes(app, easel):
    app.include_router(routes.router_for(easel))


@hookimpl
def revise_request(request, easel):
    """Mistakes are told before anything is made; what only the pictures tell comes later."""
    options = request.extensions.get(ReActor.__name__)
    if options is not None and options.enabled and (options.swap_in_source or options.swap_in_generated):
        from .checking import require

        require(options, easel)


@hookimpl
def revise_inputs(pictures, plan, models, job, report, state, easel):
    options = plan.extension(ReActor)
    if not (options.enabled and options.swap_in_source):
        return None
    from .swapping import Bench, Swapping

    bench = Bench(models, easel.choices, plan.settings, job, easel.paths.models, report.comment, easel.folder_of)
    swapping = Swapping(options, bench)
    results = []
    try:
        source = swapping.sources(plan.seeds[0])[0]
        for picture in pictures:
            swapped = swapping.swap(picture, source)
            results.append(swapped.image)
            if swapped.exchanged:
                state[SOURCE_SWAPPED] = True
                report.fields[KEY] = told(options, source.told)
    except WebuiError as error:
        report.comment(f"ReActor changed nothing in the source picture. {error}")
    finally:
        swapping.put_away()
    return [*results, *pictures[len(results) :]]


@hookimpl
def finish_batch(pictures, this_pass, easel):
    options = this_pass.plan.extension(ReActor)
    if not options.enabled:
        return None
    if this_pass.state.get(SOURCE_SWAPPED):
        pictures = [replace(picture, source_type=COMPOSITE) for picture in pictures]
    if not options.swap_in_generated or this_pass.job.interrupted:
        return pictures
    from .swapping import Bench, Swapping

    bench = Bench(
        this_pass.models,
        easel.choices,
        this_pass.plan.settings,
        this_pass.job,
        easel.paths.models,
        this_pass.report.comment,
        easel.folder_of,
    )
    swapping = Swapping(options, bench)
    kept = list(pictures) if options.save_original else []
    try:
        return [*kept, *(result for picture in pictures for result in results_of(picture, swapping, this_pass.plan))]
    except WebuiError as error:
        this_pass.report.comment(f"ReActor changed nothing. {error}")
        return pictures
    finally:
        swapping.put_away()


def results_of(picture, swapping, plan):
    """What becomes of a picture: one result a source; the picture alone where none could be made."""
    if picture.role != "picture":
        return [picture]
    made = []
    for source in swapping.sources(plan.seeds[picture.index]):
        if swapping.bench.job.interrupted:
            break
        swapped = swapping.swap(picture.image, source)
        if swapped.exchanged:
            fields = {**picture.fields, KEY: told(swapping.options, source.told)}
            made.append(replace(picture, image=swapped.image, fields=fields, source_type=COMPOSITE))
        elif swapped.image is not picture.image:
            made.append(replace(picture, image=swapped.image))
    return made or [picture]
