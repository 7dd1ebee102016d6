"""Trained checkpoints as files: one in LDM's layout, or a folder as diffusers has it."""

from __future__ import annotations

import json
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from webui.core.files import atomic_file, write_atomic
from webui.core.version import VERSION
from webui.models.components import Component, Source
from webui.models.families.base import Blueprint, LoadedModel
from webui.models.registry import open_checkpoint
from webui.models.weights import WeightsFile
from webui.models.weights_writer import Entry, in_writing_order, write_safetensors
from webui.planning.training import TrainingPlan
from webui.prompts.tokenizer import clip_vocabulary, read_merges
from webui.training.lora_file import DTYPES

LEFT_OUT = ("model_ema.",)
SCHEDULE = ("betas", "alphas_cumprod", "sqrt_", "posterior_", "log_one_minus_", "logvar")


def write_checkpoint(target: Path, plan: TrainingPlan, model: LoadedModel) -> list[Path]:
    """The checkpoint with the model's weights in place of its own, under the names that it has there.

    Everything else in the file stays, except for old running means and tables that can be computed. Its .yaml goes
    along. Returns: the files. Raises: OSError.
    """
    blueprint = open_checkpoint(plan.checkpoint)
    file, dtype = blueprint.file.tensors, DTYPES[plan.request.saving.save_precision]
    trained = dict(_trained(blueprint, model))
    kept = [name for name in file.shapes if not name.startswith((*LEFT_OUT, *SCHEDULE))]
    entries = in_writing_order(
        Entry(name, dtype if file.dtypes[name].is_floating_point else file.dtypes[name], tuple(file.shapes[name]))
        for name in kept
    )

    def tensors() -> Iterator[Tensor]:
        for entry in entries:
            whole = _joined(trained[entry.name], file, entry.name) if entry.name in trained else file.tensor(entry.name)
            yield whole.detach().to("cpu", entry.dtype).reshape(entry.shape)

    with atomic_file(target) as written:
        write_safetensors(written, entries, tensors(), _metadata(plan, file.metadata))
    files = [target]
    config = plan.checkpoint.config
    if config is not None and config.is_file():
        beside = target.with_suffix(".yaml")
        write_atomic(beside, config.read_bytes())
        files.insert(0, beside)
    return files


def _trained(blueprint: Blueprint, model: LoadedModel) -> Iterator[tuple[str, list[tuple[Source, Tensor]]]]:
    """Name in the file -> the weights that it is put together of."""
    places: dict[str, list[tuple[Source, Tensor]]] = {}
    encoders = [encoder.module for encoder in model.text_encoders]
    components: list[tuple[Component, nn.Module]] = [(blueprint.network, model.unet)]
    components += list(zip(blueprint.texts, encoders, strict=True))
    for component, module in components:
        weights = module.state_dict()
        for key, source in component.sources.items():
            places.setdefault(source.key, []).append((source, weights[key]))
    yield from places.items()


def _joined(parts: list[tuple[Source, Tensor]], file: WeightsFile, name: str) -> Tensor:
    """The stored tensor of its parts: the opposite of `Source.read`."""
    whole = [weight for _, weight in sorted(parts, key=lambda part: part[0].part)]
    source = parts[0][0]
    if source.transposed:
        return whole[0].T
    if source.swapped:
        return torch.cat(whole[0].chunk(2)[::-1])
    if len(whole) != source.parts:  # a layer of which only some parts are loaded
        stored = list(file.tensor(name).chunk(source.parts))
        for each, weight in parts:
            stored[each.part] = weight.cpu()
        whole = stored
    return torch.cat(whole) if len(whole) > 1 else whole[0]


def _metadata(plan: TrainingPlan, base: Mapping[str, str]) -> dict[str, str]:
    """The base's own, and how it was trained."""
    request = plan.request.model_dump(mode="json", include={"kind", "dreambooth", "optimization", "loss", "numerics"})
    told = {"name": plan.request.name, "base": plan.checkpoint.title, "seed": plan.seed, **request}
    return {
        **base,
        "modelspec.title": plan.request.name,
        "modelspec.date": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime()),
        **({"modelspec.description": comment} if (comment := plan.request.saving.training_comment) else {}),
        "easel_training": json.dumps({"version": VERSION, **told}),
        "format": "pt",
    }


def write_diffusers_folder(target: Path, plan: TrainingPlan, model: LoadedModel) -> Path:
    """A folder that diffusers' `from_pretrained` loads. Returns: the folder. Raises: OSError; nothing is left then."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{target.name}.", suffix=".tmp", dir=target.parent) as made:
        folder = Path(made) / target.name
        _pipeline(model, Path(made), DTYPES[plan.request.saving.save_precision]).save_pretrained(folder)
        if target.exists():
            shutil.rmtree(target)
        folder.replace(target)
    return target


def _pipeline(model: LoadedModel, scratch: Path, dtype: torch.dtype) -> Any:
    from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
    from diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion import StableDiffusionPipeline
    from diffusers.pipelines.stable_diffusion_xl.pipeline_stable_diffusion_xl import StableDiffusionXLPipeline
    from diffusers.schedulers.scheduling_ddim import DDIMScheduler

    with torch.device("meta"):
        unet = UNet2DConditionModel.from_config(dict(model.unet.config))
    unet.load_state_dict(_copied(model.unet, dtype), assign=True)
    betas = 1 - model.alphas_cumprod / torch.cat([torch.ones(1), model.alphas_cumprod[:-1]])
    scheduler = DDIMScheduler(
        trained_betas=[float(beta) for beta in betas],
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
        prediction_type="v_prediction" if model.capabilities.prediction == "v" else "epsilon",
    )
    texts = {"text_encoder": model.text_encoders[0].module}
    tokenizers = {"tokenizer": _tokenizer(scratch / "tokenizer", open_clip=model.text_encoders[0].open_clip)}
    if len(model.text_encoders) > 1:
        texts["text_encoder_2"] = model.text_encoders[1].module
        tokenizers["tokenizer_2"] = _tokenizer(scratch / "tokenizer_2", open_clip=True)
    half = {name: _clone(module, dtype) for name, module in texts.items()}
    vae = _clone(model.vae.module, dtype)
    if model.family == "sdxl":
        return StableDiffusionXLPipeline(vae=vae, unet=unet, scheduler=scheduler, **half, **tokenizers)
    return StableDiffusionPipeline(
        vae=vae,
        unet=unet,
        scheduler=scheduler,
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
        **half,
        **tokenizers,
    )


def _copied(module: nn.Module, dtype: torch.dtype) -> dict[str, Tensor]:
    return {name: weight.detach().to("cpu", dtype).contiguous() for name, weight in module.state_dict().items()}


def _clone(module: Any, dtype: torch.dtype) -> Any:
    """The module on the CPU in another dtype; the model's own stays as it is."""
    with torch.device("meta"):
        clone = (
            type(module)(module.config)
            if hasattr(module.config, "to_dict")
            else type(module).from_config(dict(module.config))
        )
    clone.load_state_dict(_copied(module, dtype), assign=True)
    return clone


def _tokenizer(folder: Path, *, open_clip: bool) -> Any:
    """CLIP's tokenizer as transformers has it, made of the vocabulary that Easel has."""
    from transformers import CLIPTokenizer

    folder.mkdir()
    merges = read_merges()
    (folder / "vocab.json").write_text(json.dumps(clip_vocabulary(merges), ensure_ascii=False), encoding="utf-8")
    lines = ["#version: 0.2", *(" ".join(pair) for pair in merges)]
    (folder / "merges.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    pad = "!" if open_clip else "<|endoftext|>"
    return CLIPTokenizer(str(folder / "vocab.json"), str(folder / "merges.txt"), pad_token=pad, model_max_length=77)
