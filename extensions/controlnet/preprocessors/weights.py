"""The files that preprocessors with networks can't do without: their names, where they are offered, where they lie."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from webui.extensions.api import HubFile, InvalidRequest

FOLDER = "ControlNet/preprocessors"
"""Below the folder of models: where they are looked for first, and put when they are fetched."""
FOLDERS = (FOLDER, "ControlNet/annotators", "ControlNetPreprocessor")
"""All that they are looked for in, below folders of models; the others are those of earlier versions and of Forge."""
OLD = Path("extensions", "sd-webui-controlnet", "annotator", "downloads")
"""Where sd-webui-controlnet keeps them, in an install of A1111."""
SHIPPED = Path(__file__).parents[1] / "weights"
SUFFIXES = (".pth", ".pt", ".bin", ".safetensors", ".onnx", ".ckpt", ".json")


@dataclass(frozen=True)
class Weights:
    """One file. name: what it is called; also: other names and layouts of the same that are taken, too.

    address: where it is offered. megabytes: about how large it is. licence: of the weights.
    """

    name: str
    address: str
    megabytes: float
    licence: str
    also: tuple[str, ...] = ()

    @property
    def fetched(self) -> HubFile:
        """How it is fetched."""
        return HubFile(self.name, self.address, f"{FOLDER}/{self.name}", round(self.megabytes * 1e6), self.licence)

    @property
    def summary(self) -> str:
        return f"{self.name} ({self.fetched.summary})"


_ANNOTATORS = "https://huggingface.co/lllyasviel/Annotators/resolve/main/"
_DWPOSE = "https://huggingface.co/yzd-v/DWPose/resolve/main/"
_OTHERS = "https://huggingface.co/bdsqlsz/qinglong_controlnet-lllite/resolve/main/Annotators/"
_OPENPOSE = "OpenPose licence of CMU, non-commercial"
_ADELAIDE = "University of Adelaide, non-commercial"


def _annotator(name: str, megabytes: float, licence: str, *also: str) -> Weights:
    return Weights(name, _ANNOTATORS + name, megabytes, licence, also)


HED = _annotator("ControlNetHED.pth", 29.4, "Apache-2.0", "ControlNetHED.safetensors", "hed_bsds500.safetensors")
PIDINET = _annotator("table5_pidinet.pth", 2.9, "for research; commercial use by arrangement")
TEED = Weights("7_model.pth", _OTHERS + "7_model.pth", 0.2, "MIT")
MTEED = Weights(
    "MTEED.pth", "https://huggingface.co/TheMistoAI/MistoLine/resolve/main/Anyline/MTEED.pth", 0.3, "OpenRAIL++"
)
MLSD = _annotator("mlsd_large_512_fp32.pth", 6.3, "Apache-2.0")
LINEART = _annotator("sk_model.pth", 17.2, "MIT")
LINEART_COARSE = _annotator("sk_model2.pth", 17.2, "MIT")
ANIME = _annotator("netG.pth", 217.7, "MIT")
MANGA = _annotator("erika.pth", 173.2, "MIT")
MIDAS = _annotator("dpt_hybrid-midas-501f0c75.pt", 492.8, "MIT")
ZOE = _annotator("ZoeD_M12_N.pt", 1443.4, "MIT")
LERES = _annotator("res101.pth", 530.8, _ADELAIDE)
LERES_MERGING = _annotator("latest_net_G.pth", 318.3, _ADELAIDE)
ANYTHING = Weights(
    "depth_anything_vitl14.pth",
    "https://huggingface.co/LiheYoung/depth_anything_vitl14/resolve/main/pytorch_model.bin",
    1341.0,
    "Apache-2.0",
    ("depth_anything_vitb14.pth", "depth_anything_vits14.pth"),
)
ANYTHING_V2 = Weights(
    "depth_anything_v2_vitl.pth",
    "https://huggingface.co/depth-anything/Depth-Anything-V2-Large/resolve/main/depth_anything_v2_vitl.pth",
    1341.0,
    "CC-BY-NC-4.0",
    (
        "depth_anything_v2_vitl.safetensors", "depth_anything_v2_vitl_fp16.safetensors", "depth_anything_v2_vitb.pth",
        "depth_anything_v2_vits.pth",
    ),
)  # fmt: skip
NORMAL_BAE = _annotator("scannet.pt", 291.0, "MIT")
BODY = _annotator("body_pose_model.pth", 209.3, _OPENPOSE)
BODY_ALONE = replace(BODY, also=("movenet-multipose.json",))
"""The second ships."""
HAND = _annotator("hand_pose_model.pth", 147.3, _OPENPOSE)
FACE = _annotator("facenet.pth", 153.7, _OPENPOSE)
YOLOX = Weights("yolox_l.onnx", _DWPOSE + "yolox_l.onnx", 216.7, "Apache-2.0")
DWPOSE = Weights("dw-ll_ucoco_384.onnx", _DWPOSE + "dw-ll_ucoco_384.onnx", 134.4, "Apache-2.0")
ANIMALS = Weights("rtmpose-m_ap10k_256.onnx", _OTHERS + "rtmpose-m_ap10k_256.onnx", 54.0, "Apache-2.0")
ONEFORMER_ADE20K = Weights(
    "oneformer_ade20k_swin_large.bin",
    "https://huggingface.co/shi-labs/oneformer_ade20k_swin_large/resolve/main/pytorch_model.bin",
    881.0,
    "MIT",
    ("oneformer_ade20k_swin_large/model.safetensors", "oneformer_ade20k_swin_large/pytorch_model.bin"),
)
ONEFORMER_COCO = Weights(
    "oneformer_coco_swin_large.bin",
    "https://huggingface.co/shi-labs/oneformer_coco_swin_large/resolve/main/pytorch_model.bin",
    881.0,
    "MIT",
    ("oneformer_coco_swin_large/model.safetensors", "oneformer_coco_swin_large/pytorch_model.bin"),
)
UPERNET = Weights(
    "upernet-convnext-small.bin",
    "https://huggingface.co/openmmlab/upernet-convnext-small/resolve/main/pytorch_model.bin",
    328.0,
    "MIT",
    ("upernet-convnext-small/model.safetensors", "upernet-convnext-small/pytorch_model.bin"),
)
MOBILE_SAM = Weights(
    "mobile_sam.pt", "https://huggingface.co/dhkim2810/MobileSAM/resolve/main/mobile_sam.pt", 40.7, "Apache-2.0"
)
LAMA = _annotator("ControlNetLama.pth", 206.0, "Apache-2.0", "big-lama.pt", "big-lama.safetensors")


class Shelf:
    """The files that are there, in our folders and in those of other installs. Look again by making another."""

    def __init__(self, easel: Any) -> None:
        installs = [Path(root) for root in easel.model_roots if "=" not in str(root)]
        installs += [install.parent for install in installs if install.name == "models"]
        folders = [*FOLDERS, *((install / OLD).absolute() for install in (easel.paths.data, *installs)), SHIPPED]
        self._by_name: dict[str, Path] = {}
        for folder in folders:
            for file in easel.catalog(folder, SUFFIXES).refresh():
                for name in (file.path.name, f"{file.path.parent.name}/{file.path.name}"):
                    self._by_name.setdefault(name.lower(), file.path)

    def find(self, weights: Weights) -> Path | None:
        """The file, under the first of its names that there is."""
        names = (name.lower() for name in (weights.name, *weights.also))
        return next((self._by_name[name] for name in names if name in self._by_name), None)

    def missing(self, needed: Sequence[Weights]) -> tuple[Weights, ...]:
        return tuple(weights for weights in needed if self.find(weights) is None)

    def require(self, label: str, needed: Sequence[Weights]) -> tuple[Path, ...]:
        """The files that the preprocessor `label` needs, in order. Raises: InvalidRequest naming those that lack."""
        if missing := self.missing(needed):
            them = "it" if len(missing) == 1 else "them"
            raise InvalidRequest(
                f'The preprocessor "{label}" needs {" and ".join(weights.summary for weights in missing)}: fetch '
                f'{them} on the Extras tab under "Fetch weights", or put {them} into models/{FOLDER}.'
            )
        return tuple(path for path in map(self.find, needed) if path is not None)


def with_weights(unit: Any, easel: Any) -> Any:
    """The unit with the files of its preprocessor found. Raises: InvalidRequest naming those that aren't there."""
    preprocessor = unit.preprocessor
    if not preprocessor.needs:
        return unit
    files = Shelf(easel).require(preprocessor.label, preprocessor.needs)
    return unit.replace(weights_at="\n".join(map(str, files)))


def offers(needs: Mapping[str, Sequence[Weights]]) -> Iterator[tuple[str, tuple[HubFile, ...]]]:
    """What can be fetched: a name and files for each set of files that some preprocessors need.

    needs: by the preprocessors' labels.
    """
    labels: dict[tuple[Weights, ...], list[str]] = {}
    for label, needed in needs.items():
        if needed:
            labels.setdefault(tuple(needed), []).append(label)
    for needed, users in labels.items():
        yield f"ControlNet: {', '.join(users)}", tuple(weights.fetched for weights in needed)
