"""The folder of the user's extensions: which there are, where from, and how one gives way to another version."""

from __future__ import annotations

import logging
import os
import shutil
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from webui.core.errors import NotFound, Refused, WebuiError, not_saved
from webui.core.paths import Paths
from webui.extensions.loader import BUILT_IN
from webui.net.members import remove_folder
from webui.services.extension_sources import MANIFEST, ExtensionSources, Source, Staged, read_source
from webui.services.installed import cloned_from

log = logging.getLogger(__name__)

KEPT_ASIDE = ".replaced"
"""Folder among the extensions for what an update has replaced."""
KEPT_VERSIONS = 3
ASKED_AT_ONCE = 8


class ExtensionFolder:
    """path: the folder; ours may lie in it, too, and are left alone. sources: where new versions come from."""

    def __init__(self, paths: Paths, sources: ExtensionSources):
        self.path = paths.extensions
        self.sources = sources
        self._ours = {paths.builtin_extensions.resolve() / name for name in BUILT_IN}

    def folders(self) -> list[Path]:
        """Those of the user's extensions."""
        try:
            inside = sorted(self.path.resolve().iterdir())
        except OSError:
            return []
        return [each for each in inside if each.is_dir() and each.name[0] not in "._" and each not in self._ours]

    def find(self, name: str) -> Path:
        """Raises: NotFound."""
        for folder in self.folders():
            if folder.name == name:
                return folder
        raise NotFound(f'There is no extension "{name[:80]}" of yours.')

    def source(self, folder: Path) -> Source | None:
        """Where an extension came from: by its repository, which the user may have changed since, or by our note."""
        noted, cloned = read_source(folder), cloned_from(folder)
        if cloned is None:
            return noted
        remote, branch, commit = cloned
        same = noted is not None and noted.commit == commit
        return Source(remote, branch, commit, noted.date if noted and same else 0, noted.files if noted else ())

    def newest(self) -> dict[str, tuple[Source, Source | WebuiError]]:
        """Of each that came from a repository: what is here, and what its branch has now or why that can't be told."""
        found = {folder.name: self.source(folder) for folder in self.folders()}
        here = {name: each for name, each in found.items() if each and not each.commit.startswith("sha256:")}

        def look(source: Source) -> Source | WebuiError:
            try:
                return self.sources.look(source.url, source.branch)
            except WebuiError as error:
                return error

        with ThreadPoolExecutor(ASKED_AT_ONCE) as pool:
            there = list(pool.map(look, here.values()))
        return {name: (source, now) for (name, source), now in zip(here.items(), there, strict=True)}

    def put(self, staged: Staged) -> Path:
        """Move what was fetched to its place. Returns: that. Raises: NotSaved."""
        _move(staged.folder, self.path / staged.name)
        return self.path / staged.name

    def update(self, folder: Path, source: Source | None = None) -> None:
        """Replace an extension by its branch's newest commit, or by that of `source`.

        Files of the user's own move over; the old version is kept aside. Raises: WebuiError; nothing is changed then.
        """
        here = self.source(folder)
        if here is None or here.commit.startswith("sha256:"):
            raise Refused("It came from no repository that could have a newer version: install it anew.")
        if folder.is_symlink():
            raise Refused("Its folder is a link to another place, where it is left alone.")
        wanted = source or self.sources.look(here.url, here.branch)
        if wanted.commit == here.commit:
            return
        shipped = set(here.files)
        if (folder / ".git" / "index").is_file():
            if self.sources.git is None:
                raise Refused("It was cloned with git, which isn't installed here.")
            shipped |= set(self.sources.git.tracked(folder))
        staged = self.sources.stage(wanted.url, wanted.branch, folder.name, wanted.commit)
        try:
            self._replace(folder, staged, shipped | {MANIFEST})
        finally:
            self.sources.discard(staged)

    def update_all(self) -> list[str]:
        """Update every extension that came from a repository. Returns: the names of those that changed.

        What can't be updated is told in the log and stays as it is.
        """
        changed = []
        for name, (here, now) in self.newest().items():
            try:
                if isinstance(now, WebuiError):
                    raise now
                if now.commit != here.commit:
                    self.update(self.find(name), now)
                    changed.append(name)
                    log.info("Extension %s is updated to %s", name, now.commit[:8])
            except WebuiError as error:
                log.warning("Extension %s is not updated: %s", name, error)
        return changed

    def _replace(self, folder: Path, staged: Staged, shipped: set[str]) -> None:
        """Put the fetched version in the folder's place; files that weren't shipped with the old one move over."""
        aside = self.path / KEPT_ASIDE / f"{folder.name}-{time.strftime('%Y%m%d-%H%M%S')}"
        aside.parent.mkdir(exist_ok=True)
        try:
            folder.rename(aside)
        except OSError as error:
            raise not_saved("Its folder can't be replaced", error) from error
        try:
            _move(staged.folder, folder)
        except BaseException:
            aside.rename(folder)
            raise
        for path in _own_files(aside, shipped):
            target = folder / path.relative_to(aside)
            if not os.path.lexists(target):
                target.parent.mkdir(parents=True, exist_ok=True)
                path.rename(target)
        older = sorted(aside.parent.glob(f"{folder.name}-[0-9]*-[0-9]*"))
        for kept in older[:-KEPT_VERSIONS]:
            remove_folder(kept)


def _move(source: Path, target: Path) -> None:
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.move(source, target)
    except OSError as error:
        raise not_saved(f"{target} can't be written", error) from error


def _own_files(folder: Path, shipped: set[str]) -> list[Path]:
    """What the user or the extension put there, links as links."""
    found = []
    for parent, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if name not in (".git", "__pycache__")]
        links = [name for name in folders if Path(parent, name).is_symlink()]
        for name in (*files, *links):
            path = Path(parent, name)
            if path.relative_to(folder).as_posix() not in shipped:
                found.append(path)
    return found
