"""LoRA files with the metadata and hashes that kohya's trainers write.

Source: kohya-ss/sd-scripts; the keys that tell of data come from the dataset.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor

from webui.core.files import write_atomic
from webui.core.training import TrainingRequest
from webui.core.version import VERSION
from webui.models.families.base import LoadedModel
from webui.planning.training import FAMILIES, TrainingPlan, lora_rates
from webui.training.optimizers import spelled
from webui.training.trainee import Done

DTYPES: Mapping[str, torch.dtype] = {"float": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
ARCHITECTURES = {"sd1": "stable-diffusion-v1", "sd2": "stable-diffusion-v2-512", "sdxl": "stable-diffusion-xl-v1-base"}
LEAST = ("v2", "base_model_version", "network_module", "network_dim", "network_alpha", "network_args")
"""What a file without metadata keeps."""


def write_lora(target: Path, tensors: Mapping[str, Tensor], plan: TrainingPlan, done: Done, model: LoadedModel) -> None:
    """Raises: OSError."""
    dtype = DTYPES[plan.request.saving.save_precision]
    stored = {name: tensor.to("cpu", dtype).contiguous() for name, tensor in tensors.items()}
    metadata = kohya_metadata(plan, done)
    if plan.request.saving.no_metadata:
        metadata = {key: metadata[f"ss_{key}"] for key in LEAST}
        metadata = {f"ss_{key}": value for key, value in metadata.items()}
    metadata["sshs_model_hash"], metadata["sshs_legacy_hash"] = hashes(stored, metadata)
    if not plan.request.saving.no_metadata:
        metadata |= modelspec(plan, done, model, metadata["sshs_model_hash"])
    write_atomic(target, save(stored, metadata))


def hashes(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> tuple[str, str]:
    """SHA-256 of all that follows the header, and A1111's old short one, of a file with these metadata."""
    data = save(dict(tensors), {key: value for key, value in metadata.items() if key.startswith("ss_")})
    begin = 8 + int.from_bytes(data[:8], "little")
    legacy = hashlib.sha256(data[0x100000 : 0x100000 + 0x10000]).hexdigest()[:8]
    return hashlib.sha256(data[begin:]).hexdigest(), legacy


def kohya_metadata(plan: TrainingPlan, done: Done) -> dict[str, str]:
    """Every "ss_" key, all values texts; what has no value is "None"."""
    request = plan.request
    values = {**_of_request(request), **_of_run(plan, done), **done.facts.metadata}
    return {f"ss_{key}": _text(value) for key, value in values.items()}


def _of_run(plan: TrainingPlan, done: Done) -> dict[str, Any]:
    request, facts, checkpoint = plan.request, done.facts, plan.checkpoint
    batch, accumulated = request.optimization.train_batch_size, request.optimization.gradient_accumulation_steps
    phase = plan.phases[-1]
    return {
        "session_id": plan.seed ^ int(plan.started_at),
        "training_started_at": plan.started_at,
        "training_finished_at": done.finished_at,
        "output_name": request.name,
        "num_train_images": facts.pictures,
        "num_validation_images": 0,
        "num_reg_images": facts.prior_pictures,
        "num_batches_per_epoch": done.batches_in_epoch,
        "num_epochs": done.epochs,
        "epoch": done.epoch,
        "steps": done.steps,
        "max_train_steps": plan.steps,
        "batch_size_per_device": batch,
        "total_batch_size": batch * accumulated,
        "lr_warmup_steps": phase.schedule.warmup,
        "v2": plan.family == "sd2",
        "base_model_version": FAMILIES[plan.family],
        "seed": plan.seed,
        "sd_model_name": checkpoint.path.name,
        "sd_model_hash": checkpoint.legacy_hash or None,
        "new_sd_model_hash": checkpoint.sha256,
        "vae_name": plan.vae.name if plan.vae else None,
        "vae_hash": None,
        "new_vae_hash": plan.vae.sha256 if plan.vae else None,
        "sd_scripts_commit_hash": None,
    }


def _of_request(request: TrainingRequest) -> dict[str, Any]:
    optimization, loss, numerics, options = request.optimization, request.loss, request.numerics, request.lora
    unet, text = lora_rates(request)
    arguments = _network_args(request)
    lycoris = "algo" in arguments
    return {
        "learning_rate": optimization.learning_rate,
        "text_encoder_lr": text,
        "unet_lr": unet,
        "gradient_checkpointing": numerics.gradient_checkpointing,
        "gradient_accumulation_steps": optimization.gradient_accumulation_steps,
        "lr_scheduler": optimization.lr_scheduler,
        "optimizer": _optimizer(request),
        "max_grad_norm": optimization.max_grad_norm,
        "network_module": "lycoris.kohya" if lycoris else "networks.lora",
        "network_dim": options.network_dim,
        "network_alpha": options.network_alpha or float(options.network_dim),
        "network_dropout": options.network_dropout or None,
        "network_args": json.dumps(arguments) if arguments else None,
        "mixed_precision": numerics.mixed_precision,
        "full_fp16": False,
        "fp8_base": False,
        "fp8_base_unet": False,
        "clip_skip": numerics.clip_skip or None,
        "max_token_length": None if numerics.max_token_length == 75 else numerics.max_token_length,
        "cache_latents": numerics.cache_latents,
        "lowram": False,
        "noise_offset": loss.noise_offset or None,
        "noise_offset_random_strength": loss.noise_offset_random_strength,
        "multires_noise_iterations": loss.multires_noise_iterations or None,
        "multires_noise_discount": loss.multires_noise_discount,
        "adaptive_noise_scale": loss.adaptive_noise_scale or None,
        "zero_terminal_snr": False,
        "ip_noise_gamma": loss.ip_noise_gamma or None,
        "ip_noise_gamma_random_strength": loss.ip_noise_gamma_random_strength,
        "min_snr_gamma": loss.min_snr_gamma or None,
        "debiased_estimation": loss.debiased_estimation_loss,
        "loss_type": loss.loss_type,
        "huber_schedule": loss.huber_schedule,
        "huber_scale": loss.huber_scale,
        "huber_c": loss.huber_c,
        "scale_weight_norms": options.scale_weight_norms or None,
        "prior_loss_weight": loss.prior_loss_weight,
        "caption_dropout_rate": request.data.every.caption_dropout_rate,
        "caption_dropout_every_n_epochs": request.data.every.caption_dropout_every_n_epochs,
        "caption_tag_dropout_rate": request.data.every.caption_tag_dropout_rate,
        "face_crop_aug_range": request.data.every.face_crop_aug_range or None,
        "resize_interpolation": request.data.resize_interpolation or None,
        "validation_seed": None,
        "validation_split": 0.0,
        "validate_every_n_epochs": None,
        "validate_every_n_steps": None,
        "resolution": _resolution(request.data.resolution),
        "color_aug": request.data.every.color_aug,
        "flip_aug": request.data.every.flip_aug,
        "random_crop": request.data.every.random_crop,
        "shuffle_caption": request.data.every.shuffle_caption,
        "keep_tokens": request.data.every.keep_tokens,
        "enable_bucket": request.data.enable_bucket,
        "bucket_no_upscale": request.data.bucket_no_upscale,
        "min_bucket_reso": request.data.min_bucket_reso,
        "max_bucket_reso": request.data.max_bucket_reso,
        "bucket_info": None,
        "dataset_dirs": {},
        "reg_dataset_dirs": {},
        "tag_frequency": {},
        "training_comment": request.saving.training_comment or None,
    }


def _optimizer(request: TrainingRequest) -> str:
    from webui.planning.training import read_arguments

    optimization = request.optimization
    return spelled(optimization.optimizer_type, read_arguments(optimization.optimizer_args))


def _resolution(text: str) -> str:
    """'512' and '512,768' as kohya writes it: "(512, 768)"."""
    sides = [int(side) for side in text.replace("x", ",").split(",")]
    return str((sides[0], sides[-1]))


def _network_args(request: TrainingRequest) -> dict[str, str]:
    """kohya's network_args, those that differ from their defaults; LyCORIS' name their algorithm."""
    options, defaults = request.lora, type(request.lora)()
    told: dict[str, Any] = {}
    lycoris = options.dora or options.algo in ("loha", "lokr")
    if lycoris:
        told["algo"] = options.algo
        told |= {"dora_wd": True} if options.dora else {}
    if options.conv_dim:
        told |= {"conv_dim": options.conv_dim, "conv_alpha": options.conv_alpha or options.conv_dim}
    for name in (
        *("block_dims", "block_alphas", "conv_block_dims", "conv_block_alphas", "down_lr_weight", "mid_lr_weight"),
        *("up_lr_weight", "block_lr_zero_threshold", "rank_dropout", "module_dropout", "loraplus_lr_ratio", "factor"),
        *("use_tucker", "rs_lora", "decompose_both", "full_matrix", "wd_on_output"),
    ):
        value = getattr(options, name)
        if value != getattr(defaults, name):
            told[name] = value
    return {key: str(value) for key, value in told.items()}


def modelspec(plan: TrainingPlan, done: Done, model: LoadedModel, digest: str) -> dict[str, str]:
    """The keys of sai_model_spec 1.0.1."""
    kind = "lycoris" if "algo" in _network_args(plan.request) else "lora"
    architecture = ARCHITECTURES[plan.family]
    if plan.family == "sd2" and model.capabilities.prediction == "v":
        architecture = "stable-diffusion-v2-768-v"
    implementation = "https://github.com/Stability-AI/generative-models"
    spec = {
        "sai_model_spec": "1.0.1",
        "architecture": f"{architecture}/{kind}",
        "implementation": implementation if plan.family == "sdxl" else "https://github.com/CompVis/stable-diffusion",
        "title": plan.request.name,
        "resolution": "{}x{}".format(*done.facts.largest),
        "date": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(done.finished_at)),
        "prediction_type": "v" if model.capabilities.prediction == "v" else "epsilon",
        "hash_sha256": f"0x{digest}",
        "description": f"Trained with Easel {VERSION}",
    }
    if plan.request.numerics.clip_skip and plan.family == "sd1":
        spec["encoder_layer"] = str(plan.request.numerics.clip_skip)
    return {f"modelspec.{key}": value for key, value in spec.items()}


def _text(value: Any) -> str:
    return json.dumps(value) if isinstance(value, dict | list) else str(value)
