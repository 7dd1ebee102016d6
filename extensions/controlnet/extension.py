"""ControlNet: pictures that steer what is generated. Each unit turns one into a map and feeds it to a control model."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from webui.extensions.api import (
    Assets,
    Fetchable,
    InvalidRequest,
    Panel,
    ResultFile,
    Section,
    Setting,
    encode_image,
    hookimpl,
)

from . import detecting, previews, routes, turns
from .catalog import find_model, image_encoders
from .preprocessors import hed_package
from .preprocessors.registry import PREPROCESSORS
from .preprocessors.weights import BODY, offers, with_weights
from .units import BATCH, NO_MODEL, SIMPLE, ControlNet, Unit

SECTION = Section("control_net", "ControlNet", "controlnet")


@hookimpl
def register_params():
    return ControlNet


@hookimpl
def register_settings():
    return [
        Setting("control_net_unit_count", 3, "Number of ControlNet units", ge=1, le=10, step=1, section=SECTION),
        Setting("control_net_models_path", "", "Extra folder with ControlNet models", section=SECTION),
        Setting("control_net_no_detectmap", False, "Do not append the detected map to the results", section=SECTION),
        Setting(
            "controlnet_increment_seed_during_batch",
            False,
            "Increment the seed after each picture of a ControlNet batch",
            section=SECTION,
        ),
        Setting("controlnet_control_type_dropdown", False, "Choose the control type from a list", section=SECTION),
        Setting("controlnet_pixel_perfect", False, "Pixel Perfect is on at first", section=SECTION),
        Setting("control_net_detectmap_autosaving", False, "Save detected maps beside the pictures", section=SECTION),
    ]


@hookimpl
def register_panels():
    return [Panel(ControlNet, build_panel, slot="scripts")]


def build_panel(panel):
    from .panel import build

    build(panel)


@hookimpl
def register_assets():
    folder = Path(__file__).parent / "assets"
    return Assets(scripts=sorted(folder.glob("*.js")), styles=sorted(folder.glob("*.css")))


@hookimpl
def register_jobs():
    return [detecting.KIND, previews.KIND]


@hookimpl
def api_routes(app, easel):
    routes.add(app, easel)


@hookimpl
def revise_request(request, easel):
    """Look at every enabled unit at once: mistakes are told before anything waits, and models are found."""
    group = request.extensions.get(ControlNet.__name__)
    if group is not None and group.style_align and request.batch_size == 1:
        unaligned = "[StyleAlign] has no effect: it aligns the pictures of a batch, and the batch size is 1."
        request = request.replace(remarks=(*request.remarks, unaligned))
    if group is None or not group.enabled:
        return request
    most = easel.settings.snapshot().replace(**request.overrides)["control_net_unit_count"]
    in_batch = request.image is not None and request.image.turn is not None
    units = [
        turns.beside(turns.with_files(each, number, easel, beside_batch=in_batch), number, request)
        for number, unit in enumerate(group.units[: int(most)])
        for each in (checked(each, number, request, easel) for each in turns.unfolded(unit, number))
    ]
    unheeded = [
        f"ControlNet unit {number}: {BODY.name} isn't there, so people are found by MoveNet, which ships."
        for number, unit in enumerate(units)
        if unit.enabled and unit.weights_at.endswith(".json")
    ]
    unheeded += [
        f"ControlNet unit {number}: [Batch Loopback] has no effect beside img2img's Batch tab."
        for number, unit in enumerate(group.units)
        if in_batch and unit.enabled and unit.loopback and unit.input_mode == BATCH
    ]
    request = request.replace(remarks=(*request.remarks, *unheeded))
    return turns.with_turns(request, group.replace(units=tuple(units)))


@hookimpl
def revise_plan(plan):
    return turns.with_same_seeds(plan)


def checked(unit: Unit, number: int, request, easel) -> Unit:
    """The unit with its files found. Raises: InvalidRequest, NotFound."""
    if not unit.enabled:
        return unit
    preprocessor = unit.preprocessor
    preprocessor.require_runnable()
    has_picture = unit.image is not None or unit.film or unit.frames or request.image is not None
    if unit.input_mode == SIMPLE and not has_picture:
        raise InvalidRequest(f"ControlNet unit {number} has no picture; load one, or disable the unit.")
    if unit.guidance_start > unit.guidance_end:
        raise InvalidRequest(
            f"ControlNet unit {number} starts at {unit.guidance_start:g} and ends before, at {unit.guidance_end:g}."
        )
    _ = unit.weights, unit.curves
    if preprocessor.model_free:
        return unit
    if unit.model in ("", NO_MODEL):
        raise InvalidRequest(f"ControlNet unit {number} has no model; choose one, or disable the unit.")
    if unit.is_image_prompt:
        unit = unit.replace(encoders=tuple(map(str, image_encoders(easel))))
    return with_weights(unit, easel).replace(file=str(find_model(unit.model, easel)))


@hookimpl
def register_choices(choices):
    needs = {item.label: item.needs for item in PREPROCESSORS}
    choices.add(*(Fetchable(name, files) for name, files in offers(needs)), hed_package.FETCHABLE)


@hookimpl
def revise_pass(parts, this_pass):
    group = this_pass.plan.extension(ControlNet)
    aligns = group.style_align and len(this_pass.indices) > 1
    if not group.enabled and not aligns:
        return None
    if not this_pass.model.capabilities.unet:
        raise InvalidRequest(
            "ControlNet needs a checkpoint with a U-Net; disable its units for this one, and StyleAlign."
        )
    from .preparing import hooks_for, start_of
    from .style_align import StyleAlign

    units = turns.in_turn(group, this_pass)
    aligning = [StyleAlign()] if aligns else []
    parts = replace(parts, hooks=(*parts.hooks, *aligning, *hooks_for(units, this_pass)))
    start = start_of(units, this_pass)
    return parts if start is None or parts.start is not None else replace(parts, start=start)


@hookimpl
def finish_batch(pictures, this_pass):
    group = this_pass.plan.extension(ControlNet)
    if not group.enabled:
        return None
    from .preparing import finished

    turns.remember_last(pictures, this_pass)
    return [replace(picture, image=finished(picture.image, group, this_pass)) for picture in pictures]


@hookimpl
def finish(result, plan, state, save_file):
    """The maps, after the pictures: of each unit the one of the second pass first."""
    from .maps import picture_of

    settings = plan.settings
    files = []
    shown = [item for maps in (*state.get(turns.EARLIER, ()), state.get(turns.MAPS, {})) for item in _in_order(maps)]
    for (number, _), found in shown:
        picture = picture_of(found)
        data = encode_image(picture, "png", None)
        if settings["control_net_detectmap_autosaving"]:
            files.append(save_file(data, "png", "image/png", "control map"))
        elif not settings["control_net_no_detectmap"] and plan.extension(ControlNet).enabled[number].save_detected_map:
            files.append(ResultFile(data, "image/png", "", *picture.size, role="control map"))
    return files


def _in_order(maps):
    return sorted(maps.items(), key=lambda item: (item[0][0], -item[0][1]))
