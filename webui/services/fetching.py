"""Model files that an extension fetches when a user asks it to, from an address that it knows."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from webui.jobs.context import JobContext
from webui.net.download import RemoteFile, download
from webui.net.egress import Egress


@dataclass(frozen=True)
class Fetcher:
    """What extensions are given as `easel.fetch`."""

    egress: Egress = field(default_factory=Egress)

    def __call__(self, url: str, target: Path, job: JobContext, size: int | None = None, sha256: str = "") -> Path:
        """Fetch a file within a job, going on where an earlier try ended; at once when it is there. Returns: `target`.

        size: bytes, None where only the answer tells. sha256: "" where nobody tells.
        Raises: as `webui.net.download.download`; Cancelled when the job is interrupted.
        """
        if target.exists():
            return target

        def told(done: int, total: int) -> None:
            job.text(f"{target.name}: {done / 1e6:.0f} of {total / 1e6:.0f} MB")

        remote = RemoteFile(url, target.name, size, sha256)
        return download(self.egress, remote, target.parent, told=told, keep_going=lambda: not job.interrupted)
