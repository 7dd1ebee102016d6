"""The job of the Checkpoint Merger: one checkpoint out of up to three, tensor by tensor.

Everything is decided and checked before the first byte is written; a cancelled or failed merge leaves nothing behind.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from torch import Tensor

from webui.catalog.checkpoints import Checkpoint
from webui.catalog.families import detect_family
from webui.core.errors import BadModelFile, InvalidRequest, Refused
from webui.core.files import atomic_file, write_atomic
from webui.core.merging import ADD_DIFFERENCE, NO_INTERPOLATION, OVERWRITE, MergeRequest, MergeResult
from webui.core.paths import child
from webui.models.folder_weights import FolderWeights
from webui.models.weights import WeightsFile, open_weights
from webui.models.weights_writer import STORAGES, in_writing_order, write_checkpoint, write_safetensors
from webui.pipeline.engine import Engine
from webui.pipeline.merging.plan import MergePlan, Part, make_merge_plan
from webui.pipeline.saving.matching import discarded
from webui.pipeline.saving.names import safe_part

if TYPE_CHECKING:
    from webui.jobs.context import JobContext

SPARE = 64 << 20
"""Bytes that stay free on the disk."""


class _Cancelled(Exception):
    """The user has stopped the job."""


@dataclass(frozen=True)
class Source:
    """One of A, B and C."""

    checkpoint: Checkpoint
    file: WeightsFile


def run(engine: Engine, request: MergeRequest, job: JobContext) -> MergeResult:
    """Raises: InvalidRequest, NotFound, Refused, BadModelFile before anything is written; OSError while writing."""
    job.begin_passes(1)
    job.text("Reading the checkpoints")
    sources = [opened(checkpoint) for checkpoint in chosen(engine, request)]
    require_one_family(sources)
    vae = None if request.vae in ("", "None") else engine.vaes.find(request.vae)
    plan = make_merge_plan(
        [source.file for source in sources],
        request.method,
        request.multiplier,
        half=request.half,
        vae=open_weights(vae.path) if vae else None,
    )
    plan = replace(plan, parts=kept(plan.parts, request.discard))
    target = target_path(engine, request, plan, sources)
    config = config_of(request, sources)
    _check_target(target, config, request, sources)
    if request.format == "ckpt":
        require_storages(plan.parts)
    metadata = made_metadata(engine, request, plan, sources) if request.format == "safetensors" else None
    _require_space(target, sum(part.entry.size for part in plan.parts))
    try:
        _write(target, plan, metadata, sources, job)
    except _Cancelled:
        return MergeResult("", "Merging was cancelled; nothing was written.")
    if config is not None:
        write_atomic(target.with_suffix(".yaml"), config.read_bytes())
    engine.checkpoints.refresh()
    engine.checkpoints.hash_in_background()
    return MergeResult(str(target), f"Checkpoint saved to {target}")


def chosen(engine: Engine, request: MergeRequest) -> list[Checkpoint]:
    """The checkpoints that the method needs. Raises: InvalidRequest for one that isn't named, NotFound."""
    wanted = [("primary", request.primary, "")]
    if request.method != NO_INTERPOLATION:
        wanted.append(("secondary", request.secondary, ""))
    if request.method == ADD_DIFFERENCE:
        wanted.append(("tertiary", request.tertiary, f"Interpolation method ({request.method}) requires"))
    for title, name, start in wanted:
        if not name:
            raise InvalidRequest(f"{start or 'Merging requires'} a {title} model.")
    return [engine.checkpoints.find(name) for _, name, _ in wanted]


def opened(checkpoint: Checkpoint) -> Source:
    """Raises: BadModelFile."""
    if checkpoint.problem:
        raise BadModelFile(checkpoint.problem)
    path = checkpoint.path
    return Source(checkpoint, FolderWeights(path) if path.is_dir() else open_weights(path))


def require_one_family(sources: Sequence[Source]) -> None:
    """Raises: InvalidRequest naming the first that is of another family than A."""
    families = [detect_family(source.file.shapes, source.checkpoint.path.name) for source in sources]
    for source, family in zip(sources, families, strict=True):
        if family.id != families[0].id:
            raise InvalidRequest(
                f"{source.checkpoint.name} is {family.title}, {sources[0].checkpoint.name} is {families[0].title}; "
                "only checkpoints of one family can be merged."
            )


def kept(parts: Sequence[Part], pattern: str) -> tuple[Part, ...]:
    """The parts whose names the regular expression doesn't match. Raises: InvalidRequest when none is left."""
    if not pattern:
        return tuple(parts)
    gone = discarded(pattern, [part.entry.name for part in parts])
    left = tuple(part for part in parts if part.entry.name not in gone)
    if not left:
        raise InvalidRequest(f'"{pattern[:100]}" matches the name of every weight; nothing would be left.')
    return left


def target_path(engine: Engine, request: MergeRequest, plan: MergePlan, sources: Sequence[Source]) -> Path:
    """Where the merge goes: the folder of checkpoints, under the custom name or one that tells the recipe."""
    name = request.custom_name.strip().removesuffix(f".{request.format}") or default_name(request, sources)
    parts = [part for raw in name.replace("\\", "/").split("/") if (part := safe_part(raw))]
    if not parts:
        raise InvalidRequest(f'"{request.custom_name[:100]}" can\'t be the name of a file.')
    folder = engine.flags.ckpt_dir or engine.paths.checkpoints[0]
    return child(folder, f"{'/'.join(parts)}{plan.kind_of_name}.{request.format}", must_exist=False)


def default_name(request: MergeRequest, sources: Sequence[Source]) -> str:
    """As A1111 names merges: "0.7(A) + 0.3(B)", "A + 0.3(B - C)", "A"."""
    names = [source.checkpoint.model_name for source in sources]
    share = round(request.multiplier, 2)
    if len(names) == 1:
        return names[0]
    if len(names) == 2:
        return f"{round(1 - request.multiplier, 2)}({names[0]}) + {share}({names[1]})"
    return f"{names[0]} + {share}({names[1]} - {names[2]})"


def config_of(request: MergeRequest, sources: Sequence[Source]) -> Path | None:
    """The .yaml to copy: that of the source chosen, or the first that there is."""
    if request.config_source == 3:
        return None
    candidates = sources if request.config_source == 0 else sources[request.config_source : request.config_source + 1]
    return next((config for source in candidates if (config := source.checkpoint.config)), None)


def require_storages(parts: Sequence[Part]) -> None:
    """Raises: InvalidRequest for dtypes that a .ckpt can't hold."""
    strange = next((part.entry for part in parts if part.entry.dtype not in STORAGES), None)
    if strange is not None:
        raise InvalidRequest(f"A .ckpt can't hold {strange.name} as {strange.dtype}; choose the format safetensors.")


def made_metadata(
    engine: Engine, request: MergeRequest, plan: MergePlan, sources: Sequence[Source]
) -> dict[str, str] | None:
    """What the file says about itself. Raises: InvalidRequest when the metadata typed isn't a JSON object."""
    if not request.save_metadata:
        return None
    made: dict[str, str] = {}
    if request.copy_metadata:
        for source in sources:
            made |= source.file.metadata
    made |= typed_metadata(request.metadata)
    made["format"] = "pt"
    if request.add_recipe:
        known = [replace(source, checkpoint=engine.checkpoints.hashed(source.checkpoint)) for source in sources]
        hashes = [source.checkpoint.sha256 for source in known] + [None, None]
        recipe = {
            "type": "webui",
            "primary_model_hash": hashes[0],
            "secondary_model_hash": hashes[1],
            "tertiary_model_hash": hashes[2],
            "interp_method": request.method,
            "multiplier": request.multiplier,
            "save_as_half": request.half,
            "custom_name": request.custom_name,
            "config_source": request.config_source,
            "bake_in_vae": request.vae,
            "discard_weights": request.discard,
            "is_inpainting": plan.is_inpainting,
            "is_instruct_pix2pix": plan.is_instruct_pix2pix,
        }
        made["sd_merge_recipe"] = json.dumps(recipe)
        made["sd_merge_models"] = json.dumps(_ancestors(engine, known))
    return made


def typed_metadata(text: str) -> dict[str, str]:
    """A JSON object as metadata, which is text throughout. Raises: InvalidRequest."""
    try:
        table = json.loads(text or "{}")
    except (ValueError, RecursionError) as error:
        raise InvalidRequest(f"The metadata is not JSON ({str(error)[:100]}); mend it, or leave {{}} there.") from error
    if not isinstance(table, dict):
        raise InvalidRequest("The metadata must be a JSON object, such as {}.")
    return {key: value if isinstance(value, str) else json.dumps(value) for key, value in table.items()}


def _ancestors(engine: Engine, sources: Sequence[Source]) -> dict[str, object]:
    """Each source by its SHA-256 with how it was merged itself, and what its own file says of its ancestors."""
    models: dict[str, object] = {}
    for source in sources:
        checkpoint, metadata = source.checkpoint, source.file.metadata
        if checkpoint.sha256 is None:  # --no-hashing
            continue
        models[checkpoint.sha256] = {
            "name": checkpoint.name,
            "legacy_hash": engine.checkpoints.hashes.compute(checkpoint.path, "legacy"),
            "sd_merge_recipe": _table(metadata, "sd_merge_recipe"),
        }
        models |= _table(metadata, "sd_merge_models") or {}
    return models


def _table(metadata: Mapping[str, str], key: str) -> dict[str, object] | None:
    """A JSON object in the metadata, None when there is none."""
    try:
        found = json.loads(metadata.get(key, "null"))
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _check_target(target: Path, config: Path | None, request: MergeRequest, sources: Sequence[Source]) -> None:
    """Raises: Refused when the merge would replace one of its sources, or another file unasked."""
    for source in sources:
        if target.exists() and target.samefile(source.checkpoint.path):
            raise Refused(f"The merge would replace {source.checkpoint.name} itself; give it another name.")
    new_config = target.with_suffix(".yaml")
    taken = [target] if target.exists() else []
    if config is not None and new_config.exists() and new_config.read_bytes() != config.read_bytes():
        taken.append(new_config)
    if taken and not request.overwrite:
        raise Refused(
            f"There is a {' and a '.join(path.name for path in taken)} already; choose another name, or tick "
            f'"{OVERWRITE}".'
        )


def _require_space(target: Path, needed: int) -> None:
    """Raises: InvalidRequest when the disk is too full."""
    target.parent.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(target.parent).free
    if needed + SPARE > free:
        raise InvalidRequest(
            f"The merge needs {needed / 1e9:.1f} GB and {free / 1e9:.1f} GB are free at {target.parent}; "
            "make room first."
        )


def _write(
    target: Path, plan: MergePlan, metadata: Mapping[str, str] | None, sources: Sequence[Source], job: JobContext
) -> None:
    """Raises: _Cancelled, OSError; nothing is left behind then."""
    by_name = {part.entry.name: part for part in plan.parts}
    entries = in_writing_order(part.entry for part in plan.parts)

    def tensors() -> Iterator[Tensor]:
        done = 0
        for entry in job.steps(entries):
            done += 1
            if done % 50 == 1:
                job.text(f"Merging {done} of {len(entries)} weights")
            yield by_name[entry.name].made()
            by_name[entry.name].release()
        if done < len(entries) or job.interrupted:
            raise _Cancelled

    with atomic_file(target) as file:
        if target.suffix == ".ckpt":
            write_checkpoint(file, entries, tensors())
        else:
            write_safetensors(file, entries, tensors(), metadata)
