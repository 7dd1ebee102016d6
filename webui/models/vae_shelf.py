"""VAE files: read, kept, and put in a model's place of its own while a job wants them."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL

from webui.catalog.model_hints import read_hints
from webui.catalog.vaes import Method, VaeFile, VaeUse
from webui.core.errors import BadModelFile
from webui.models.components import Component, Source
from webui.models.devices import Placement
from webui.models.families.base import LoadedModel
from webui.models.ldm_vae import build_vae, ldm_vae_keys, read_vae_layout
from webui.models.tiny_vae import Side, TinyVae, find_tiny, open_tiny
from webui.models.vae import Vae
from webui.models.weights import WeightsFile, open_weights

log = logging.getLogger(__name__)

PREFIXES = ("", "first_stage_model.", "vae.")
RETRIES = {"fp32": torch.float32, "bf16": torch.bfloat16, None: None}
KEPT = 2
"""VAE files in memory beside those that the setting `sd_vae_checkpoint_cache` asks for."""


class VaeShelf:
    """Opens VAE files and TAESD once and keeps the last ones used. One thread uses it.

    models: the folder that holds VAE-taesd.
    """

    def __init__(self, models: Path):
        self.models = models
        self._modules: dict[tuple[object, ...], AutoencoderKL] = {}
        self._tiny: dict[tuple[object, ...], TinyVae] = {}

    @contextmanager
    def used(self, model: LoadedModel, use: VaeUse, kept: int = 0) -> Iterator[None]:
        """Let `model` encode and decode as `use` says until the context ends. kept: VAE files to keep beyond two.

        Raises: BadModelFile for a VAE that can't be read or doesn't fit the model, NotFound when TAESD isn't there.
        """
        own = model.vae
        module = own.module if use.file is None else self._module(use.file, model, KEPT + kept)
        model.vae = Vae(
            module,
            own.scale,
            own.shift,
            retry=RETRIES[use.retry],
            tiny_encoder=self._half(use.encoder, model, "encoder"),
            tiny_decoder=self._half(use.decoder, model, "decoder"),
            tiny=lambda: self.tiny(model, "decoder"),
        )
        with ExitStack() as stack:
            stack.callback(setattr, model, "vae", own)
            if model.turns is not None and module is not own.module:
                stack.enter_context(model.turns.joined(module))
            yield

    def _half(self, method: Method, model: LoadedModel, side: Side) -> TinyVae | None:
        return self.tiny(model, side) if method == "TAESD" else None

    def tiny(self, model: LoadedModel, side: Side) -> TinyVae:
        """Raises: NotFound, BadModelFile."""
        path = find_tiny(self.models, model.family, side)
        placement, stat = model.placement, path.stat()
        key = (path, side, stat.st_size, stat.st_mtime_ns, placement.device, placement.vae)
        if key not in self._tiny:
            self._tiny[key] = open_tiny(path, side, placement.vae, placement.device)
        return self._tiny[key]

    def _module(self, file: VaeFile, model: LoadedModel, kept: int) -> AutoencoderKL:
        groups = model.vae.module.config.norm_num_groups
        placement = model.placement if model.turns is None else replace(model.placement, device=model.turns.away)
        key = (file.identity, placement.device, placement.vae, model.capabilities.latent_channels, groups)
        module = self._modules.pop(key, None)
        if module is None:
            started = time.perf_counter()
            module = open_vae(file.path, placement, model.capabilities.latent_channels, groups)
            log.info("%s loaded in %.1f s", file.name, time.perf_counter() - started)
        self._modules[key] = module  # in order of last use
        for old in list(self._modules)[:-kept]:
            del self._modules[old]
        return module


def open_vae(path: Path, placement: Placement, latent_channels: int, groups: int) -> AutoencoderKL:
    """The autoencoder of a VAE file on its device: LDM's names or diffusers', with or without a prefix.

    groups: of its norms, if nothing beside the file says otherwise. Raises: BadModelFile with one sentence.
    """
    file = open_weights(path)
    prefix = _prefix(file)
    layout = read_vae_layout(file.shapes, prefix, path.name)
    if layout.latent_channels != latent_channels:
        raise BadModelFile(
            f"{path.name} makes latents of {layout.latent_channels} channels, the checkpoint needs {latent_channels}; "
            "choose a VAE of its family."
        )
    config = path.with_suffix(".yaml")
    hints = read_hints(path.name, file.metadata, config if config.is_file() else None)
    groups = hints.vae_norm_num_groups or groups
    if any(width % groups for width in layout.widths):
        raise BadModelFile(f"{path.name}: its channels {list(layout.widths)} can't be split into {groups} norm groups.")
    module = build_vae(layout, groups, 1.0, 512)
    keys = ldm_vae_keys(layout, module.state_dict(), prefix, file.shapes)
    component = Component("VAE", module, {key: Source(stored) for key, stored in keys.items()})
    component.check(file)
    component.fill(file, placement.vae, placement.device, placement.channels_last)
    return module


def _prefix(file: WeightsFile) -> str:
    for prefix in PREFIXES:
        if f"{prefix}decoder.conv_in.weight" in file.shapes:
            return prefix
    raise BadModelFile(f"{file.path.name} is not a VAE: it lacks decoder.conv_in.weight.")
