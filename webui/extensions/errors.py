"""What can go wrong with an extension."""

from webui.core.errors import WebuiError


class BadExtension(Exception):
    """What an extension offers doesn't fit the host; `str(error)` ends the sentence "It was not loaded: ..."."""


class ExtensionFailed(WebuiError):
    """An extension raised while it took part in a job; the job ends, and the sentence names the extension."""

    status = 500
