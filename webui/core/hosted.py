"""Weights on public servers that describe pictures: where they come from, how large, under which licence.

Nothing here is fetched unasked; `webui.services.hosted` does it when somebody asks.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType


@dataclass(frozen=True)
class HostedWeights:
    """The files of one network. size: of all of them, in bytes, about. licence: of the weights.

    files: address -> path below the folder of models, parts separated by "/". folder: where one may put them oneself.
    """

    name: str
    size: int
    licence: str
    folder: str
    files: Mapping[str, str]

    @property
    def summary(self) -> str:
        """What to tell before they are fetched."""
        host = next(iter(self.files)).split("/")[2]
        return f"about {self.size / 1e6:.0f} MB from {host}, {self.licence}"

    @property
    def missing(self) -> str:
        """What to tell when they are wanted and not there."""
        return (
            f"{self.name} has no weights here yet. Fetch them on the Extras tab ({self.summary}), or put them into "
            f"models/{self.folder}."
        )

    def paths(self, models: Path) -> tuple[Path, ...]:
        """Where the files lie, or will."""
        return tuple(models / file for file in self.files.values())


def _from_hub(repository: str, folder: str, *names: str) -> Mapping[str, str]:
    where = f"https://huggingface.co/{repository}/resolve/main"
    return MappingProxyType({f"{where}/{name}": f"{folder}/{repository.partition('/')[2]}/{name}" for name in names})


_MODEL = ("config.json", "preprocessor_config.json", "tokenizer.json", "model.safetensors")
BLIP = HostedWeights(
    "BLIP",
    990_000_000,
    "BSD-3-Clause",
    "BLIP",
    _from_hub("Salesforce/blip-image-captioning-base", "BLIP", *_MODEL),
)
CLIP = HostedWeights("CLIP", 1_710_000_000, "MIT", "CLIP", _from_hub("openai/clip-vit-large-patch14", "CLIP", *_MODEL))
DEEPBOORU = HostedWeights(
    "Deepbooru",
    614_000_000,
    "MIT",
    "torch_deepdanbooru",
    MappingProxyType(
        {
            "https://github.com/AUTOMATIC1111/TorchDeepDanbooru/releases/download/v1/model-resnet_custom_v3.pt": (
                "torch_deepdanbooru/model-resnet_custom_v3.pt"
            )
        }
    ),
)
WD_TAGGER = HostedWeights(
    "wd-swinv2-tagger-v3",
    467_000_000,
    "Apache-2.0",
    "wd-tagger",
    _from_hub("SmilingWolf/wd-swinv2-tagger-v3", "wd-tagger", "selected_tags.csv", "model.onnx"),
)
HOSTED: Mapping[str, HostedWeights] = MappingProxyType(
    {weights.name: weights for weights in (BLIP, CLIP, DEEPBOORU, WD_TAGGER)}
)
"""What a user can ask for, by name."""
