"""kohya's files in and out of the form: the dataset, and the trainer's arguments by the names they have there."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import tomlkit

from webui.core.training import TrainingRequest
from webui.core.training_data import DataRequest
from webui.core.values import ParamSpec
from webui.datasets.kohya_toml import read_toml, write_toml
from webui.datasets.parts import names_folders
from webui.datasets.reading import subsets_of

RENAMED = {
    "output_name": "name",
    "train_data_dir": "data.train_data_dir",
    "reg_data_dir": "data.reg_data_dir",
    "pretrained_model_name_or_path": "checkpoint",
    "sample_every_n_steps": "samples.every_n_steps",
    "sample_every_n_epochs": "samples.every_n_epochs",
    "sample_at_first": "samples.at_first",
    "sample_sampler": "samples.sampler",
    "stop_text_encoder_training": "dreambooth.stop_text_encoder_training",
}
GROUPS = ("optimization", "loss", "numerics", "saving", "lora", "data", "data.every")
"""Those whose parameters have kohya's names."""
WITHOUT_EFFECT = frozenset(
    ("xformers", "sdpa", "mem_eff_attn", "lowram", "max_data_loader_n_workers", "persistent_data_loader_workers")
    + ("network_module", "save_model_as", "output_dir", "logging_dir", "log_with", "dataset_config")
)
"""How kohya gets its speed, and where it writes: Easel decides that itself."""


def import_config(text: str) -> dict[str, Any]:
    """Values by path for the form, and sentences about what of the file isn't used. Raises: InvalidRequest."""
    found = read_toml(text)
    values: dict[str, Any] = {}
    ignored = list(found.ignored)
    paths = _paths()
    for key, value in _arguments(found.arguments):
        if key in WITHOUT_EFFECT:
            continue
        spec = paths.get(key)
        if spec is None:
            ignored.append(key)
        elif value is not None:
            values[spec.dotted] = _fitting(spec, value)
    data = found.data
    for name, field in DataRequest.model_fields.items():
        if name not in ("every", "folders", "datasets") and getattr(data, name) != field.default:
            values[f"data.{name}"] = getattr(data, name)
    if data.folders:
        values["data.folders"] = [folder.model_dump(exclude_defaults=True) for folder in data.folders]
    if data.datasets:
        values["data.datasets"] = [dataset.model_dump(exclude_defaults=True) for dataset in data.datasets]
    folders = (*data.folders, *(folder for dataset in data.datasets for folder in dataset.folders))
    if found.batch_size is not None:
        values["optimization.train_batch_size"] = found.batch_size
    comments = [f"{len(folders)} folders are taken from the file: " + ", ".join(_names(folders)) + "."] * bool(folders)
    if ignored:
        comments.append(f"Not used here: {', '.join(sorted(set(ignored)))}.")
    folder = values.pop("data.train_data_dir", "")
    return {"values": values, "folder": folder, "name": values.pop("name", ""), "comments": comments}


def export_config(request: TrainingRequest) -> list[dict[str, str]]:
    """Two files for kohya's trainers: the dataset, and the arguments of what differs from Easel's defaults.

    Raises: InvalidRequest for folders that aren't there.
    """
    data = _with_folders_named(request.data)
    dataset_name = f"{request.name}-dataset.toml"
    config = tomlkit.document()
    config["output_name"] = request.name
    config["dataset_config"] = dataset_name
    if request.checkpoint:
        config["pretrained_model_name_or_path"] = request.checkpoint
    if request.kind == "lora":
        config["network_module"] = "networks.lora" if request.lora.algo in ("lora", "locon") else "lycoris.kohya"
    if request.samples.every_n_steps:
        config["sample_every_n_steps"] = request.samples.every_n_steps
    if request.samples.every_n_epochs:
        config["sample_every_n_epochs"] = request.samples.every_n_epochs
    network_args = []
    for group_name in ("optimization", "loss", "numerics", "saving", *(["lora"] if request.kind == "lora" else [])):
        group = getattr(request, group_name)
        for name, field in type(group).model_fields.items():
            value = getattr(group, name)
            if value is None or value == "" or name in _OURS or (value == field.default and name not in _ALWAYS):
                continue
            if name == "algo" or name in _NETWORK_ARGS:
                network_args.append(f"{name}={value}")
            elif name == "optimizer_args":
                config[name] = value.split()
            elif name == "max_train_epochs" or name != "max_train_steps" or not request.optimization.max_train_epochs:
                config[name] = value
    if network_args:
        config["network_args"] = network_args
    dataset = write_toml(data, request.optimization.train_batch_size)
    return [
        {"name": f"{request.name}.toml", "text": tomlkit.dumps(config)},
        {"name": dataset_name, "text": dataset},
    ]


_ALWAYS = ("learning_rate", "network_dim", "network_alpha", "max_train_steps", "train_batch_size", "optimizer_type")
_OURS = (
    "schedule",
    "gradient_clipping",
    "gradient_clip",
    "save_last_n",
    "save_state_every",
    "overwrite",
    "latent_sampling",
)
"""What kohya's trainers have nothing like."""
_NETWORK_ARGS = (
    *("conv_dim", "conv_alpha", "block_dims", "block_alphas", "conv_block_dims", "conv_block_alphas"),
    *("down_lr_weight", "mid_lr_weight", "up_lr_weight", "block_lr_zero_threshold", "rank_dropout", "module_dropout"),
    *("loraplus_lr_ratio", "use_tucker", "factor", "decompose_both", "full_matrix", "wd_on_output"),
)


def _with_folders_named(data: DataRequest) -> DataRequest:
    """With each folder of a folder of training folders by its name. Raises: InvalidRequest."""
    subsets_of(data)
    if not names_folders(data):
        return data
    own = subsets_of(data.replace(datasets=())).found
    return data.replace(folders=tuple(subset.options.replace(image_dir=str(subset.folder)) for subset in own))


def _paths() -> dict[str, ParamSpec]:
    """Our parameters by kohya's names."""
    specs = {spec.dotted: spec for spec in TrainingRequest.specs()}
    found = {spec.name: spec for group in GROUPS for path, spec in specs.items() if path == f"{group}.{spec.name}"}
    return found | {key: specs[path] for key, path in RENAMED.items()}


def _arguments(arguments: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """With network_args, "conv_dim=4", among the others."""
    for key, value in arguments.items():
        if key == "network_args" and isinstance(value, list):
            for piece in value:
                name, _, told = str(piece).partition("=")
                yield ("dora" if name == "dora_wd" else name), told
        elif key == "optimizer_args" and isinstance(value, list):
            yield key, " ".join(map(str, value))
        elif key in ("text_encoder_lr", "clip_skip", "max_token_length") and isinstance(value, list):
            yield key, value[0] if value else None
        else:
            yield key, value


def _fitting(spec: ParamSpec, value: Any) -> Any:
    """A network argument is text there, and a switch or a number here."""
    if isinstance(value, str) and spec.type is bool:
        return value.lower() == "true"
    if spec.dotted == "checkpoint":
        return str(value).replace("\\", "/").rsplit("/", 1)[-1]
    if spec.type in (int, float) and isinstance(value, str):
        try:
            return spec.type(float(value)) if value else spec.default
        except ValueError:
            return value  # refused with its name when it is used
    return value


def _names(folders: Any) -> Iterator[str]:
    for folder in folders:
        yield folder.image_dir
