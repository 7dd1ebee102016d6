"""All that an extension imports from Easel.

Torch is not here: an extension imports it inside the functions that need it, so that the page is up before.
"""

from webui.core.choices import (
    Axis,
    Captioner,
    Choices,
    ExtrasStep,
    FaceRestorer,
    NetworkKind,
    Sampler,
    Scheduler,
    Upscaler,
)
from webui.core.errors import InvalidRequest, NotFound, WebuiError
from webui.core.hooks import DenoiserHook, Residuals, Row, Step
from webui.core.params import Params, group_list, param, picture, title_of
from webui.core.request import FromImage, GenerationRequest, GenerationResult, Inpaint, Variation
from webui.core.results import Picture, ResultFile
from webui.core.settings import Section, Setting
from webui.extensions.easel import Easel
from webui.extensions.hookspecs import hookimpl
from webui.extensions.page import Assets, Panel, Tab
from webui.jobs.context import JobContext
from webui.jobs.kinds import JobKind

__all__ = [
    "Assets",
    "Axis",
    "Captioner",
    "Choices",
    "DenoiserHook",
    "Easel",
    "ExtrasStep",
    "FaceRestorer",
    "FromImage",
    "GenerationRequest",
    "GenerationResult",
    "Inpaint",
    "InvalidRequest",
    "JobContext",
    "JobKind",
    "NetworkKind",
    "NotFound",
    "Panel",
    "Params",
    "Picture",
    "Residuals",
    "ResultFile",
    "Row",
    "Sampler",
    "Scheduler",
    "Section",
    "Setting",
    "Step",
    "Tab",
    "Upscaler",
    "Variation",
    "WebuiError",
    "group_list",
    "hookimpl",
    "param",
    "picture",
    "title_of",
]
