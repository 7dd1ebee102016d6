"""A model as a folder in diffusers' layout, seen as the single file it could have been.

`model_index.json` lies above `unet`, `vae`, `text_encoder`, ... which hold config.json and weights. The U-Net's
tensors get the names they have in a checkpoint, the other parts the prefix, so that every family reads both kinds.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from webui.catalog.files import FOLDER_MODEL
from webui.catalog.ldm_names import UNetLayout, ldm_unet_keys
from webui.catalog.model_hints import MAX_SIDECAR, Hints
from webui.core.errors import BadModelFile

UNET, VAE = "model.diffusion_model.", "first_stage_model."
WEIGHTS = (".safetensors", ".bin")
VARIANTS = (".fp16", ".bf16", ".fp32")
REFUSED = "transformer"
TEXTS: Mapping[tuple[bool, bool], Mapping[str, str]] = {
    (True, True): {
        "text_encoder": "conditioner.embedders.0.transformer.",
        "text_encoder_2": "conditioner.embedders.1.model.",
    },
    (False, True): {"text_encoder_2": "conditioner.embedders.0.model."},
    (True, False): {"text_encoder": "cond_stage_model.transformer."},
}
"""Whether there is a text_encoder and a text_encoder_2 -> what their keys begin with in a checkpoint."""
SD2_TEXT = "cond_stage_model.model."


def part_files(folder: Path) -> dict[str, tuple[Path, ...]]:
    """Part ("unet", "vae", ...) -> its files of weights: safetensors before pickles, plain names before variants.

    Raises: BadModelFile when the folder holds no U-Net that is complete, or another kind of network.
    """
    kind = read_json(folder / FOLDER_MODEL).get("_class_name")
    if (folder / REFUSED).is_dir() or not (folder / "unet").is_dir():
        raise BadModelFile(
            f"{folder.name} can't be loaded: folders of the kind {str(kind)[:60]} are not supported yet by this "
            "version; take the single file."
        )
    names = ["unet", "vae", *(name for name in ("text_encoder", "text_encoder_2") if (folder / name).is_dir())]
    return {name: _weights(folder / name, folder.name) for name in names}


def _weights(part: Path, folder: str) -> tuple[Path, ...]:
    for suffix in WEIGHTS:
        found = sorted(part.glob(f"*{suffix}"))
        for variant in ("", *VARIANTS):
            chosen = [file for file in found if _variant(file.name) == variant]
            if chosen:
                return tuple(chosen)
    raise BadModelFile(f"{folder} is incomplete: there are no weights in its folder {part.name}.")


def _variant(name: str) -> str:
    return next((variant for variant in VARIANTS if variant in name), "")


def checkpoint_names(folder: Path, keys: Mapping[str, Iterable[str]]) -> dict[str, dict[str, str]]:
    """Part -> its keys -> what they would be called in a single file. keys: by part."""
    names = {"unet": _unet_names(list(keys["unet"])), "vae": {key: VAE + key for key in keys["vae"]}}
    prefixes = dict(TEXTS.get(("text_encoder" in keys, "text_encoder_2" in keys), {}))
    if list(prefixes) == ["text_encoder"] and config(folder, "text_encoder").get("hidden_act") == "gelu":
        prefixes["text_encoder"] = SD2_TEXT
    return names | {part: {key: prefix + key for key in keys[part]} for part, prefix in prefixes.items()}


def _unet_names(keys: list[str]) -> dict[str, str]:
    """LDM's names; keys that a U-Net of this kind doesn't have keep theirs and are not read."""
    down = [key.split(".") for key in keys if key.startswith("down_blocks.")]
    levels = 1 + max((int(parts[1]) for parts in down if parts[1].isdecimal()), default=0)
    blocks = 1 + max((int(p[3]) for p in down if p[1:3] == ["0", "resnets"] and p[3].isdecimal()), default=0)
    attends = {parts[1] for parts in down if parts[2] == "attentions"}
    depths = tuple((int(str(level) in attends),) * blocks for level in range(levels))
    layout = UNetLayout(4, 4, (0,) * levels, blocks, depths, depths[::-1], 1, 0)
    return {key: UNET + name for key, name in ldm_unet_keys(layout, keys, others=False).items()}


def config(folder: Path, part: str) -> dict[str, Any]:
    """The config.json of a part; the scheduler's is called otherwise."""
    name = "scheduler_config.json" if part == "scheduler" else "config.json"
    path = folder / part / name
    return read_json(path) if path.is_file() else {}


def read_json(path: Path) -> dict[str, Any]:
    """Raises: BadModelFile unless the file is a JSON object of a sensible size."""
    try:
        with path.open("rb") as file:
            content = json.loads(file.read(MAX_SIDECAR))
    except (OSError, ValueError, RecursionError) as error:
        raise BadModelFile(f"{path.parent.name}/{path.name} can't be read ({str(error)[:120]}).") from error
    if not isinstance(content, dict):
        raise BadModelFile(f"{path.parent.name}/{path.name} is not a JSON object.")
    return content


def folder_hints(folder: Path) -> Hints:
    """What the parts' configurations tell. Raises: BadModelFile for impossible values."""
    unet, vae, scheduler = (config(folder, part) for part in ("unet", "vae", "scheduler"))
    heads = unet.get("attention_head_dim")  # diffusers' name for the number of heads
    values: dict[str, Any] = {
        "prediction": {"v_prediction": "v", "epsilon": "eps"}.get(str(scheduler.get("prediction_type"))),
        "linear_start": scheduler.get("beta_start"),
        "linear_end": scheduler.get("beta_end"),
        "latent_scale": vae.get("scaling_factor"),
        "norm_num_groups": unet.get("norm_num_groups"),
        "vae_norm_num_groups": vae.get("norm_num_groups"),
        "zero_snr": 1 if scheduler.get("rescale_betas_zero_snr") is True else None,
    }
    counts = heads if isinstance(heads, list) else [heads]
    if len(set(map(str, counts))) == 1:
        values["num_heads"] = counts[0]
    elif isinstance(widths := unet.get("block_out_channels"), list) and isinstance(counts[0], int) and counts[0] > 0:
        values["num_head_channels"] = int(widths[0]) // counts[0] if widths else None
    if isinstance(unet.get("sample_size"), int):
        values["native_size"] = unet["sample_size"] * 8
    texts = [config(folder, part) for part in ("text_encoder", "text_encoder_2") if (folder / part).is_dir()]
    for hint, text in zip(("text_heads", "text_heads_2"), texts, strict=False):
        values[hint] = text.get("num_attention_heads")
    return Hints.checked(values, folder.name)
