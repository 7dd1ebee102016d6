"""Textual inversion as A1111's Train tab does it: vectors learn what a name in prompts stands for.

Source: Gal et al. 2022, arXiv:2208.01618.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor, nn

from webui.catalog.embedding_image import TENSOR_KEY, TEXT_KEY
from webui.core.errors import BadModelFile, InvalidRequest
from webui.core.files import atomic_file, write_atomic
from webui.core.png_chunks import with_text
from webui.core.training_data import Item
from webui.diffusion.denoiser import Cond
from webui.models.families.base import LoadedModel
from webui.models.networks.embeddings import read_embedding
from webui.models.pickle_file import PickleFile
from webui.models.text_encoders import ClipEncoder
from webui.planning.training import Phase, TrainingPlan
from webui.prompts.tokenizer import ClipTokenizer
from webui.training.prompts import prompts_of
from webui.training.texts import PromptEncoder
from webui.training.trainee import Done, Trainee


class EmbeddingTrainee(Trainee):
    def __init__(self, plan: TrainingPlan, model: LoadedModel) -> None:
        super().__init__(plan, model)
        options = plan.request.embedding
        (self._text,) = model.text_encoders
        goes_on = plan.target.exists() and not options.overwrite_old
        vectors = self._read(plan.target) if goes_on else initial_vectors(self._text, options.init_text, _count(plan))
        self._step = step_of(plan.target) if goes_on else 0
        self.vectors = nn.Parameter(vectors.to(model.device, torch.float32))
        clip_skip = plan.request.numerics.clip_skip or int(plan.settings["CLIP_stop_at_last_layers"])
        self.encoder = PromptEncoder(model, clip_skip, plan.request.name, self.vectors)

    @property
    def first_step(self) -> int:
        return self._step

    def begin(self, phase: Phase) -> list[dict[str, Any]]:
        return [{"params": [self.vectors], "lr": phase.unet_lr, "part": "embedding", "weight_decay": 0.0}]

    def conds(self, items: Sequence[Item], chance: str) -> Cond:
        return self.encoder.conds(prompts_of(items, self.plan.request.embedding, self.plan.request.name, chance))

    def after_step(self, step: int) -> None:
        self._step = step

    def tensors(self) -> Mapping[str, Tensor]:
        return {"vectors": self.vectors}

    def marked(self, picture: bytes) -> bytes:
        if not self.plan.request.embedding.save_image_with_stored_embedding:
            return picture
        content = {**self._content(self._step), "string_to_param": {"*": {TENSOR_KEY: self.vectors.tolist()}}}
        return with_text(picture, TEXT_KEY, base64.b64encode(json.dumps(content).encode()).decode())

    @contextmanager
    def shown(self) -> Iterator[None]:
        """Prompts find the embedding by its file, which is as far as the training is now."""
        self._write(self.plan.target, self._step)
        yield

    def save(self, target: Path, done: Done) -> list[Path]:
        self._write(target, done.steps)
        return [target]

    def _write(self, target: Path, step: int) -> None:
        vectors = self.vectors.detach().cpu().clone()
        if target.suffix == ".safetensors":
            write_atomic(target, save({"emb_params": vectors}))
            return
        with atomic_file(target) as file:
            torch.save({**self._content(step), "string_to_param": {"*": vectors}}, file)

    def _content(self, step: int) -> dict[str, Any]:
        """What A1111's files say beside the vectors."""
        return {
            "string_to_token": {"*": 265},
            "name": self.plan.request.name,
            "step": step,
            "sd_checkpoint": self.plan.checkpoint.shorthash,
            "sd_checkpoint_name": self.plan.checkpoint.model_name,
        }

    def _read(self, path: Path) -> Tensor:
        """Raises: BadModelFile, InvalidRequest for one of another model."""
        found = read_embedding(path, self.plan.request.name).of(self._text)
        if found is None or found.shape[1] != self._text.width:
            raise InvalidRequest(
                f"{path.name} can't be gone on with: it is for another kind of model. Choose another name, or tick "
                '"Overwrite Old Embedding".'
            )
        return found


def _count(plan: TrainingPlan) -> int:
    return plan.request.embedding.num_vectors_per_token


def initial_vectors(encoder: ClipEncoder, text: str, count: int) -> Tensor:
    """(count, D) token vectors of the text, sampled evenly; zeros for no text."""
    ids = ClipTokenizer(open_clip=encoder.open_clip).encode(text)
    if not ids:
        return torch.zeros(count, encoder.width)
    table: Tensor = encoder.core.embeddings.token_embedding.weight.detach()
    rows = [ids[number * len(ids) // count] for number in range(count)]
    return table[rows].float().clone()


def step_of(path: Path) -> int:
    """The step that an embedding's or a hypernetwork's .pt was saved at, 0 where it doesn't say."""
    if path.suffix != ".pt":
        return 0
    try:
        content = PickleFile(path).content
    except BadModelFile:
        return 0
    step = content.get("step") if isinstance(content, dict) else None
    return step if type(step) is int and step > 0 else 0
