"""All that an extension imports from Easel.

Torch is not here: an extension imports it inside the functions that need it, so that the page is up before.
`video`, the package `webui.video`, is imported when it is first asked for.
"""

from typing import TYPE_CHECKING, Any

from webui.catalog.files import FileCatalog, ModelFile
from webui.catalog.short_hashes import HashedCatalog
from webui.core.base64_files import decode_file
from webui.core.choices import (
    Axis,
    Captioner,
    Choices,
    ExtrasStep,
    FaceRestorer,
    NetworkKind,
    Sampler,
    Scheduler,
    Script,
    Upscaler,
)
from webui.core.errors import BadModelFile, InvalidRequest, NotFound, NotSaved, Refused, WebuiError, not_saved
from webui.core.extras import FRAME_ENGINES
from webui.core.files import atomic_file
from webui.core.grids import Legend, LegendLook, Tiling, grid_rows, make_grid, with_legends
from webui.core.hooks import DenoiserHook, Residuals, Row, Step
from webui.core.infotext import with_fields
from webui.core.joining import joined
from webui.core.packaged import Fetchable, HubFile, Package, PackagedWeights
from webui.core.params import Params, group_list, param, picture, title_of
from webui.core.pictures import decoded_picture, encode_image, flattened
from webui.core.request import (
    MAX_PICTURES,
    FromImage,
    GenerationRequest,
    GenerationResult,
    Inpaint,
    Refiner,
    Variation,
    drawn,
)
from webui.core.results import COMPOSITE, Picture, ResultFile
from webui.core.settings import Section, Setting
from webui.extensions.easel import Easel
from webui.extensions.faces import find_faces, missing_detector, restore_faces
from webui.extensions.hookspecs import hookimpl
from webui.extensions.kept_files import keep_file, keep_given
from webui.extensions.page import Assets, Panel, Tab
from webui.extensions.pictures import fit_picture
from webui.extensions.weights import read_weights, read_weights_metadata
from webui.jobs.context import JobContext
from webui.jobs.kinds import JobKind

if TYPE_CHECKING:
    from webui import video

__all__ = [
    "COMPOSITE",
    "FRAME_ENGINES",
    "MAX_PICTURES",
    "Assets",
    "Axis",
    "BadModelFile",
    "Captioner",
    "Choices",
    "DenoiserHook",
    "Easel",
    "ExtrasStep",
    "FaceRestorer",
    "Fetchable",
    "FileCatalog",
    "FromImage",
    "GenerationRequest",
    "GenerationResult",
    "HashedCatalog",
    "HubFile",
    "Inpaint",
    "InvalidRequest",
    "JobContext",
    "JobKind",
    "Legend",
    "LegendLook",
    "ModelFile",
    "NetworkKind",
    "NotFound",
    "NotSaved",
    "Package",
    "PackagedWeights",
    "Panel",
    "Params",
    "Picture",
    "Refiner",
    "Refused",
    "Residuals",
    "ResultFile",
    "Row",
    "Sampler",
    "Scheduler",
    "Script",
    "Section",
    "Setting",
    "Step",
    "Tab",
    "Tiling",
    "Upscaler",
    "Variation",
    "WebuiError",
    "atomic_file",
    "decoded_picture",
    "drawn",
    "decode_file",
    "encode_image",
    "find_faces",
    "fit_picture",
    "flattened",
    "grid_rows",
    "group_list",
    "hookimpl",
    "joined",
    "make_grid",
    "keep_file",
    "keep_given",
    "missing_detector",
    "not_saved",
    "param",
    "picture",
    "read_weights",
    "read_weights_metadata",
    "restore_faces",
    "title_of",
    "video",
    "with_fields",
    "with_legends",
]


def __getattr__(name: str) -> Any:
    if name != "video":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import webui.video

    return webui.video
