"""What tensor shapes can't tell: prediction type, head counts, norm groups, native size, guidance.

Read from the .yaml beside a checkpoint (A1111's and LDM's layout, with a few keys of ours) and from the
safetensors metadata: key "easel" (JSON), "modelspec.prediction_type" and "modelspec.resolution". The .yaml wins.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal

import yaml

from webui.core.errors import BadModelFile

MAX_SIDECAR = 32_768
MODEL = "model.params."
UNET = f"{MODEL}unet_config.params."

SGM_UNET = f"{MODEL}network_config.params."

YAML_PLACES: Mapping[str, tuple[str, ...]] = {
    "prediction": (f"{MODEL}parameterization", f"{MODEL}denoiser_config.params.scaling_config.target"),
    "linear_start": (f"{MODEL}linear_start",),
    "linear_end": (f"{MODEL}linear_end",),
    "latent_scale": (f"{MODEL}scale_factor",),
    "native_size": (f"{MODEL}native_size",),
    "cfg_scale": (f"{MODEL}cfg_scale",),
    "num_heads": (f"{UNET}num_heads", f"{SGM_UNET}num_heads"),
    "num_head_channels": (f"{UNET}num_head_channels", f"{SGM_UNET}num_head_channels"),
    "norm_num_groups": (f"{UNET}norm_num_groups", f"{SGM_UNET}norm_num_groups"),
    "vae_norm_num_groups": (f"{MODEL}first_stage_config.params.ddconfig.norm_num_groups",),
    "text_heads": (f"{MODEL}cond_stage_config.params.num_attention_heads",),
}
"""Hint -> where a .yaml has it: LDM's place, then that of SDXL's files. The metadata's JSON has the hints under their
own names."""

SCALINGS: Mapping[str, str] = {"EpsScaling": "eps", "VScaling": "v", "VScalingWithEDMcNoise": "v"}
"""Last part of the class that SDXL's .yaml files name -> prediction."""


@dataclass(frozen=True)
class Hints:
    """None: not said. num_head_channels: width of a U-Net head, an alternative to num_heads.
    text_heads, text_heads_2: of the first and the second text encoder. cfg_scale: the guidance that suits the model.

    zero_snr: 1 when it was trained up to pure noise.
    """

    prediction: Literal["eps", "v"] | None = None
    linear_start: float | None = None
    linear_end: float | None = None
    latent_scale: float | None = None
    native_size: int | None = None
    num_heads: int | None = None
    num_head_channels: int | None = None
    norm_num_groups: int | None = None
    vae_norm_num_groups: int | None = None
    text_heads: int | None = None
    text_heads_2: int | None = None
    zero_snr: int | None = None
    cfg_scale: float | None = None

    @classmethod
    def checked(cls, values: Mapping[str, Any], source: str) -> Hints:
        """None stands for what isn't said. source: for messages.

        Raises: BadModelFile for an impossible value.
        """
        return cls(**{hint: _checked(hint, value, source) for hint, value in values.items() if value is not None})

    def over(self, other: Hints) -> Hints:
        """These, and the other's where these say nothing."""
        own = {field.name: getattr(self, field.name) for field in fields(self)}
        return replace(other, **{hint: value for hint, value in own.items() if value is not None})


def read_hints(file: str, metadata: Mapping[str, str], config: Path | None) -> Hints:
    """file: the checkpoint's name, for messages. config: its .yaml, if it has one.

    Raises: BadModelFile when the .yaml or the metadata is broken or holds an impossible value.
    """
    values = _from_metadata(metadata, file)
    if config is not None:
        table = _read_yaml(config)
        values |= {hint: value for hint, places in YAML_PLACES.items() if (value := _first(table, places)) is not None}
        source = config.name
    else:
        source = file
    return Hints.checked(values, source)


def _from_metadata(metadata: Mapping[str, str], file: str) -> dict[str, Any]:
    values: dict[str, Any] = {}
    spec = metadata.get("modelspec.prediction_type", "").lower()
    if spec in ("v", "v_prediction", "epsilon"):
        values["prediction"] = "eps" if spec == "epsilon" else "v"
    size = re.fullmatch(r"(\d{2,4})x(\d{2,4})", metadata.get("modelspec.resolution", ""))
    if size:
        values["native_size"] = min(int(size[1]), int(size[2])) // 8 * 8
    if "easel" not in metadata:
        return values
    try:
        own = json.loads(metadata["easel"][:MAX_SIDECAR])
    except (ValueError, RecursionError) as error:
        raise BadModelFile(f'{file} has broken metadata: "easel" is not JSON ({error}).') from error
    if not isinstance(own, dict):
        raise BadModelFile(f'{file} has broken metadata: "easel" must be a JSON object.')
    known = {field.name for field in fields(Hints)}
    return values | {hint: value for hint, value in own.items() if hint in known and value is not None}


class _PlainLoader(yaml.SafeLoader):
    """YAML without anchors and aliases, which no model configuration uses and which can grow without bound."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("aliases are not allowed")
        return super().compose_node(parent, index)


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_SIDECAR + 1)
        if len(raw) > MAX_SIDECAR:
            raise BadModelFile(f"{path.name} is too large for a model configuration (over {MAX_SIDECAR} bytes).")
        table = yaml.load(raw, Loader=_PlainLoader)  # a SafeLoader: plain values only
    except (OSError, yaml.YAMLError, ValueError, RecursionError) as error:
        detail = " ".join(str(error).split())[:160]
        raise BadModelFile(f"{path.name} can't be read as YAML ({detail}); mend or remove it.") from error
    if not isinstance(table, dict):
        raise BadModelFile(f"{path.name} is not a model configuration: it holds no table.")
    return table


def _first(table: Any, places: tuple[str, ...]) -> Any:
    return next((value for place in places if (value := _at(table, place)) is not None), None)


def _at(table: Any, place: str) -> Any:
    for name in place.split("."):
        if not isinstance(table, dict) or name not in table:
            return None
        table = table[name]
    return table


def _checked(hint: str, value: Any, source: str) -> Any:
    """The value in its type, or None for LDM's -1 ("not used"). Raises: BadModelFile when it is impossible."""
    if hint == "prediction":
        if isinstance(value, str):
            value = SCALINGS.get(value.rpartition(".")[2], value)
        if value in ("eps", "v"):
            return value
        raise BadModelFile(f'{source} asks for the prediction type {str(value)[:40]!r}; known are "eps" and "v".')
    whole = hint not in ("linear_start", "linear_end", "latent_scale", "cfg_scale")
    if isinstance(value, str) and not whole:  # YAML 1.1 reads 1e-4 as text
        try:
            value = float(value)
        except ValueError:
            value = None
    number = isinstance(value, int) or (isinstance(value, float) and not whole)
    if number and not isinstance(value, bool):
        if whole and value == -1:
            return None
        if 0 < value <= 65536 and math.isfinite(value):
            return value
    raise BadModelFile(f"{source} has the impossible value {str(value)[:40]!r} for {hint}.")
