"""The extra networks of a job: tags of the prompt into patches on the model, names into vectors."""

from __future__ import annotations

import logging
import math
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from torch import Tensor

from webui.catalog.files import FileCatalog, ModelFile
from webui.catalog.networks import Networks
from webui.core.choices import Choices, NetworkKind, load_function
from webui.core.errors import BadModelFile, nearest
from webui.core.infotext import hash_list
from webui.core.settings import Settings
from webui.models.families.base import LoadedModel
from webui.models.networks.embeddings import Embedding, embedding_of, read_embedding
from webui.models.networks.files import LoraFile, read_lora
from webui.models.networks.hypernetworks import Hypernetwork, read_hypernetwork
from webui.models.networks.matching import Applied, Matched, Strength, match
from webui.models.networks.patches import WeightPatches
from webui.prompts.chunks import EmbeddingMatch, EmbeddingNames, names_within
from webui.prompts.networks import NetworkTag, cut_networks
from webui.prompts.tokenizer import Tokenizer

if TYPE_CHECKING:
    from webui.pipeline.job import Job

log = logging.getLogger(__name__)

LORA_KINDS = ("lora", "lyco")
LORA_HASHES, EMBEDDING_HASHES = "Lora hashes", "TI hashes"
HYPERNETWORK_KIND = "hypernet"
KEPT_BYTES = 1 << 29
"""How much of LoRA files no longer in use stays in memory, whatever the setting for their number says."""
KEPT_HYPERNETWORKS = 3

Comment = Callable[[str], None]


MOTION = ".motion_modules."
"""In the name of a LoRA's module that is for a layer which a motion module brings, and no checkpoint has."""


@dataclass(frozen=True)
class MotionLora:
    """What a LoRA has for motion modules. name: as the prompt has it. modules: name -> role -> tensor."""

    name: str
    strength: float
    modules: Mapping[str, Mapping[str, Tensor]]


@dataclass
class InUse:
    """What is on a model during one pass. lora_hashes: name as the prompt has it -> hash, for the infotext.

    motion: for layers that the model itself hasn't.
    """

    embeddings: ModelEmbeddings
    lora_hashes: dict[str, str] = field(default_factory=dict)
    motion: tuple[MotionLora, ...] = ()


class NetworkShelf:
    """The worker's networks: files that were read, and what is on which model.

    LoRAs stay on a model between jobs, so that the next job with the same ones finds them there.
    """

    def __init__(self, catalogs: Networks, tokenizer: Tokenizer, choices: Choices):
        self.catalogs = catalogs
        self.choices = choices
        self.tokenizer = tokenizer
        self._patches: WeakKeyDictionary[LoadedModel, WeightPatches] = WeakKeyDictionary()
        self._matched: WeakKeyDictionary[LoadedModel, dict[tuple[str, int, int], Matched]] = WeakKeyDictionary()
        self._files: OrderedDict[tuple[str, int, int], LoraFile] = OrderedDict()
        self._hypernetworks: OrderedDict[tuple[str, int, int], Hypernetwork] = OrderedDict()
        self._embeddings: dict[tuple[str, int, int], Embedding] = {}

    @contextmanager
    def used(
        self,
        model: LoadedModel,
        tags: Sequence[NetworkTag],
        texts: Sequence[str],
        settings: Settings,
        comment: Comment,
    ) -> Iterator[InUse]:
        """Put the tags' networks on the model, and nothing else.

        texts: the prompts, which may name embeddings. comment: is told whatever couldn't be done, in sentences.
        """
        wanted = strengths([tag for tag in tags if tag.kind in LORA_KINDS], comment)
        found = {name: self._find(self.catalogs.loras, name, "LoRA", comment) for name in wanted}
        files = {name: file for name, file in found.items() if file is not None}
        if settings["lora_not_found_warning_console"] and len(files) < len(found):
            log.warning("Not found: LoRA %s", ", ".join(name for name in found if name not in files))
        applied = self._put_on(model, files, wanted, settings, comment)
        loras = [self._files[file.identity] for file in applied.values()]
        named = settings["lora_bundled_ti_to_infotext"]
        in_use = InUse(self._embeddings_for(model, texts, loras, comment, name_bundles=named))
        if settings["lora_add_hashes_to_infotext"]:
            hashes = {name: self.catalogs.loras.hash(file) for name, file in applied.items()}
            in_use.lora_hashes = {name: digest for name, digest in hashes.items() if digest}
        in_use.motion = tuple(
            MotionLora(name, wanted[name].unet, modules)
            for name, file in applied.items()
            if (modules := _for_motion(self._files[file.identity]))
        )
        self._forget(settings["lora_in_memory_limit"], {file.identity for file in applied.values()})
        with ExitStack() as stack:
            for tag in tags:
                if tag.kind == HYPERNETWORK_KIND:
                    self._attach(stack, model, tag, comment)
                elif tag.kind not in LORA_KINDS:
                    kind = next((kind for kind in self.choices.all(NetworkKind) if kind.name == tag.kind), None)
                    if kind is None:
                        comment(f"<{shown(tag)}> has no effect: there are no networks of the kind {tag.kind!r}.")
                    else:
                        stack.enter_context(load_function(kind.function)(model, tag, comment))
            yield in_use

    def fit(self, model: LoadedModel) -> None:
        """Let the list of embeddings tell which of them suit this model."""
        self.catalogs.embeddings.fit_to(tuple(encoder.width for encoder in model.text_encoders))

    def release(self) -> None:
        """Give back the memory of sets of LoRAs that are off."""
        for patches in self._patches.values():
            patches.release()

    def _find(self, catalog: FileCatalog, name: str, kind: str, comment: Comment) -> ModelFile | None:
        """The file, also one that was added since the list was made. None when there is none, which is commented."""
        find = getattr(catalog, "lookup", catalog.get)
        file: ModelFile | None = find(name)
        if file is None and catalog.poll(at_most_every=0):
            file = find(name)
        if file is None:
            close = nearest(name, (item.stem for item in catalog.all()))
            comment(f'{kind} not found: "{name[:200]}"{close}.')
        return file

    def _put_on(
        self,
        model: LoadedModel,
        files: Mapping[str, ModelFile],
        wanted: Mapping[str, Strength],
        settings: Settings,
        comment: Comment,
    ) -> dict[str, ModelFile]:
        """Have exactly these LoRAs on the model. Returns those of them that could be read, by name."""
        patches = self._patches.get(model)
        if patches is None:
            if not files:
                return {}
            patches = self._patches[model] = WeightPatches(model)
        if files and model.placement.sharing == "piecewise" and model.device.type != "cpu":
            comment("LoRAs are not used: --lowvram streams the weights from memory of its own. Use --medvram for them.")
            files = {}
        applied: dict[str, Applied] = {}
        for name, file in files.items():
            try:
                applied[name] = Applied(self._matching(model, patches, file), wanted[name])
            except BadModelFile as error:
                comment(f"The LoRA {name!r} is not used: {error}")
        patches.apply(tuple(applied.values()))
        for name, item in applied.items():
            _report_fit(name, item.network, patches.misfits.get(item.network.name, 0), model, comment)
        return {name: files[name] for name in applied}

    def _matching(self, model: LoadedModel, patches: WeightPatches, file: ModelFile) -> Matched:
        known = self._matched.setdefault(model, {})
        if file.identity not in self._files:
            self._files[file.identity] = read_lora(file.path)
            known.pop(file.identity, None)
        self._files.move_to_end(file.identity)
        if file.identity not in known:
            known[file.identity] = match(self._files[file.identity], patches.table)
        return known[file.identity]

    def _forget(self, limit: int, used: set[tuple[str, int, int]]) -> None:
        """Let go of files not in use, the longest unused first. limit: how many of them may stay at least."""
        idle = [identity for identity in self._files if identity not in used]
        size = sum(self._files[identity].size for identity in idle)
        while len(idle) > limit and size > KEPT_BYTES:
            identity = idle.pop(0)
            size -= self._files.pop(identity).size
            for matched in self._matched.values():
                matched.pop(identity, None)

    def _embeddings_for(
        self, model: LoadedModel, texts: Sequence[str], loras: Sequence[LoraFile], comment: Comment, name_bundles: bool
    ) -> ModelEmbeddings:
        """Those that the texts name and the model can take. name_bundles: a bundled one's digest is its LoRA's name."""
        catalog = self.catalogs.embeddings
        catalog.poll()
        widths = tuple(encoder.width for encoder in model.text_encoders)
        self.fit(model)
        text, named = "\n".join(texts), catalog.named()
        found: dict[str, Embedding] = {}
        for name in names_within(named, text):
            file, facts = named[name]
            if catalog.fits(facts, widths):
                embedding = self._embedding(name, file, comment)
                if embedding is not None:
                    found[name] = embedding
        for lora in loras:
            for name, tensors in lora.embeddings.items():
                try:
                    bundled = embedding_of(tensors, name, lora.name, digest=lora.name if name_bundles else "")
                except BadModelFile as error:
                    comment(str(error))
                    continue
                if bundled.widths == widths:
                    found.setdefault(name, bundled)
        return ModelEmbeddings(found, self.tokenizer)

    def _embedding(self, name: str, file: ModelFile, comment: Comment) -> Embedding | None:
        known = self._embeddings.get(file.identity)
        if known is None:
            try:
                digest = self.catalogs.embeddings.hash(file) or ""
                known = self._embeddings[file.identity] = read_embedding(file.path, name, digest)
            except BadModelFile as error:
                comment(f"The embedding {name!r} is not used: {error}")
        return known

    def _attach(self, stack: ExitStack, model: LoadedModel, tag: NetworkTag, comment: Comment) -> None:
        name = tag.args[0] if tag.args else ""
        file = self._find(self.catalogs.hypernetworks, name, "Hypernetwork", comment)
        strength = number(tag, 1, None, 1.0, comment)
        if file is None or strength is None:
            return
        try:
            hypernetwork = self._hypernetworks.pop(file.identity, None) or read_hypernetwork(file.path)
        except BadModelFile as error:
            comment(f"The hypernetwork {name!r} is not used: {error}")
            return
        self._hypernetworks[file.identity] = hypernetwork
        while len(self._hypernetworks) > KEPT_HYPERNETWORKS:
            self._hypernetworks.popitem(last=False)
        if not stack.enter_context(hypernetwork.attached(model.unet, strength)):
            widths = ", ".join(map(str, hypernetwork.pairs))
            comment(f"The hypernetwork {name!r} changes nothing: the model has no context as wide as its {widths}.")


class ModelEmbeddings:
    """The textual inversions that a pass may name; what `TextEncoding` asks."""

    def __init__(self, embeddings: Mapping[str, Embedding], tokenizer: Tokenizer):
        self._embeddings = embeddings
        self._names = EmbeddingNames({name: item.count for name, item in embeddings.items()}, tokenizer)

    def find(self, tokens: Sequence[int], position: int) -> EmbeddingMatch | None:
        return self._names.find(tokens, position)

    def vectors(self, name: str, encoder: str) -> Tensor | None:
        return self._embeddings[name].of(encoder)

    def digest(self, name: str) -> str:
        """What "TI hashes" shows of it, "" for nothing."""
        return self._embeddings[name].digest


@contextmanager
def networks_on(job: Job, model: LoadedModel, prompts: Sequence[str], negatives: Sequence[str]) -> Iterator[InUse]:
    """While inside, the model has the networks that the prompts name; they are reported.

    prompts: with their tags, the same in all. A pass of its own prompts (hires fix) names its own networks.
    """
    disabled = job.plan.request.disable_extra_networks
    tags = () if disabled else cut_networks(prompts[0]).tags
    texts = [cut_networks(prompt).text for prompt in prompts]
    with job.engine.networks.used(model, tags, [*texts, *negatives], job.plan.settings, job.report.comment) as in_use:
        before = str(job.report.fields.get(LORA_HASHES) or "")
        earlier = {name: digits for name, _, digits in (item.partition(": ") for item in before.split(", ")) if digits}
        hashes = earlier | in_use.lora_hashes
        if hashes:
            job.report.fields[LORA_HASHES] = hash_list(hashes.items())
        yield in_use


def forget_networks(job: Job) -> None:
    """Let the infotext name no networks of earlier pictures; their place in it stays."""
    fields = job.report.fields
    fields.update({key: None for key in (LORA_HASHES, EMBEDDING_HASHES) if key in fields})


def report_embeddings(job: Job, in_use: InUse, names: Sequence[str]) -> None:
    """Write the textual inversions of a pass into the infotext. names: in the order they are listed."""
    if job.plan.settings["textual_inversion_add_hashes_to_infotext"]:
        hashes = [(name, in_use.embeddings.digest(name)) for name in names]
        if any(digits for _, digits in hashes):
            job.report.fields[EMBEDDING_HASHES] = hash_list((name, digits) for name, digits in hashes if digits)


def strengths(tags: Sequence[NetworkTag], comment: Comment) -> dict[str, Strength]:
    """Name -> strength, in the order of the tags; what is named twice counts with the sum.

    <lora:name:te:unet:dyn>, each also by name ("te=", "unet=", "dyn="); unet is te where it isn't given.
    """
    found: dict[str, Strength] = {}
    for tag in tags:
        if not tag.args:
            continue
        text = number(tag, 1, "te", 1.0, comment)
        unet = None if text is None else number(tag, 2, "unet", text, comment)
        cut = None if unet is None else number(tag, 3, "dyn", math.inf, comment)
        if text is None or unet is None or cut is None:
            continue
        before = found.get(tag.args[0], Strength(0.0, 0.0))
        rank_cut = before.rank_cut if math.isinf(cut) else max(int(cut), 0)
        found[tag.args[0]] = Strength(before.text + text, before.unet + unet, rank_cut)
    return found


def number(tag: NetworkTag, place: int, name: str | None, default: float, comment: Comment) -> float | None:
    """An argument of a tag, by name or by place. None when it is no number, which is commented."""
    given = tag.named.get(name) if name else None
    if given is None:
        given = tag.args[place] if len(tag.args) > place else None
    if given is None:
        return default
    try:
        value = float(given)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        comment(f'<{shown(tag)}> is not used: "{given[:40]}" is no number.')
        return None
    return value


def shown(tag: NetworkTag) -> str:
    """The tag as it was written, without its brackets."""
    return ":".join([tag.kind, *tag.args, *(f"{key}={value}" for key, value in tag.named.items())])[:200]


def _report_fit(name: str, network: Matched, misfits: int, model: LoadedModel, comment: Comment) -> None:
    """Say what of a LoRA this model had no use for."""
    unmatched = [module for module in network.unmatched if MOTION not in module]
    total = len(network.deltas) + len(unmatched) + len(network.misfits)
    unused = len(unmatched) + len(network.misfits) + misfits
    where = model.checkpoint.model_name
    if total and unused == total:
        comment(f"The LoRA {name!r} changes nothing: none of its {total} modules fits {where}.")
    elif unused:
        comment(f"Of the LoRA {name!r}, {unused} of {total} modules don't fit {where} and were left out.")


def _for_motion(file: LoraFile) -> Mapping[str, Mapping[str, Tensor]]:
    return {name: tensors for name, tensors in file.modules.items() if MOTION in name}
