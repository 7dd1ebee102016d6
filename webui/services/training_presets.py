"""Sets of values to begin a training with, by dotted path of the request."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from typing import Any

from webui.services.services import Services

LORA_RUN = "LoRA, 25 epochs (kohya)"
DREAMBOOTH_RUN = "DreamBooth, 20 pictures (fast-DreamBooth)"

_PICTURES = {
    "data.resolution": "512",
    "data.min_bucket_reso": 256,
    "data.max_bucket_reso": 1024,
    "data.bucket_reso_steps": 64,
    "data.bucket_no_upscale": False,
}
PRESETS: Mapping[str, Mapping[str, Mapping[str, Any]]] = {
    "lora": {
        LORA_RUN: {
            **_PICTURES,
            "data.enable_bucket": True,
            "data.every.num_repeats": 10,
            "data.every.caption_dropout_rate": 0.0,
            "data.every.caption_tag_dropout_rate": 0.0,
            "data.every.caption_dropout_every_n_epochs": 0,
            "data.every.color_aug": False,
            "data.every.shuffle_caption": True,
            "data.every.keep_tokens": 0,
            "lora.network_dim": 32,
            "lora.network_alpha": 16.0,
            "optimization.optimizer_type": "AdamW",
            "optimization.learning_rate": 1e-4,
            "optimization.lr_scheduler": "constant",
            "optimization.lr_warmup_steps": 0.0,
            "optimization.max_grad_norm": 1.0,
            "optimization.train_batch_size": 3,
            "optimization.gradient_accumulation_steps": 1,
            "optimization.max_train_epochs": 25,
            "saving.save_precision": "fp16",
            "saving.save_every_n_epochs": 5,
            "numerics.mixed_precision": "fp16",
            "numerics.clip_skip": 2,
            "numerics.max_token_length": 225,
            "numerics.gradient_checkpointing": False,
            "numerics.cache_latents": True,
            "numerics.vae_batch_size": 4,
            "loss.prior_loss_weight": 1.0,
            "loss.noise_offset": 0.0,
        },
    },
    "dreambooth": {
        DREAMBOOTH_RUN: {
            **_PICTURES,
            "data.enable_bucket": False,
            "data.crop": "focal",
            "data.resize_interpolation": "bilinear",
            "data.prior": "paired",
            "data.caption_from": "name",
            "data.name_and_file": False,
            "dreambooth.te_mode": "sequential",
            "dreambooth.te_steps": 350,
            "dreambooth.te_learning_rate": 1e-6,
            "dreambooth.te_phase_unet": True,
            "dreambooth.unet_steps": 3300,
            "dreambooth.unet_learning_rate": 2e-6,
            "optimization.optimizer_type": "AdamW8bit",
            "optimization.train_batch_size": 1,
            "optimization.gradient_accumulation_steps": 1,
            "optimization.max_grad_norm": 1.0,
            "numerics.mixed_precision": "fp16",
            "loss.noise_offset": 0.0,
            "saving.save_precision": "fp16",
        },
    },
}
"""The two reference runs. Sources: Linaqruf's kohya-LoRA-dreambooth notebook, TheLastBen's fast-DreamBooth notebook."""


def presets_here(services: Services, kind: str) -> dict[str, dict[str, Any]]:
    """The presets of a kind by name: their values as this machine can run them, and sentences about what is changed."""
    return {name: _fitted(services, dict(values)) for name, values in PRESETS[kind].items()}


def _fitted(services: Services, values: dict[str, Any]) -> dict[str, Any]:
    notes = []
    machine = services.machine.provenance
    if values["numerics.mixed_precision"] == "fp16" and machine is not None and machine.device != "cuda":
        values["numerics.mixed_precision"] = "no"
        notes.append(
            f'Mixed precision is "no" in place of "fp16", which needs an NVIDIA graphics card; this machine trains on '
            f"its {machine.device}."
        )
    if "8bit" in values["optimization.optimizer_type"] and importlib.util.find_spec("bitsandbytes") is None:
        values["optimization.optimizer_type"] = "AdamW"
        notes.append(
            "The optimizer is AdamW in place of AdamW8bit, which takes less memory and needs the package bitsandbytes."
        )
    return {"values": values, "notes": notes}
