"""All that an extension imports from Easel.

Torch is not here: an extension imports it inside the functions that need it, so that the page is up before.
"""

from webui.catalog.files import FileCatalog, ModelFile
from webui.catalog.short_hashes import HashedCatalog
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
from webui.core.errors import BadModelFile, InvalidRequest, NotFound, WebuiError
from webui.core.hooks import DenoiserHook, Residuals, Row, Step
from webui.core.params import Params, group_list, param, picture, title_of
from webui.core.pictures import decoded_picture, encode_image
from webui.core.request import GenerationRequest, GenerationResult
from webui.core.results import Picture, ResultFile
from webui.core.settings import Section, Setting
from webui.extensions.easel import Easel
from webui.extensions.hookspecs import hookimpl
from webui.extensions.page import Assets, Panel, Tab
from webui.extensions.pictures import fit_picture
from webui.extensions.weights import read_weights
from webui.jobs.context import JobContext
from webui.jobs.kinds import JobKind

__all__ = [
    "Assets",
    "Axis",
    "BadModelFile",
    "Captioner",
    "Choices",
    "DenoiserHook",
    "Easel",
    "ExtrasStep",
    "FaceRestorer",
    "FileCatalog",
    "GenerationRequest",
    "GenerationResult",
    "HashedCatalog",
    "InvalidRequest",
    "JobContext",
    "JobKind",
    "ModelFile",
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
    "WebuiError",
    "decoded_picture",
    "encode_image",
    "fit_picture",
    "group_list",
    "hookimpl",
    "param",
    "picture",
    "read_weights",
    "title_of",
]
