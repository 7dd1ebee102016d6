"""All that an extension imports from Easel.

Torch is not here: an extension imports it inside the functions that need it, so that the page is up before.
"""

from webui.core.errors import InvalidRequest, NotFound, WebuiError
from webui.core.hooks import DenoiserHook, Step
from webui.core.params import Params, group_list, param, picture, title_of
from webui.core.request import GenerationRequest, GenerationResult
from webui.core.settings import Section, Setting
from webui.extensions.easel import Easel
from webui.extensions.hookspecs import hookimpl
from webui.extensions.page import Assets, Panel, Tab
from webui.jobs.context import JobContext
from webui.jobs.kinds import JobKind

__all__ = [
    "Assets",
    "DenoiserHook",
    "Easel",
    "GenerationRequest",
    "GenerationResult",
    "InvalidRequest",
    "JobContext",
    "JobKind",
    "NotFound",
    "Panel",
    "Params",
    "Section",
    "Setting",
    "Step",
    "Tab",
    "WebuiError",
    "group_list",
    "hookimpl",
    "param",
    "picture",
    "title_of",
]
