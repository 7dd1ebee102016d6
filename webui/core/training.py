"""What a user asks of a training: LoRAs, DreamBooth, textual inversion, hypernetworks.

Names and defaults are those of kohya's sd-scripts, of fast-DreamBooth for DreamBooth's two phases, and of A1111's
Train tab for embeddings and hypernetworks. `webui.planning.training` makes a plan of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from webui.core.params import Params, param
from webui.core.training_data import DataRequest

KINDS = ("lora", "dreambooth", "embedding", "hypernetwork")
Kind = Literal["lora", "dreambooth", "embedding", "hypernetwork"]
NetworkKind = Literal["embedding", "hypernetwork"]
"""Those that are made first and then trained."""
TITLES = {"lora": "LoRA", "dreambooth": "DreamBooth", "embedding": "Embedding", "hypernetwork": "Hypernetwork"}

OPTIMIZERS = (
    *("AdamW", "AdamW8bit", "PagedAdamW", "PagedAdamW8bit", "PagedAdamW32bit", "Lion", "Lion8bit", "PagedLion8bit"),
    *("SGDNesterov", "SGDNesterov8bit", "DAdaptation", "DAdaptAdam", "DAdaptAdaGrad", "DAdaptAdan", "DAdaptLion"),
    *("DAdaptSGD", "Prodigy", "AdaFactor", "AdamWScheduleFree", "RAdamScheduleFree", "SGDScheduleFree"),
)
SCHEDULERS = (
    *("constant", "constant_with_warmup", "linear", "cosine", "cosine_with_restarts", "polynomial"),
    *("inverse_sqrt", "cosine_with_min_lr", "warmup_stable_decay"),
)
ALGORITHMS = ("lora", "locon", "loha", "lokr")
ACTIVATIONS = (
    *("linear", "relu", "leakyrelu", "elu", "swish", "tanh", "sigmoid", "celu", "gelu", "hardshrink", "hardsigmoid"),
    *("hardswish", "hardtanh", "logsigmoid", "mish", "relu6", "rrelu", "selu", "silu", "softplus", "softshrink"),
    *("softsign", "tanhshrink"),
)
PRECISIONS = ("no", "fp16", "bf16")
SAVE_PRECISIONS = ("float", "fp16", "bf16")
LOSSES = ("l2", "l1", "huber", "smooth_l1")


class Optimization(Params):
    """How weights are changed.

    learning_rate: of whatever has no rate of its own. unet_lr, text_encoder_lr: None for `learning_rate`.
    schedule: A1111's "0.005:100, 1e-3:1000, 1e-5" (the rate until a step; the last to the end) in place of rate and
    scheduler; "" for none. optimizer_args: "weight_decay=0.01 betas=.9,.99". lr_warmup_steps: a number, or below 1 a
    share of all steps. max_grad_norm: 0 for no clipping. max_train_epochs: 0 for `max_train_steps`, else in place of
    it. gradient_clipping: A1111's "value" or "norm" by `gradient_clip`, beside max_grad_norm.
    seed: -1 draws one.
    """

    optimizer_type: str = param("AdamW", label="Optimizer", choices=OPTIMIZERS, max_length=200)
    optimizer_args: str = param("", label="Optimizer arguments", max_length=1000)
    learning_rate: float = param(1e-4, label="Learning rate", ge=0, le=1000)
    unet_lr: float | None = param(None, label="U-Net learning rate", ge=0, le=1000)
    text_encoder_lr: float | None = param(None, label="Text encoder learning rate", ge=0, le=1000)
    schedule: str = param("", label="Learning rates by step", max_length=500)
    lr_scheduler: str = param("constant", label="Scheduler", choices=SCHEDULERS, max_length=200)
    lr_warmup_steps: float = param(0, label="Warm-up steps", ge=0, le=10_000_000)
    lr_decay_steps: float = param(0, label="Decay steps", ge=0, le=10_000_000)
    lr_scheduler_num_cycles: int = param(1, label="Cycles", ge=1, le=1000)
    lr_scheduler_power: float = param(1.0, label="Power", ge=0, le=100)
    lr_scheduler_min_lr_ratio: float = param(0.0, label="Lowest rate, of the highest", ge=0, le=1)
    max_grad_norm: float = param(1.0, label="Largest gradient norm", ge=0, le=1000)
    gradient_clipping: Literal["disabled", "value", "norm"] = param(
        "disabled", label="Gradient Clipping", choices=("disabled", "value", "norm")
    )
    gradient_clip: str = param("0.1", label="Gradient clip schedule", max_length=500)
    train_batch_size: int = param(1, label="Batch size", ge=1, le=256)
    gradient_accumulation_steps: int = param(1, label="Gradient accumulation steps", ge=1, le=1024)
    max_train_steps: int = param(1600, label="Max steps", ge=1, le=10_000_000)
    max_train_epochs: int = param(0, label="Epochs", ge=0, le=100_000)
    seed: int = param(-1, label="Seed", ge=-1, le=2**32 - 1)


class LossOptions(Params):
    """What is minimised. min_snr_gamma, noise_offset, ip_noise_gamma and the like: 0 for off.

    latent_sampling: A1111's: "once" keeps one sample of each picture's posterior, "deterministic" its mean, "random"
    draws anew each time.
    """

    loss_type: Literal["l2", "l1", "huber", "smooth_l1"] = param("l2", label="Loss", choices=LOSSES)
    huber_schedule: Literal["snr", "exponential", "constant"] = param(
        "snr", label="Huber schedule", choices=("snr", "exponential", "constant")
    )
    huber_c: float = param(0.1, label="Huber c", ge=0, le=100)
    huber_scale: float = param(1.0, label="Huber scale", ge=0, le=100)
    min_snr_gamma: float = param(0.0, label="Min SNR gamma", ge=0, le=1000)
    debiased_estimation_loss: bool = param(False, label="Debiased estimation")
    scale_v_pred_loss_like_noise_pred: bool = param(False, label="Scale v's loss as noise's")
    v_pred_like_loss: float = param(0.0, label="Add a loss like v's", ge=0, le=100)
    noise_offset: float = param(0.0, label="Noise offset", ge=0, le=10)
    noise_offset_random_strength: bool = param(False, label="Random noise offset")
    adaptive_noise_scale: float = param(0.0, label="Adaptive noise scale", ge=-10, le=10)
    multires_noise_iterations: int = param(0, label="Multires noise iterations", ge=0, le=100)
    multires_noise_discount: float = param(0.3, label="Multires noise discount", ge=0, le=1)
    ip_noise_gamma: float = param(0.0, label="IP noise gamma", ge=0, le=10)
    ip_noise_gamma_random_strength: bool = param(False, label="Random IP noise gamma")
    min_timestep: int = param(0, label="First timestep", ge=0, le=999)
    max_timestep: int = param(1000, label="Timesteps below", ge=1, le=1000)
    prior_loss_weight: float = param(1.0, label="Weight of class pictures", ge=0, le=100, step=0.05)
    latent_sampling: Literal["once", "deterministic", "random"] = param(
        "once", label="Latent sampling method", choices=("once", "deterministic", "random")
    )


class Numerics(Params):
    """In which numbers, and what is kept rather than computed again.

    mixed_precision: "fp16" on CUDA only. clip_skip: 0 for the model's own layer. max_token_length: of captions.
    cache_latents: keep each picture's latent in memory; _to_disk: on the disk, too. cache_text_encoder_outputs: keep
    each caption's vectors; not while the text encoder is trained.
    """

    mixed_precision: Literal["no", "fp16", "bf16"] = param("no", label="Mixed precision", choices=PRECISIONS)
    gradient_checkpointing: bool = param(False, label="Gradient checkpointing")
    clip_skip: int = param(0, label="Clip skip", ge=0, le=12)
    max_token_length: Literal[75, 150, 225] = param(75, label="Longest caption", kind="dropdown")
    cache_latents: bool = param(True, label="Keep latents")
    cache_latents_to_disk: bool = param(False, label="Keep latents on the disk")
    cache_text_encoder_outputs: bool = param(False, label="Keep captions' vectors")
    vae_batch_size: int = param(1, label="VAE batch size", ge=1, le=64)


class Saving(Params):
    """save_every_n_epochs, _steps: 0 for only at the end. save_last_n: how many of those to keep, 0 for all.

    save_state_every: steps between the states that a killed training goes on from. training_comment: for the file.
    no_metadata: only what is needed to load it. overwrite: replace files of that name. log_dir: where logs, states and
    sample pictures go, in a folder of the day; "" for the outputs.
    """

    save_precision: Literal["float", "fp16", "bf16"] = param("fp16", label="Save precision", choices=SAVE_PRECISIONS)
    save_every_n_epochs: int = param(0, label="Save every N epochs", ge=0, le=100_000)
    save_every_n_steps: int = param(0, label="Save every N steps", ge=0, le=10_000_000)
    save_last_n: int = param(0, label="Keep only the last N", ge=0, le=10_000)
    save_state_every: int = param(100, label="Steps between states to resume from", ge=1, le=1_000_000)
    training_comment: str = param("", label="Comment", max_length=2000)
    no_metadata: bool = param(False, label="No metadata")
    overwrite: bool = param(False, label="Replace the file that is there")
    log_dir: str = param("", label="Log directory", max_length=4096)


class Samples(Params):
    """Pictures on the way. prompts: one a line in kohya's syntax, "a cat --n bad --w 512 --h 512 --d 1 --l 7 --s 20".

    every_n_steps, every_n_epochs: 0 for none. sampler: of those that name none.
    """

    prompts: str = param("", label="Sample prompts", max_length=20_000)
    every_n_steps: int = param(0, label="Sample every N steps", ge=0, le=10_000_000)
    every_n_epochs: int = param(0, label="Sample every N epochs", ge=0, le=100_000)
    at_first: bool = param(False, label="Sample before the first step")
    sampler: str = param("DDIM", label="Sampling method", choices="samplers", max_length=100)


class LoraOptions(Params):
    """algo: "lora" (linear layers of attention), "locon" (convolutions, too), "loha", "lokr". dora: decompose weights.

    network_alpha: 0 for as much as the dim. conv_dim: 0 leaves 3x3 convolutions out; LoHa and LoKr take the linear
    layers' then. conv_alpha: 0 for conv_dim. factor: of LoKr, -1 for the most even split.
    block_dims, block_alphas: 25 numbers (SD 1 and 2) or 23 (SDXL), "" for the same everywhere.
    down_lr_weight, mid_lr_weight, up_lr_weight: factors of the rate by block, as kohya takes them; "" for 1.
    loraplus_lr_ratio: rate of the up matrices, as a multiple; 0 for 1. network_weights: a file to go on from.
    scale_weight_norms: the largest norm of a module's change, 0 for any. wd_on_output: DoRA's norm a row of outputs.
    """

    algo: Literal["lora", "locon", "loha", "lokr"] = param("lora", label="Kind", choices=ALGORITHMS)
    network_dim: int = param(4, label="Dim (rank)", ge=1, le=1024)
    network_alpha: float = param(1.0, label="Alpha", ge=0, le=1024)
    conv_dim: int = param(0, label="Dim of convolutions", ge=0, le=1024)
    conv_alpha: float = param(1.0, label="Alpha of convolutions", ge=0, le=1024)
    block_dims: str = param("", label="Dims by block", max_length=1000)
    block_alphas: str = param("", label="Alphas by block", max_length=1000)
    conv_block_dims: str = param("", label="Dims of convolutions by block", max_length=1000)
    conv_block_alphas: str = param("", label="Alphas of convolutions by block", max_length=1000)
    down_lr_weight: str = param("", label="Rates of blocks going down", max_length=500)
    mid_lr_weight: str = param("", label="Rate of the middle block", max_length=100)
    up_lr_weight: str = param("", label="Rates of blocks going up", max_length=500)
    block_lr_zero_threshold: float = param(0.0, label="Leave blocks out below this rate", ge=0, le=1)
    network_dropout: float = param(0.0, label="Dropout", ge=0, le=0.99, step=0.01)
    rank_dropout: float = param(0.0, label="Rank dropout", ge=0, le=0.99, step=0.01)
    module_dropout: float = param(0.0, label="Module dropout", ge=0, le=0.99, step=0.01)
    scale_weight_norms: float = param(0.0, label="Scale weight norms", ge=0, le=1000)
    loraplus_lr_ratio: float = param(0.0, label="LoRA+ rate ratio", ge=0, le=1000)
    network_train_unet_only: bool = param(False, label="Train the U-Net only")
    network_train_text_encoder_only: bool = param(False, label="Train the text encoder only")
    network_weights: str = param("", label="Go on from", choices="loras")
    dora: bool = param(False, label="DoRA (weight decomposition)")
    wd_on_output: bool = param(True, label="DoRA by output rows")
    use_tucker: bool = param(False, label="Tucker decomposition of convolutions")
    rs_lora: bool = param(False, label="Rank-stabilised scale")
    factor: int = param(-1, label="LoKr factor", ge=-1, le=1024)
    decompose_both: bool = param(False, label="LoKr: decompose both")
    full_matrix: bool = param(False, label="LoKr: full matrix")


class DreamBoothOptions(Params):
    """te_mode: "sequential" (fast-DreamBooth: first the text encoder, then the U-Net with the encoder fixed, each with
    its steps and rate, linear decay), or "joint_stop" (kohya: both at once by `Optimization`).

    te_steps, unet_steps: 0 leaves that phase out. te_phase_unet: the U-Net is trained beside the text encoder in the
    first phase and put back after it, as fast-DreamBooth does. stop_text_encoder_training: in the joint run, the step
    after which the encoder stays; 0 for never, -1 for not at all.
    class_prompt, num_class_images: class pictures that aren't in the class folder yet are made by Easel, with
    class_negative_prompt, class_steps and class_cfg_scale, until there are so many. class_dir: their folder.
    save_as: one LDM-layout file, a diffusers folder, or both. ema: keep a running mean of the weights, saved in place
    of them.
    """

    te_mode: Literal["sequential", "joint_stop"] = param(
        "sequential", label="Text encoder", choices=("sequential", "joint_stop")
    )
    te_steps: int = param(350, label="Text_Encoder_Training_Steps", ge=0, le=1_000_000)
    te_learning_rate: float = param(1e-6, label="Text_Encoder_Learning_Rate", ge=0, le=1)
    unet_steps: int = param(1500, label="UNet_Training_Steps", ge=0, le=10_000_000)
    unet_learning_rate: float = param(2e-6, label="UNet_Learning_Rate", ge=0, le=1)
    te_phase_unet: bool = param(True, label="Train the U-Net beside the text encoder, and put it back")
    stop_text_encoder_training: int = param(0, label="Stop the text encoder at step", ge=-1, le=10_000_000)
    class_dir: str = param("", label="Folder of class pictures")
    class_prompt: str = param("", label="Class prompt", max_length=2000)
    class_negative_prompt: str = param("", label="Class negative prompt", max_length=2000)
    num_class_images: int = param(100, label="Class pictures", ge=0, le=100_000)
    class_steps: int = param(20, label="Sampling steps of class pictures", ge=1, le=150)
    class_cfg_scale: float = param(7.0, label="CFG scale of class pictures", ge=1, le=30, step=0.5)
    save_as: Literal["checkpoint", "diffusers", "both"] = param(
        "checkpoint", label="Save as", choices=("checkpoint", "diffusers", "both")
    )
    ema: bool = param(False, label="Use EMA")
    ema_decay: float = param(0.9999, label="EMA decay", ge=0, le=1)


class Templates(Params):
    """What is said of a picture when an embedding or a hypernetwork learns it.

    template: lines of which one is taken at random, with [name] and [filewords] in them; "" for the caption itself.
    shuffle_tags, tag_drop_out: of the caption, split by commas.
    """

    template: str = param("", label="Prompt template", max_length=20_000)
    shuffle_tags: bool = param(False, label="Shuffle tags by ',' when creating prompts.")
    tag_drop_out: float = param(0.0, label="Drop out tags when creating prompts.", ge=0, le=1, step=0.1)


class EmbeddingOptions(Templates):
    """template: each of its lines has [name] in it. init_text: whose token vectors it begins with; "" for zeros.

    An embedding of that name that is there goes on from its step unless `overwrite_old` is on.
    save_image_with_stored_embedding: sample pictures carry the embedding.
    """

    template: str = param("a photo of a [name]\n[filewords], [name]", label="Prompt template", max_length=20_000)
    init_text: str = param("*", label="Initialization text", max_length=1000)
    num_vectors_per_token: int = param(1, label="Number of vectors per token", ge=1, le=75)
    overwrite_old: bool = param(False, label="Overwrite Old Embedding")
    save_image_with_stored_embedding: bool = param(True, label="Save images with embedding in PNG chunks")
    file_format: Literal["pt", "safetensors"] = param("pt", label="File format", choices=("pt", "safetensors"))


class HypernetworkOptions(Templates):
    """modules: widths of context that get networks; () for all that the file which is gone on from has, as it has them.
    layer_structure: widths of the layers as multiples, beginning and
    ending with 1. dropout_structure: a probability for each of those, "" for none.
    """

    modules: tuple[str, ...] = param(("768", "320", "640", "1280"), label="Modules", kind="multiselect")
    layer_structure: str = param("1, 2, 1", label="Enter hypernetwork layer structure", max_length=200)
    activation_func: str = param(
        "linear", label="Select activation function of hypernetwork", choices=ACTIVATIONS, max_length=40
    )
    weight_init: Literal["Normal", "KaimingUniform", "KaimingNormal", "XavierUniform", "XavierNormal"] = param(
        "Normal",
        label="Select Layer weights initialization",
        choices=("Normal", "KaimingUniform", "KaimingNormal", "XavierUniform", "XavierNormal"),
    )
    add_layer_norm: bool = param(False, label="Add layer normalization")
    use_dropout: bool = param(False, label="Use dropout")
    dropout_structure: str = param("0, 0, 0", label="Enter hypernetwork Dropout structure", max_length=200)
    overwrite_old: bool = param(False, label="Overwrite Old Hypernetwork")


class TrainingRequest(Params):
    """kind: which of the groups of options is read. name: of the files, without suffix. checkpoint: what is trained, by
    any of its names. vae: in place of the checkpoint's own, "" for that.
    """

    kind: Kind = param("lora", label="Kind of training", choices=KINDS)
    name: str = param("", label="Name", max_length=200)
    checkpoint: str = param("", label="Stable Diffusion checkpoint", choices="checkpoints")
    vae: str = param("", label="VAE", choices="vaes")
    data: DataRequest = DataRequest()
    optimization: Optimization = Optimization()
    loss: LossOptions = LossOptions()
    numerics: Numerics = Numerics()
    saving: Saving = Saving()
    samples: Samples = Samples()
    lora: LoraOptions = LoraOptions()
    dreambooth: DreamBoothOptions = DreamBoothOptions()
    embedding: EmbeddingOptions = EmbeddingOptions()
    hypernetwork: HypernetworkOptions = HypernetworkOptions()


LOG_NAME = "log.csv"
"""Of a training's log, which is listed among its job's artifacts."""
LOG_COLUMNS = ("step", "epoch", "loss", "lr", "grad_norm")


@dataclass(frozen=True)
class TrainingResult:
    """files: what was saved, as text, the last one last. steps: done, of `planned`. loss: the mean of the last ones,
    None before the first step. samples: sample pictures' files. message: a sentence for the user. log: a CSV of every
    step: LOG_COLUMNS.
    """

    files: tuple[str, ...]
    steps: int
    planned: int
    loss: float | None
    message: str
    samples: tuple[str, ...] = ()
    log: str = ""
