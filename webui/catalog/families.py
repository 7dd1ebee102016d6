"""Which family of models a checkpoint is of, and what it can do: told by its tensors' names and shapes alone.

A file's name decides nothing. No torch is needed, so that page and API can ask for any file in the list.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Literal

from webui.catalog.model_hints import Hints
from webui.catalog.shapes import Shapes, size_of
from webui.core.capabilities import SD1_COLOURS, SDXL_COLOURS, SDXL_LEVELS, Capabilities
from webui.core.errors import BadModelFile

UNET = "model.diffusion_model."
CONTEXT_KEY = "transformer_blocks.0.attn2.to_k.weight"
CONV_IN = f"{UNET}input_blocks.0.0.weight"
VECTOR_KEY = f"{UNET}label_emb.0.0.weight"
TURBO_TEXT = "conditioner.embedders.0.model."
XL_TEXT = ("conditioner.embedders.0.transformer.", "conditioner.embedders.1.model.")
MARKS = ("v_pred", "ztsnr", "edm_mean", "edm_vpred.sigma_max")
"""Keys without meaning as weights, by which SDXL finetunes tell how they were trained."""

INPUT_KINDS: Mapping[int, Literal["plain", "inpaint", "edit"]] = {4: "plain", 9: "inpaint", 8: "edit"}

SD1 = Capabilities(prediction="eps", context_width=768, preview_colours=SD1_COLOURS)
SD2 = replace(SD1, prediction=None, context_width=1024, native_size=768, clip_skip=False)
SDXL = replace(
    SD1,
    context_width=2048,
    pooled_width=2816,
    latent_scale=0.13025,
    native_size=1024,
    step_levels=SDXL_LEVELS,
    preview_colours=SDXL_COLOURS,
)
SD3 = Capabilities(
    prediction="flow",
    context_width=4096,
    pooled_width=2048,
    latent_channels=16,
    latent_scale=1.5305,
    latent_shift=0.0609,
    size_step=16,
    native_size=1024,
    clip_skip=False,
    unet=False,
    step_levels=(),
)


@dataclass(frozen=True)
class Family:
    """id: short and stable. title: as a user calls it. detect: whether a file with these tensors is one.

    usual: what its published models can do; None for a family that can't be loaded.
    """

    id: str
    title: str
    detect: Callable[[Shapes], bool]
    usual: Capabilities | None = None


def _has(*parts: str) -> Callable[[Shapes], bool]:
    """Whether each part stands in some key."""
    return lambda shapes: all(any(part in key for key in shapes) for part in parts)


def _starts(*prefixes: str) -> Callable[[Shapes], bool]:
    """Whether each prefix begins some key, and there is a U-Net."""
    return lambda shapes: CONV_IN in shapes and all(any(key.startswith(p) for key in shapes) for p in prefixes)


def _context(width: int) -> Callable[[Shapes], bool]:
    """A U-Net without text encoder is known by the width of the text it attends to."""

    def detect(shapes: Shapes) -> bool:
        widths = {shape[-1] for key, shape in shapes.items() if key.endswith(CONTEXT_KEY) and shape}
        return CONV_IN in shapes and widths == {width}

    return detect


def _is_refiner(shapes: Shapes) -> bool:
    return VECTOR_KEY in shapes and _starts(TURBO_TEXT)(shapes)


FAMILIES: tuple[Family, ...] = (
    Family("sd3", "Stable Diffusion 3", _has("joint_blocks.0.", "x_embedder.proj"), SD3),
    Family("flux2", "Flux.2", _has("double_blocks.0.", "single_stream_modulation")),
    Family("chroma", "Chroma", _has("double_blocks.0.", "distilled_guidance_layer")),
    Family("flux", "Flux", _has("double_blocks.0.")),
    Family("sdxl", "SDXL", _starts(XL_TEXT[1]), SDXL),
    Family(
        "sdxl-refiner",
        "SDXL refiner",
        _is_refiner,
        replace(SDXL, context_width=1280, pooled_width=2560, clip_skip=False),
    ),
    Family("sd2-turbo", "SD 2.1 Turbo", _starts(TURBO_TEXT), replace(SD2, prediction="eps", native_size=512)),
    Family("sd2-depth", "SD 2 depth", _has("depth_model.model.")),
    Family("unclip", "SD 2 unCLIP", _has("embedder.model.ln_final.weight")),
    Family("sd2", "Stable Diffusion 2.x", _starts("cond_stage_model.model."), SD2),
    Family("alt", "AltDiffusion", _has("cond_stage_model.roberta.")),
    Family("sd1", "Stable Diffusion 1.x", _starts("cond_stage_model.transformer."), SD1),
    Family("sdxl-unet", "U-Net-only SDXL", _context(2048)),
    Family("sd2-unet", "U-Net-only Stable Diffusion 2.x", _context(1024)),
    Family("sdxl-refiner-unet", "U-Net-only SDXL refiner", _context(1280)),
    Family("sd1-unet", "U-Net-only Stable Diffusion 1.x", _context(768)),
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
    ("down_blocks.0.", "a diffusers U-Net: take the whole model's folder, or convert it to one file"),
)
"""Part of a key -> what a file with such keys is, when no family knows it."""

QUANTISED: tuple[tuple[str, str], ...] = (
    (".quant_state.bitsandbytes__", "bitsandbytes"),
    (".quant_map", "bitsandbytes"),
    (".absmax", "bitsandbytes"),
    (".qweight", "GPTQ"),
    (".weight_packed", "packed 4-bit"),
)
"""Part of a key -> the quantisation that leaves it."""


def detect_family(shapes: Shapes, name: str) -> Family:
    """The family of a file with these tensors. name: for messages.

    Raises: BadModelFile when no family knows it, saying what it is instead or naming its first tensors; also for
    files quantised by other programs.
    """
    for part, how in QUANTISED:
        if any(part in key for key in shapes):
            raise BadModelFile(
                f"{name} is quantised ({how}), which this version doesn't read; take the fp16, bf16 or fp8 file."
            )
    for family in FAMILIES:
        if family.detect(shapes):
            return family
    for part, what in OTHER_FILES:
        if any(part in key for key in shapes):
            raise BadModelFile(f"{name} is not a checkpoint but {what}.")
    first = ", ".join(sorted(shapes)[:4])
    raise BadModelFile(f"{name} is of no kind that Easel knows; its first tensors are: {first[:300] or 'none'}.")


def read_capabilities(family: Family, shapes: Shapes, hints: Hints, name: str) -> Capabilities:
    """What a file of this family can do. name: for messages.

    Raises: BadModelFile for a family that can't be loaded, and for inputs that aren't known.
    """
    if family.usual is None:
        how = (
            "holds the U-Net alone; a checkpoint with its text encoder and VAE is needed"
            if family.id.endswith("-unet")
            else f"can't be loaded: {family.title} checkpoints are not supported yet by this version"
        )
        raise BadModelFile(f"{name} {how}.")
    found = family.usual
    if family.id == "sd3":
        return replace(
            found,
            native_size=hints.native_size or found.native_size,
            cfg_scale=hints.cfg_scale or found.cfg_scale,
            context_width=size_of(shapes, f"{UNET}context_embedder.weight", 1, name),
            pooled_width=size_of(shapes, f"{UNET}y_embedder.mlp.0.weight", 1, name),
            latent_channels=size_of(shapes, f"{UNET}x_embedder.proj.weight", 1, name),
        )
    return _of_unet(found, shapes, hints, name)


def _of_unet(found: Capabilities, shapes: Shapes, hints: Hints, name: str) -> Capabilities:
    if "edm_mean" in shapes:
        raise BadModelFile(
            f"{name} is a Playground v2.5 checkpoint (EDM); these are not supported yet by this version."
        )
    edm = "edm_vpred.sigma_max" in shapes
    prediction = hints.prediction or ("v" if shapes.keys() & {"v_pred", "edm_vpred.sigma_max"} else found.prediction)
    native_size = hints.native_size or (512 if prediction == "eps" and found.native_size == 768 else found.native_size)
    context = next((shape for key, shape in shapes.items() if key.endswith(CONTEXT_KEY) and shape), (0,))
    vector = shapes.get(VECTOR_KEY, ())
    input_kind = _input_kind(shapes, name)
    if prediction is None and input_kind != "plain":
        prediction = "eps"
    return replace(
        found,
        prediction=prediction,
        native_size=native_size,
        cfg_scale=hints.cfg_scale or found.cfg_scale,
        latent_scale=hints.latent_scale or found.latent_scale,
        context_width=context[-1],
        step_levels=() if edm else found.step_levels,
        pooled_width=vector[1] if len(vector) == 2 else 0,
        input_kind=input_kind,
    )


def _input_kind(shapes: Shapes, name: str) -> Literal["plain", "inpaint", "edit"]:
    """What the U-Net reads beside x: nothing, an inpainting model's five channels, or a picture's four."""
    taken, given = size_of(shapes, CONV_IN, 1, name), size_of(shapes, f"{UNET}out.2.weight", 0, name)
    if taken in (5, 7):
        kind = {5: "a depth", 7: "an upscaling"}[taken]
        raise BadModelFile(f"{name} is {kind} checkpoint; these are not supported yet by this version.")
    if taken not in INPUT_KINDS or given != 4:
        raise BadModelFile(
            f"{name} takes {taken} and answers {given} channels; its kind has 4, 8 or 9 and 4: it is incomplete "
            "or of another kind than it looks."
        )
    return INPUT_KINDS[taken]
