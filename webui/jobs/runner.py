"""The queue together with a worker of this process: what page and API submit jobs to."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from webui.jobs.kinds import JobKind
from webui.jobs.outcomes import Disk
from webui.jobs.queue import QUEUE_LIMIT, JobQueue
from webui.jobs.worker import Worker


class JobRunner(JobQueue):
    """A queue that is worked on. Every method may be called from any thread.

    build_engine, services: see `Worker`. The others: see `JobQueue`.
    """

    def __init__(
        self,
        build_engine: str,
        services: object,
        kinds: Iterable[JobKind] = (),
        disk: Disk | None = None,
        queue_limit: int = QUEUE_LIMIT,
        has_space: Callable[[int], bool] = lambda needed: True,
    ) -> None:
        super().__init__(kinds, disk, queue_limit, has_space)
        self._worker = Worker(self, build_engine, services, disk)

    def start(self) -> None:
        """Start the worker, which builds the engine first. Jobs may be submitted before."""
        self.tidy()
        self._worker.start()

    def close(self, timeout: float | None = None) -> bool:
        """End the running job after its current step, and wait for the worker. What is kept runs after the next start.

        Returns: whether the worker has ended within `timeout` seconds.
        """
        self.close_queue()
        return self._worker.join(timeout)
