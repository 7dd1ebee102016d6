"""Which extra networks exist: LoRAs, textual inversions, hypernetworks; what they are called and what fits the model.

Listing costs a look at the folders. What only a file's header can tell (an alias, the width of an embedding) is read
when it is asked for, and remembered in the `FactCache`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from webui.catalog.embedding_image import SUFFIXES as IMAGE_SUFFIXES
from webui.catalog.embedding_image import read_embedding_image
from webui.catalog.facts import FactCache
from webui.catalog.files import FileCatalog, ModelFile, natural_key
from webui.catalog.hashes import HashCache
from webui.catalog.pickle_header import read_pickle
from webui.catalog.safetensors_header import SafetensorsHeader, read_header
from webui.core.errors import BadModelFile, WebuiError
from webui.core.texts import clean_data, clean_text, shown_name

LORA_SUFFIXES = (".safetensors", ".pt", ".ckpt")
EMBEDDING_SUFFIXES = (".safetensors", ".pt", ".bin", *IMAGE_SUFFIXES)
HYPERNETWORK_SUFFIXES = (".pt",)

ALIAS_FROM_FILE = "Alias from file"
NEVER_AN_ALIAS = frozenset({"none", "addams"})
SHORT_HASH = 12
PARAMETERS = "string_to_param."
MAX_PICKLED = 100_000_000
"""Bytes of an embedding's file: it is read whole."""

FIRST_TAGS = ("ss_sd_model_name", "ss_resolution", "ss_clip_skip", "ss_num_train_images", "ss_tag_frequency")
"""Metadata that is shown before the rest, as A1111 does."""
COVERS = "ssmd_cover_images"
"""A metadata field that holds whole pictures."""


@dataclass(frozen=True)
class LoraFacts:
    """alias: what the file calls itself. version: "SD1", "SD2", "SDXL", "SD3", "Flux" or "Unknown".
    model_hash: the hash that the file states, "" where it states none. problem: why it can't be read, "" if it can."""

    alias: str = ""
    version: str = "Unknown"
    model_hash: str = ""
    problem: str = ""


class LoraCatalog(FileCatalog):
    """LoRAs and their relatives, found by file name, alias, or path below the folder.

    on_change of files: `refresh` or `poll`, as every catalog.
    """

    def __init__(self, roots: Sequence[Path], hashes: HashCache, facts: FactCache):
        self.hashes = hashes
        self._facts = facts
        self._aliases: tuple[int, Mapping[str, ModelFile | None]] = (-1, {})
        super().__init__(roots, LORA_SUFFIXES, hidden=True)

    def facts(self, file: ModelFile) -> LoraFacts:
        """What the header tells; of a broken file that it is broken. Never raises."""
        return LoraFacts(**self._facts.of(file, "lora", _lora_facts))

    def metadata(self, file: ModelFile) -> Mapping[str, Any]:
        """The header's text fields as A1111 shows them: JSON objects decoded, no cover pictures.

        {} where there are none and for a broken file.
        """
        if file.path.suffix.lower() != ".safetensors" or self.facts(file).problem:
            return {}
        metadata: Mapping[str, Any] = self._facts.of(file, "metadata", shown_metadata)
        return metadata

    def lookup(self, name: str) -> ModelFile | None:
        """The file that a prompt means by `name`: by its file name first, then by its alias."""
        return self.get(name) or self.aliases().get(name) or self.aliases().get(name.lower())

    def aliases(self) -> Mapping[str, ModelFile | None]:
        """Alias, as it is and in lower case -> file; None where several files claim it. Reads every header once."""
        version = self.version
        if self._aliases[0] != version:
            found: dict[str, ModelFile | None] = {}
            for file in self.all():
                alias = self.facts(file).alias
                for spelling in {alias, alias.lower()} - {""}:
                    clashes = spelling in found and found[spelling] is not file
                    found[spelling] = None if clashes else file
            self._aliases = (version, found)
        return self._aliases[1]

    def prompt_name(self, file: ModelFile, preferred: str = ALIAS_FROM_FILE) -> str:
        """The name that a card puts into a prompt. preferred: the setting `lora_preferred_name`."""
        alias = self.facts(file).alias
        if preferred != ALIAS_FROM_FILE or not alias or alias.lower() in NEVER_AN_ALIAS:
            return file.stem
        other = self.get(alias)
        taken = self.aliases().get(alias) is not file or (other is not None and other is not file)
        return file.stem if taken else alias

    def hash(self, file: ModelFile) -> str | None:
        """The digits that "Lora hashes" shows 12 of: stated by the file, or computed now (blocking).

        None with --no-hashing and for a file that can't be read.
        """
        stated = self.facts(file).model_hash
        if stated:
            return stated
        try:
            return self.hashes.compute(file.path, _hash_kind(file))
        except (OSError, BadModelFile):
            return None

    def known_hash(self, file: ModelFile) -> str | None:
        """As `hash`, but without reading the whole file: None while it isn't known."""
        return self.facts(file).model_hash or self.hashes.known(file.path, _hash_kind(file))


@dataclass(frozen=True)
class EmbeddingFacts:
    """name: what a prompt calls it. vectors: places it fills. widths: channels, for each text encoder it is for.

    step, sd_checkpoint (short hash), sd_checkpoint_name: of its training. problem: why it can't be read, "" if it can.
    """

    name: str
    vectors: int = 0
    widths: tuple[int, ...] = ()
    step: int | None = None
    sd_checkpoint: str | None = None
    sd_checkpoint_name: str | None = None
    problem: str = ""

    @property
    def shape(self) -> int:
        """A1111's one number for the widths: their sum."""
        return sum(self.widths)


class EmbeddingCatalog(FileCatalog):
    """Textual inversions. Which of them can be used depends on the model that is loaded: see `fit_to`."""

    def __init__(self, roots: Sequence[Path], hashes: HashCache, facts: FactCache):
        self.hashes = hashes
        self._facts = facts
        self._widths: tuple[int, ...] | None = None
        self._named: tuple[int, Mapping[str, tuple[ModelFile, EmbeddingFacts]]] = (-1, {})
        super().__init__(roots, EMBEDDING_SUFFIXES, wanted=_is_no_preview, hidden=True)

    def _files_of(self, folder: Any, root: Path, taken: set[str]) -> Iterator[tuple[str, ModelFile]]:
        """Without pictures that lie beside an embedding of their name: they show what it does."""
        return (found for found in super()._files_of(folder, root, taken) if not _shows_another(found[1]))

    @property
    def widths(self) -> tuple[int, ...] | None:
        """What `fit_to` was told: of the loaded model, None while none has been loaded."""
        return self._widths

    def fit_to(self, widths: tuple[int, ...]) -> None:
        """Say which model is loaded, by the widths of its text encoders' token vectors."""
        self._widths = tuple(widths)

    def facts(self, file: ModelFile) -> EmbeddingFacts:
        """What is in the file; of a broken one, or a picture without an embedding, no vectors. Never raises."""
        known = self._facts.of(file, "embedding", _embedding_facts)
        return EmbeddingFacts(**{**known, "widths": tuple(known["widths"])})

    def named(self) -> Mapping[str, tuple[ModelFile, EmbeddingFacts]]:
        """Name -> file and facts, of all that are embeddings; of two with one name the first counts."""
        version = self.version
        if self._named[0] != version:
            table: dict[str, tuple[ModelFile, EmbeddingFacts]] = {}
            for file in self.all():
                facts = self.facts(file)
                if facts.vectors:
                    table.setdefault(facts.name, (file, facts))
            self._named = (version, table)
        return self._named[1]

    def loaded(self) -> dict[str, EmbeddingFacts]:
        """The embeddings that fit the loaded model, or all while none has been loaded."""
        return {name: facts for name, (_, facts) in self._sorted() if self.fits(facts)}

    def vectors(self) -> dict[str, int]:
        """Name -> places it fills in a prompt, of the embeddings that `loaded` has; in no order."""
        return {name: facts.vectors for name, (_, facts) in self.named().items() if self.fits(facts)}

    def skipped(self) -> dict[str, EmbeddingFacts]:
        """Those that are for another family of models."""
        return {name: facts for name, (_, facts) in self._sorted() if not self.fits(facts)}

    def fits(self, facts: EmbeddingFacts, widths: tuple[int, ...] | None = None) -> bool:
        """widths: of the model asked about, by default of the loaded one."""
        asked = self._widths if widths is None else widths
        return asked is None or facts.widths == asked

    def _sorted(self) -> list[tuple[str, tuple[ModelFile, EmbeddingFacts]]]:
        return sorted(self.named().items(), key=lambda item: natural_key(item[0]))

    def hash(self, file: ModelFile) -> str | None:
        """SHA-256 of the file, computed now if need be; None with --no-hashing and for one that can't be read."""
        try:
            return self.hashes.compute(file.path)
        except OSError:
            return None


class HypernetworkCatalog(FileCatalog):
    """Hypernetworks, found by file name."""

    def __init__(self, roots: Sequence[Path], hashes: HashCache):
        self.hashes = hashes
        super().__init__(roots, HYPERNETWORK_SUFFIXES, hidden=True)


@dataclass(frozen=True)
class Networks:
    """The catalogs of extra networks."""

    loras: LoraCatalog
    embeddings: EmbeddingCatalog
    hypernetworks: HypernetworkCatalog

    def refresh(self) -> None:
        for catalog in (self.loras, self.embeddings, self.hypernetworks):
            catalog.refresh()


def _hash_kind(file: ModelFile) -> str:
    return "addnet" if file.path.suffix.lower() == ".safetensors" else "sha256"


def _lora_facts(path: Path) -> dict[str, Any]:
    """`LoraFacts` as JSON."""
    if path.suffix.lower() != ".safetensors":
        return asdict(LoraFacts())
    try:
        header = read_header(path)
    except WebuiError as error:
        return asdict(LoraFacts(problem=str(error)))
    metadata = header.metadata
    return asdict(
        LoraFacts(
            alias=metadata.get("ss_output_name", "").strip(),
            version=sd_version(header),
            model_hash=metadata.get("sshs_model_hash", ""),
        )
    )


def sd_version(header: SafetensorsHeader) -> str:
    """The family a LoRA was made for, by its metadata, else by its tensors."""
    base, names = header.metadata.get("ss_base_model_version", ""), header.tensors
    for start, version in (("sdxl_", "SDXL"), ("sd3", "SD3"), ("flux", "Flux"), ("sd_v2", "SD2"), ("sd_v1", "SD1")):
        if base.startswith(start):
            return version
    if header.metadata.get("ss_v2") == "True":
        return "SD2"
    if any("double_blocks" in name or "single_transformer_blocks" in name for name in names):
        return "Flux"
    if any("joint_blocks" in name for name in names):
        return "SD3"
    if any(name.startswith(("lora_te2_", "text_encoder_2.")) for name in names):
        return "SDXL"
    for name, entry in names.items():
        if ("attn2_to_k" in name or "attn2.to_k" in name) and ("down" in name or "lora_A" in name):
            return {768: "SD1", 1024: "SD2", 2048: "SDXL"}.get(entry.shape[-1] if entry.shape else 0, "Unknown")
    return "SD1" if header.metadata.get("ss_network_module") else "Unknown"


def shown_metadata(path: Path) -> dict[str, Any]:
    """A safetensors header's text fields as people are shown them. Raises: BadModelFile."""
    stored = read_header(path).metadata
    first = [key for key in FIRST_TAGS if key in stored]
    ordered = [*first, *(key for key in stored if key not in FIRST_TAGS)]
    return {key: _decoded(stored[key]) for key in ordered if key != COVERS}


def _decoded(value: str) -> Any:
    if value.startswith("{"):
        try:
            return clean_data(json.loads(value))
        except (ValueError, RecursionError):
            return value
    return value


def _shows_another(file: ModelFile) -> bool:
    others = (suffix for suffix in EMBEDDING_SUFFIXES if suffix not in IMAGE_SUFFIXES)
    return file.path.suffix.lower() in IMAGE_SUFFIXES and any(file.path.stem + other in file.beside for other in others)


def _is_no_preview(name: str) -> bool:
    return Path(name).stem.lower().rpartition(".")[2] != "preview"


def _embedding_facts(path: Path) -> dict[str, Any]:
    """`EmbeddingFacts` as JSON."""
    suffix = path.suffix.lower()
    read = _safetensors_embedding if suffix == ".safetensors" else _pickled_embedding
    try:
        return asdict(_image_embedding(path) if suffix in IMAGE_SUFFIXES else read(path))
    except WebuiError as error:
        return asdict(EmbeddingFacts(shown_name(path.stem), problem=str(error)))


def _safetensors_embedding(path: Path) -> EmbeddingFacts:
    """Raises: BadModelFile for a file that holds no embedding."""
    shapes = {name: entry.shape for name, entry in read_header(path).tensors.items()}
    vectors, widths = embedding_shape(shapes, path.name)
    return EmbeddingFacts(shown_name(path.stem), vectors, widths)


def _pickled_embedding(path: Path) -> EmbeddingFacts:
    """Raises: BadModelFile for a file that holds no embedding."""
    try:
        if path.stat().st_size > MAX_PICKLED:
            raise BadModelFile(f"{path.name} is no embedding: it has {path.stat().st_size} bytes.")
        pickled = read_pickle(memoryview(path.read_bytes()), path.name)
    except OSError as error:
        raise BadModelFile(f"{path.name} can't be read: {error.strerror or error}.") from error
    shapes = {name: stored.shape for name, stored in pickled.tensors.items()}
    vectors, widths = embedding_shape(shapes, path.name)
    told = pickled.content if isinstance(pickled.content, dict) else {}
    step, hash_, name = (told.get(key) for key in ("step", "sd_checkpoint", "sd_checkpoint_name"))
    return EmbeddingFacts(
        name=shown_name(path.stem),
        vectors=vectors,
        widths=widths,
        step=step if isinstance(step, int) else None,
        sd_checkpoint=clean_text(hash_) if isinstance(hash_, str) else None,
        sd_checkpoint_name=clean_text(name) if isinstance(name, str) else None,
    )


def embedding_tensors(names: Iterable[str], file: str) -> tuple[str, ...]:
    """Which of a file's tensors are the embedding: A1111's table, SDXL's pair, kohya's one, or the only one there is.

    Raises: BadModelFile when that is none or several.
    """
    present = tuple(names)
    table = tuple(name for name in present if name.startswith(PARAMETERS))
    pair = tuple(name for name in ("clip_l", "clip_g") if name in present)
    chosen = table or pair or tuple(name for name in present if name == "emb_params") or present
    if not pair and len(chosen) != 1:
        raise BadModelFile(f"{file} is not an embedding: it holds {len(chosen)} tensors instead of one.")
    return chosen


def embedding_shape(shapes: Mapping[str, tuple[int, ...]], file: str) -> tuple[int, tuple[int, ...]]:
    """(vectors, widths) of an embedding whose tensors have these shapes. file: its name, for the message.

    Raises: BadModelFile unless they are (n, width) or (width,), of one n.
    """
    tensors = [shapes[name] for name in embedding_tensors(shapes, file)]
    full = [(1, *shape) if len(shape) == 1 else shape for shape in tensors]
    if any(len(shape) != 2 or 0 in shape for shape in full) or len({shape[0] for shape in full}) != 1:
        raise BadModelFile(f"{file} is not an embedding: its tensors have the shapes {[list(s) for s in tensors]}.")
    return full[0][0], tuple(shape[1] for shape in full)


def _image_embedding(path: Path) -> EmbeddingFacts:
    """A picture without an embedding in it has no vectors. Raises: BadModelFile for a broken one."""
    found = read_embedding_image(path)
    if found is None:
        return EmbeddingFacts(shown_name(path.stem))
    vectors, widths = embedding_shape({key: value.shape for key, value in found.tensors.items()}, path.name)
    return EmbeddingFacts(
        name=clean_text(found.name or "") or shown_name(path.stem),
        vectors=vectors,
        widths=widths,
        step=found.step,
        sd_checkpoint=found.sd_checkpoint,
        sd_checkpoint_name=found.sd_checkpoint_name,
    )
