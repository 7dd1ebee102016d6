"""The one who knows what is loaded."""

from __future__ import annotations

import gc
import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import psutil
import torch

from webui.catalog.checkpoints import Checkpoint, CheckpointCatalog
from webui.core.errors import BadModelFile
from webui.core.flags import Flags
from webui.models.devices import Placement, choose
from webui.models.families.base import LoadedModel
from webui.models.registry import open_checkpoint

log = logging.getLogger(__name__)


class ModelManager:
    """Keeps one model loaded and switches between checkpoints.

    Which checkpoint is "current" for the user is a setting, not ours. One thread leases; others may read `current`.
    """

    def __init__(self, catalog: CheckpointCatalog, flags: Flags):
        """Raises: InvalidRequest when the flags name a device that isn't there."""
        self.catalog = catalog
        self.placement: Placement = choose(flags)
        self._model: LoadedModel | None = None
        self._lock = threading.RLock()

    @property
    def current(self) -> Checkpoint | None:
        """The loaded checkpoint, None before the first and while memory is too short to keep the old one."""
        model = self._model
        return model.checkpoint if model else None

    @contextmanager
    def lease(self, checkpoint: Checkpoint) -> Iterator[LoadedModel]:
        """The model of `checkpoint`, loaded if need be, not unloaded before the context ends.

        Leases of one thread may nest (a refiner inside a base model); other threads wait.
        Raises: BadModelFile when it can't be loaded; the model loaded before stays.
        """
        with self._lock:
            yield self._load(checkpoint)

    def preload(self, checkpoint: Checkpoint) -> None:
        """Load `checkpoint` now, so that the first picture needn't wait.

        Raises: BadModelFile as `lease`.
        """
        with self.lease(checkpoint):
            pass

    def unload(self) -> None:
        """Give the memory back; the next lease loads again."""
        with self._lock:
            self._model = None
            _collect()

    def _load(self, checkpoint: Checkpoint) -> LoadedModel:
        old = self._model
        if old and old.checkpoint.identity == checkpoint.identity:
            old.checkpoint = checkpoint  # its hash may be known by now
            return old
        started = time.perf_counter()
        try:
            blueprint = open_checkpoint(checkpoint)
        except BadModelFile:
            if not checkpoint.path.exists():
                self.catalog.refresh()  # the list shouldn't go on offering it
            raise
        if old and blueprint.weight_bytes(self.placement) > _free_bytes(self.placement.device):
            old = self._model = None
            _collect()
        self._model = blueprint.load(self.placement)
        if old:
            del old
            _collect()
        log.info("%s loaded in %.1f s", checkpoint.name, time.perf_counter() - started)
        return self._model


def _free_bytes(device: torch.device) -> int:
    """What can be allocated beside the loaded model."""
    if device.type in ("cuda", "xpu"):
        return getattr(torch, device.type).mem_get_info(device)[0]
    return psutil.virtual_memory().available


def _collect() -> None:
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    elif hasattr(torch, "xpu") and torch.xpu.is_available():
        torch.xpu.empty_cache()
