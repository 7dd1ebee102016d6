"""Errors that reach a user.

A `WebuiError` is a sentence for a person: what happened, the value, what to do. UI and API show it
as it stands, without a traceback. Anything else that escapes a job is a fault of ours and is shown
with its traceback.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class WebuiError(Exception):
    """A mistake or a condition that the user can mend; `str(error)` is the whole message.

    status: the HTTP status the API answers with.
    """

    status = 400


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


def nearest(name: str, known: Iterable[str]) -> str:
    """'; the closest is "x"' for the known name most like `name`, or '' when none is near."""
    by_lower = {item.lower(): item for item in known}
    close = difflib.get_close_matches(name.lower(), by_lower, n=1, cutoff=0.4)
    return f'; the closest is "{by_lower[close[0]]}"' if close else ""
