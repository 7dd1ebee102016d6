"""Downloads of models: one after another in a thread of their own, so that pictures go on being made."""

from __future__ import annotations

import itertools
import json
import logging
import os
import struct
import threading
from collections import OrderedDict, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from webui.catalog.pickle_header import pickle_problem
from webui.catalog.safetensors_header import MAX_HEADER, read_header
from webui.core.errors import BadModelFile, InvalidRequest, NotFound, Refused, WebuiError
from webui.core.files import write_atomic
from webui.core.flags import Flags
from webui.core.paths import Paths
from webui.net.download import PAUSES, Cancelled, download
from webui.net.egress import Egress
from webui.services.model_sources import ModelSources, Offer, tokens_from

log = logging.getLogger(__name__)

REMEMBERED = 500
"""Offers that can still be started."""
KEPT = 50
"""Downloads that are told of after they have ended."""
ONNX, ONNX_START = ".onnx", b"\x08"
"""Such a file begins with the field that tells its version."""
PICKLE_STARTS = (b"PK\x03\x04", b"\x80")


@dataclass(frozen=True)
class DownloadState:
    """state: "waiting", "running", "done", "failed" or "cancelled". done, size: bytes. error: a sentence."""

    id: str
    name: str
    kind: str
    state: str = "waiting"
    done: int = 0
    size: int | None = None
    error: str = ""


@dataclass(frozen=True)
class Found:
    """An offer as the page shows it. id: what `start` takes."""

    id: str
    name: str
    kind: str | None
    size: int | None
    about: str
    checked: bool


class Downloads:
    """Safe to use from several threads.

    folders: kind -> where its files go. finished: called with the kind when a file is there.
    """

    def __init__(
        self,
        folders: Mapping[str, Path],
        egress: Egress | None = None,
        tokens: Mapping[str, str] | None = None,
        finished: Callable[[str], None] = lambda kind: None,
        pauses: tuple[float, ...] = PAUSES,
    ):
        self.folders = dict(folders)
        self._egress = egress or Egress()
        self._sources = ModelSources(self._egress, tokens_from(os.environ) if tokens is None else tokens)
        self._finished = finished
        self._pauses = pauses
        self._wake = threading.Condition()
        self._numbers = itertools.count(1)
        self._offers: OrderedDict[str, Offer] = OrderedDict()
        self._states: OrderedDict[str, DownloadState] = OrderedDict()
        self._started: dict[str, Offer] = {}
        self._waiting: deque[str] = deque()
        self._stopped: set[str] = set()
        self._thread: threading.Thread | None = None
        self._closed = False

    def look(self, address: str) -> tuple[Found, ...]:
        """What can be fetched at an address. Raises: as `ModelSources.look`."""
        found = []
        for offer in self._sources.look(address):
            with self._wake:
                key = f"offer{next(self._numbers)}"
                self._offers[key] = offer
                while len(self._offers) > REMEMBERED:
                    self._offers.popitem(last=False)
            remote = offer.remote
            found.append(Found(key, remote.name, offer.kind, offer.size, offer.about, bool(remote.sha256)))
        return tuple(found)

    def start(self, offer_id: str, kind: str) -> str:
        """Queue an offer; returns the download's id. Raises: NotFound, InvalidRequest."""
        with self._wake:
            offer = self._offers.get(offer_id)
            if offer is None:
                raise NotFound("This offer is too old; look the address up again.")
            if kind not in self.folders:
                raise InvalidRequest(f'"{kind[:40]}" is no kind of model; choose one of {", ".join(self.folders)}.')
            same = (
                state.id
                for state in self._states.values()
                if (state.name, state.kind) == (offer.remote.name, kind) and state.state in ("waiting", "running")
            )
            under_way = next(same, None)
            if under_way:
                return under_way
            key = f"download{next(self._numbers)}"
            self._started[key] = offer
            self._states[key] = DownloadState(key, offer.remote.name, kind, size=offer.size)
            self._queue(key)
            return key

    def again(self, key: str) -> None:
        """Take up a download that failed or was stopped, where it ended. Raises: NotFound."""
        with self._wake:
            if self._state(key).state in ("failed", "cancelled"):
                self._states[key] = replace(self._states[key], state="waiting", error="")
                self._queue(key)

    def cancel(self, key: str) -> None:
        """Stop a download; what has arrived is kept. A no-op for one that has ended. Raises: NotFound."""
        with self._wake:
            if self._state(key).state in ("waiting", "running"):
                self._stopped.add(key)
                if key in self._waiting:
                    self._waiting.remove(key)
                    self._states[key] = replace(self._states[key], state="cancelled")

    def states(self) -> tuple[DownloadState, ...]:
        """Every download since the start, the newest last."""
        with self._wake:
            return tuple(self._states.values())

    def wait(self, timeout: float) -> bool:
        """Until none runs or waits; returns whether that came in time (seconds)."""
        with self._wake:
            return self._wake.wait_for(lambda: self._thread is None, timeout)

    def close(self) -> None:
        """Stop everything; parts stay for the next time."""
        with self._wake:
            self._closed = True
            self._waiting.clear()
            thread = self._thread
        if thread:
            thread.join()

    def _state(self, key: str) -> DownloadState:
        if key not in self._states:
            raise NotFound("There is no such download any more.")
        return self._states[key]

    def _queue(self, key: str) -> None:
        self._stopped.discard(key)
        self._waiting.append(key)
        if self._thread is None and not self._closed:
            self._thread = threading.Thread(target=self._work, name="downloads", daemon=True)
            self._thread.start()

    def _work(self) -> None:
        while True:
            with self._wake:
                if not self._waiting:
                    self._thread = None
                    self._wake.notify_all()
                    return
                key = self._waiting.popleft()
            ended = self._fetch(key)
            with self._wake:
                self._states[key] = ended
                over = [old for old, state in self._states.items() if state.state not in ("waiting", "running")]
                for old in over[:-KEPT]:
                    del self._states[old], self._started[old]

    def _fetch(self, key: str) -> DownloadState:
        """Run one download; returns how it ended."""
        offer, state = self._started[key], self._states[key]
        name = offer.remote.name

        def told(done: int, size: int) -> None:
            with self._wake:
                self._states[key] = replace(state, state="running", done=done, size=size, error="")

        try:
            told(state.done, state.size or 0)
            path = download(
                self._egress,
                offer.remote,
                self.folders[state.kind],
                told=told,
                keep_going=lambda: not self._closed and key not in self._stopped,
                check_start=lambda start: check_start(name, start),
                check=lambda part: check_whole(name, part),
                pauses=self._pauses,
            )
            _keep_info(path, offer)
        except Cancelled:
            return replace(self._states[key], state="cancelled")
        except (WebuiError, OSError) as error:
            log.warning("Download of %s: %s", name, error)
            return replace(self._states[key], state="failed", error=str(error))
        except Exception as error:
            log.exception("Download of %s", name)
            return replace(self._states[key], state="failed", error=f"{type(error).__name__}; the log has the details.")
        self._finished(state.kind)
        return replace(self._states[key], state="done")


def downloads_folders(paths: Paths) -> dict[str, Path]:
    """Where each kind of model goes."""
    return {
        "checkpoints": paths.checkpoints[0],
        "lora": paths.lora,
        "textual_inversion": paths.embeddings,
        "hypernetworks": paths.hypernetworks,
        "vae": paths.vae,
        "upscalers": paths.models / "ESRGAN",
        "controlnet": paths.models / "ControlNet",
    }


def check_allowed(flags: Flags) -> None:
    """Raises: Refused where strangers could fill the disk: over a public link, or off this machine without a login."""
    if flags.share or not (flags.is_local or flags.credentials):
        raise Refused(
            "Models are downloaded only on a server for this machine alone, or one with --gradio-auth and no --share."
        )


def check_start(name: str, start: bytes) -> None:
    """Judge a file by its first bytes, before gigabytes follow. Raises: BadModelFile."""
    if start.lstrip()[:1] == b"<":
        raise BadModelFile(f"{name} is a web page and no model: use the address of the file itself.")
    if name.lower().endswith(ONNX):
        if start and not start.startswith(ONNX_START):
            raise BadModelFile(f"{name} doesn't begin as an ONNX file does; it is not downloaded.")
        return
    if not name.lower().endswith(".safetensors"):
        if len(start) >= 4 and not start.startswith(PICKLE_STARTS):
            raise BadModelFile(f"{name} doesn't begin as a model file does; it is not downloaded.")
        return
    if len(start) >= 9 and start[8:9] == b"{" and struct.unpack("<Q", start[:8])[0] <= MAX_HEADER:
        return
    if start.startswith(PICKLE_STARTS):
        raise BadModelFile(f"{name} is a pickle named .safetensors: it is refused, because pickles can run programs.")
    if len(start) >= 9:
        raise BadModelFile(f"{name} doesn't begin as a .safetensors file does; it is not downloaded.")


def check_whole(name: str, part: Path) -> None:
    """Judge a file that has arrived. Raises: BadModelFile."""
    if name.lower().endswith(".safetensors"):
        read_header(part)
    elif name.lower().endswith(ONNX):
        return  # a network as data, which nothing runs before onnxruntime has read it
    elif problem := pickle_problem(part):
        raise BadModelFile(problem)


def _keep_info(path: Path, offer: Offer) -> None:
    """Civitai's description beside the file, where cards find it."""
    info = path.with_name(f"{path.stem}.civitai.info")
    if offer.info is not None and not info.exists():
        write_atomic(info, json.dumps(offer.info, indent=4, ensure_ascii=False).encode("utf-8", "replace"))
