"""Which checkpoints exist, and how a name that a user typed finds one."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from webui.catalog.files import FileCatalog, ModelFile, natural_key, slashed
from webui.catalog.hashes import HashCache
from webui.catalog.hashing import BackgroundHasher
from webui.catalog.safetensors_header import PREFIX, looks_like_pickle, require_no_pointer
from webui.core.errors import BadModelFile, NotFound, nearest
from webui.core.texts import shown_name

__all__ = ["Checkpoint", "CheckpointCatalog", "natural_key"]

SUFFIXES = (".safetensors", ".ckpt")
EMBEDDED_STEM = "easel-emoji"
SHORT_HASH = 10
LEGACY = re.compile(r"(?:^|\[)[0-9a-fA-F]{8}(?:\]|$)")
TOO_MANY = 100
"""Checkpoints without a hash above which none is computed unasked: reading terabytes would take days."""


@dataclass(frozen=True)
class Checkpoint:
    """A model file, seen from outside: nothing here needs it to be loadable.

    name: relative to its folder with "/" (absolute when two folders hold the same relative name).
    sha256: None until computed. legacy_hash: A1111's old 8-digit hash, "" when the file can't be read.
    config: the .yaml beside it. problem: a sentence when it is known that the file can't be loaded.
    embedded: it is the model that ships with Easel.
    """

    path: Path
    name: str
    size: int
    mtime_ns: int
    sha256: str | None = None
    legacy_hash: str = ""
    config: Path | None = None
    problem: str | None = None
    embedded: bool = False

    @property
    def model_name(self) -> str:
        """A1111's `model_name`: the file name without its suffix."""
        return shown_name(self.path.stem)

    @property
    def file_name(self) -> str:
        """The file name as it is shown."""
        return shown_name(self.path.name)

    @property
    def shorthash(self) -> str | None:
        """The first 10 digits of the SHA-256, as the infotext's `Model hash` prints it."""
        return self.sha256[:SHORT_HASH] if self.sha256 else None

    @property
    def title(self) -> str:
        """`name [shorthash]`, or the bare name while the hash is unknown."""
        return f"{self.name} [{self.shorthash}]" if self.sha256 else self.name

    @property
    def identity(self) -> tuple[str, int, int]:
        """Changes when the file's content does: two equal identities are the same weights."""
        return str(self.path), self.size, self.mtime_ns

    @property
    def ids(self) -> tuple[str, ...]:
        """Every exact spelling that finds this checkpoint."""
        stem = self.name.rsplit(".", 1)[0]
        spellings = [self.title, self.name, stem, self.file_name, self.model_name, str(self.path)]
        if self.sha256:
            spellings += [self.sha256, self.sha256[:SHORT_HASH], f"{stem} [{self.shorthash}]"]
            spellings += [f"{self.file_name} [{self.shorthash}]", f"{self.model_name} [{self.shorthash}]"]
        if self.legacy_hash:
            spellings += [self.legacy_hash, f"{self.name} [{self.legacy_hash}]"]
        return tuple(spellings)


class CheckpointCatalog:
    """The checkpoints below some folders, as an immutable list that `refresh` replaces at once.

    roots: the users' folders, searched in this order; missing ones are passed over.
    files: single checkpoints outside the folders (--ckpt names a path).
    own: the folder that ships with Easel; its `easel-emoji` sorts last and serves when there is nothing else.
    hasher: computes hashes in the background; one of its own unless it is shared with other catalogs.
    Safe to use from several threads.
    """

    def __init__(
        self,
        roots: Sequence[Path],
        hashes: HashCache,
        files: Sequence[Path] = (),
        own: Path | None = None,
        hasher: BackgroundHasher | None = None,
    ):
        self.hashes = hashes
        self.hasher = hasher or BackgroundHasher(hashes)
        self._own = own
        every_root = [*roots, *([own] if own else [])]
        self._files = FileCatalog(every_root, SUFFIXES, files=files, wanted=_is_checkpoint, folders=True)
        self._lock = threading.Lock()
        self._all: tuple[Checkpoint, ...] = ()
        self._stopping = threading.Event()
        self._describe_all()

    @property
    def roots(self) -> tuple[Path, ...]:
        return self._files.roots

    @property
    def files(self) -> FileCatalog:
        """The same list as files: where cards look for what lies beside."""
        return self._files

    def __iter__(self) -> Iterator[Checkpoint]:
        return iter(self._all)

    def __len__(self) -> int:
        return len(self._all)

    def all(self) -> tuple[Checkpoint, ...]:
        return self._all

    def titles(self) -> tuple[str, ...]:
        return tuple(checkpoint.title for checkpoint in self._all)

    def refresh(self) -> tuple[Checkpoint, ...]:
        """Look at the folders again."""
        self._files.refresh()
        return self._describe_all()

    def poll(self, at_most_every: float = 1.0) -> bool:
        """Look for new files at little cost; returns whether the list has changed."""
        changed = self._files.poll(at_most_every)
        if changed:
            self._describe_all()
        return changed

    def find(self, name: str) -> Checkpoint:
        """The checkpoint meant by a title, file name, stem, path, 8-, 10- or 64-digit hash, or part of a title.

        "\\" counts as "/". A part matches the shortest title holding it; a trailing ` [hash]` that fits nothing is
        ignored.
        Raises: NotFound naming the nearest checkpoint.
        """
        wanted = name.strip()
        found = self._lookup(wanted)
        if found is None:
            raise NotFound(
                f'No checkpoint matches "{name}"{nearest(wanted, (c.name for c in self._all))}. '
                "Refresh the list if you just added it."
            )
        return found

    def is_there(self, name: str) -> bool:
        """Whether `find` has an answer."""
        return self._lookup(name.strip()) is not None

    def default(self, wanted: str = "") -> Checkpoint:
        """`wanted` if it is there, else the user's first loadable checkpoint, else the embedded one.

        Raises: NotFound when there is no checkpoint at all.
        """
        found = self._lookup(wanted.strip()) if wanted.strip() else None
        if found is not None:
            return found
        for checkpoint in self._all:
            if checkpoint.problem is None:
                return checkpoint
        if self._all:
            return self._all[0]
        where = self.roots[0] if self.roots else "models/Stable-diffusion"
        raise NotFound(f"There is no checkpoint yet: put a .safetensors file into {where} and refresh the list.")

    def hashed(self, checkpoint: Checkpoint) -> Checkpoint:
        """`checkpoint` with its SHA-256, computed now if need be (blocking; seconds for gigabytes).

        Unchanged with --no-hashing or when the file can't be read.
        """
        if checkpoint.sha256:
            return checkpoint
        try:
            sha256 = self.hashes.compute(checkpoint.path, keep_going=lambda: not self._stopping.is_set())
        except OSError:
            return checkpoint
        return self._learn(checkpoint, sha256)

    def hash_in_background(self) -> None:
        """Have the missing hashes computed when nothing else is to be done, unless they are too many."""
        missing = [c.path for c in self._all if not c.sha256 and c.problem is None and not c.path.is_dir()]
        if len(missing) <= TOO_MANY:
            self.hasher.want(missing, done=self._hashed_meanwhile)

    def hash_file(self, path: Path) -> None:
        """Have the hash of one file computed in the background, because somebody asked for it."""
        self.hasher.want([path], done=self._hashed_meanwhile)

    def close(self) -> None:
        """Stop background hashing; returns when it has stopped."""
        self._stopping.set()
        self.hasher.close()

    def _hashed_meanwhile(self, path: Path, sha256: str) -> None:
        checkpoint = next((c for c in self._all if c.path == path), None)
        if checkpoint and self.hashes.known(path) == sha256:
            self._learn(checkpoint, sha256)

    def _learn(self, checkpoint: Checkpoint, sha256: str | None) -> Checkpoint:
        known = replace(checkpoint, sha256=sha256)
        with self._lock:
            self._all = tuple(known if c.identity == known.identity else c for c in self._all)
        return known

    def _lookup(self, wanted: str) -> Checkpoint | None:
        if not wanted:
            return None
        if LEGACY.search(wanted):
            self._learn_legacy()
        everything = self._all
        plain = slashed(wanted.lower())
        for fits in (
            lambda c: wanted in (c.title, c.name),
            lambda c: wanted in c.ids,
            lambda c: plain in (slashed(spelling.lower()) for spelling in c.ids),
        ):
            found = next((c for c in everything if fits(c)), None)
            if found:
                return found
        parts = [c for c in everything if plain in slashed(c.title.lower())]
        if parts:
            return min(parts, key=lambda c: len(c.title))
        bare = re.sub(r"\s*\[[0-9a-fA-F]+\]$", "", wanted)
        return self._lookup(bare) if bare != wanted else None

    def _learn_legacy(self) -> None:
        """The old hashes of all files, 64 KiB of each: only once somebody asks for one."""
        known = {}
        for checkpoint in self._all:
            if not checkpoint.legacy_hash and not checkpoint.path.is_dir():
                try:
                    known[checkpoint.identity] = self.hashes.compute(checkpoint.path, "legacy") or ""
                except OSError:
                    continue  # it can't be found by a hash that can't be read
        with self._lock:
            self._all = tuple(
                replace(c, legacy_hash=known[c.identity]) if c.identity in known else c for c in self._all
            )

    def _describe_all(self) -> tuple[Checkpoint, ...]:
        files = self._files.all()
        sha256, legacy = (self.hashes.known_of(files, kind) for kind in ("sha256", "legacy"))
        found = [self._describe(file, sha256.get(file.path), legacy.get(file.path, "")) for file in files]
        with self._lock:
            self._all = tuple(sorted(found, key=lambda c: c.embedded))  # stable: the rest keeps its order
            return self._all

    def _describe(self, file: ModelFile, sha256: str | None, legacy: str) -> Checkpoint:
        config = file.path.with_name(f"{file.own_stem}.yaml")
        return Checkpoint(
            path=file.path,
            name=file.name,
            size=file.size,
            mtime_ns=file.mtime_ns,
            sha256=sha256,
            legacy_hash=legacy,
            config=config if config.name in file.beside else None,
            problem=self._problem(file),
            embedded=file.stem == EMBEDDED_STEM and self._own is not None and self._own in file.path.parents,
        )

    def _problem(self, file: ModelFile) -> str | None:
        """Why the file is refused, by a cheap look; loading it looks at everything."""
        if file.is_folder:
            return None
        name = file.file_name
        if file.size == 0:
            return f"{name} is empty (0 bytes): the copy or download failed, fetch it again."
        try:
            with file.path.open("rb") as opened:
                start = opened.read(PREFIX + 1)
            require_no_pointer(start, name)
            if looks_like_pickle(start[:PREFIX]):
                if file.path.suffix.lower() == ".safetensors":
                    return f"{name} is a pickle named .safetensors: it is refused, because pickles can run programs."
                return self.hashes.compute(file.path, "pickle") or None
            if file.path.suffix.lower() == ".ckpt" and start[PREFIX:] != b"{":
                return f"{name} is neither a PyTorch nor a safetensors file; copy or download it again."
            return None
        except BadModelFile as error:
            return str(error)
        except OSError as error:
            return f"{name} can't be read: {error.strerror or error}."


def _is_checkpoint(name: str) -> bool:
    """Not a VAE, which is named `x.vae.safetensors`."""
    return not name.lower().rpartition(".")[0].endswith(".vae")
