"""A pass as a clip: what of its parts changes; imported in the worker only."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from torch import Tensor

from webui.extensions.api import InvalidRequest

from .clip import ClipHook, key_of
from .conditioning import moved
from .motion.network import Motion
from .noise import alphas_of, with_noise
from .parameters import AS_TRAINED, FREE_NOISE, LAST_WINS, AnimateDiff
from .sparse import Sparse, network_of, shown_to
from .starting import started
from .travel import positions, read_travel
from .unloading import LOANS, SPARSE_LOANS

START = "animatediff.start"


def revised(parts: Any, this_pass: Any, asked: AnimateDiff) -> Any:
    """The parts of a pass of a clip. Raises: InvalidRequest when the motion module can't do it."""
    model, settings = this_pass.model, this_pass.plan.settings
    path, base = Path(asked.file), f"{model.checkpoint.model_name} ({model.family})"
    over_clip = settings["animatediff_norm_over_clip"]
    loan: Callable[[], Any] = partial(
        this_pass.models.borrow,
        key_of(LOANS, path, model),
        lambda: Motion.read(path, model.device, model.dtype),
        bytes=path.stat().st_size,
    )
    with loan() as motion:
        motion.move(model.device)
        motion.require_fit(model.unet, base)
        family = motion.family
    if min(asked.batch_size, asked.frames) > family.positions:
        raise InvalidRequest(
            f"AnimateDiff: {path.name} ({family.name}) knows {family.positions} frames at a time, the context has "
            f"{asked.batch_size}; lower the context batch size."
        )
    alphas = None if settings["animatediff_noise_levels"] != AS_TRAINED else alphas_of(family)
    if alphas is not None:
        parts = replace(parts, table=this_pass.noise_table(replace(model.levels, alphas_cumprod=alphas)))
    hook = ClipHook(
        loan,
        asked.context,
        last_wins=settings["animatediff_windows"] == LAST_WINS,
        free=asked.noise == FREE_NOISE,
        over_clip=over_clip,
        loras=this_pass.motion_loras,
        sparse=sparse_of(this_pass, asked, base, over_clip=over_clip) if asked.sparse_file else None,
        remark=this_pass.report.comment,
    )
    parts = replace(parts, conds=travelled(parts.conds, this_pass, asked), hooks=(*parts.hooks, hook))
    parts = with_padding(parts, this_pass)
    if this_pass.relieved is None:
        parts = with_noise(parts, asked.noise, asked.batch_size, this_pass.plan.seeds[this_pass.indices[0]])
    return replace(parts, start=start_of(parts, this_pass, asked)) if this_pass.kind == "source" else parts


def sparse_of(this_pass: Any, asked: AnimateDiff, base: str, *, over_clip: bool) -> tuple[Callable[[], Any], Sparse]:
    """SparseCtrl's network, to be borrowed, and what it is shown."""
    model, path = this_pass.model, Path(asked.sparse_file)
    loan: Callable[[], Any] = partial(
        this_pass.models.borrow,
        key_of(SPARSE_LOANS, path, model, over_clip),
        lambda: network_of(path, model.unet, base, model.device, model.dtype, over_clip=over_clip),
        bytes=path.stat().st_size,
    )
    with loan() as network:
        return loan, shown_to(network, asked, this_pass)


def travelled(conds: Any, this_pass: Any, asked: AnimateDiff) -> Any:
    """The conditioning of each frame, on the way between those of key frames."""
    if this_pass.plan.written is None:
        return conds
    texts = list(this_pass.plan.written)
    if this_pass.kind == "hires":
        hires = this_pass.plan.request.hires
        texts = [own or text for own, text in zip((hires.prompt, hires.negative_prompt), texts, strict=True)]
    for text, negative in zip(texts, (False, True), strict=True):
        travel = read_travel(text)
        if travel is not None:
            way = positions(list(travel.keys), asked.frames, loops=asked.loops_prompts)
            conds = moved(conds, way, negative=negative)
    return conds


def with_padding(parts: Any, this_pass: Any) -> Any:
    """The parts with prompts and negative prompts brought to one length."""
    if parts.guidance.pad is not None:
        return parts
    return replace(parts, guidance=replace(parts.guidance, pad="empty", empty=this_pass.text.empty()))


def start_of(parts: Any, this_pass: Any, asked: AnimateDiff) -> Tensor:
    """What img2img's frames begin with, the same for a refiner."""
    plan, state = this_pass.plan, this_pass.state
    key = (START, this_pass.indices[0])
    if len(plan.request.image.images) > 1:
        return parts.start
    if key not in state:
        state[key] = started(parts.start, parts.noise.next(), asked, this_pass)
    return state[key]
