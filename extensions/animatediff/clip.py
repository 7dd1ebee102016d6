"""The hook that makes a batch a clip: motion modules in the U-Net, and contexts where the clip is longer than one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from webui.extensions.api import DenoiserHook, Residuals, Step

from .motion.layers import averaged
from .motion.loras import loras_on
from .motion.network import Motion
from .noise import FREE_NOISE_STRIDE
from .sparse import Sparse
from .windows import Context, sliding, uniform


class ClipHook(DenoiserHook):
    """The clip of one pass. Each call is split into its clips (of prompts, of negative prompts) and their contexts.

    motion: the modules, on loan. context: which frames go together. last_wins: where contexts overlap, the later one
    counts alone. free: contexts are within the motion modules, as in FreeNoise; the rest of the network has all frames.
    over_clip: see `MotionModule`. loras: on the motion modules. sparse: SparseCtrl's network, on loan too, and what it
    is shown. remark: is told sentences for the user.
    """

    order = 20  # outside of control networks, which then see a context's rows alone

    def __init__(
        self,
        loan: Callable[[], Any],
        context: Context,
        *,
        last_wins: bool,
        free: bool,
        over_clip: bool,
        loras: Sequence[Any],
        sparse: tuple[Callable[[], Any], Sparse] | None,
        remark: Callable[[str], None],
    ) -> None:
        self.loan = loan
        self.context = context
        self.last_wins = last_wins
        self.free = free
        self.over_clip = over_clip
        self.loras = loras
        self.sparse = sparse
        self.remark = remark
        self.motion: Motion | None = None
        self.control: Any = None
        self.calls = -1

    @contextmanager
    def attached(self, network: Any) -> Iterator[None]:
        self.calls = -1
        with ExitStack() as stack:
            self.motion = stack.enter_context(self.loan())
            for sentence in stack.enter_context(loras_on(self.motion, self.loras)):
                self.remark(sentence)
            stack.enter_context(self.motion.attached(network))
            if self.sparse is not None:
                self.control = stack.enter_context(self.sparse[0]())
            try:
                yield
            finally:
                self.motion = self.control = None

    def wrap_denoiser(self, denoise: Callable[..., Tensor]) -> Callable[..., Tensor]:
        def counting(x: Tensor, sigma: float, step: Step) -> Tensor:
            self.calls += 1
            return denoise(x, sigma, step)

        return counting

    def wrap_call(self, call: Callable[..., Tensor]) -> Callable[..., Tensor]:
        def in_contexts(x: Tensor, timesteps: Tensor, cond: Any) -> Tensor:
            assert self.motion is not None, "the hook is attached while the network is called"
            clips = clips_of(cond.rows)
            clip = self.motion.clip
            clip.over_clip = self.over_clip
            whole = self.context.is_whole
            clip.windows = sliding(self.context, FREE_NOISE_STRIDE) if self.free and not whole else None
            windows = [list(range(self.context.length))] if self.free else uniform(max(self.calls, 0), self.context)

            def answer(frames: list[int]) -> Tensor:
                clip.frames = len(frames)
                index = torch.tensor([rows[frame] for rows in clips for frame in frames], device=x.device)
                own, times, told = x[index], timesteps[index], part_of(cond, index)
                if self.sparse is not None:
                    told = told.adding(self.sparse[1].residuals(self.control, own, times, told, frames))
                return call(own, times, told).unflatten(0, (len(clips), -1))

            order = torch.tensor(clips, device=x.device)
            return put(answer, windows, x, order, last_wins=self.last_wins)

        return in_contexts


def put(
    answer: Callable[[list[int]], Tensor], windows: Sequence[list[int]], x: Tensor, order: Tensor, *, last_wins: bool
) -> Tensor:
    """The answers for all contexts as one for the rows of `x`. order: (clips, frames), the row of each frame."""
    if len(windows) == 1:
        by_clip = answer(windows[0])
        if windows[0] != list(range(order.shape[1])):
            by_clip = by_clip[:, torch.tensor(windows[0], device=x.device).argsort()]
    elif last_wins:
        by_clip = torch.empty((*order.shape, *x.shape[1:]), device=x.device)
        for frames in windows:
            found = answer(frames)
            for place, frame in enumerate(frames):
                by_clip[:, frame] = found[:, place]
    else:
        like = x.new_zeros((*order.shape, *x.shape[1:]), dtype=torch.float32)
        by_clip = averaged(lambda frames: answer(frames).float(), windows, like, axis=1)
    output = torch.empty_like(by_clip.flatten(0, 1))
    output[order.flatten()] = by_clip.flatten(0, 1)
    return output


def clips_of(rows: Sequence[Any]) -> list[list[int]]:
    """The rows of a call by what they are predictions for, each list in the order of the frames."""
    clips: dict[tuple[int, int], dict[int, int]] = {}
    for index, row in enumerate(rows):
        clips.setdefault((row.sign, row.part), {})[row.picture] = index
    return [[clip[picture] for picture in sorted(clip)] for clip in clips.values()]


def part_of(cond: Any, index: Tensor) -> Any:
    """The conditioning of some rows of a call."""
    residuals = cond.residuals
    if residuals is not None:
        down, inside = (tuple(_rows(part, index) for part in parts) for parts in (residuals.down, residuals.inside))
        mid = None if residuals.mid is None else _rows(residuals.mid, index)
        residuals = Residuals(down, mid, inside)
    return replace(
        cond,
        context=cond.context[index],
        pooled=None if cond.pooled is None else cond.pooled[index],
        channels=None if cond.channels is None else cond.channels[index],
        rows=tuple(cond.rows[number] for number in index.tolist()),
        residuals=residuals,
    )


def _rows(part: Tensor, index: Tensor) -> Tensor:
    return part if len(part) == 1 else part[index]


def key_of(kind: str, path: Path, model: Any, *more: object) -> tuple[object, ...]:
    """Under which a file's network is borrowed."""
    state = path.stat()
    return kind, *more, str(path), state.st_mtime_ns, state.st_size, str(model.device), str(model.dtype)
