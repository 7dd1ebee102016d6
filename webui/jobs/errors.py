"""What can go wrong with a job apart from the job's own work."""

from __future__ import annotations

import errno
import sqlite3

from webui.core.errors import NoSpace, WebuiError


class TooManyJobs(WebuiError):
    """The queue is full."""

    status = 429


class JobCancelled(WebuiError):
    """The job was taken out of the queue before it began, so there is no result."""

    status = 409


class JobFailed(WebuiError):
    """A job ended by a fault of the program, not of the user; the log has the traceback."""

    status = 500


class JobParked(WebuiError):
    """The server has died at this job more than once; it runs again only when asked to."""

    status = 500


class ServerStopping(WebuiError):
    """The server is going down and takes no more jobs."""

    status = 503


class StoreUnavailable(WebuiError):
    """The file that holds the queue can't be read or written."""

    status = 503


def is_no_space(error: BaseException | None) -> bool:
    """Whether a full disk or a quota is behind the error."""
    while error is not None:
        if isinstance(error, NoSpace) or (isinstance(error, OSError) and error.errno in _FULL):
            return True
        if isinstance(error, sqlite3.Error) and "disk is full" in str(error):
            return True
        error = error.__cause__ or error.__context__
    return False


_FULL = {errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC)}
