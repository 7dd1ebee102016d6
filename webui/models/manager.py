"""The one who knows what is loaded."""

from __future__ import annotations

import gc
import logging
import threading
import time
from collections.abc import Callable, Collection, Hashable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any, Literal, Protocol, TypeVar

import torch
from torch import nn

from webui.catalog.checkpoints import Checkpoint, CheckpointCatalog
from webui.core.capabilities import Capabilities
from webui.core.errors import BadModelFile
from webui.core.flags import Flags
from webui.models import memory
from webui.models.devices import Placement, choose, free_bytes, is_out_of_memory, suited
from webui.models.families.base import Blueprint, LoadedModel
from webui.models.registry import open_checkpoint
from webui.models.weights import WeightsFile

log = logging.getLogger(__name__)
T = TypeVar("T")
RESERVE = 512 * 2**20
"""Bytes that keeping several models leaves free for computing with one of them."""
CPU = torch.device("cpu")


class HasSettings(Protocol):
    """What the manager asks of the settings' store."""

    def snapshot(self) -> Mapping[str, Any]: ...


class DefaultSettings:
    """One model at a time, stored as it computes."""

    def snapshot(self) -> Mapping[str, Any]:
        return MappingProxyType(
            {
                "sd_checkpoints_limit": 1,
                "sd_checkpoint_cache": 0,
                "sd_checkpoints_keep_in_cpu": True,
                "fp8_storage": "Disable",
            }
        )


@dataclass
class Kept:
    """A loaded model. file: what its weights may lie in. leases: how many use it now. awake: its weights are where they
    compute."""

    model: LoadedModel
    file: WeightsFile
    leases: int = 0
    awake: bool = True


@dataclass
class Borrowed:
    """A network beside the checkpoints. leases: how many use it now."""

    thing: Any
    bytes: int
    leases: int = 0


@dataclass(frozen=True)
class Loaded:
    """Something in memory. name: a checkpoint's, or the key that an auxiliary network was borrowed under."""

    name: str
    kind: Literal["checkpoint", "auxiliary"]
    bytes: int
    in_use: bool


TRAINABLE: Mapping[str, Callable[[LoadedModel], list[nn.Module]]] = {
    "unet": lambda model: [model.unet],
    "text_encoders": lambda model: [encoder.module for encoder in model.text_encoders],
    "vae": lambda model: [model.vae.module],
}
"""What a workshop may train: name -> the modules of a model."""


class Economy:
    """One job's way to get along with less memory; see `ModelManager.economy`."""

    def __init__(self, manager: ModelManager) -> None:
        self._manager = manager
        self.tightened = 0

    def tighten(self) -> str | None:
        """Take the next cheaper plan for the rest of the job. Returns: what changes; None when nothing is left."""
        return self._manager._tighten(self)


class ModelManager:
    """Loads checkpoints and keeps as many as the settings allow and memory holds, the longest unused leave first.

    Which checkpoint is "current" for the user is a setting, not ours. One thread leases; others may `peek` and read
    `current`.
    """

    def __init__(self, catalog: CheckpointCatalog, flags: Flags, settings: HasSettings | None = None):
        """Raises: InvalidRequest when the flags name a device that isn't there."""
        self.catalog = catalog
        self.flags = flags
        self.settings = settings or DefaultSettings()
        self.placement: Placement = choose(flags)
        self._kept: dict[tuple[object, Placement], Kept] = {}
        """In order of last use."""
        self._borrowed: dict[Hashable, Borrowed] = {}
        """In order of last use."""
        self._economy: Economy | None = None
        self._stand_ins: dict[object, LoadedModel] = {}
        """By the identity of the checkpoint that they are leased as."""
        self._lock = threading.RLock()

    @property
    def current(self) -> Checkpoint | None:
        """The checkpoint used last, None before the first and while memory is too short to keep the old one."""
        kept = tuple(self._kept.values())
        return kept[-1].model.checkpoint if kept else None

    def peek(self) -> tuple[Loaded, ...]:
        """What is in memory, each kind in order of last use. Waits for nobody, so it may be a moment old."""
        models, borrowed = tuple(self._kept.values()), tuple(self._borrowed.items())
        return (
            *(
                Loaded(kept.model.checkpoint.model_name, "checkpoint", _bytes(kept.model), kept.leases > 0)
                for kept in models
            ),
            *(Loaded(str(key), "auxiliary", item.bytes, item.leases > 0) for key, item in borrowed),
        )

    @contextmanager
    def lease(self, checkpoint: Checkpoint) -> Iterator[LoadedModel]:
        """The model of `checkpoint`, loaded if need be, not unloaded before the context ends.

        Leases of one thread may nest (a refiner inside a base model); other threads wait.
        Raises: BadModelFile when it can't be loaded; the models loaded before stay.
        """
        with self._lock:
            if checkpoint.identity in self._stand_ins:
                yield self._stand_ins[checkpoint.identity]
                return
            kept = self._obtain(checkpoint)
            kept.leases += 1
            try:
                yield kept.model
            finally:
                kept.leases -= 1
                self._trim()

    def preload(self, checkpoint: Checkpoint) -> None:
        """Load `checkpoint` now, so that the first picture needn't wait.

        Raises: BadModelFile as `lease`.
        """
        with self.lease(checkpoint):
            pass

    @contextmanager
    def borrow(self, key: Hashable, load: Callable[[], T], bytes: int) -> Iterator[T]:
        """A network beside the checkpoints (ControlNet, motion module, annotator), loaded if need be.

        It isn't unloaded before the context ends; afterwards it stays until memory is wanted, and goes before any
        checkpoint does. Like leases, loans of one thread may nest. Raises: whatever `load` raises.
        key: tells it from all others, such as (kind, file's identity, dtype). load: puts it on its device; it is
        called once more when memory runs out. bytes: what it takes there.
        """
        with self._lock:
            borrowed = self._borrowed.pop(key, None)
            if borrowed is None:
                borrowed = Borrowed(self._loaded_with_retry(load, bytes), bytes)
            self._borrowed[key] = borrowed
            borrowed.leases += 1
            try:
                yield borrowed.thing
            finally:
                borrowed.leases -= 1

    def borrowed(self, kind: str) -> list[Any]:
        """The networks in memory, used or not, whose keys are tuples that begin with `kind`."""
        with self._lock:
            return [item.thing for key, item in self._borrowed.items() if isinstance(key, tuple) and key[:1] == (kind,)]

    def forget(self, *start: Hashable) -> int:
        """Let go of what was borrowed under keys (tuples) that begin so and nobody uses. Returns: how many."""
        with self._lock:
            idle = [
                key
                for key, item in self._borrowed.items()
                if isinstance(key, tuple) and key[: len(start)] == start and not item.leases
            ]
            for key in idle:
                del self._borrowed[key]
            if idle:
                release_memory()
            return len(idle)

    @contextmanager
    def workshop(self, checkpoint: Checkpoint, parts: Collection[str], dtype: torch.dtype) -> Iterator[LoadedModel]:
        """A private copy of a checkpoint to train; nobody else sees its weights, which are gone afterwards.

        parts: names of `TRAINABLE`; these record gradients and are in training mode, the others stay frozen.
        dtype: of all weights. Raises: BadModelFile.
        """
        assert set(parts) <= set(TRAINABLE), f"{parts=}"
        with self._lock:
            blueprint = self._opened(checkpoint)
            placement = replace(self.placement, unet=dtype, text=dtype, vae=dtype, channels_last=False)
            self._make_room(blueprint.weight_bytes(placement), placement.device)
            model = blueprint.load(placement)
            for module in (module for part in parts for module in TRAINABLE[part](model)):
                for weight in module.parameters():
                    weight.data = weight.data.clone()  # what was loaded may be the file's memory map
                module.requires_grad_(True).train()
            try:
                yield model
            finally:
                del model
                release_memory()

    @contextmanager
    def standing_in(self, model: LoadedModel) -> Iterator[None]:
        """While inside, leases of the model's checkpoint give this very model: a workshop's half trained one."""
        with self._lock:
            identity = model.checkpoint.identity
            self._stand_ins[identity] = model
            try:
                yield
            finally:
                del self._stand_ins[identity]

    def unload(self) -> None:
        """Give the memory back; the next lease loads again."""
        with self._lock:
            self._drop_borrowed()
            self._drop(list(self._kept))

    @contextmanager
    def economy(self) -> Iterator[Economy]:
        """For the length of a job: after running out of memory, `tighten` makes the next leases need less."""
        with self._lock:
            before, self._economy = self._economy, Economy(self)
            try:
                yield self._economy
            finally:
                self._economy = before

    def _tighten(self, economy: Economy) -> str | None:
        if self._drop_borrowed():
            return "auxiliary networks were unloaded"
        idle = [key for key, kept in self._kept.items() if not kept.leases]
        if len(idle) > 1:
            self._drop(idle[:-1])
            return "other models were unloaded"
        sharing = self.placement
        for _ in range(economy.tightened + 1):
            cheaper = sharing.cheaper
            if cheaper is None:
                return None
            sharing = cheaper
        economy.tightened += 1
        self._drop(idle)
        return f"the model's parts now use the device {sharing.sharing}"

    def _placement(self, family: str, capabilities: Capabilities) -> Placement:
        """Where a model goes by flags, settings, its family, and what this job has learnt about memory."""
        wished: str = self.settings.snapshot()["fp8_storage"]
        placement = suited(self.placement, self.flags, wished, family, capabilities)
        for _ in range(self._economy.tightened if self._economy else 0):
            placement = placement.cheaper or placement
        return placement

    def _obtain(self, checkpoint: Checkpoint) -> Kept:
        """Raises: BadModelFile."""
        key = self._key_of_kept(checkpoint)
        if key is not None:
            self._require_whole(key)
            kept = self._kept.pop(key)
            if not kept.awake:
                self._wake(kept)
        else:
            blueprint = self._opened(checkpoint)
            placement = self._placement(blueprint.family, blueprint.capabilities)
            key, kept = (checkpoint.identity, placement), self._load(blueprint, placement)
        kept.model.checkpoint = checkpoint  # its hash may be known by now
        self._kept[key] = kept
        return kept

    def _require_whole(self, key: tuple[object, Placement]) -> None:
        """Let a model go whose file was cut off under it. Raises: BadModelFile naming the file."""
        try:
            self._kept[key].file.require_whole()
        except BadModelFile:
            self._drop([key])
            raise

    def _key_of_kept(self, checkpoint: Checkpoint) -> tuple[object, Placement] | None:
        """Of the model that can serve `checkpoint` as it would be loaded now."""
        for key, kept in self._kept.items():
            wanted = checkpoint.identity, self._placement(kept.model.family, kept.model.capabilities)
            if key == wanted:
                return key
        return None

    def _opened(self, checkpoint: Checkpoint) -> Blueprint:
        try:
            return open_checkpoint(checkpoint)
        except BadModelFile:
            if not checkpoint.path.exists():
                self.catalog.refresh()  # the list shouldn't go on offering it
            raise

    def _load(self, blueprint: Blueprint, placement: Placement) -> Kept:
        started = time.perf_counter()
        self._make_room(blueprint.weight_bytes(placement), placement.device)
        is_plain = placement.sharing == "together" and placement.storage is None
        model = blueprint.load(placement if is_plain else replace(placement, device=CPU))
        if not is_plain:
            model.placement = placement
            model.turns = memory.arrange(model.parts, placement)
        log.info("%s loaded in %.1f s", blueprint.file.checkpoint.name, time.perf_counter() - started)
        return Kept(model, blueprint.file.tensors)

    def _wake(self, kept: Kept) -> None:
        model = kept.model
        self._make_room(_bytes(model), model.device)
        memory.move(model.parts, model.device)
        kept.awake = True

    def _make_room(self, needed: int, device: torch.device) -> None:
        """Let go until `needed` bytes fit on the device: auxiliary networks, then models, the longest unused first."""
        for borrowed in [key for key, item in self._borrowed.items() if not item.leases]:
            if needed + RESERVE <= free_bytes(device):
                return
            del self._borrowed[borrowed]
            release_memory()
        for key in [key for key, kept in self._kept.items() if not kept.leases]:
            if needed + RESERVE <= free_bytes(device):
                return
            self._drop([key])

    def _trim(self) -> None:
        """Keep no more than the settings say, and on the device only the newest if they say so."""
        settings = self.settings.snapshot()
        limit = int(settings["sd_checkpoints_limit"]) + int(settings["sd_checkpoint_cache"])
        idle = [key for key, kept in self._kept.items() if not kept.leases]
        newest = next(reversed(self._kept), None)
        surplus = max(len(self._kept) - limit, 0)
        leaving = [key for key in idle if key != newest][:surplus]
        self._drop(leaving)
        awake = 1 if settings["sd_checkpoints_keep_in_cpu"] else int(settings["sd_checkpoints_limit"])
        for key in [key for key in self._kept if key in idle and key != newest][: max(len(self._kept) - awake, 0)]:
            self._rest(self._kept[key])

    def _rest(self, kept: Kept) -> None:
        """Move a model's weights to main memory; one that shares the device in pieces rests there by itself."""
        model = kept.model
        if model.device.type != "cpu" and model.placement.sharing == "together":
            memory.move(model.parts, CPU)
            kept.awake = False

    def _drop(self, keys: list[tuple[object, Placement]]) -> None:
        for key in keys:
            del self._kept[key]
        if keys:
            release_memory()

    def _drop_borrowed(self) -> bool:
        """Let go of auxiliary networks that nobody uses. Returns: whether there were any."""
        idle = [key for key, item in self._borrowed.items() if not item.leases]
        for key in idle:
            del self._borrowed[key]
        if idle:
            release_memory()
        return bool(idle)

    def _loaded_with_retry(self, load: Callable[[], T], bytes: int) -> T:
        """load(), and again after everything that nobody uses was let go if memory ran out."""
        self._make_room(bytes, self.placement.device)
        try:
            return load()
        except Exception as error:
            if not is_out_of_memory(error):
                raise
        self._drop_borrowed()  # outside of `except`, whose traceback would keep the tensors alive
        self._drop([key for key, kept in self._kept.items() if not kept.leases])
        return load()


def release_memory() -> None:
    """Have what was let go of given back to the device."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    elif torch.xpu.is_available():
        torch.xpu.empty_cache()


def _bytes(model: LoadedModel) -> int:
    return sum(weight.nbytes for part in model.parts for weight in part.parameters())
