"""What can go wrong with a job apart from the job's own work."""

from webui.core.errors import WebuiError


class TooManyJobs(WebuiError):
    """The queue is full."""

    status = 429


class JobCancelled(WebuiError):
    """The job was taken out of the queue before it began, so there is no result."""

    status = 409


class JobFailed(WebuiError):
    """A job ended by a fault of the program, not of the user; the log has the traceback."""

    status = 500


class ServerStopping(WebuiError):
    """The server is going down and takes no more jobs."""

    status = 503
