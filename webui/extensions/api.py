"""All that an extension imports from Easel.

Torch is not here: an extension imports it inside the functions that need it, so that the page is up before.
"""

from webui.core.errors import InvalidRequest, NotFound, WebuiError
from webui.core.hooks import DenoiserHook, Step
from webui.core.params import Params, param
from webui.core.request import GenerationRequest, GenerationResult
from webui.core.settings import Section, Setting
from webui.extensions.easel import Easel
from webui.extensions.hookspecs import hookimpl
from webui.jobs.context import JobContext
from webui.jobs.kinds import JobKind

__all__ = [
    "DenoiserHook",
    "Easel",
    "GenerationRequest",
    "GenerationResult",
    "InvalidRequest",
    "JobContext",
    "JobKind",
    "NotFound",
    "Params",
    "Section",
    "Setting",
    "Step",
    "WebuiError",
    "hookimpl",
    "param",
]
