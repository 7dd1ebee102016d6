"""What is decided about a training before it waits in the queue: everything that a mistake can be seen in early."""

from __future__ import annotations

import ast
import importlib.util
import math
import random
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from webui.catalog.checkpoints import Checkpoint, CheckpointCatalog
from webui.catalog.inspection import inspect, shapes_of
from webui.catalog.networks import Networks
from webui.catalog.vaes import VaeCatalog, VaeFile
from webui.core.capabilities import Capabilities
from webui.core.choices import Choices
from webui.core.errors import InvalidRequest, NotFound, Refused, nearest
from webui.core.file_names import safe_name
from webui.core.paths import Paths
from webui.core.provenance import Machine
from webui.core.settings import Settings
from webui.core.training import (
    ACTIVATIONS,
    KINDS,
    OPTIMIZERS,
    DreamBoothOptions,
    HypernetworkOptions,
    Kind,
    LoraOptions,
    TrainingRequest,
)
from webui.core.training_data import DataFolder, DataRequest, TrainingData
from webui.datasets.opening import open_data
from webui.datasets.parts import names_folders
from webui.datasets.pixels import Focus
from webui.planning.blocks import BlockNumbers
from webui.planning.learning_rates import Rates, Schedule, read_rates, require_scheduler, steps_of
from webui.planning.training_memory import MemoryEstimate, estimate_memory
from webui.planning.training_samples import SamplePrompt, read_sample_prompts

FAMILIES = {"sd1": "sd_v1", "sd2": "sd_v2", "sdxl": "sdxl_base_v1-0"}
"""Families that can be trained, as kohya's metadata call them."""
PACKAGES = {
    "8bit": "bitsandbytes",
    "Paged": "bitsandbytes",
    "DAdapt": "dadaptation",
    "Prodigy": "prodigyopt",
    "ScheduleFree": "schedulefree",
}
"""Part of an optimizer's name -> the package that has it."""
SPARE = 100_000_000
"""Bytes that stay free on the disk."""
NONE = ("", "None", "Automatic")


@dataclass(frozen=True)
class Phase:
    """A stretch of a training with rates of its own.

    title: "" where there is only one. steps: of the optimizer. unet_lr, text_lr: 0 for what isn't trained.
    text_steps: after which the text encoder stays as it is, None for never.
    """

    title: str
    steps: int
    schedule: Schedule
    unet_lr: float = 0.0
    text_lr: float = 0.0
    text_steps: int | None = None
    rates: Rates | None = None


@dataclass(frozen=True)
class TrainingPlan:
    """family: id in the catalog of families. folder: of the log, the samples and the state. target: the last file.

    native_size: edge in pixels of the model's pictures. epochs: how many the data is walked through. data: which data,
    class pictures included. memory: what it will take. continued: the LoRA that is gone on from.
    comments: sentences for the user. settings: as they were when it was asked for.
    """

    request: TrainingRequest
    checkpoint: Checkpoint
    family: str
    native_size: int
    seed: int
    data: DataRequest
    target: Path
    folder: Path
    settings: Settings
    started_at: float
    vae: VaeFile | None = None
    phases: tuple[Phase, ...] = ()
    epochs: int = 0
    samples: tuple[SamplePrompt, ...] = ()
    optimizer_args: Mapping[str, Any] = field(default_factory=dict)
    memory: MemoryEstimate = MemoryEstimate(0, 0, 0)
    continued: Path | None = None
    comments: tuple[str, ...] = ()

    @property
    def steps(self) -> int:
        """Of all phases."""
        return sum(phase.steps for phase in self.phases)

    @property
    def kind(self) -> Kind:
        return self.request.kind

    @property
    def on_board(self) -> bool:
        """Whether TensorBoard's files are written."""
        return bool(self.settings["training_enable_tensorboard"]) and _is_installed("tensorboard")


@dataclass(frozen=True)
class TrainingPlanner:
    """All that a training's plan is made from."""

    paths: Paths
    checkpoints: CheckpointCatalog
    networks: Networks
    vaes: VaeCatalog
    choices: Choices
    machine: Machine

    def plan(self, request: TrainingRequest, settings: Settings) -> TrainingPlan:
        """Reads headers and lists folders, loads nothing. Raises: InvalidRequest, NotFound, Refused, BadModelFile."""
        outline = self._outline(request, settings)
        sdxl = outline.family == "sdxl"
        _check_optimizer(request, self.machine)
        if request.kind == "lora":
            BlockNumbers.read(request.lora, sdxl=sdxl)  # raises where they can't be read
        vae = None if request.vae in NONE else self.vaes.find(request.vae)
        comments = _check_combinations(request, outline.family)
        continued = None
        if request.kind == "lora" and request.lora.network_weights:
            continued = self._lora(request.lora.network_weights)
        data = open_training_data(request, outline.seed, sdxl=sdxl)
        phases, epochs = _phases(request, data)
        _require_not_there(request, outline.target)
        _require_space(outline.target.parent)
        return replace(
            outline,
            vae=vae,
            phases=phases,
            epochs=epochs,
            data=with_class_folder(request),
            samples=read_sample_prompts(request.samples, self.choices, data.facts.largest),
            optimizer_args=read_arguments(request.optimization.optimizer_args),
            memory=estimate_memory(
                request,
                shapes_of(outline.checkpoint.identity),
                data.facts.largest,
                unet=any(phase.unet_lr for phase in phases),
                text=any(phase.text_lr for phase in phases),
            ),
            continued=continued,
            comments=(*comments, *board_comments(settings), *data.facts.comments),
        )

    def plan_untrained(self, request: TrainingRequest, settings: Settings) -> TrainingPlan:
        """An embedding or hypernetwork that is only made. Raises: as `plan`, Refused for one that is there."""
        outline = self._outline(request, settings)
        if request.kind == "hypernetwork":
            check_hypernetwork(request.hypernetwork)
        target = outline.target
        options = request.embedding if request.kind == "embedding" else request.hypernetwork
        if target.exists() and not options.overwrite_old:
            label = type(options).model_fields["overwrite_old"].json_schema_extra["label"]  # type: ignore[index]
            raise Refused(f'There is a {target.name} already; choose another name, or tick "{label}".')
        return outline

    def _outline(self, request: TrainingRequest, settings: Settings) -> TrainingPlan:
        """A plan with the checkpoint, the seed and the places of the files. Raises: as `plan`."""
        name = _checked_name(request)
        checkpoint = (
            self.checkpoints.find(request.checkpoint)
            if request.checkpoint
            else self.checkpoints.default(settings["sd_model_checkpoint"] or "")
        )
        family, capabilities = inspect(checkpoint)
        _require_trainable(request, family.id, family.title, capabilities, checkpoint)
        now = time.time()
        return TrainingPlan(
            request=request,
            checkpoint=checkpoint,
            family=family.id,
            native_size=capabilities.native_size,
            seed=request.optimization.seed if request.optimization.seed >= 0 else random.randrange(2**32),
            data=request.data,
            target=self._target(request, name),
            folder=self._folder(name, now, request.saving.log_dir),
            settings=settings,
            started_at=now,
        )

    def _lora(self, name: str) -> Path:
        """Raises: NotFound."""
        found = self.networks.loras.lookup(name)
        if found is None:
            known = [file.path.stem for file in self.networks.loras.all()]
            raise NotFound(f'There is no LoRA "{name[:80]}" to go on from{nearest(name, known)}.')
        return found.path

    def _target(self, request: TrainingRequest, name: str) -> Path:
        folders: dict[str, Path] = {
            "lora": self.paths.lora,
            "dreambooth": self.paths.checkpoints[0],
            "embedding": self.paths.embeddings,
            "hypernetwork": self.paths.hypernetworks,
        }
        suffix = {"hypernetwork": "pt", "embedding": request.embedding.file_format}.get(request.kind, "safetensors")
        return folders[request.kind] / f"{name}.{suffix}"

    def _folder(self, name: str, now: float, log_dir: str) -> Path:
        """A folder of this run's own."""
        logs = Path(log_dir) if log_dir else self.paths.outputs / "training"
        parent = logs / time.strftime("%Y-%m-%d", time.localtime(now))
        return parent / f"{name}-{time.strftime('%H%M%S', time.localtime(now))}-{random.randrange(16**4):04x}"


def open_training_data(
    request: TrainingRequest,
    seed: int,
    *,
    sdxl: bool,
    data: DataRequest | None = None,
    total_batches: int | None = None,
    focus: Focus | None = None,
) -> TrainingData:
    """The request's data; class pictures that are still to be made are left out. data: with those.

    focus: crops where there is most to see; without it such data can only be counted.
    """
    optimization = request.optimization
    return open_data(
        data or request.data,
        batch_size=optimization.train_batch_size,
        seed=seed,
        sdxl=sdxl,
        prior_loss_weight=request.loss.prior_loss_weight,
        total_batches=total_batches or optimization.max_train_steps * optimization.gradient_accumulation_steps,
        focus=focus,
    )


def with_class_folder(request: TrainingRequest) -> DataRequest:
    """The request's data with DreamBooth's own folder of class pictures."""
    options = request.dreambooth
    if request.kind != "dreambooth" or not options.class_dir:
        return request.data
    folder = DataFolder(image_dir=options.class_dir, is_reg=True, class_tokens=options.class_prompt)
    data = request.data
    datasets = tuple(dataset.replace(folders=(*dataset.folders, folder)) for dataset in data.datasets)
    own = (*data.folders, folder) if names_folders(data) or not datasets else ()
    return data.replace(folders=own, datasets=datasets)


def read_arguments(text: str) -> dict[str, Any]:
    """'weight_decay=0.01 betas=.9,.99' as a dict. Raises: InvalidRequest."""
    arguments: dict[str, Any] = {}
    for piece in text.split():
        key, equals, value = piece.partition("=")
        try:
            if not equals or not key.isidentifier():
                raise ValueError(piece)
            arguments[key] = ast.literal_eval(value)
        except (ValueError, SyntaxError):
            raise InvalidRequest(
                f'The optimizer argument "{piece[:80]}" can\'t be read; write name=value with plain values, such as '
                "weight_decay=0.01 betas=.9,.99."
            ) from None
    return arguments


def _checked_name(request: TrainingRequest) -> str:
    assert request.kind in KINDS
    name = request.name.strip()
    if not name:
        raise InvalidRequest("Give the training a name; its files are called that.")
    if safe_name(name, 180) != name or "[" in name or ":" in name:
        raise InvalidRequest(f'"{name[:80]}" can\'t be the name of a file; use letters, digits, spaces, "-" and "_".')
    return name


def _require_trainable(
    request: TrainingRequest, family: str, title: str, capabilities: Capabilities, checkpoint: Checkpoint
) -> None:
    if family not in FAMILIES:
        raise InvalidRequest(
            f"{checkpoint.name} is a {title} checkpoint, which Easel can't train; Stable Diffusion 1.x, 2.x and SDXL "
            "can be trained."
        )
    if capabilities.input_kind != "plain":
        raise InvalidRequest(
            f"{checkpoint.name} is an {capabilities.input_kind} model, which Easel can't train; take the plain model "
            "that it was made from."
        )
    if family == "sdxl" and request.kind in ("embedding", "hypernetwork"):
        raise InvalidRequest(
            f"{checkpoint.name} is an SDXL checkpoint; embeddings and hypernetworks are trained for SD 1.x and 2.x. "
            "Train a LoRA instead."
        )


def _check_optimizer(request: TrainingRequest, machine: Machine) -> None:
    name = request.optimization.optimizer_type
    if name not in OPTIMIZERS:
        raise InvalidRequest(f'There is no optimizer "{name[:80]}"{nearest(name, OPTIMIZERS)}.')
    for part, package in PACKAGES.items():
        if part in name and not _is_installed(package):
            raise InvalidRequest(
                f"The optimizer {name} needs the package {package}, which isn't installed; install it with "
                f'"pip install {package}" into Easel\'s environment, or choose AdamW.'
            )
    require_scheduler(request.optimization.lr_scheduler, request.optimization.lr_warmup_steps)
    read_arguments(request.optimization.optimizer_args)
    device = machine.provenance.device if machine.provenance else None
    require_precision(request.numerics.mixed_precision, device)


def board_comments(settings: Settings) -> tuple[str, ...]:
    """Why there will be no TensorBoard files where the settings want them."""
    if not settings["training_enable_tensorboard"] or _is_installed("tensorboard"):
        return ()
    return (
        "No TensorBoard files are written, since the package tensorboard isn't installed; install it with "
        '"pip install tensorboard" into Easel\'s environment.',
    )


def _is_installed(package: str) -> bool:
    return importlib.util.find_spec(package) is not None


def require_precision(precision: str, device: str | None) -> None:
    """Raises: InvalidRequest for fp16 where there is no CUDA device. device: None while it isn't known."""
    if precision == "fp16" and device not in ("cuda", None):
        raise InvalidRequest(
            f'Mixed precision "fp16" needs an NVIDIA graphics card, and this machine trains on its {device}; choose '
            '"no" or "bf16".'
        )


def _check_combinations(request: TrainingRequest, family: str) -> list[str]:
    """What can't go together is refused; what has no effect is told. Raises: InvalidRequest."""
    comments = []
    loss, numerics, optimization = request.loss, request.numerics, request.optimization
    if loss.min_timestep >= loss.max_timestep:
        raise InvalidRequest(
            f"The first timestep is {loss.min_timestep} and all are to be below {loss.max_timestep}: none is left."
        )
    if numerics.cache_latents_to_disk and loss.latent_sampling == "random":
        raise InvalidRequest('Latents that are drawn anew ("random") can\'t be kept on the disk; choose "once".')
    if optimization.gradient_clipping != "disabled":
        read_rates(optimization.gradient_clip, "Gradient clip")
    if numerics.vae_batch_size != 1:
        comments.append("VAE batch size has no effect: pictures are encoded one at a time, and kept.")
    if numerics.clip_skip and family != "sd1":
        comments.append("Clip skip has no effect on this model: its text encoders are always read at the same layer.")
    if request.vae not in NONE and request.kind == "dreambooth":
        raise InvalidRequest(
            "DreamBooth saves the checkpoint with its own VAE; leave the VAE empty, and bake another one in with the "
            "Checkpoint Merger afterwards."
        )
    if request.kind == "lora":
        _check_lora(request.lora)
        unet, text = lora_rates(request)
        if not unet and not text:
            raise InvalidRequest("Both learning rates are 0: nothing would be trained. Give one of them.")
        if text and numerics.cache_text_encoder_outputs:
            raise InvalidRequest(
                "The captions' vectors can't be kept while the text encoder is trained; train the U-Net only, or turn "
                '"Keep captions\' vectors" off.'
            )
    if request.kind == "dreambooth" and request.dreambooth.class_dir and not request.dreambooth.class_prompt:
        raise InvalidRequest('Class pictures need a class prompt, such as "photo of a dog".')
    if request.kind == "embedding":
        bare = [line for line in request.embedding.template.splitlines() if line.strip() and "[name]" not in line]
        if bare or not request.embedding.template.strip():
            raise InvalidRequest(
                f'The prompt template "{(bare or [""])[0][:60]}" lacks [name]; write it where the '
                "embedding should stand."
            )
    if request.kind == "hypernetwork" and request.hypernetwork.modules:  # else the file that is there tells
        check_hypernetwork(request.hypernetwork)
    if request.kind == "embedding" and loss.prior_loss_weight != 1.0:
        comments.append("The weight of class pictures has no effect: embeddings are trained without them.")
    return comments


def _check_lora(options: LoraOptions) -> None:
    if options.network_train_unet_only and options.network_train_text_encoder_only:
        raise InvalidRequest("The LoRA can't be of the U-Net only and of the text encoder only at once.")
    plain = options.algo in ("lora", "locon") and not options.dora
    if not plain and (options.network_dropout or options.rank_dropout):
        raise InvalidRequest("Dropout and rank dropout are for LoRA and LoCon without DoRA; set them to 0.")
    if options.scale_weight_norms and not plain:
        raise InvalidRequest("Scale weight norms is for LoRA and LoCon without DoRA; set it to 0.")
    if options.algo == "locon" and not options.conv_dim:
        raise InvalidRequest("A LoCon needs a dim of convolutions; give one, or choose LoRA.")
    if options.use_tucker and options.algo != "locon":
        raise InvalidRequest("The Tucker decomposition is for LoCon; turn it off.")


def check_hypernetwork(options: HypernetworkOptions) -> tuple[list[float], list[float]]:
    """The widths of its layers, and a dropout for each. Raises: InvalidRequest."""
    widths = _listed(options.layer_structure, "The layer structure")
    if len(widths) < 2 or widths[0] != 1 or widths[-1] != 1 or min(widths) <= 0:
        raise InvalidRequest(f"The layer structure {options.layer_structure!r} must begin and end with 1: 1, 2, 1.")
    if options.activation_func.lower() not in ACTIVATIONS:
        known = nearest(options.activation_func, ACTIVATIONS)
        raise InvalidRequest(f'There is no activation function "{options.activation_func}"{known}.')
    dropouts = _listed(options.dropout_structure or "0", "The dropout structure")
    if options.use_dropout and (len(dropouts) != len(widths) or not all(0 <= each < 1 for each in dropouts)):
        raise InvalidRequest(
            f"The dropout structure {options.dropout_structure!r} must have {len(widths)} numbers from 0 to below 1."
        )
    if options.use_dropout and (dropouts[0] or dropouts[-1]):
        raise InvalidRequest("The first and the last number of the dropout structure must be 0.")
    if not options.modules or not all(module.isdecimal() and int(module) > 0 for module in options.modules):
        raise InvalidRequest("Choose the widths of context that the hypernetwork is for, such as 768 and 320.")
    return widths, dropouts if options.use_dropout else [0.0] * len(widths)


def _listed(text: str, what: str) -> list[float]:
    try:
        return [float(piece) for piece in text.split(",")]
    except ValueError:
        raise InvalidRequest(f"{what} {text[:60]!r} can't be read; write numbers with commas between them.") from None


def lora_rates(request: TrainingRequest) -> tuple[float, float]:
    """Learning rates of U-Net and text encoder, 0 for what stays as it is."""
    optimization, options = request.optimization, request.lora
    unet, text = (
        optimization.learning_rate if rate is None else rate
        for rate in (optimization.unet_lr, optimization.text_encoder_lr)
    )
    return (0.0 if options.network_train_text_encoder_only else unet, 0.0 if options.network_train_unet_only else text)


def _phases(request: TrainingRequest, data: TrainingData) -> tuple[tuple[Phase, ...], int]:
    """The phases, and how many epochs they are."""
    options, optimization = request.dreambooth, request.optimization
    batches = max(data.batches_in(0), 1)
    if request.kind == "dreambooth" and options.class_dir and request.data.prior == "mixed":
        batches *= 2  # class pictures, as many as the others
    updates = math.ceil(batches / optimization.gradient_accumulation_steps)
    if request.kind == "dreambooth" and options.te_mode == "sequential":
        phases = _sequential(options)
        return phases, math.ceil(sum(phase.steps for phase in phases) / updates)
    steps = optimization.max_train_epochs * updates or optimization.max_train_steps
    rates = None
    if optimization.schedule:
        rates = read_rates(optimization.schedule)
        steps = min(steps, rates.end) if rates.end else steps
    schedule = Schedule(
        optimization.lr_scheduler,
        steps,
        steps_of(optimization.lr_warmup_steps, steps),
        steps_of(optimization.lr_decay_steps, steps),
        optimization.lr_scheduler_num_cycles,
        optimization.lr_scheduler_power,
        optimization.lr_scheduler_min_lr_ratio,
    )
    unet, text, text_steps = optimization.learning_rate, 0.0, None
    if request.kind == "lora":
        unet, text = lora_rates(request)
    elif request.kind == "dreambooth":
        unet, text = lora_rates(request.replace(lora=LoraOptions()))
        stop = options.stop_text_encoder_training
        text = 0.0 if stop == -1 else text
        text_steps = stop if stop > 0 else None
    return (Phase("", steps, schedule, unet, text, text_steps, rates),), math.ceil(steps / updates)


def _sequential(options: DreamBoothOptions) -> tuple[Phase, ...]:
    """fast-DreamBooth's: each phase falls to 0 by itself. Raises: InvalidRequest when there is none."""
    first, second = options.te_steps, options.unet_steps
    beside = options.te_learning_rate if options.te_phase_unet else 0.0
    both = (
        Phase("Text encoder", first, Schedule("linear", first), beside, options.te_learning_rate),
        Phase("U-Net", second, Schedule("linear", second), options.unet_learning_rate),
    )
    phases = tuple(phase for phase in both if phase.steps)
    for phase in phases:
        if not phase.unet_lr + phase.text_lr:
            raise InvalidRequest(f"The learning rate of the {phase.title} is 0; give it one, or no steps.")
    if not phases:
        raise InvalidRequest("Both phases have 0 steps: nothing would be trained. Give one of them steps.")
    return phases


def _require_not_there(request: TrainingRequest, target: Path) -> None:
    """Raises: Refused when a file would be replaced unasked."""
    goes_on = request.kind in ("embedding", "hypernetwork")  # from the file that is there, as A1111's tab does
    if target.exists() and not (request.saving.overwrite or goes_on):
        raise Refused(
            f'There is a {target.name} in {target.parent} already; choose another name, or tick "Replace the file '
            f'that is there".'
        )


def _require_space(folder: Path) -> None:
    """Raises: InvalidRequest when the disk is almost full."""
    existing = next(parent for parent in (folder, *folder.parents) if parent.exists())
    free = shutil.disk_usage(existing).free
    if free < SPARE:
        raise InvalidRequest(f"{free / 1e6:.0f} MB are free at {folder}; make room before you train.")
