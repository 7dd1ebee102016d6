"""What each weight of a merge is made of: the rules by which A1111's merger combines checkpoints.

A's weights decide which there are. A weight takes part if its name has "model" in it and B has it, too; the others
stay as in A. What is computed is computed in the precision that the stored weights have together.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from webui.core.errors import BadModelFile, InvalidRequest
from webui.core.merging import ADD_DIFFERENCE, NO_INTERPOLATION
from webui.models.ldm_vae import build_vae, ldm_vae_keys, read_vae_layout
from webui.models.weights import WeightsFile
from webui.models.weights_writer import Entry

TAKES_PART = "model"
SKIPPED = "cond_stage_model.transformer.text_model.embeddings.position_ids"
VAE = "first_stage_model."
OLD_TEXT = "cond_stage_model.transformer."
OLD_PARTS = ("embeddings.", "encoder.", "final_layer_norm.")
PLAIN, INPAINT, EDIT = 4, 9, 8
"""Input channels of the network's first layer."""

Combine = Callable[[Sequence[Tensor]], Tensor]


@dataclass(frozen=True)
class Part:
    """One weight of the result. sources: the file and name of each tensor that `combine` takes."""

    entry: Entry
    sources: tuple[tuple[WeightsFile, str], ...]
    combine: Combine

    def made(self) -> Tensor:
        """Read and computed."""
        with torch.inference_mode():
            return self.combine([file.tensor(name) for file, name in self.sources])

    def release(self) -> None:
        for file, name in self.sources:
            file.release(name)


@dataclass(frozen=True)
class MergePlan:
    parts: tuple[Part, ...]
    is_inpainting: bool = False
    is_instruct_pix2pix: bool = False

    @property
    def kind_of_name(self) -> str:
        """What the file's name ends with before its suffix."""
        return (".inpainting" if self.is_inpainting else "") + (".instruct-pix2pix" if self.is_instruct_pix2pix else "")


def make_merge_plan(
    files: Sequence[WeightsFile], method: str, multiplier: float, *, half: bool = False, vae: WeightsFile | None = None
) -> MergePlan:
    """files: A, and B and C as the method needs them. half: store fp32 as fp16. vae: takes the place of A's.

    Raises: InvalidRequest when shapes don't fit, naming the first weight; BadModelFile for a VAE that isn't one.
    """
    tables = [_named(file) for file in files]
    plan = MergePlan(())
    parts = []
    baked = _baked(vae) if vae else {}
    for name in tables[0]:
        part, kind = _part(name, files, tables, method, multiplier)
        plan = replace(
            plan,
            is_inpainting=plan.is_inpainting or kind == INPAINT,
            is_instruct_pix2pix=plan.is_instruct_pix2pix or kind == EDIT,
        )
        merged = len(part.sources) > 1
        if vae is not None and name.removeprefix(VAE) in baked and name.startswith(VAE):
            part = _from_vae(part, vae, baked[name.removeprefix(VAE)])
            merged = True
        if half and (merged or method == NO_INTERPOLATION):
            part = _halved(part)
        parts.append(part)
    if vae is not None and not any(part.sources[0][0] is vae for part in parts):
        raise InvalidRequest(f"{vae.path.name} has no weight that {files[0].path.name} has in its VAE; choose another.")
    return replace(plan, parts=tuple(parts))


def _named(file: WeightsFile) -> dict[str, str]:
    """Every weight's name in the usual layout -> its name in the file, in the file's order."""
    return {_usual(name): name for name in sorted(file.shapes, key=file.position)}


def _usual(name: str) -> str:
    """Old files lack "text_model." in the text encoder's names."""
    rest = name.removeprefix(OLD_TEXT)
    return f"{OLD_TEXT}text_model.{rest}" if name.startswith(OLD_TEXT) and rest.startswith(OLD_PARTS) else name


def _part(
    name: str, files: Sequence[WeightsFile], tables: Sequence[Mapping[str, str]], method: str, multiplier: float
) -> tuple[Part, int]:
    """The weight `name`, and of which kind A is if its first layer has more channels than B's."""
    a = files[0], tables[0][name]
    if len(files) == 1 or name not in tables[1] or TAKES_PART not in name or name == SKIPPED:
        return _as_stored(name, *a), PLAIN
    sources = [a, (files[1], tables[1][name])]
    if method == ADD_DIFFERENCE and name in tables[2]:
        sources.append((files[2], tables[2][name]))
    shapes = [file.shapes[stored] for file, stored in sources]
    channels = _extra_channels(name, shapes, files)
    _check_rest(name, shapes, channels, files)

    def combine(tensors: Sequence[Tensor]) -> Tensor:
        first, *others = (_widened(tensor) for tensor in tensors)
        if channels == PLAIN:
            return _combined(first, others, method, multiplier)
        merged = first.clone()
        merged[:, :PLAIN] = _combined(first[:, :PLAIN], others, method, multiplier)
        return merged

    empty = [torch.empty(file.shapes[stored], dtype=file.dtypes[stored], device="meta") for file, stored in sources]
    result = combine(empty)
    return Part(Entry(name, result.dtype, tuple(result.shape)), tuple(sources), combine), channels


def _as_stored(name: str, file: WeightsFile, stored: str) -> Part:
    return Part(Entry(name, file.dtypes[stored], file.shapes[stored]), ((file, stored),), lambda tensors: tensors[0])


def _combined(a: Tensor, others: Sequence[Tensor], method: str, multiplier: float) -> Tensor:
    """Weighted sum (1 - M) A + M B; add difference A + M (B - C), where what C lacks adds nothing."""
    b = others[0]
    if method != ADD_DIFFERENCE:
        return (1 - multiplier) * a + multiplier * b
    difference = b - others[1] if len(others) > 1 else torch.zeros_like(b)
    return a + multiplier * difference


def _widened(tensor: Tensor) -> Tensor:
    """8-bit floats can be stored and not computed with."""
    return tensor.half() if tensor.dtype.is_floating_point and tensor.dtype.itemsize == 1 else tensor


def _extra_channels(name: str, shapes: Sequence[tuple[int, ...]], files: Sequence[WeightsFile]) -> int:
    """A's input channels where they alone differ from B's, else 4. Raises: InvalidRequest for the other way round."""
    a, b = shapes[:2]
    if a == b or len(a) != 4 or len(b) != 4 or (a[0], *a[2:]) != (b[0], *b[2:]):
        return PLAIN
    for channels, title in ((INPAINT, "inpainting"), (EDIT, "instruct-pix2pix")):
        if (a[1], b[1]) == (channels, PLAIN):
            return channels
        if (a[1], b[1]) == (PLAIN, channels):
            raise InvalidRequest(
                f"When merging an {title} model with a normal one, A must be the {title} model; swap A and B."
            )
    return PLAIN


def _check_rest(name: str, shapes: Sequence[tuple[int, ...]], channels: int, files: Sequence[WeightsFile]) -> None:
    """Raises: InvalidRequest naming the weight and the shapes that don't fit."""
    measure = 0 if channels == PLAIN else 1  # B is plain then, and so must C be
    for shape, file in zip(shapes[1:], files[1:], strict=False):
        if shape != shapes[measure]:
            advice = " C must be the plain base model that B was made from." if channels != PLAIN else ""
            raise InvalidRequest(
                f"{files[measure].path.name} and {file.path.name} don't fit together: {name} is "
                f"{list(shapes[measure])} in the first and {list(shape)} in the second.{advice}"
            )


def _halved(part: Part) -> Part:
    if part.entry.dtype != torch.float32:
        return part
    combine = part.combine
    return Part(replace(part.entry, dtype=torch.float16), part.sources, lambda tensors: combine(tensors).half())


def _baked(vae: WeightsFile) -> dict[str, str]:
    """LDM's name of each weight of a VAE file -> its name there. Raises: BadModelFile."""
    for prefix in ("", VAE, "vae."):
        if f"{prefix}decoder.conv_in.weight" in vae.shapes:
            break
    else:
        raise BadModelFile(f"{vae.path.name} is not a VAE: it lacks decoder.conv_in.weight.")
    layout = read_vae_layout(vae.shapes, prefix, vae.path.name)
    if not layout.diffusers:
        return {name.removeprefix(prefix): name for name in vae.shapes if name.startswith(prefix)}
    keys = tuple(build_vae(layout, 1, 1.0, 512).state_dict())
    stored = ldm_vae_keys(layout, keys, prefix, vae.shapes)
    usual = ldm_vae_keys(replace(layout, diffusers=False), keys, "", {})
    return {usual[key]: stored[key] for key in keys}


def _from_vae(part: Part, vae: WeightsFile, stored: str) -> Part:
    """The weight from the VAE file. Raises: InvalidRequest when it is of another shape."""
    shape, there = part.entry.shape, vae.shapes[stored]
    if _plain(shape) != _plain(there):
        raise InvalidRequest(
            f"{vae.path.name} doesn't fit: {part.entry.name} is {list(shape)} in the checkpoint "
            f"and {list(there)} there."
        )
    return Part(
        Entry(part.entry.name, vae.dtypes[stored], shape), ((vae, stored),), lambda tensors: tensors[0].reshape(shape)
    )


def _plain(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Without trailing ones: attention's weights are 1 x 1 convolutions in LDM's files."""
    while len(shape) > 2 and shape[-1] == 1:
        shape = shape[:-1]
    return shape
