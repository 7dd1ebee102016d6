"""Which VAE files there are, and which of them goes with a checkpoint."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from webui.catalog.checkpoints import SHORT_HASH, Checkpoint
from webui.catalog.files import FileCatalog, ModelFile, natural_key, slashed
from webui.catalog.hashes import HashCache
from webui.core.errors import NotFound, nearest
from webui.core.settings import Settings
from webui.core.texts import shown_name

SUFFIXES = (".safetensors", ".ckpt", ".pt")
AUTOMATIC, NONE = "Automatic", "None"

Method = Literal["Full", "TAESD"]


@dataclass(frozen=True)
class VaeFile:
    """sha256: None until computed."""

    path: Path
    identity: tuple[str, int, int]
    sha256: str | None = None

    @property
    def name(self) -> str:
        """As the infotext and the settings spell it: the file's name with its suffix."""
        return shown_name(self.path.name)

    @property
    def shorthash(self) -> str | None:
        return self.sha256[:SHORT_HASH] if self.sha256 else None


@dataclass(frozen=True)
class VaeUse:
    """How latents become pictures with one checkpoint and back.

    file: None stands for the checkpoint's own VAE. encoder, decoder: TAESD is small, quick and rough.
    retry: the precision to compute in again when half precision overflows; None doesn't.
    note: what the user should know about the choice.
    """

    file: VaeFile | None = None
    encoder: Method = "Full"
    decoder: Method = "Full"
    retry: Literal["fp32", "bf16"] | None = "fp32"
    note: str = ""


class VaeCatalog:
    """The VAE files in their own folders, and those named `x.vae.safetensors` beside checkpoints.

    Safe to use from several threads.
    """

    def __init__(self, folders: Sequence[Path], checkpoint_folders: Sequence[Path], hashes: HashCache):
        self._hashes = hashes
        self._own = FileCatalog(folders, SUFFIXES)
        self._beside = FileCatalog(checkpoint_folders, SUFFIXES, wanted=_is_vae_name)

    def all(self) -> tuple[ModelFile, ...]:
        """In natural order of their names; of two files of one name the one in the VAE folder."""
        for catalog in (self._own, self._beside):
            catalog.poll()
        by_name: dict[str, ModelFile] = {}
        for file in (*self._own.all(), *self._beside.all()):
            by_name.setdefault(file.path.name, file)
        return tuple(sorted(by_name.values(), key=lambda file: natural_key(file.path.name)))

    def names(self) -> tuple[str, ...]:
        """What the setting `sd_vae` may be."""
        return AUTOMATIC, NONE, *(file.file_name for file in self.all())

    def refresh(self) -> None:
        """Look at the folders again."""
        self._own.refresh()
        self._beside.refresh()

    def find(self, name: str) -> VaeFile:
        """The file of that name, with or without suffix, or at that path, with its hash if that is known.

        Raises: NotFound naming the nearest.
        """
        wanted = slashed(name.strip().lower())
        for file in self.all():
            path = file.path
            spellings = (file.file_name, file.stem, file.stem.removesuffix(".vae"), file.name, str(path), path.name)
            if wanted in (slashed(spelling.lower()) for spelling in spellings):
                return self._described(path)
        close = nearest(name, self.names())
        raise NotFound(f'There is no VAE "{name[:200]}"{close}. Refresh the list if you just added it.')

    def at(self, path: Path) -> VaeFile:
        """A file outside the folders. Raises: NotFound."""
        if not path.is_file():
            raise NotFound(f"There is no VAE file at {path} (--vae-path).")
        return self._described(path)

    def named_as(self, checkpoint: Checkpoint) -> VaeFile | None:
        """The first whose name begins with the checkpoint's."""
        stem = checkpoint.path.stem
        found = next((file for file in self.all() if file.path.name.startswith(stem)), None)
        return self._described(found.path) if found else None

    def hashed(self, file: VaeFile) -> VaeFile:
        """The file with its SHA-256, computed now if need be (seconds for a large one); as it is with --no-hashing."""
        return file if file.sha256 else replace(file, sha256=self._hashes.compute(file.path))

    def _described(self, path: Path) -> VaeFile:
        stat = path.stat()
        return VaeFile(path, (str(path), stat.st_size, stat.st_mtime_ns), self._hashes.known(path))


def choose_vae(
    catalog: VaeCatalog,
    settings: Settings,
    checkpoint: Checkpoint,
    preferred: str | None = None,
    always: Path | None = None,
) -> VaeUse:
    """The VAE for a checkpoint, A1111's order of reasons.

    preferred: named in the checkpoint's own notes. always: of --vae-path.
    A file that the settings or notes name and that isn't there gives the checkpoint's own VAE and a note.
    """
    file, note = _chosen(catalog, settings, checkpoint, preferred, always)
    retry: Literal["fp32", "bf16"] | None = "fp32" if settings["auto_vae_precision"] else None
    if settings["auto_vae_precision_bfloat16"]:
        retry = "bf16"
    return VaeUse(file, settings["sd_vae_encode_method"], settings["sd_vae_decode_method"], retry, note)


def _chosen(
    catalog: VaeCatalog, settings: Settings, checkpoint: Checkpoint, preferred: str | None, always: Path | None
) -> tuple[VaeFile | None, str]:
    if always is not None:
        return catalog.at(always), ""
    name = vae_wish(settings["sd_vae"])
    wanted = None
    if settings["sd_vae_overrides_per_model_preferences"] and name != AUTOMATIC:
        wanted = name
    elif vae_wish(preferred) != AUTOMATIC:
        wanted = vae_wish(preferred)
    elif (beside := catalog.named_as(checkpoint)) is not None:
        return beside, ""
    elif name != AUTOMATIC:
        wanted = name
    if wanted in (None, NONE):
        return None, ""
    try:
        return catalog.find(wanted), ""
    except NotFound as error:
        return None, f"{error} {checkpoint.model_name} uses its own."


def vae_wish(name: str | None) -> str:
    """What a setting or note means: AUTOMATIC also for nothing and for the "auto" of old versions, else the name."""
    plain = (name or "").strip()
    return {"": AUTOMATIC, "auto": AUTOMATIC, "automatic": AUTOMATIC, "none": NONE}.get(plain.lower(), plain)


def _is_vae_name(name: str) -> bool:
    return name.lower().rpartition(".")[0].endswith(".vae")
