"""What became of the jobs that have ended: the latest results in memory, those of kept jobs on the disk too."""

from __future__ import annotations

import json
import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any

from webui.core.errors import NotFound, WebuiError
from webui.core.stored import Codec
from webui.jobs.blobs import BlobStore
from webui.jobs.errors import JobFailed
from webui.jobs.kinds import JobKind
from webui.jobs.progress import JobState
from webui.jobs.store import JobStore

RESULTS_KEPT = 16  # pictures are large


class Disk:
    """Where kept jobs lie: rows in the store, their pictures among the blobs, values turned into JSON by the codec."""

    def __init__(self, store: JobStore, blobs: BlobStore, codec: Codec) -> None:
        self.store, self.blobs, self.codec = store, blobs, codec

    def tidy(self, limit: int, oldest: Sequence[str]) -> None:
        """Sweep blobs that nobody refers to. limit: bytes of those that stay, for which old results are let go.

        oldest: the ended jobs, the one whose result goes first in front.
        """
        self.blobs.sweep(self.store.digests)
        for job_id in oldest:
            if self.blobs.size <= limit:
                return
            self.store.forget_result(job_id)
            self.blobs.sweep(self.store.digests)


class Outcomes:
    """Results and failures by the job's id. Safe to use from several threads. disk: None for memory alone."""

    def __init__(self, disk: Disk | None) -> None:
        self._disk = disk
        self._lock = threading.Lock()
        self._results: OrderedDict[str, object] = OrderedDict()
        self._failures: dict[str, WebuiError] = {}

    def keep(self, job_id: str, kind: JobKind, state: JobState, result: object, failure: WebuiError | None) -> None:
        """Remember how the job ended.

        Raises: WebuiError, OSError when the disk fails it; then it is remembered in memory alone.
        """
        with self._lock:
            self._forget(job_id)
            if failure is not None:
                self._failures[job_id] = failure
            else:
                self._results[job_id] = result
            while len(self._results) > RESULTS_KEPT:
                self._results.popitem(last=False)
        if self._disk is None or not kind.kept:
            return
        dumped = self._disk.codec.dump(result) if failure is None and kind.result is not None else None
        text = None if dumped is None else json.dumps(dumped)
        self._disk.store.end(job_id, state, _error_data(failure) if failure else None, text)

    def recall(self, job_id: str, error: Mapping[str, Any]) -> None:
        """A failure of before the server's start."""
        with self._lock:
            self._failures[job_id] = _error_from(error)

    def get(self, job_id: str, kind: JobKind) -> object:
        """What a job that has ended returned. Raises: the job's failure, NotFound for what is no longer kept."""
        with self._lock:
            if job_id in self._failures:
                raise self._failures[job_id].with_traceback(None)
            if job_id in self._results:
                return self._results[job_id]
        text = self._disk.store.result(job_id) if self._disk is not None and kind.kept else None
        if text is None:
            raise NotFound(f'The result of job "{job_id}" is no longer kept; saved pictures are in the outputs.')
        assert self._disk is not None
        assert kind.result is not None
        try:
            return self._disk.codec.load(kind.result, json.loads(text))
        except OSError as error:
            raise NotFound(
                f'A picture of job "{job_id}" can\'t be read any more ({error.filename}: {error.strerror}).'
            ) from error

    def forget(self, job_id: str) -> None:
        with self._lock:
            self._forget(job_id)

    def _forget(self, job_id: str) -> None:
        self._results.pop(job_id, None)
        self._failures.pop(job_id, None)


def _error_data(error: WebuiError) -> dict[str, Any]:
    return {"message": str(error), "status": error.status, "fault": isinstance(error, JobFailed)}


def _error_from(data: Mapping[str, Any]) -> WebuiError:
    error = JobFailed(data["message"]) if data["fault"] else WebuiError(data["message"])
    error.status = data["status"]
    return error
