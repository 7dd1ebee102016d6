"""What a user asks of the Checkpoint Merger; names and defaults are those of A1111's tab."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from webui.core.params import Params, param

NO_INTERPOLATION, WEIGHTED_SUM, ADD_DIFFERENCE = "No interpolation", "Weighted sum", "Add difference"
METHODS = (NO_INTERPOLATION, WEIGHTED_SUM, ADD_DIFFERENCE)
CONFIG_SOURCES = ("A, B or C", "B", "C", "Don't")
LONGEST_PATTERN = 1000
OVERWRITE = "Replace the file that is there"


class MergeRequest(Params):
    """primary, secondary, tertiary: checkpoints A, B, C by any of their names, "" for none.

    multiplier: M of (1 - M) A + M B, or of A + M (B - C). custom_name: of the file, "" for one that tells the recipe.
    config_source: the number of a choice in CONFIG_SOURCES. discard: a regular expression; weights with a name that it
    matches somewhere are left out. metadata: a JSON object. overwrite: replace a file of that name, never A, B or C.
    """

    primary: str = param("", label="Primary model (A)", choices="checkpoints")
    secondary: str = param("", label="Secondary model (B)", choices="checkpoints")
    tertiary: str = param("", label="Tertiary model (C)", choices="checkpoints")
    method: Literal["No interpolation", "Weighted sum", "Add difference"] = param(
        WEIGHTED_SUM, label="Interpolation Method", choices=METHODS
    )
    multiplier: float = param(0.3, label="Multiplier (M) - set to 0 to get model A", ge=0, le=1, step=0.05)
    custom_name: str = param("", label="Custom Name (Optional)", max_length=500)
    format: Literal["safetensors", "ckpt"] = param(
        "safetensors", label="Checkpoint format", choices=("ckpt", "safetensors")
    )
    half: bool = param(False, label="Save as float16")
    config_source: int = param(0, label="Copy config from", ge=0, le=len(CONFIG_SOURCES) - 1)
    vae: str = param("None", label="Bake in VAE", choices="vaes")
    discard: str = param("", label="Discard weights with matching name", max_length=LONGEST_PATTERN)
    save_metadata: bool = param(True, label="Save metadata")
    add_recipe: bool = param(True, label="Add merge recipe metadata")
    copy_metadata: bool = param(True, label="Copy metadata from merged models")
    metadata: str = param("{}", label="Metadata in JSON format", max_length=1_000_000)
    overwrite: bool = param(False, label=OVERWRITE)


@dataclass(frozen=True)
class MergeResult:
    """path: of the new file as text, "" when the merge was cancelled. message: a sentence for the user."""

    path: str
    message: str
