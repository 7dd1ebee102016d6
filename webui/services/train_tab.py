"""A1111's Train tab and its four routes: the same values by the same names, made into trainings of our own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from webui.core.errors import InvalidRequest, nearest
from webui.core.params import Params, param
from webui.core.training import (
    EmbeddingOptions,
    HypernetworkOptions,
    Kind,
    LossOptions,
    Numerics,
    Optimization,
    Samples,
    Saving,
    TrainingRequest,
)
from webui.core.training_data import DataFolder, DataRequest
from webui.services.folders import folder_of
from webui.services.services import Services
from webui.services.templates import template_text

ACTIVATIONS = (
    *("linear", "relu", "leakyrelu", "elu", "swish", "tanh", "sigmoid", "celu", "gelu", "hardshrink"),
    *("hardsigmoid", "hardtanh", "logsigmoid", "mish", "rrelu", "relu6", "selu", "silu", "softplus"),
    *("softshrink", "softsign", "tanhshrink"),
)
"""A1111's, without those that change a layer's width, need an argument, or learn weights that no file keeps."""
INITIALIZATIONS = ("Normal", "KaimingUniform", "KaimingNormal", "XavierUniform", "XavierNormal")
WIDTHS = ("768", "1024", "320", "640", "1280")


class CreateEmbedding(Params, title="Create embedding"):
    """An embedding to be trained: the vectors of a text, sampled evenly."""

    name: str = param("", label="Name", max_length=200)
    init_text: str = param("*", label="Initialization text", max_length=1000)
    num_vectors_per_token: int = param(1, label="Number of vectors per token", ge=1, le=75, step=1)
    overwrite_old: bool = param(False, label="Overwrite Old Embedding")


class CreateHypernetwork(Params, title="Create hypernetwork"):
    """A hypernetwork to be trained."""

    name: str = param("", label="Name", max_length=200)
    enable_sizes: tuple[str, ...] = param(
        ("768", "320", "640", "1280"), label="Modules", choices=WIDTHS, kind="checkboxgroup"
    )
    layer_structure: str = param("1, 2, 1", label="Enter hypernetwork layer structure", max_length=200)
    activation_func: str = param(
        "linear",
        label="Select activation function of hypernetwork. Recommended : Swish / Linear(none)",
        choices=ACTIVATIONS,
    )
    weight_init: str = param(
        "Normal",
        label="Select Layer weights initialization. Recommended: Kaiming for relu-like, Xavier for sigmoid-like, "
        "Normal otherwise",
        choices=INITIALIZATIONS,
    )
    add_layer_norm: bool = param(False, label="Add layer normalization")
    use_dropout: bool = param(False, label="Use dropout")
    dropout_structure: str = param(
        "0, 0, 0",
        label="Enter hypernetwork Dropout structure (or empty). Recommended : 0~0.35 incrementing sequence: "
        "0, 0.05, 0.15",
        max_length=200,
    )
    overwrite_old: bool = param(False, label="Overwrite Old Hypernetwork")


class TrainTab(Params, title="Train"):
    """An embedding or hypernetwork that is there, trained further."""

    embedding_name: str = param("", label="Embedding", choices="embeddings")
    hypernetwork_name: str = param("", label="Hypernetwork", choices="hypernetworks")
    embedding_learn_rate: str = param("0.005", label="Embedding Learning rate", max_length=500)
    hypernetwork_learn_rate: str = param("0.00001", label="Hypernetwork Learning rate", max_length=500)
    clip_grad_mode: Literal["disabled", "value", "norm"] = param(
        "disabled", label="Gradient Clipping", choices=("disabled", "value", "norm")
    )
    clip_grad_value: str = param("0.1", label="Gradient clip value", max_length=500)
    batch_size: int = param(1, label="Batch size", ge=1, le=256)
    gradient_step: int = param(1, label="Gradient accumulation steps", ge=1, le=1024)
    data_root: str = param("", label="Dataset directory", max_length=4096)
    log_directory: str = param("textual_inversion", label="Log directory", max_length=4096)
    template_filename: str = param("style_filewords.txt", label="Prompt template", max_length=200, choices="templates")
    training_width: int = param(512, label="Width", ge=64, le=2048, step=8)
    training_height: int = param(512, label="Height", ge=64, le=2048, step=8)
    varsize: bool = param(False, label="Do not resize images")
    steps: int = param(100_000, label="Max steps", ge=1, le=10_000_000)
    create_image_every: int = param(
        500, label="Save an image to log directory every N steps, 0 to disable", ge=0, le=10_000_000
    )
    save_every: int = param(
        500, label="Save a copy of embedding to log directory every N steps, 0 to disable", ge=0, le=10_000_000
    )
    use_weight: bool = param(False, label="Use PNG alpha channel as loss weight")
    save_image_with_stored_embedding: bool = param(True, label="Save images with embedding in PNG chunks")
    preview_from_txt2img: bool = param(
        False, label="Read parameters (prompt, etc...) from txt2img tab when making previews"
    )
    shuffle_tags: bool = param(False, label="Shuffle tags by ',' when creating prompts.")
    tag_drop_out: float = param(0.0, label="Drop out tags when creating prompts.", ge=0, le=1, step=0.1)
    latent_sampling_method: Literal["once", "deterministic", "random"] = param(
        "once", label="Choose latent sampling method", choices=("once", "deterministic", "random"), kind="radio"
    )
    preview_prompt: str = ""
    preview_negative_prompt: str = ""
    preview_steps: int = 20
    preview_sampler_name: str = ""
    preview_cfg_scale: float = 7.0
    preview_seed: float = -1
    preview_width: int = 0
    preview_height: int = 0


ELEM_IDS: Mapping[str, Mapping[str, str]] = {
    "create_embedding": {
        "name": "train_new_embedding_name",
        "init_text": "train_initialization_text",
        "num_vectors_per_token": "train_nvpt",
        "overwrite_old": "train_overwrite_old_embedding",
    },
    "create_hypernetwork": {
        "name": "train_new_hypernetwork_name",
        "enable_sizes": "train_new_hypernetwork_sizes",
        "layer_structure": "train_new_hypernetwork_layer_structure",
        "activation_func": "train_new_hypernetwork_activation_func",
        "weight_init": "train_new_hypernetwork_initialization_option",
        "add_layer_norm": "train_new_hypernetwork_add_layer_norm",
        "use_dropout": "train_new_hypernetwork_use_dropout",
        "dropout_structure": "train_new_hypernetwork_dropout_structure",
        "overwrite_old": "train_overwrite_old_hypernetwork",
    },
    "train": {
        "embedding_name": "train_embedding",
        "hypernetwork_name": "train_hypernetwork",
        "embedding_learn_rate": "train_embedding_learn_rate",
        "hypernetwork_learn_rate": "train_hypernetwork_learn_rate",
        "clip_grad_mode": "train_gradient_clipping",
        "clip_grad_value": "train_gradient_clip_value",
        "batch_size": "train_batch_size",
        "gradient_step": "train_gradient_step",
        "data_root": "train_dataset_directory",
        "log_directory": "train_log_directory",
        "template_filename": "train_template_file",
        "training_width": "train_training_width",
        "training_height": "train_training_height",
        "varsize": "train_varsize",
        "steps": "train_steps",
        "create_image_every": "train_create_image_every",
        "save_every": "train_save_embedding_every",
        "use_weight": "use_weight",
        "save_image_with_stored_embedding": "train_save_image_with_stored_embedding",
        "preview_from_txt2img": "train_preview_from_txt2img",
        "shuffle_tags": "train_shuffle_tags",
        "tag_drop_out": "train_tag_drop_out",
        "latent_sampling_method": "train_latent_sampling_method",
    },
}
"""A1111's, and a few where it has none."""
GROUPS: Mapping[str, type[Params]] = {
    "create_embedding": CreateEmbedding,
    "create_hypernetwork": CreateHypernetwork,
    "train": TrainTab,
}
INTROS = {
    "train": "Train an embedding or hypernetwork on a folder of pictures. Beside a picture, a text file of its name "
    "may say what it shows; else its name does."
}


def training_of(services: Services, kind: Kind, tab: TrainTab) -> TrainingRequest:
    """The training that the tab's values mean for an embedding or a hypernetwork.

    Raises: InvalidRequest, NotFound for a template, Refused for a folder that this visitor may not name.
    """
    name = tab.embedding_name if kind == "embedding" else tab.hypernetwork_name
    services.networks.refresh()  # it may have been made a moment ago
    networks = services.networks.embeddings if kind == "embedding" else services.networks.hypernetworks
    known = [file.stem for file in networks]
    if not name:
        raise InvalidRequest(f"Choose the {kind} to train; create one first if there is none.")
    if name not in known:
        raise InvalidRequest(f'There is no {kind} "{name}"{nearest(name, known)}. Create it first.')
    if not tab.data_root.strip():
        raise InvalidRequest("Name the dataset directory: the folder with the pictures to train on.")
    logs = str(folder_of(services, tab.log_directory)) if tab.log_directory.strip() else ""
    settings = services.settings.snapshot()
    machine = services.machine.provenance
    template = template_text(services.paths.data, tab.template_filename)
    words: dict[str, Any] = {
        "template": template,
        "shuffle_tags": tab.shuffle_tags,
        "tag_drop_out": tab.tag_drop_out,
    }
    embedding = EmbeddingOptions(**words, save_image_with_stored_embedding=tab.save_image_with_stored_embedding)
    learn_rate = tab.embedding_learn_rate if kind == "embedding" else tab.hypernetwork_learn_rate
    return TrainingRequest.checked(
        kind=kind,
        name=name,
        data=DataRequest.checked(
            train_data_dir=str(folder_of(services, tab.data_root)),
            every=DataFolder(caption_extension=".txt", alpha_mask=tab.use_weight, enable_wildcard=False),
            resolution=f"{tab.training_width},{tab.training_height}",
            enable_bucket=False,
            crop="none" if tab.varsize else "center",
            caption_from="words",
            word_regex=settings["dataset_filename_word_regex"],
            word_join=settings["dataset_filename_join_string"],
        ),
        optimization=Optimization.checked(
            optimizer_args="weight_decay=0.0" if kind == "embedding" else "",
            schedule=learn_rate,
            gradient_clipping=tab.clip_grad_mode,
            gradient_clip=tab.clip_grad_value,
            max_grad_norm=0.0,
            train_batch_size=tab.batch_size,
            gradient_accumulation_steps=tab.gradient_step,
            max_train_steps=tab.steps,
        ),
        loss=LossOptions(latent_sampling=tab.latent_sampling_method),
        numerics=Numerics(
            mixed_precision="fp16" if machine is not None and machine.device == "cuda" else "no",
            clip_skip=settings["CLIP_stop_at_last_layers"] if settings["CLIP_stop_at_last_layers"] > 1 else 0,
            cache_latents=tab.latent_sampling_method != "random",
        ),
        saving=Saving.checked(save_every_n_steps=tab.save_every, log_dir=logs),
        samples=Samples.checked(prompts=_preview(tab, template, name), every_n_steps=tab.create_image_every),
        embedding=embedding,
        hypernetwork=HypernetworkOptions(**words, modules=()),
    )


def new_network(kind: Kind, tab: CreateEmbedding | CreateHypernetwork) -> TrainingRequest:
    """The embedding or hypernetwork that a tab describes. A1111 keeps of its name what a file can be called.

    Raises: InvalidRequest for a name of which nothing is left.
    """
    name = "".join(letter for letter in tab.name if letter.isalnum() or letter in "._- ").strip(" .")
    if not name:
        raise InvalidRequest(f'"{tab.name[:80]}" can\'t be the name of a file; give it a name of letters and digits.')
    if isinstance(tab, CreateEmbedding):
        embedding = EmbeddingOptions.checked(**tab.model_dump(exclude={"name"}))
        return TrainingRequest(kind=kind, name=name, embedding=embedding)
    told = tab.model_dump(exclude={"name", "enable_sizes"})
    hypernetwork = HypernetworkOptions.checked(modules=tab.enable_sizes, **told)
    return TrainingRequest(kind=kind, name=name, hypernetwork=hypernetwork)


def from_api(kind: Kind, args: Mapping[str, Any]) -> TrainTab:
    """The tab's values from the arguments of A1111's route. Raises: InvalidRequest for an unknown one."""
    other = "hypernetwork" if kind == "embedding" else "embedding"
    named = {key: value for key, value in args.items() if key != "id_task" and value is not None}
    for name, own in (("learn_rate", f"{kind}_learn_rate"), (f"save_{kind}_every", "save_every")):
        if name in named:
            named[own] = str(named.pop(name)) if name == "learn_rate" else named.pop(name)
    for text in ("clip_grad_value",):
        if text in named:
            named[text] = str(named[text])
    misplaced = next((key for key in named if key.startswith(f"{other}_") or key == f"save_{other}_every"), None)
    if misplaced:
        raise InvalidRequest(f"{misplaced} is no argument of training an {kind}.")
    return TrainTab.checked(**named)


def _preview(tab: TrainTab, template: str, name: str) -> str:
    """The sample prompt in kohya's syntax: txt2img's, or the template's first line. "" where none is wanted."""
    if not tab.create_image_every:
        return ""
    size = {"w": tab.training_width, "h": tab.training_height}
    if tab.preview_from_txt2img:
        prompt, seed = tab.preview_prompt, int(tab.preview_seed)
        options: dict[str, object] = {
            "n": tab.preview_negative_prompt,
            "s": tab.preview_steps,
            "l": tab.preview_cfg_scale,
            "w": tab.preview_width or size["w"],
            "h": tab.preview_height or size["h"],
            "ss": tab.preview_sampler_name,
            "d": seed if seed >= 0 else "",
        }
    else:
        first = next((line for line in template.splitlines() if line.strip()), "")
        prompt = first.replace("[name]", name).replace("[filewords]", "picture")
        options = {"s": 20, **size}
    told = " ".join(f"--{key} {_one_line(str(value))}" for key, value in options.items() if value != "")
    return f"{_one_line(prompt)} {told}"


def _one_line(text: str) -> str:
    return " ".join(text.split())
