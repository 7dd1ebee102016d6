"""DreamBooth: the checkpoint's own weights learn a subject. Source: Ruiz et al. 2022, arXiv:2208.12242.

Sequential, as fast-DreamBooth does it: first the text encoder, beside which the U-Net may learn to be put back
afterwards, then the U-Net with the text encoder as it has become. Or jointly, as kohya's trainer does it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from webui.core.training_data import Item
from webui.diffusion.denoiser import Cond
from webui.models.families.base import LoadedModel
from webui.models.registry import open_checkpoint
from webui.planning.training import Phase, TrainingPlan
from webui.training.checkpoint_files import write_checkpoint, write_diffusers_folder
from webui.training.texts import CaptionEncoder
from webui.training.trainee import Done, Trainee


class DreamBoothTrainee(Trainee):
    parts = ("unet", "text_encoders")
    halves = False

    def __init__(self, plan: TrainingPlan, model: LoadedModel) -> None:
        super().__init__(plan, model)
        numerics = plan.request.numerics
        self.encoder = CaptionEncoder(model, max(numerics.clip_skip, 1), numerics.max_token_length)
        learns_text = any(phase.text_lr for phase in plan.phases)
        texts = {f"te{number}": encoder.module for number, encoder in enumerate(model.text_encoders)}
        self._modules: dict[str, nn.Module] = {"unet": model.unet, **(texts if learns_text else {})}
        decay = plan.request.dreambooth.ema
        self._means = {name: weight.detach().clone() for name, weight in self._weights().items()} if decay else {}

    def begin(self, phase: Phase) -> list[dict[str, Any]]:
        groups = []
        for part, rate in (("unet", phase.unet_lr), ("text", phase.text_lr)):
            modules = [module for name, module in self._modules.items() if (name == "unet") == (part == "unet")]
            weights = [weight for module in modules for weight in module.parameters()]
            for weight in weights:
                weight.requires_grad_(rate > 0)
            if rate and weights:
                groups.append({"params": weights, "lr": rate, "part": part})
        self.encoder.forget()
        self.encoder.keep = not phase.text_lr
        return groups

    def end(self, phase: Phase) -> None:
        is_first = len(self.plan.phases) > 1 and phase is self.plan.phases[0]
        if is_first and phase.unet_lr:
            self._put_unet_back()

    def conds(self, items: Sequence[Item], chance: str) -> Cond:
        return self.encoder.conds(items)

    def after_step(self, step: int) -> None:
        if not self._means:
            return
        highest = self.plan.request.dreambooth.ema_decay
        decay = min(highest, (1 + step) / (10 + step))
        with torch.no_grad():
            for name, weight in self._weights().items():
                self._means[name].lerp_(weight, 1 - decay)

    def tensors(self) -> Mapping[str, Tensor]:
        return {**self._weights(), **{f"mean.{name}": mean for name, mean in self._means.items()}}

    def save(self, target: Path, done: Done) -> list[Path]:
        written = []
        with self.shown():
            kind = self.plan.request.dreambooth.save_as
            if kind in ("checkpoint", "both"):
                written += write_checkpoint(target, self.plan, self.model)
            if kind in ("diffusers", "both"):
                written.append(write_diffusers_folder(target.with_suffix(""), self.plan, self.model))
        return written

    @contextmanager
    def shown(self) -> Iterator[None]:
        """With EMA, its weights stand in the model while inside."""
        weights = self._weights() if self._means else {}
        own = {name: weight.detach().clone() for name, weight in weights.items()}
        with torch.no_grad():
            for name, weight in weights.items():
                weight.copy_(self._means[name])
        try:
            yield
        finally:
            with torch.no_grad():
                for name, weight in weights.items():
                    weight.copy_(own[name])

    def _weights(self) -> dict[str, nn.Parameter]:
        return {
            f"{name}.{key}": weight
            for name, module in self._modules.items()
            for key, weight in module.named_parameters()
        }

    def _put_unet_back(self) -> None:
        """The U-Net as it is in the file."""
        blueprint = open_checkpoint(self.plan.checkpoint)
        blueprint.network.fill(blueprint.file.tensors, torch.float32, torch.device("cpu"))
        stored = blueprint.network.module.state_dict()
        with torch.no_grad():
            for name, weight in self.model.unet.named_parameters():
                weight.copy_(stored[name])
                if self._means:
                    self._means[f"unet.{name}"].copy_(stored[name])
