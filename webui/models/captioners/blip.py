"""BLIP, which writes a sentence about a picture, and CLIP, which finds the lines of a list that suit it.

Both in the layout of transformers: a folder with config.json, weights and tokenizer.json. No code of theirs is run.
Source: Li et al. 2022, arXiv:2201.12086; Radford et al. 2021, arXiv:2103.00020.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from webui.catalog.captioners import VOCABULARIES, WEIGHTS
from webui.core.errors import BadModelFile
from webui.models.weights import open_weights

MEAN, SPREAD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
LONGEST = 77
"""Tokens of a line that CLIP sees."""
LINES_AT_ONCE = 64


class Blip:
    """folder: of the network. Raises: BadModelFile."""

    def __init__(self, folder: Path, device: torch.device) -> None:
        from transformers import BlipConfig, BlipForConditionalGeneration

        config = _config(folder, BlipConfig, "blip")
        self._model = _filled(folder, BlipForConditionalGeneration, config, device)
        self._tokenizer = _tokenizer(folder)
        self._side, self._device = config.vision_config.image_size, device

    @torch.inference_mode()
    def describe(self, images: Sequence[Image.Image], beams: int, least: int, most: int) -> list[str]:
        """A sentence of between `least` and `most` tokens for each. beams: how many beginnings are followed at once."""
        size = (self._side, self._side)
        given = [_as_tensor(image.resize(size, Image.Resampling.BICUBIC), self._device) for image in images]
        lengths = {"min_length": min(least, most), "max_length": most}
        found = self._model.generate(pixel_values=torch.cat(given), num_beams=beams, do_sample=False, **lengths)
        return [str(self._tokenizer.decode(ids, skip_special_tokens=True)).strip() for ids in found.tolist()]


class Clip:
    """folder: of the network. Raises: BadModelFile."""

    def __init__(self, folder: Path, device: torch.device) -> None:
        from transformers import CLIPConfig, CLIPModel

        config = _config(folder, CLIPConfig, "clip")
        self._model = _filled(folder, CLIPModel, config, device)
        self._tokenizer = _tokenizer(folder)
        self._tokenizer.enable_truncation(min(LONGEST, config.text_config.max_position_embeddings))
        self._end = config.text_config.eos_token_id
        self._side, self._device = config.vision_config.image_size, device

    @torch.inference_mode()
    def rank(self, image: Image.Image, lines: Sequence[str], count: int) -> list[tuple[str, float]]:
        """The lines that suit the picture best, each with its share of 100."""
        seen = self._picture_vector(image)
        written = torch.cat(
            [self._text_vectors(lines[at : at + LINES_AT_ONCE]) for at in range(0, len(lines), LINES_AT_ONCE)]
        )
        shares = (100 * seen @ written.T).softmax(-1)[0]
        best = shares.topk(min(count, len(lines)))
        return [(lines[at], share * 100) for share, at in zip(best.values.tolist(), best.indices.tolist(), strict=True)]

    def _picture_vector(self, image: Image.Image) -> Tensor:
        scale = self._side / min(image.size)
        size = (max(self._side, round(image.width * scale)), max(self._side, round(image.height * scale)))
        large = image.resize(size, Image.Resampling.BICUBIC)
        left, top = (size[0] - self._side) // 2, (size[1] - self._side) // 2
        middle = large.crop((left, top, left + self._side, top + self._side))
        vision = self._model.vision_model(pixel_values=_as_tensor(middle, self._device)).pooler_output
        return _unit(self._model.visual_projection(vision))

    def _text_vectors(self, lines: Sequence[str]) -> Tensor:
        tokens = [self._tokenizer.encode(line).ids for line in lines]
        longest = max(map(len, tokens))
        given = torch.tensor([ids + [self._end] * (longest - len(ids)) for ids in tokens], device=self._device)
        mask = torch.tensor([[1] * len(ids) + [0] * (longest - len(ids)) for ids in tokens], device=self._device)
        text = self._model.text_model(input_ids=given, attention_mask=mask).pooler_output
        return _unit(self._model.text_projection(text))


def _unit(vectors: Tensor) -> Tensor:
    return vectors / vectors.norm(dim=-1, keepdim=True)


def _as_tensor(image: Image.Image, device: torch.device) -> Tensor:
    pixels = (np.asarray(image, dtype=np.float32) / 255 - np.array(MEAN, np.float32)) / np.array(SPREAD, np.float32)
    return torch.from_numpy(pixels).permute(2, 0, 1)[None].to(device)


def _config(folder: Path, kind: Any, model_type: str) -> Any:
    """Raises: BadModelFile for a network of another kind."""
    try:
        told = json.loads((folder / "config.json").read_text("utf-8"))
        if told["model_type"] != model_type:
            raise BadModelFile(f"{folder.name} is a {str(told['model_type'])[:40]}, not a {model_type}.")
        return kind.from_dict(told)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BadModelFile(f"{folder.name}/config.json describes no {model_type}.") from error


def _filled(folder: Path, kind: Any, config: Any, device: torch.device) -> Any:
    """The network with its weights. Raises: BadModelFile when they don't fit it."""
    path = next(folder / name for name in WEIGHTS if (folder / name).is_file())
    file = open_weights(path)
    try:
        model = kind(config)
        weights = {name: file.tensor(name).float().clone() for name in file.shapes}
        missing, _ = model.load_state_dict(weights, strict=False)
        model.tie_weights()
    except (RuntimeError, ValueError, TypeError, AttributeError) as error:
        words = " ".join(str(error).split())[:200]
        raise BadModelFile(f"{folder.name}/{path.name} doesn't fit its config.json: {words}") from error
    tied = set(getattr(model, "_tied_weights_keys", None) or ())
    lacking = [name for name in missing if name not in tied and not name.endswith("position_ids")]
    if lacking:
        raise BadModelFile(f"{folder.name}/{path.name} lacks {len(lacking)} tensors, such as {lacking[0]}.")
    return model.eval().requires_grad_(False).to(device)


def _tokenizer(folder: Path) -> Any:
    """Raises: BadModelFile."""
    from tokenizers import Tokenizer, decoders
    from tokenizers.models import WordPiece

    path = next(folder / name for name in VOCABULARIES if (folder / name).is_file())
    try:
        if path.suffix == ".json":
            return Tokenizer.from_file(str(path))
        tokenizer = Tokenizer(WordPiece.from_file(str(path)))
        tokenizer.decoder = decoders.WordPiece()
        tokenizer.add_special_tokens(["[PAD]", "[CLS]", "[SEP]", "[DEC]", "[ENC]"])
        return tokenizer
    except Exception as error:  # tokenizers raises plain Exception
        raise BadModelFile(f"{folder.name}/{path.name} is no vocabulary: {str(error)[:200]}.") from error
