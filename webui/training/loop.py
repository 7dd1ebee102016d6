"""The one loop of all trainings: batches in, gradients, a step; and between steps everything that may happen there.

Nothing depends on when a training was paused or killed: every step takes its chance from the seed and its own number,
the dataset from the seed and the epoch, and weights and optimizer come back from the state.
"""

from __future__ import annotations

import csv
import hashlib
import logging
import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from webui.core.errors import WebuiError, not_saved
from webui.core.training import LOG_COLUMNS, LOG_NAME
from webui.core.training_data import Batch, TrainingData
from webui.jobs.context import JobContext
from webui.models.families.base import LoadedModel
from webui.planning.learning_rates import read_rates
from webui.planning.training import Phase, TrainingPlan
from webui.training.board import Board
from webui.training.latents import LatentShelf, masks_of
from webui.training.loss import Objective
from webui.training.optimizers import make_optimizer, sets_its_own_rate
from webui.training.state import Place, State
from webui.training.trainee import Done, Trainee

log = logging.getLogger(__name__)

PATIENCE = 5
"""Steps without a number for a loss after which a training is given up."""
SHOWN = 50
"""Steps whose mean loss is shown."""
STATE_SHARE = 20
"""A state isn't written again before so many times the time has passed that the last one took."""
STATE_NAME = "state.pt"


class TrainingFailed(WebuiError):
    """A training can't go on: its loss is no number."""

    status = 500


@dataclass
class Loop:
    """What a training consists of, and where it is.

    sample: makes the sample pictures of a step within a part of the job, None for no samples; returns their files.
    board: for TensorBoard, None for none.
    """

    plan: TrainingPlan
    model: LoadedModel
    trainee: Trainee
    data: TrainingData
    shelf: LatentShelf
    objective: Objective
    sample: Callable[[JobContext, int], list[str]] | None = None
    board: Board | None = None
    place: Place = field(default_factory=Place)
    files: list[str] = field(default_factory=list)
    samples: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._optimizer: torch.optim.Optimizer | None = None
        self._peaks: list[float] = []
        half = self.plan.request.numerics.mixed_precision == "fp16"
        self._scaler = torch.amp.GradScaler(self.model.device.type, enabled=half)
        self._bad_steps = 0
        self._state_at, self._state_took = time.monotonic(), 0.0
        self._last_state_step = 0

    # The training

    def run(self, job: JobContext) -> bool:
        """Train to the end, or until the job is told to stop. Returns: whether it came to its end.

        Raises: TrainingFailed, NotSaved, InvalidRequest for a picture that can't be read.
        """
        state = self._resume()
        share = _Shares(self.plan, self.place.total, self._sample_points())
        if share.done:
            job.child(share.done)
        if not self.place.total and self.plan.request.samples.at_first:
            self._sample(job.child(share.sample))
        for number in range(self.place.phase, len(self.plan.phases)):
            phase = self.plan.phases[number]
            self._begin_phase(number, phase, state)
            state = None
            if not self._run_phase(phase, job, share):
                return False
            self.trainee.end(phase)
            if number + 1 < len(self.plan.phases):
                self.place.phase, self.place.step = number + 1, 0
                self._optimizer = None
                self._write_state()
        return True

    def _run_phase(self, phase: Phase, job: JobContext, share: _Shares) -> bool:
        """Returns: False when the job was told to stop."""
        groups = self._groups()
        while self.place.step < phase.steps:
            due = self._next_sample(phase)
            count = due - self.place.step
            part = job.child(min(share.step * count, 1.0))
            part.begin_passes(1)
            for _ in part.steps(range(count)):
                self._step(phase, *next(groups), part)
                if job.stopping:
                    break
                job.pause_point()
            part.next_pass()
            if self.place.step < due:
                return False
            if self.place.total in self._sample_points():
                self._sample(job.child(share.sample))
        return True

    def _step(self, phase: Phase, batches: Sequence[Batch], after: tuple[int, int], job: JobContext) -> None:
        """One step of the optimizer, and what is due after it. after: epoch and batch that come next."""
        assert self._optimizer is not None
        self._set_rates(phase)
        self._optimizer.zero_grad(set_to_none=True)
        losses = [self._learn(batch, number, len(batches)) for number, batch in enumerate(batches)]
        loss = sum(losses) / len(losses)
        norm = self._update(phase) if math.isfinite(loss) else math.nan
        epoch_ended = after[0] > self.place.epoch
        place = self.place
        place.step, place.total = place.step + 1, place.total + 1
        place.epoch, place.batch = after
        if math.isfinite(loss) and math.isfinite(norm):
            self._bad_steps = 0
            self.trainee.after_step(place.step)
            place.losses = [*place.losses[1 - SHOWN :], loss]
        else:
            self._bad_steps += 1
        mean = sum(place.losses) / len(place.losses) if place.losses else math.nan
        self._log(loss, mean, norm)
        job.text(f"Step {place.total} of {self.plan.steps}, loss {mean:.4f}")
        if self._bad_steps >= PATIENCE:
            self._give_up()
        self._save_what_is_due(epoch_ended)

    def _learn(self, batch: Batch, number: int, count: int) -> float:
        """Gradients of one batch of several that make a step. Returns: its loss."""
        name = f"{self.plan.seed}/{self.place.phase}/{self.place.step}/{number}"
        with _chance(name, self.model.device) as generator, self._precision():
            latents = self.shelf.latents(batch.items, generator)
            noised = self.objective.add_noise(latents, generator)
            cond = self.trainee.conds(batch.items, name)
            answer = self.model.network(noised.x, noised.timesteps.float(), cond)
            mask = masks_of(batch.items, (latents.shape[2], latents.shape[3]))
            with torch.autocast(self.model.device.type, enabled=False):
                loss = self._together(self.objective.losses(answer, noised, mask), batch)
        value = float(loss.detach())
        if math.isfinite(value):
            self._scaler.scale(loss / count).backward()
        return value

    def _together(self, losses: Tensor, batch: Batch) -> Tensor:
        """One loss of a batch's. Class pictures of a paired dataset count beside the others, not among them."""
        if self.plan.request.data.prior == "paired" and any(item.is_prior for item in batch.items):
            prior = torch.tensor([item.is_prior for item in batch.items], device=losses.device)
            return losses[~prior].mean() + self.plan.request.loss.prior_loss_weight * losses[prior].mean()
        weights = torch.tensor([item.weight for item in batch.items], device=losses.device)
        return (losses * weights).mean()

    def _update(self, phase: Phase) -> float:
        """Change the weights. Returns: the norm of all gradients; weights stay as they are when that is no number."""
        assert self._optimizer is not None
        optimization = self.plan.request.optimization
        weights = [weight for group in self._optimizer.param_groups for weight in group["params"]]
        self._scaler.unscale_(self._optimizer)
        if optimization.gradient_clipping == "value":
            torch.nn.utils.clip_grad_value_(weights, self._clip())
        largest = optimization.max_grad_norm or math.inf
        if optimization.gradient_clipping == "norm":
            largest = min(largest, self._clip())
        norm = float(torch.nn.utils.clip_grad_norm_(weights, largest))
        if self._scaler.is_enabled():
            self._scaler.step(self._optimizer)
            self._scaler.update()
            return norm if math.isfinite(norm) else 0.0  # the scaler has passed over the step, as it should
        if math.isfinite(norm):
            self._optimizer.step()
        return norm

    def _clip(self) -> float:
        return read_rates(self.plan.request.optimization.gradient_clip).at(self.place.step) or math.inf

    def _set_rates(self, phase: Phase) -> None:
        assert self._optimizer is not None
        step, optimization = self.place.step, self.plan.request.optimization
        for group, peak in zip(self._optimizer.param_groups, self._peaks, strict=True):
            if phase.text_steps is not None and step >= phase.text_steps and group["part"] == "text":
                for weight in group["params"]:
                    weight.requires_grad_(False)
            elif phase.rates is not None:
                group["lr"] = phase.rates.at(step) or 0.0
            elif not sets_its_own_rate(optimization.optimizer_type, self.plan.optimizer_args):
                group["lr"] = phase.schedule.rate(step, peak)

    def _precision(self) -> AbstractContextManager[Any]:
        dtype = {"fp16": torch.float16, "bf16": torch.bfloat16}.get(self.plan.request.numerics.mixed_precision)
        return torch.autocast(self.model.device.type, dtype) if dtype else nullcontext()

    # The data

    def _groups(self) -> Iterator[tuple[list[Batch], tuple[int, int]]]:
        """Batches of one step each, from where the training is, and the epoch and batch that come after them."""
        most, epoch, batch = (
            self.plan.request.optimization.gradient_accumulation_steps,
            self.place.epoch,
            self.place.batch,
        )
        while True:
            group: list[Batch] = []
            count = self.data.batches_in(epoch)
            for item in self.data.batches(epoch, batch):
                group.append(item)
                batch += 1
                if len(group) == most or batch == count:
                    yield group, ((epoch + 1, 0) if batch == count else (epoch, batch))
                    group = []
            epoch, batch = epoch + 1, 0

    # Beginning, ending, between

    def _begin_phase(self, number: int, phase: Phase, state: State | None) -> None:
        plan = self.plan
        if state is None and self.trainee.first_step > self.place.step:
            self.place.step = self.place.total = self.trainee.first_step
        groups = self.trainee.begin(phase)
        self._peaks = [group["lr"] for group in groups]
        optimization = plan.request.optimization
        self._optimizer = make_optimizer(
            optimization.optimizer_type, groups, optimization.learning_rate, plan.optimizer_args
        )
        if state is not None and state.optimizer:
            self._optimizer.load_state_dict(dict(state.optimizer))
            if state.scaler:
                self._scaler.load_state_dict(dict(state.scaler))

    def _resume(self) -> State | None:
        """Take up the state of a training that was killed, if there is one."""
        state = State.read(self.plan.folder / STATE_NAME)
        if state is not None:
            self.place = state.place
            self.files, self.samples = list(state.files), list(state.samples)
            self.trainee.restore(state.weights)
            self._last_state_step = state.place.total
        self._begin_log()
        return state

    def write_state(self) -> None:
        """Keep what a killed training goes on from. Raises: NotSaved."""
        self._write_state()

    def _write_state(self) -> None:
        begun = time.monotonic()
        optimizer = self._optimizer.state_dict() if self._optimizer is not None else {}
        state = State(
            self.place,
            {name: weight.detach() for name, weight in self.trainee.tensors().items()},
            optimizer,
            self._scaler.state_dict(),
            tuple(self.files),
            tuple(self.samples),
        )
        state.write(self.plan.folder / STATE_NAME)
        self._state_at, self._state_took = time.monotonic(), time.monotonic() - begun
        self._last_state_step = self.place.total

    def _save_what_is_due(self, epoch_ended: bool) -> None:
        saving, place, phases = self.plan.request.saving, self.place, self.plan.phases
        is_last = place.phase == len(phases) - 1 and place.step >= phases[-1].steps
        if epoch_ended and not is_last and saving.save_every_n_epochs and place.epoch % saving.save_every_n_epochs == 0:
            self.save(self._copy(f"-{place.epoch:06d}"))
        if not is_last and saving.save_every_n_steps and place.total % saving.save_every_n_steps == 0:
            self.save(self._copy(f"-step{place.total:08d}"))
        waited = time.monotonic() - self._state_at >= STATE_SHARE * self._state_took
        fine = self._bad_steps == 0
        if fine and waited and place.total - self._last_state_step >= saving.save_state_every:
            self._write_state()

    def save(self, target: Path) -> None:
        """Write the file as it is now. Raises: NotSaved."""
        place = self.place
        done = Done(
            place.total,
            min(place.epoch + (1 if place.batch else 0), self.plan.epochs),
            self.plan.epochs,
            self.data.batches_in(0),
            time.time(),
            self.data.facts,
        )
        try:
            written = [str(path) for path in self.trainee.save(target, done)]
        except OSError as error:
            raise not_saved(f"{target.name} can't be saved in {target.parent}", error) from error
        self.files = [*(name for name in self.files if name not in written), *written]
        if target != self.plan.target and self.plan.request.saving.save_last_n:
            self._delete_old(written)

    def _copy(self, ending: str) -> Path:
        target = self.plan.target
        if self.plan.kind in ("embedding", "hypernetwork"):
            return self.plan.folder / "copies" / f"{target.stem}-{self.place.total}{target.suffix}"
        return target.with_name(f"{target.stem}{ending}{target.suffix}")

    def _delete_old(self, written: list[str]) -> None:
        """Leave only the last few of the copies that this training has made on its way."""
        own = [name for name in self.files if name not in written and Path(name) != self.plan.target]
        for name in own[: max(len(own) + 1 - self.plan.request.saving.save_last_n, 0)]:
            Path(name).unlink(missing_ok=True)
            self.files.remove(name)

    def _give_up(self) -> None:
        """Raises: TrainingFailed, after what was good last is saved."""
        state = State.read(self.plan.folder / STATE_NAME)
        kept = "Nothing was saved, since it happened so early."
        if state is not None and state.weights:
            self.trainee.restore(state.weights)
            self.place = state.place
            target = self._copy(f"-step{state.place.total:08d}")
            self.save(target)
            kept = f"The weights of step {state.place.total} are saved as {target.name}."
        (self.plan.folder / STATE_NAME).unlink(missing_ok=True)
        raise TrainingFailed(
            f"The loss was no number for {PATIENCE} steps (NaN), so the training was ended. {kept} Try a lower "
            "learning rate, an alpha no larger than the dim, or mixed precision bf16 or no."
        )

    # Samples

    def _sample_points(self) -> frozenset[int]:
        """Steps of the whole training after which sample pictures are made."""
        samples = self.plan.request.samples
        if self.sample is None or not self.plan.samples:
            return frozenset()
        points: set[int] = set()
        if samples.every_n_steps:
            points |= set(range(samples.every_n_steps, self.plan.steps + 1, samples.every_n_steps))
        if samples.every_n_epochs:
            accumulated = self.plan.request.optimization.gradient_accumulation_steps
            updates = math.ceil(self.data.batches_in(0) / accumulated) * samples.every_n_epochs
            points |= set(range(updates, self.plan.steps + 1, updates))
        return frozenset(points)

    def _next_sample(self, phase: Phase) -> int:
        """The step of the phase after which the next samples are made, or its last."""
        before = self.place.total - self.place.step
        later = [point - before for point in self._sample_points() if point > self.place.total]
        return min([*later, phase.steps])

    def _sample(self, job: JobContext) -> None:
        """Make sample pictures. One that fails is told and doesn't end the training."""
        assert self.sample is not None
        with self.trainee.shown(), _resting(self.model):
            made = self.sample(job, self.place.total)
        self.samples += made
        if self.board is not None:
            self.board.add_pictures(self.place.total, made)

    # The log

    def _begin_log(self) -> None:
        """The log's rows up to where the training is, or a new log."""
        path = self.plan.folder / LOG_NAME
        path.parent.mkdir(parents=True, exist_ok=True)
        rows: list[list[str]] = []
        if path.exists():
            with path.open(newline="", encoding="utf-8") as file:
                rows = [
                    row for row in csv.reader(file) if row and row[0].isdecimal() and int(row[0]) <= self.place.total
                ]
        with path.open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([LOG_COLUMNS, *rows])

    def _log(self, loss: float, mean: float, norm: float) -> None:
        """mean: of the last steps' losses."""
        assert self._optimizer is not None
        rate = self._optimizer.param_groups[0]["lr"]
        row = (self.place.total, self.place.epoch, f"{loss:.6g}", "" if rate is None else f"{rate:.6g}", f"{norm:.6g}")
        try:
            with (self.plan.folder / LOG_NAME).open("a", newline="", encoding="utf-8") as file:
                csv.writer(file).writerow(row)
        except OSError as error:
            raise not_saved("The training's log can't be written", error) from error
        if self.board is not None:
            groups = [group for group in self._optimizer.param_groups if group["lr"] is not None]
            rates = {f"lr/{group['part']}": group["lr"] for group in groups}
            told = {"loss/current": loss, "loss/average": mean, "norm/gradient": norm}
            self.board.add(self.place.total, told | rates)


class _Shares:
    """How the job's progress is shared out. step, sample: of a step, of a round of sample pictures. done: behind."""

    def __init__(self, plan: TrainingPlan, done: int, points: frozenset[int]) -> None:
        weight = sum(prompt.steps for prompt in plan.samples) * 2 / 3  # a step forwards and back is about three calls
        rounds = len(points) + (1 if plan.request.samples.at_first and plan.samples else 0)
        whole = plan.steps + weight * rounds
        self.step, self.sample = 1 / whole, weight / whole
        behind = sum(point <= done for point in points)
        self.done = min((done + weight * behind) / whole, 0.999)


@contextmanager
def _chance(name: str, device: torch.device) -> Iterator[torch.Generator]:
    """A generator of this step's own; torch's global ones are seeded by it, too, for dropout, and put back after."""
    seed = int.from_bytes(hashlib.sha256(name.encode()).digest()[:7], "big")
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(seed)
        yield torch.Generator().manual_seed(seed)


@contextmanager
def _resting(model: LoadedModel) -> Iterator[None]:
    """The model as it is when pictures are made; what was in training mode is so again afterwards."""
    training = [module for part in model.parts for module in part.modules() if module.training]
    for part in model.parts:
        part.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True
