"""Which family a checkpoint is of, decided by its tensors' names and shapes, never by its file name."""

from __future__ import annotations

from collections.abc import Callable

from webui.catalog.checkpoints import Checkpoint
from webui.catalog.model_hints import read_hints
from webui.catalog.shapes import Shapes
from webui.core.errors import BadModelFile
from webui.models.families.base import Blueprint, ModelFamily, ModelFile
from webui.models.families.sd1 import SD1
from webui.models.weights import open_weights

UNET = "model.diffusion_model."
CONTEXT_KEY = "transformer_blocks.0.attn2.to_k.weight"


class NotYet(ModelFamily):
    """A family that is recognised, so that its files get a true answer, and can't be loaded yet."""

    def __init__(self, id: str, title: str, detect: Callable[[Shapes], bool]):
        self.id = id
        self.title = title
        self._detect = detect

    def detect(self, shapes: Shapes) -> bool:
        return self._detect(shapes)

    def open(self, file: ModelFile) -> Blueprint:
        raise BadModelFile(
            f"{file.name} can't be loaded: {self.title} checkpoints are not supported yet by this version."
        )


def _has(*keys: str) -> Callable[[Shapes], bool]:
    return lambda shapes: all(key in shapes for key in keys)


def _any_has(part: str) -> Callable[[Shapes], bool]:
    return lambda shapes: any(part in key for key in shapes)


def _width(key: str, axis: int, *sizes: int) -> Callable[[Shapes], bool]:
    def detect(shapes: Shapes) -> bool:
        shape = shapes.get(key, ())
        return len(shape) > axis and shape[axis] in sizes

    return detect


def _context(width: int) -> Callable[[Shapes], bool]:
    """A U-Net without text encoder is known by the width of the text it attends to."""

    def detect(shapes: Shapes) -> bool:
        widths = {shape[-1] for key, shape in shapes.items() if key.endswith(CONTEXT_KEY) and shape}
        return f"{UNET}input_blocks.0.0.weight" in shapes and widths == {width}

    return detect


_OPENCLIP = "cond_stage_model.model.transformer.resblocks.0.attn.in_proj_weight"

FAMILIES: tuple[ModelFamily, ...] = (
    NotYet("sd3", "Stable Diffusion 3", lambda s: _any_has("joint_blocks.0.")(s) and _any_has("x_embedder.proj")(s)),
    NotYet("flux", "Flux", _any_has("double_blocks.0.")),
    NotYet("sdxl", "SDXL", _has("conditioner.embedders.1.model.ln_final.weight")),
    NotYet("sd2-turbo", "SD 2.1 Turbo", _width("conditioner.embedders.0.model.ln_final.weight", 0, 1024)),
    NotYet("sdxl-refiner", "SDXL refiner", _has("conditioner.embedders.0.model.ln_final.weight")),
    NotYet("sd2-depth", "SD 2 depth", _any_has("depth_model.model.")),
    NotYet("unclip", "SD 2 unCLIP", _any_has("embedder.model.ln_final.weight")),
    NotYet("sd2", "Stable Diffusion 2.x", _has(_OPENCLIP)),
    NotYet("alt", "AltDiffusion", _any_has("cond_stage_model.roberta.")),
    SD1(),
    NotYet("sdxl-unet", "U-Net-only SDXL", _context(2048)),
    NotYet("sd2-unet", "U-Net-only Stable Diffusion 2.x", _context(1024)),
    NotYet("sdxl-refiner-unet", "U-Net-only SDXL refiner", _context(1280)),
    NotYet("sd1-unet", "U-Net-only Stable Diffusion 1.x", _context(768)),
)
"""Asked in this order; the first that knows the file has it."""

OTHER_FILES: tuple[tuple[str, str], ...] = (
    ("lora_unet_", "a LoRA: put it into models/Lora and use it in the prompt as <lora:name:1>"),
    (".lora_A.", "a LoRA: put it into models/Lora and use it in the prompt as <lora:name:1>"),
    ("control_model.", "a ControlNet: put it into models/ControlNet"),
    ("controlnet_cond_embedding.", "a ControlNet: put it into models/ControlNet"),
    ("input_hint_block.", "a ControlNet: put it into models/ControlNet"),
    ("string_to_param", "an embedding: put it into embeddings"),
    ("emb_params", "an embedding: put it into embeddings"),
    ("decoder.up.0.", "a VAE: put it into models/VAE"),
    ("decoder.up_blocks.0.", "a VAE: put it into models/VAE"),
    ("down_blocks.0.", "a diffusers U-Net: convert the whole model to one file"),
)
"""Part of a key -> what a file with such keys is, when no family knows it."""


def detect(shapes: Shapes, name: str) -> ModelFamily:
    """The family of a file with these tensors. name: for messages.

    Raises: BadModelFile when no family knows it, saying what it is instead or naming its first tensors.
    """
    for family in FAMILIES:
        if family.detect(shapes):
            return family
    for part, what in OTHER_FILES:
        if any(part in key for key in shapes):
            raise BadModelFile(f"{name} is not a checkpoint but {what}.")
    first = ", ".join(sorted(shapes)[:4])
    raise BadModelFile(f"{name} is of no kind that Easel knows; its first tensors are: {first[:300] or 'none'}.")


def open_checkpoint(checkpoint: Checkpoint) -> Blueprint:
    """Check a checkpoint whole, without reading its weights.

    Raises: BadModelFile with one sentence.
    """
    if checkpoint.problem:
        raise BadModelFile(checkpoint.problem)
    tensors = open_weights(checkpoint.path)
    family = detect(tensors.shapes, checkpoint.path.name)
    hints = read_hints(checkpoint.path.name, tensors.metadata, checkpoint.config)
    return family.open(ModelFile(checkpoint, tensors, hints))
