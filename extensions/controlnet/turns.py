"""Units with more than one picture: several at once, or another for each turn of a batch."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from webui.extensions.api import Easel, GenerationRequest, InvalidRequest, encode_image

from .curves import divided, is_curve
from .units import BATCH, MERGE, SIMPLE, ControlNet, Unit

PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff")
MOST_FILES = 10_000
MAPS, EARLIER, TURN, LAST = "controlnet.maps", "controlnet.earlier maps", "controlnet.turn", "controlnet.last"
"""What is left in a job's state: the maps of this turn, those of the turns before, its number, its last picture."""
OF_PICTURES = ("controlnet.hint", "controlnet.embedding")
"""How keys in a job's state begin whose values were made of this turn's pictures."""


# When the job is submitted


def unfolded(unit: Unit, number: int) -> tuple[Unit, ...]:
    """A unit for each picture of one with several at once; they share its weight. Raises: InvalidRequest."""
    if not unit.enabled or unit.input_mode != MERGE:
        return (unit,)
    if not unit.images:
        raise InvalidRequest(
            f"ControlNet unit {number} has no pictures under Multi-Inputs; upload some, or choose Single Image."
        )
    count = len(unit.images)
    if is_curve(unit.advanced_weighting):
        weights = divided(unit.advanced_weighting, count)
    else:
        weights = ", ".join(f"{weight / count:g}" for weight in unit.weights)
    same = {"input_mode": SIMPLE, "images": (), "mask": None, "weight": unit.weight / count}
    return tuple(unit.replace(**same, advanced_weighting=weights, image=image) for image in unit.images)


def with_files(unit: Unit, number: int, easel: Easel, *, beside_batch: bool = False) -> Unit:
    """A unit in batch mode with the files of its folder found, by name.

    beside_batch: whether img2img's Batch tab has pictures for a unit that names none. Raises: InvalidRequest, Refused.
    """
    if not unit.enabled or unit.input_mode != BATCH or unit.images:
        return unit
    if not unit.batch_dir.strip():
        if beside_batch:
            return unit
        raise InvalidRequest(
            f"ControlNet unit {number} has no pictures under Batch; name the input directory, or upload some."
        )
    folder = easel.folder_of(unit.batch_dir)
    if not folder.is_dir():
        raise InvalidRequest(f"ControlNet unit {number}: there is no folder {folder} on the server.")
    files = sorted(path for path in folder.iterdir() if path.suffix.lower() in PICTURES and path.is_file())
    if not files:
        raise InvalidRequest(f"ControlNet unit {number}: {folder} holds no pictures ({', '.join(PICTURES)}).")
    if len(files) > MOST_FILES:
        raise InvalidRequest(f"ControlNet unit {number}: {folder} holds more than {MOST_FILES} pictures; split it.")
    return unit.replace(batch_files=tuple(map(str, files)))


def beside(unit: Unit, number: int, request: GenerationRequest) -> Unit:
    """A unit in batch mode beside img2img's Batch tab: the two go on together, so it has one picture for each of its.

    Without pictures of its own the unit takes img2img's. Raises: InvalidRequest when its pictures have run out.
    """
    turn = None if request.image is None else request.image.turn
    if not unit.enabled or unit.input_mode != BATCH or turn is None:
        return unit
    alone = {"input_mode": SIMPLE, "images": (), "batch_files": (), "loopback": False}
    count = len(unit.images or unit.batch_files)
    if count == 0:
        return unit.replace(**alone, image=None)
    if turn >= count:
        raise InvalidRequest(f"ControlNet unit {number} has only {count} pictures; the batch ends with the last.")
    return unit.replace(**alone, image=_picture(unit, turn, number))


def length(unit: Unit) -> int | None:
    """How many turns a unit's pictures last; None for one whose picture is always there."""
    if not unit.enabled or unit.input_mode != BATCH or unit.loopback:
        return None
    return len(unit.images or unit.batch_files)


def with_turns(request: GenerationRequest, group: ControlNet) -> GenerationRequest:
    """The request with as many batches as its units have pictures; all units go on together, the shortest ends it."""
    if group.turns:
        return request  # it was counted already
    if group.clip:
        return request.replace(extensions={**request.extensions, ControlNet.__name__: group})
    lengths = [count for count in map(length, group.units) if count is not None]
    turns = min(lengths, default=0)
    extensions = {**request.extensions, ControlNet.__name__: group.replace(turns=turns)}
    return request.replace(extensions=extensions, batch_count=request.batch_count * max(turns, 1))


def with_same_seeds(plan: Any) -> Any:
    """The plan with the seeds of the first turn in every turn, unless the settings let them go on."""
    turns = plan.extension(ControlNet).turns
    if turns < 2 or plan.settings["controlnet_increment_seed_during_batch"]:
        return plan
    count = len(plan.seeds) // turns
    return replace(plan, seeds=plan.seeds[:count] * turns, subseeds=plan.subseeds[:count] * turns)


# In the worker


def in_turn(group: ControlNet, this_pass: Any) -> ControlNet:
    """The units with the pictures of the turn that this pass belongs to. Raises: InvalidRequest for a file gone."""
    if not any(unit.enabled and unit.input_mode == BATCH for unit in group.units):
        return group
    request, state = this_pass.plan.request, this_pass.state
    batch = this_pass.indices[0] // request.batch_size
    turn = batch // (request.batch_count // group.turns) if group.turns else batch
    if state.setdefault(TURN, turn) != turn:
        state[TURN] = turn
        state.setdefault(EARLIER, []).append(state.pop(MAPS, {}))
        for key in [key for key in state if isinstance(key, tuple) and key[0] in OF_PICTURES]:
            del state[key]
    return group.replace(units=tuple(_at(unit, turn, number, state) for number, unit in enumerate(group.units)))


def _at(unit: Unit, turn: int, number: int, state: Any) -> Unit:
    if not unit.enabled or unit.input_mode != BATCH:
        return unit
    if unit.loopback and turn and LAST in state:
        return unit.replace(input_mode=SIMPLE, image=state[LAST])
    return unit.replace(input_mode=SIMPLE, image=_picture(unit, turn, number))


def _picture(unit: Unit, turn: int, number: int) -> bytes:
    """The file of a unit's picture for a turn; they begin again after the last. Raises: InvalidRequest."""
    if unit.images:
        return unit.images[turn % len(unit.images)]
    file = Path(unit.batch_files[turn % len(unit.batch_files)])
    try:
        return file.read_bytes()
    except OSError as error:
        raise InvalidRequest(f"ControlNet unit {number}: {file} can't be read: {error.strerror}.") from error


def remember_last(pictures: Any, this_pass: Any) -> None:
    """Keep a batch's last picture for the units that begin with it in the next turn."""
    if any(unit.loopback for unit in this_pass.plan.extension(ControlNet).enabled) and pictures:
        this_pass.state[LAST] = encode_image(pictures[-1].image, "png", None)
