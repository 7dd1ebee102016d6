"""All that an extension imports from Easel.

Torch is not here: an extension imports it inside the functions that need it, so that the page is up before.
`video`, the package `webui.video`, is imported when it is first asked for.
"""

from typing import TYPE_CHECKING, Any

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
from webui.core.errors import InvalidRequest, NotFound, NotSaved, WebuiError
from webui.core.files import atomic_file
from webui.core.hooks import DenoiserHook, Residuals, Row, Step
from webui.core.params import Params, group_list, param, picture, title_of
from webui.core.request import FromImage, GenerationRequest, GenerationResult
from webui.core.results import Picture, ResultFile
from webui.core.settings import Section, Setting
from webui.extensions.easel import Easel
from webui.extensions.hookspecs import hookimpl
from webui.extensions.page import Assets, Panel, Tab
from webui.jobs.context import JobContext
from webui.jobs.kinds import JobKind

if TYPE_CHECKING:
    from webui import video

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
    "InvalidRequest",
    "JobContext",
    "JobKind",
    "NetworkKind",
    "NotFound",
    "NotSaved",
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
    "WebuiError",
    "atomic_file",
    "group_list",
    "hookimpl",
    "param",
    "picture",
    "title_of",
    "video",
]


def __getattr__(name: str) -> Any:
    if name != "video":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import webui.video

    return webui.video
