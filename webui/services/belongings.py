"""What belongs to whom on the page: jobs, and for who logs in the forms as they were left."""

from __future__ import annotations

import json
import logging
import re
import threading
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from webui.core.errors import InvalidRequest, NotFound, NotSaved
from webui.core.files import write_atomic
from webui.core.flags import Flags
from webui.core.settings import read_object

log = logging.getLogger(__name__)

MAX_JOBS: Final = 10_000
"""Jobs whose owners are remembered; the oldest are forgotten first."""
KEPT_JOBS: Final = 100
"""The same of one user, over a restart."""
MAX_FORM: Final = 1_000_000
"""Characters of one form as JSON; the largest of ours has 20,000."""
MAX_TABS: Final = 50
"""Places on the page of which something is kept for one user: tabs, and panels of extensions that start jobs."""


def is_for_one(flags: Flags) -> bool:
    """Whether all who can use the page are one person, to whom everything belongs."""
    return len(flags.credentials) == 1 or (flags.is_local and not flags.credentials)


class Belongings:
    """Owners are visitors of the page by their names in `webui.ui.visitors`: a user, or a browser where nobody logs in.

    for_one: everything belongs to everyone. What users leave is kept in a folder, a file for each.
    """

    def __init__(self, folder: Path, flags: Flags):
        self.for_one = is_for_one(flags)
        self._has_users = bool(flags.credentials)
        self._folder = folder
        self._jobs: OrderedDict[str, str] = OrderedDict()  # id -> owner
        self._left: dict[str, dict[str, Any]] = {}
        self._lock = threading.Lock()

    def take_job(self, owner: str, job_id: str) -> None:
        """The job is theirs. It stays with who had it first."""
        with self._lock:
            if self._jobs.setdefault(job_id, owner) != owner:
                return
            while len(self._jobs) > MAX_JOBS:
                self._jobs.popitem(last=False)
            if self._has_users:
                left = self._left_by(owner)
                left["jobs"] = [*(other for other in left["jobs"] if other != job_id), job_id][-KEPT_JOBS:]
                try:
                    self._write(owner)
                except OSError as error:
                    log.warning(
                        "%s can't be written (%s); after a restart %s is nobody's.", self._file(owner), error, job_id
                    )

    def has_job(self, owner: str, job_id: str) -> bool:
        """Whether they may see what the job makes."""
        with self._lock:
            return (
                self.for_one
                or self._jobs.get(job_id) == owner
                or (self._has_users and job_id in self._left_by(owner)["jobs"])
            )

    def check_job(self, owner: str, job_id: str) -> None:
        """Raises: NotFound for a job that is somebody else's, in the words for one that nobody knows."""
        if not self.has_job(owner, job_id):
            raise NotFound(f'There is no job "{job_id}"; its pictures may be in the outputs folder.')

    def last_jobs(self, owner: str) -> tuple[str, ...]:
        """The jobs of one owner, the newest first."""
        with self._lock:
            own = [job_id for job_id, holder in self._jobs.items() if holder == owner]
            kept = self._left_by(owner)["jobs"] if self._has_users else []
            return tuple(reversed([*(job_id for job_id in kept if job_id not in own), *own]))

    def left_by(self, owner: str) -> Mapping[str, Any]:
        """Tab -> {"form": as `leave` was given it, "job": id of the last one}, of a user; nothing of a browser."""
        with self._lock:
            return dict(self._left_by(owner)["tabs"]) if self._has_users else {}

    def leave(self, owner: str, tab: str, changes: Mapping[str, Any]) -> None:
        """Keep a user's form or job of one tab; None takes it away. Raises: InvalidRequest, NotSaved."""
        if not self._has_users:
            raise InvalidRequest("Where nobody logs in each browser keeps its own form.")
        if not re.fullmatch("[a-z0-9_]{1,60}", tab) or not {*changes} <= {"form", "job"}:
            raise InvalidRequest("Of each tab a form and a job are kept, nothing else.")
        if len(json.dumps(changes)) > MAX_FORM:
            raise InvalidRequest(f"A form of more than {MAX_FORM:,} characters isn't kept.")
        with self._lock:
            left = self._left_by(owner)
            if tab not in left["tabs"] and len(left["tabs"]) >= MAX_TABS:
                raise InvalidRequest(f"Nothing of more than {MAX_TABS} tabs is kept.")
            left["tabs"][tab] = {**left["tabs"].get(tab, {}), **changes}
            try:
                self._write(owner)
            except OSError as error:
                raise NotSaved(f"The form isn't kept for your other devices: {error}.") from error

    def _left_by(self, owner: str) -> dict[str, Any]:
        """What the owner's file says, as far as it can be used."""
        if owner not in self._left:
            found: dict[str, Any] = {}
            try:
                found = read_object(self._file(owner))
            except FileNotFoundError:
                pass
            except (OSError, ValueError) as error:
                log.warning("%s can't be read (%s); that user begins with a fresh page.", self._file(owner), error)
            tabs, jobs = found.get("tabs"), found.get("jobs")
            usable = isinstance(tabs, dict) and all(isinstance(tab, dict) for tab in tabs.values())
            self._left[owner] = {"tabs": tabs if usable else {}, "jobs": jobs if isinstance(jobs, list) else []}
        return self._left[owner]

    def _write(self, owner: str) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        write_atomic(self._file(owner), json.dumps(self._left[owner]).encode())

    def _file(self, owner: str) -> Path:
        assert owner.isalnum() or owner.startswith("from-"), "owners are names of our own"
        return self._folder / f"{owner}.json"
