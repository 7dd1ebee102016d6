"""Errors that reach a user.

A `WebuiError` is a sentence for a person: what happened, the value, what to do. UI and API show it
as it stands, without a traceback. Anything else that escapes a job is a fault of ours and is shown
with its traceback.
"""

from __future__ import annotations

import difflib
import errno
from collections.abc import Iterable

from webui.core.texts import clean_text


class WebuiError(Exception):
    """A mistake or a condition that the user can mend; `str(error)` is the whole message.

    Names of files in it may hold any bytes; they are shown as `clean_text` makes them.
    status: the HTTP status the API answers with.
    """

    status = 400

    def __init__(self, message: str = "") -> None:
        super().__init__(clean_text(message))


class InvalidRequest(WebuiError):
    """A value in a request is out of range, unknown or contradicts another one."""

    status = 422


class NotFound(WebuiError):
    """A named thing (checkpoint, sampler, style, job) does not exist."""

    status = 404


class Refused(WebuiError):
    """The request is understood and not allowed."""

    status = 403


class BadModelFile(WebuiError):
    """A model file is missing, truncated, hostile or of a kind that Easel can't load."""

    status = 422


class NotSaved(WebuiError):
    """Something that was made can't be written to the disk."""

    status = 500


class NoSpace(NotSaved):
    """A disk, or someone's share of it, is full: what comes next can't be saved either until space is made."""

    status = 507


def not_saved(what: str, error: OSError) -> NotSaved:
    """The error for a file that couldn't be written. what: the start of its sentence, "The picture can't be saved"."""
    full = error.errno in (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC))
    return (NoSpace if full else NotSaved)(f"{what}: {error.strerror or error}.")


def nearest(name: str, known: Iterable[str]) -> str:
    """'; the closest is "x"' for the known name most like `name`, or '' when none is near."""
    by_lower = {item.lower(): item for item in known}
    close = difflib.get_close_matches(name.lower(), by_lower, n=1, cutoff=0.4)
    return f'; the closest is "{by_lower[close[0]]}"' if close else ""
