"""Which checkpoints exist, and how a name that a user typed finds one."""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from webui.catalog.hashes import HashCache
from webui.core.errors import NotFound, nearest

SUFFIXES = (".safetensors", ".ckpt")
EMBEDDED_STEM = "easel-emoji"
SHORT_HASH = 10


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
        return self.path.stem

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
        spellings = [self.title, self.name, stem, self.path.name, self.model_name, str(self.path)]
        if self.sha256:
            spellings += [self.sha256, self.sha256[:SHORT_HASH], f"{stem} [{self.shorthash}]"]
            spellings += [f"{self.path.name} [{self.shorthash}]", f"{self.model_name} [{self.shorthash}]"]
        if self.legacy_hash:
            spellings += [self.legacy_hash, f"{self.name} [{self.legacy_hash}]"]
        return tuple(spellings)


class CheckpointCatalog:
    """The checkpoints below some folders, as an immutable list that `refresh` replaces at once.

    roots: the users' folders, searched in this order; missing ones are passed over.
    files: single checkpoints outside the folders (--ckpt names a path).
    own: the folder that ships with Easel; its `easel-emoji` sorts last and serves when there is nothing else.
    Safe to use from several threads.
    """

    def __init__(
        self,
        roots: Sequence[Path],
        hashes: HashCache,
        files: Sequence[Path] = (),
        own: Path | None = None,
    ):
        self.roots = tuple(dict.fromkeys([*roots, *([own] if own else [])]))
        self.hashes = hashes
        self._files = tuple(files)
        self._own = own
        self._lock = threading.Lock()
        self._all: tuple[Checkpoint, ...] = ()
        self._stopping = threading.Event()
        self._hasher: threading.Thread | None = None
        self.refresh()

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
        found: dict[Path, Checkpoint] = {}
        names: set[str] = set()
        for root, path in self._walk():
            real = path.resolve()
            checkpoint = None if real in found else self._describe(root, path, names)
            if checkpoint:
                found[real] = checkpoint
                names.add(checkpoint.name)
        ordered = tuple(sorted(found.values(), key=lambda c: (c.embedded, natural_key(c.name))))
        with self._lock:
            self._all = ordered
        return ordered

    def find(self, name: str) -> Checkpoint:
        """The checkpoint meant by a title, file name, stem, path, 8-, 10- or 64-digit hash, or part of a title.

        A part matches the shortest title holding it; a trailing ` [hash]` that fits nothing is ignored.
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
        known = replace(checkpoint, sha256=sha256)
        with self._lock:
            self._all = tuple(known if c.identity == known.identity else c for c in self._all)
        return known

    def hash_in_background(self) -> None:
        """Start computing the missing hashes in a daemon thread, in list order; a no-op while one runs."""
        with self._lock:
            if self._stopping.is_set() or (self._hasher and self._hasher.is_alive()):
                return
            self._hasher = threading.Thread(target=self._hash_all, name="checkpoint-hashes", daemon=True)
            self._hasher.start()

    def close(self) -> None:
        """Stop background hashing; returns when it has stopped."""
        self._stopping.set()
        if self._hasher:
            self._hasher.join()

    def _hash_all(self) -> None:
        for checkpoint in self._all:
            if self._stopping.is_set():
                return
            if checkpoint.problem is None:
                self.hashed(checkpoint)

    def _lookup(self, wanted: str) -> Checkpoint | None:
        if not wanted:
            return None
        everything = self._all
        lower = wanted.lower()
        for fits in (
            lambda c: wanted in (c.title, c.name),
            lambda c: wanted in c.ids,
            lambda c: lower in (spelling.lower() for spelling in c.ids),
        ):
            found = next((c for c in everything if fits(c)), None)
            if found:
                return found
        parts = [c for c in everything if lower in c.title.lower()]
        if parts:
            return min(parts, key=lambda c: len(c.title))
        bare = re.sub(r"\s*\[[0-9a-fA-F]+\]$", "", wanted)
        return self._lookup(bare) if bare != wanted else None

    def _walk(self) -> Iterator[tuple[Path, Path]]:
        for root in self.roots:
            for path in walk_files(root, SUFFIXES):
                yield root, path
        for path in self._files:
            if path.is_file() and path.suffix.lower() in SUFFIXES:
                yield path.parent, path

    def _describe(self, root: Path, path: Path, taken: set[str]) -> Checkpoint | None:
        """None for a VAE (`x.vae.safetensors`) and for a file that vanished meanwhile."""
        if path.stem.lower().endswith(".vae"):
            return None
        try:
            stat = path.stat()
            legacy = self.hashes.compute(path, "legacy") or ""
        except OSError:
            return None
        name = path.relative_to(root).as_posix()
        config = path.with_suffix(".yaml")
        return Checkpoint(
            path=path,
            name=path.as_posix() if name in taken else name,
            size=stat.st_size,
            mtime_ns=stat.st_mtime_ns,
            sha256=self.hashes.known(path),
            legacy_hash=legacy,
            config=config if config.is_file() else None,
            problem=_problem(path, stat.st_size),
            embedded=self._own in path.parents and path.stem == EMBEDDED_STEM,
        )


def natural_key(name: str) -> tuple[tuple[int, int, str], ...]:
    """Sort key under which "v9" comes before "v10", without regard to case."""
    return tuple((0, int(part), "") if part.isdecimal() else (1, 0, part) for part in re.split(r"(\d+)", name.lower()))


def walk_files(root: Path, suffixes: tuple[str, ...]) -> Iterator[Path]:
    """Files below `root` with one of the (lower-case) suffixes; follows links, enters no folder twice, skips hidden."""
    seen: set[tuple[int, int]] = set()
    waiting = [root]
    while waiting:
        folder = waiting.pop()
        try:
            stat = folder.stat()
            if (stat.st_dev, stat.st_ino) in seen:
                continue
            seen.add((stat.st_dev, stat.st_ino))
            entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
        except OSError:
            continue  # missing, unreadable or a dangling link: not ours to list
        for entry in entries:
            if entry.name.startswith("."):
                continue
            if _is_dir(entry):
                waiting.append(folder / entry.name)
            elif entry.name.lower().endswith(suffixes) and _is_file(entry):
                yield folder / entry.name


def _is_dir(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:
        return False


def _is_file(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_file()
    except OSError:
        return False


def _problem(path: Path, size: int) -> str | None:
    if size == 0:
        return f"{path.name} is empty (0 bytes): the copy or download failed, fetch it again."
    if path.suffix.lower() == ".ckpt":
        return (
            f"{path.name} is a pickle checkpoint, which can run programs when loaded; "
            "this version loads .safetensors only."
        )
    return None
