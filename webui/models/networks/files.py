"""A LoRA file (or a relative's): its tensors, sorted by the module they are for.

Trainers spell a module's name and the role of a tensor in a dozen ways; here all become (name, role).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from webui.core.errors import BadModelFile
from webui.core.texts import shown_name
from webui.models.networks.names import modern_name
from webui.models.weights import WeightsFile, open_weights

ROLES: Mapping[str, str] = {
    ".lora_up.weight": "lora_up",
    ".lora_down.weight": "lora_down",
    ".lora_mid.weight": "lora_mid",
    ".lora_B.weight": "lora_up",
    ".lora_A.weight": "lora_down",
    ".lora_B.bias": "lora_up_bias",
    ".lora_B.default.weight": "lora_up",
    ".lora_A.default.weight": "lora_down",
    ".lora_B.default.bias": "lora_up_bias",
    ".lora.up.weight": "lora_up",
    ".lora.down.weight": "lora_down",
    ".lora_linear_layer.up.weight": "lora_up",
    ".lora_linear_layer.down.weight": "lora_down",
    ".up.weight": "lora_up",
    ".down.weight": "lora_down",
    ".lora_magnitude_vector.default.weight": "dora_scale",
    ".lora_magnitude_vector.weight": "dora_scale",
    ".lora_magnitude_vector.default": "dora_scale",
    ".lora_magnitude_vector": "dora_scale",
    ".a1.weight": "a1",
    ".a2.weight": "a2",
    ".b1.weight": "b1",
    ".b2.weight": "b2",
    **{
        f".{role}": role
        for role in (
            *("alpha", "scale", "scalar", "dora_scale", "bias", "bias_indices", "bias_values", "bias_size"),
            *("hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b", "hada_t1", "hada_t2"),
            *("lokr_w1", "lokr_w1_a", "lokr_w1_b", "lokr_w2", "lokr_w2_a", "lokr_w2_b", "lokr_t2"),
            *("weight", "on_input", "diff", "diff_b", "w_norm", "b_norm"),
            *("oft_blocks", "oft_diag", "rescale"),
        )
    },
}
"""How a tensor's name ends -> its role; of two endings that fit the longer one counts."""

LONGEST_ROLE = max(suffix.count(".") for suffix in ROLES)

BUNDLED = "bundle_emb."
MAX_MODULES = 20_000
RAW_PEFT = "base_model.model."
PEFT_CONFIG, MAX_CONFIG = "adapter_config.json", 1 << 20


@dataclass(frozen=True)
class LoraFile:
    """modules: name in the file -> role -> tensor, in memory of their own (never the file's map).

    embeddings: bundled textual inversions, name -> key -> (n, D). unknown: tensors without a known role.
    sdxl: the file shows that it was made for SDXL.
    """

    name: str
    modules: Mapping[str, Mapping[str, Tensor]]
    embeddings: Mapping[str, Mapping[str, Tensor]] = field(default_factory=dict)
    unknown: tuple[str, ...] = ()
    sdxl: bool = False

    @property
    def size(self) -> int:
        """Bytes in memory."""
        groups = (*self.modules.values(), *self.embeddings.values())
        return sum(tensor.nbytes for group in groups for tensor in group.values())


def read_lora(path: Path) -> LoraFile:
    """Read a file whole. Raises: BadModelFile with one sentence; also for one with NaN or infinity in it."""
    file = open_weights(path)
    modules: dict[str, dict[str, Tensor]] = {}
    embeddings: dict[str, dict[str, Tensor]] = {}
    unknown: list[str] = []
    for key in sorted(file.shapes, key=file.position):
        if key.startswith(BUNDLED):
            name, _, inner = key[len(BUNDLED) :].partition(".")
            embeddings.setdefault(name, {})[inner.removeprefix("string_to_param.")] = _copied(file, key)
            continue
        name, role = split_key(key)
        if role is None:
            unknown.append(key)
        else:
            modules.setdefault(name, {})[role] = _copied(file, key)
    if len(modules) > MAX_MODULES:
        raise BadModelFile(f"{path.name} is refused: it changes {len(modules)} modules; no model has so many.")
    if not modules and not embeddings:
        first = ", ".join(sorted(file.shapes)[:3])[:200]
        raise BadModelFile(f"{path.name} is no LoRA: its tensors are {first or 'none'}.")
    _fill_alphas(modules, file)
    return LoraFile(shown_name(path.stem), modules, embeddings, tuple(unknown), _is_sdxl(modules, file.metadata))


def split_key(key: str) -> tuple[str, str | None]:
    """A tensor's name -> the module's and the role; the role is None for an unknown one."""
    parts = key.split(".")
    for count in range(min(LONGEST_ROLE, len(parts) - 1), 0, -1):
        suffix = "." + ".".join(parts[-count:])
        if suffix in ROLES:
            return modern_name(key[: -len(suffix)]), ROLES[suffix]
    return key, None


def _copied(file: WeightsFile, key: str) -> Tensor:
    """Raises: BadModelFile for a tensor with NaN or infinity."""
    tensor = file.tensor(key).clone()
    file.release(key)
    if tensor.is_floating_point() and not _is_finite(tensor):
        raise BadModelFile(f"{file.path.name} is damaged: {key[:120]} holds NaN or infinity.")
    return tensor


def _is_finite(tensor: Tensor) -> bool:
    """A sum is finite when all is, but for numbers near fp32's end: only then each is looked at."""
    total = tensor.sum(dtype=torch.float32) if tensor.dtype.itemsize > 1 else tensor.float().sum()
    return bool(torch.isfinite(total)) or bool(torch.isfinite(tensor.float()).all())


def _is_sdxl(modules: Mapping[str, Any], metadata: Mapping[str, str]) -> bool:
    if metadata.get("ss_base_model_version", "").startswith("sdxl"):
        return True
    return any(name.startswith(("lora_te2_", "text_encoder_2.")) for name in modules)


def _fill_alphas(modules: dict[str, dict[str, Tensor]], file: WeightsFile) -> None:
    """Alphas that diffusers keeps in the header and PEFT in a file beside it; where none is told, alpha is the rank."""
    stored = _table(file.metadata.get("lora_adapter_metadata"))
    beside = file.path.with_name(PEFT_CONFIG)
    raw = any(name.startswith(RAW_PEFT) for name in modules)
    if raw and beside.is_file() and beside.stat().st_size < MAX_CONFIG:
        stored |= {f"{RAW_PEFT}{key}": value for key, value in _table(beside.read_bytes()).items()}
    for name, tensors in modules.items():
        part = RAW_PEFT if name.startswith(RAW_PEFT) else f"{name.partition('.')[0]}."
        down = tensors.get("lora_down")
        if down is None or not down.ndim or "alpha" in tensors:
            continue
        patterns = stored.get(f"{part}alpha_pattern")
        special = [value for end, value in patterns.items() if name.endswith(end)] if isinstance(patterns, dict) else []
        alpha = special[0] if special else stored.get(f"{part}lora_alpha")
        if isinstance(alpha, int | float) and not isinstance(alpha, bool):
            rooted = stored.get(f"{part}use_rslora") is True
            tensors["alpha"] = torch.tensor(float(alpha) * (down.shape[0] ** 0.5 if rooted else 1.0))


def _table(text: str | bytes | None) -> dict[str, Any]:
    """A JSON object, empty when there is none."""
    try:
        stored = json.loads(text or "{}")
    except (ValueError, RecursionError):
        return {}
    return stored if isinstance(stored, dict) else {}
