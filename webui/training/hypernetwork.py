"""Hypernetworks as A1111's Train tab makes them: small networks before the keys and values of attention."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from webui.core.errors import InvalidRequest
from webui.core.files import atomic_file
from webui.core.training import HypernetworkOptions
from webui.core.training_data import Item
from webui.diffusion.denoiser import Cond
from webui.models.families.base import LoadedModel
from webui.models.networks.hypernetworks import Hypernetwork, Structure, read_hypernetwork
from webui.models.pickle_file import PickleFile
from webui.planning.training import Phase, TrainingPlan, check_hypernetwork
from webui.training.embedding import step_of
from webui.training.prompts import is_varied, prompts_of
from webui.training.texts import PromptEncoder
from webui.training.trainee import Done, Trainee

MOST_KEPT = 1000


class HypernetworkTrainee(Trainee):
    """pairs: width of the context -> networks for keys and for values."""

    def __init__(self, plan: TrainingPlan, model: LoadedModel) -> None:
        super().__init__(plan, model)
        goes_on = plan.target.exists() and not plan.request.hypernetwork.overwrite_old
        options = self.options = _options_of(plan, goes_on=goes_on)
        self._widths, self._dropouts = check_hypernetwork(options)
        self._step = 0
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(plan.seed)
            self.pairs = {int(width): self._new_pair(int(width), options) for width in options.modules}
        if goes_on:
            self._go_on_from(plan.target)
        for pair in self.pairs.values():
            for network in pair:
                network.to(model.device).train()
        self._attached = ExitStack()
        count = self._attached.enter_context(Hypernetwork(plan.request.name, self.pairs).attached(model.unet, 1.0))
        if not count:
            self._attached.close()
            raise InvalidRequest(
                f"The model's attention has no context of the widths {', '.join(options.modules)}; choose others."
            )
        clip_skip = plan.request.numerics.clip_skip or int(plan.settings["CLIP_stop_at_last_layers"])
        self.encoder = PromptEncoder(model, clip_skip)
        self._kept: dict[str, Tensor] = {}

    @property
    def first_step(self) -> int:
        return self._step

    def begin(self, phase: Phase) -> list[dict[str, Any]]:
        weights = [weight for pair in self.pairs.values() for network in pair for weight in network.parameters()]
        return [{"params": weights, "lr": phase.unet_lr, "part": "hypernetwork"}]

    def conds(self, items: Sequence[Item], chance: str) -> Cond:
        options = self.plan.request.hypernetwork
        prompts = prompts_of(items, options, self.plan.request.name, chance)
        if is_varied(options) or len(prompts) > 1:
            return self.encoder.conds(prompts)
        (prompt,) = prompts
        if prompt not in self._kept and len(self._kept) < MOST_KEPT:
            self._kept[prompt] = self.encoder.conds(prompts).context
        return Cond(self._kept[prompt]) if prompt in self._kept else self.encoder.conds(prompts)

    def tensors(self) -> Mapping[str, Tensor]:
        return {
            f"{width}.{side}.{name}": weight
            for width, pair in self.pairs.items()
            for side, network in enumerate(pair)
            for name, weight in network.named_parameters()
        }

    def save(self, target: Path, done: Done) -> list[Path]:
        options = self.options
        content: dict[Any, Any] = {
            width: tuple(
                {f"linear.{name}": weight.detach().cpu().clone() for name, weight in network.state_dict().items()}
                for network in pair
            )
            for width, pair in self.pairs.items()
        }
        content |= {
            "step": done.steps,
            "name": self.plan.request.name,
            "layer_structure": self._widths,
            "activation_func": options.activation_func,
            "is_layer_norm": options.add_layer_norm,
            "weight_initialization": options.weight_init,
            "sd_checkpoint": self.plan.checkpoint.shorthash,
            "sd_checkpoint_name": self.plan.checkpoint.model_name,
            "activate_output": True,
            "use_dropout": options.use_dropout,
            "dropout_structure": self._dropouts if options.use_dropout else None,
            "last_layer_dropout": bool(options.use_dropout and len(self._dropouts) > 2 and self._dropouts[-2]),
            "optional_info": None,
        }
        with atomic_file(target) as file:
            torch.save(content, file)
        return [target]

    @contextmanager
    def shown(self) -> Iterator[None]:
        networks = [network for pair in self.pairs.values() for network in pair]
        for network in networks:
            network.eval()
        try:
            yield
        finally:
            for network in networks:
                network.train()

    def close(self) -> None:
        self._attached.close()

    def _new_pair(self, width: int, options: HypernetworkOptions) -> tuple[nn.Module, nn.Module]:
        structure = Structure(
            tuple(self._widths),
            options.activation_func.lower(),
            options.add_layer_norm,
            True,
            tuple(dropout > 0 for dropout in self._dropouts),
        )
        first, second = (structure.build(width, self._dropouts) for _ in range(2))
        for network in (first, second):
            for layer in network:
                initialise(layer, options.weight_init, leaky=options.activation_func.lower() == "leakyrelu")
        return first, second

    def _go_on_from(self, path: Path) -> None:
        """Raises: BadModelFile, InvalidRequest for one of another structure."""
        there = read_hypernetwork(path)
        for width, pair in self.pairs.items():
            for network, stored in zip(pair, there.pairs.get(width, (nn.Identity(), nn.Identity())), strict=True):
                try:
                    network.load_state_dict(stored.state_dict())
                except RuntimeError:
                    raise InvalidRequest(
                        f"{path.name} can't be gone on with: it has other layers or widths. Give those that it was "
                        'made with, or tick "Overwrite Old Hypernetwork".'
                    ) from None
        self._step = step_of(path)


def _options_of(plan: TrainingPlan, *, goes_on: bool) -> HypernetworkOptions:
    """Those of the request, or of the file that is gone on from where the request leaves them to it."""
    options = plan.request.hypernetwork
    if options.modules or not goes_on:
        return options
    content = PickleFile(plan.target).content
    assert isinstance(content, dict), "only dicts are taken for hypernetworks"
    dropouts = content.get("dropout_structure")
    return options.replace(
        modules=tuple(str(key) for key in content if isinstance(key, int)),
        layer_structure=", ".join(map(str, content.get("layer_structure") or (1, 2, 1))),
        activation_func=content.get("activation_func") or "linear",
        weight_init=content.get("weight_initialization") or "Normal",
        add_layer_norm=bool(content.get("is_layer_norm")),
        use_dropout=bool(content.get("use_dropout") and dropouts),
        dropout_structure=", ".join(map(str, dropouts or (0,))),
    )


def initialise(layer: nn.Module, how: str, *, leaky: bool) -> None:
    """A new layer's weights, so small that the networks change next to nothing at first."""
    if not isinstance(layer, nn.Linear | nn.LayerNorm):
        return
    if how == "Normal" or isinstance(layer, nn.LayerNorm):
        nn.init.normal_(layer.weight, std=0.01)
        nn.init.zeros_(layer.bias)
        return
    slope: Literal["leaky_relu", "relu"] = "leaky_relu" if leaky else "relu"
    if how == "KaimingUniform":
        nn.init.kaiming_uniform_(layer.weight, nonlinearity=slope)
    elif how == "KaimingNormal":
        nn.init.kaiming_normal_(layer.weight, nonlinearity=slope)
    elif how == "XavierUniform":
        nn.init.xavier_uniform_(layer.weight)
    else:
        nn.init.xavier_normal_(layer.weight)
    nn.init.zeros_(layer.bias)
