"""What the Extensions tab does: install, update, enable, keep and restore the set, find the one at fault."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from webui.core.errors import InvalidRequest, NotFound, Refused, WebuiError, not_saved
from webui.core.file_names import safe_name
from webui.core.files import write_atomic
from webui.core.flags import Flags
from webui.core.paths import child
from webui.extensions.host import Extension
from webui.extensions.loader import is_legacy
from webui.net.egress import Egress
from webui.process.safe_mode import SafeModeFiles, Search
from webui.services.extension_folder import ExtensionFolder
from webui.services.extension_sources import ExtensionSources, Source, Staged, checked_name, same_address
from webui.services.services import Services

STATES = {
    "active": "in use",
    "disabled": "disabled",
    "broken": "broken",
    "legacy": "written for A1111's web UI, which this version can't run yet",
    "new": "runs after the next start",
}
MOST_STAGED = 4
LARGEST_STATE = 8 << 20


@dataclass(frozen=True)
class Row:
    """One extension as the page lists it. enabled: by the settings. seconds: of the start, None if it wasn't loaded.

    version: the commit's first eight digits. date: of the commit, seconds, 0 if unknown. problem: a sentence or "".
    """

    name: str
    built_in: bool
    enabled: bool
    state: str
    remote: str
    branch: str
    version: str
    date: int
    seconds: float | None
    problem: str


@dataclass(frozen=True)
class Change:
    """One step of a restore. act: "install", "fetch", "enable", "disable" or "impossible"; told: a sentence."""

    name: str
    act: str
    told: str
    source: Source | None = None


def check_access(flags: Flags) -> None:
    """Raises: Refused where others could change what runs on this machine."""
    if not (flags.is_local or flags.enable_insecure_extension_access):
        raise Refused(
            "Extensions aren't changed from here, because others can reach this server (--listen, --server-name or "
            "--share): start Easel without those flags, or with --enable-insecure-extension-access."
        )


class ExtensionManager:
    """Safe to use from several threads; changes are made one after another."""

    def __init__(self, services: Services, sources: ExtensionSources | None = None):
        self._services = services
        self.sources = sources or ExtensionSources(services.paths.tmp / "extensions", Egress())
        self._lock = threading.Lock()
        self._staged: dict[str, Staged] = {}
        self._safe_files = SafeModeFiles(services.paths.tmp)
        self._folder = ExtensionFolder(services.paths, self.sources)

    # Installed

    def rows(self) -> list[Row]:
        """Every extension, the user's first; those that came since the start, too."""
        settings = self._services.settings.snapshot()
        disabled = set(settings["disabled_extensions"])
        host = self._services.host
        problems: dict[str, list[str]] = {}
        for problem in host.problems:
            problems.setdefault(problem.name, []).append(problem.sentence)
        known = {extension.folder for extension in host.extensions}
        new = [
            Extension(folder.name, folder, False, "legacy" if is_legacy(folder) else "active")
            for folder in self._folder.folders()
            if folder not in known
        ]
        rows = []
        for extension in sorted((*host.extensions, *new), key=lambda each: (each.built_in, each.name.lower())):
            if not extension.folder.is_dir():
                continue
            source = None if extension.built_in else self._folder.source(extension.folder)
            state = "new" if extension in new and extension.state == "active" else extension.state
            told = problems.get(extension.name, [])
            rows.append(
                Row(
                    name=extension.name,
                    built_in=extension.built_in,
                    enabled=extension.name not in disabled,
                    state=STATES[state],
                    remote=source.url if source else "",
                    branch=source.branch if source else "",
                    version=_short(source.commit) if source else "",
                    date=source.date if source else 0,
                    seconds=host.startup_seconds.get(extension.name),
                    problem=" ".join(dict.fromkeys((*told, *([extension.problem] if not told else ())))),
                )
            )
        return rows

    def check_updates(self) -> dict[str, str]:
        """Of each extension that came from a repository: "latest", "new commit ..." or why that can't be told."""
        check_access(self._services.flags)
        return {name: _told(here, now) for name, (here, now) in self._folder.newest().items()}

    def apply(self, disabled: Sequence[str], update: Sequence[str], disable_all: str) -> list[str]:
        """Update, save which are disabled, and ask for a restart. Returns: a sentence for each update that failed.

        Where one fails nothing is restarted, so that the sentences can be read.
        """
        check_access(self._services.flags)
        with self._lock:
            failed = []
            for name in dict.fromkeys(update):
                try:
                    self._folder.update(self._folder.find(name))
                except WebuiError as error:
                    failed.append(f"{name[:80]}: {error}")
            self._save_disabled(disabled, disable_all)
        if not failed:
            self._services.restart.ask()
        return failed

    # Installing

    def prepare(self, url: str, branch: str = "", name: str = "") -> Staged:
        """Fetch an extension beside the others, for its facts to be shown. Nothing of it is run.

        Raises: as `ExtensionSources.stage`; Refused for a name or an address that is installed already.
        """
        check_access(self._services.flags)
        for folder in self._folder.folders():
            source = self._folder.source(folder)
            if source and same_address(source.url, url):
                raise Refused(f"{url[:200]} is installed already, as {folder.name}: update it under Installed.")
        staged = self.sources.stage(url, branch, name)
        try:
            self._check_free(staged.name)
        except WebuiError:
            self.sources.discard(staged)
            raise
        with self._lock:
            self._staged[staged.id] = staged
            while len(self._staged) > MOST_STAGED:
                self.sources.discard(self._staged.pop(next(iter(self._staged))))
        return staged

    def install(self, key: str) -> str:
        """Put what was fetched among the extensions; it runs after the next start. Returns: a sentence."""
        check_access(self._services.flags)
        with self._lock:
            staged = self._taken(key)
            try:
                self._check_free(staged.name)
                place = self._folder.put(staged)
            finally:
                self.sources.discard(staged)
        if staged.legacy:
            return f"Installed into {place}. It is listed; this version can't run it yet."
        packages = f" What it needs is installed then: {', '.join(staged.packages)}." if staged.packages else ""
        return f"Installed into {place}. It runs after the next start of Easel.{packages}"

    def discard(self, key: str) -> None:
        """Delete what was fetched."""
        with self._lock:
            self.sources.discard(self._taken(key))

    # Backup and restore

    def states(self) -> list[str]:
        """The names of the saved sets, the newest first."""
        files = self._states_folder.glob("*.json")
        return [file.name for file in sorted(files, key=lambda file: file.stat().st_mtime, reverse=True)]

    def save_state(self, name: str) -> str:
        """Write which extensions there are, from where, which commit, whether enabled. Returns: the file's name."""
        check_access(self._services.flags)
        now = time.time()
        content = {
            "created_at": now,
            "name": name[:100],
            "webui": {},
            "extensions": {row.name: self._entry(row) for row in self.rows() if not row.built_in},
        }
        stamp = time.strftime("%Y_%m_%d-%H_%M_%S", time.localtime(now))
        file = f"{stamp}_{safe_name(name, 100) or 'Config'}.json"
        try:
            write_atomic(self._states_folder / file, json.dumps(content, indent=4).encode())
        except OSError as error:
            raise not_saved("The set can't be saved", error) from error
        return file

    def planned(self, file: str) -> list[Change]:
        """What restoring a saved set would do. Raises: NotFound, InvalidRequest."""
        saved = self._read_state(file)
        changes = []
        rows = {row.name: row for row in self.rows() if not row.built_in}
        for name, entry in saved.items():
            remote, branch = str(entry.get("remote") or ""), str(entry.get("branch") or "")
            wanted, enabled = str(entry.get("commit_hash") or ""), entry.get("enabled") is not False
            row = rows.get(name)
            source = Source(remote, branch, wanted)
            if row is None and remote and not wanted.startswith("sha256:"):
                changes.append(Change(name, "install", f"{name}: installed from {remote} at {_short(wanted)}", source))
            elif row is None:
                changes.append(
                    Change(name, "impossible", f"{name}: isn't here, and can't be fetched from a repository")
                )
                continue
            elif remote and wanted and _short(wanted) != row.version:
                told = f"{name}: changed from {row.version or 'what is there'} to {_short(wanted)}"
                changes.append(Change(name, "fetch", told, source))
            if row is None or row.enabled != enabled:
                act = "enable" if enabled else "disable"
                changes.append(Change(name, act, f"{name}: {act}d"))
        for name, row in rows.items():
            if name not in saved and row.enabled:
                changes.append(Change(name, "disable", f"{name}: disabled, as it isn't in the saved set"))
        return changes

    def restore(self, file: str) -> list[str]:
        """Do what `planned` tells. Returns: a sentence for each step that failed; the others are done.

        What is fetched is checked as anything that is installed, and runs after the next start.
        """
        check_access(self._services.flags)
        failed = []
        changes = self.planned(file)
        with self._lock:
            disabled = set(self._services.settings.snapshot()["disabled_extensions"])
            for change in changes:
                try:
                    if change.act in ("install", "fetch"):
                        self._fetch(change)
                    elif change.act == "impossible":
                        failed.append(f"{change.told}.")
                except WebuiError as error:
                    failed.append(f"{change.name[:80]}: {error}")
                if change.act == "disable":
                    disabled.add(change.name)
                elif change.act == "enable":
                    disabled.discard(change.name)
            self._services.settings.update({"disabled_extensions": sorted(disabled)})
        return failed

    # Safe mode

    def search(self) -> dict[str, Any]:
        """Where the search for the extension at fault is, for the page."""
        safe = self._services.safe_mode
        search = safe.search
        return {
            "safe": safe.on,
            "told": safe.told(),
            "suspects": list(search.suspects) if search else self._suspects(),
            "tried": list(search.tried) if search else [],
            "found": search.found if search else "",
            "steps": search.steps_left if search else 0,
            "searching": search is not None,
            "asked": search is not None and bool(search.tried) and not safe.on,
        }

    def do_search(self, act: str) -> None:
        """One step of the search, and a restart.

        act: "begin", "faulty" or "fine" (what shows with those that are tried), "next" after a start that failed,
        "disable" for the one that was found, "end". Raises: InvalidRequest.
        """
        check_access(self._services.flags)
        search = self._services.safe_mode.search
        with self._lock:
            if act == "begin":
                if not self._suspects():
                    raise InvalidRequest("No extension of yours is enabled, so none of them is at fault.")
                self._safe_files.keep(Search.among(self._suspects()))
            elif act in ("faulty", "fine") and search is not None and search.tried:
                self._safe_files.keep(search.answered(act == "faulty"))
            elif act == "disable" and search is not None and search.found:
                before = self._services.settings.snapshot()["disabled_extensions"]
                self._services.settings.update({"disabled_extensions": sorted({*before, search.found})})
                self._safe_files.keep(None)
            elif act == "end":
                self._safe_files.keep(None)
            elif not (act == "next" and search is not None):
                raise InvalidRequest("The search has gone on meanwhile: load the page again.")
        self._services.restart.ask()

    # Parts

    @property
    def _states_folder(self) -> Path:
        return self._services.paths.data / "config_states"

    def _check_free(self, name: str) -> None:
        path = self._folder.path
        taken = {folder.name.lower() for folder in path.iterdir()} if path.is_dir() else set()
        taken |= {extension.name.lower() for extension in self._services.host.extensions}
        if name.lower() in taken:
            raise Refused(f'There is an extension "{name}" already; choose another Local directory name.')

    def _taken(self, key: str) -> Staged:
        staged = self._staged.pop(key, None)
        if staged is None:
            raise NotFound("This isn't waiting any more; fetch it again.")
        return staged

    def _save_disabled(self, disabled: Iterable[str], disable_all: str) -> None:
        known = {extension.name for extension in self._services.host.extensions}
        known |= {folder.name for folder in self._folder.folders()}
        absent = set(self._services.settings.snapshot()["disabled_extensions"]) - known
        wanted = sorted(absent | (known & set(disabled)))
        self._services.settings.update({"disabled_extensions": wanted, "disable_all_extensions": disable_all})

    def _fetch(self, change: Change) -> None:
        """Bring an extension to a commit, from where the saved set says."""
        assert change.source is not None, change
        if change.act == "fetch":
            self._folder.update(self._folder.find(change.name), change.source)
            return
        source = change.source
        self._check_free(checked_name(change.name))
        staged = self.sources.stage(source.url, source.branch, change.name, source.commit)
        try:
            self._folder.put(staged)
        finally:
            self.sources.discard(staged)

    def _entry(self, row: Row) -> dict[str, Any]:
        """One extension in a saved set, with A1111's keys."""
        folder = self._folder.path / row.name
        source = self._folder.source(folder) or Source("")
        return {
            "name": row.name,
            "path": str(folder),
            "version": row.version,
            "branch": source.branch,
            "remote": source.url,
            "commit_hash": source.commit,
            "commit_date": source.date or None,
            "enabled": row.enabled,
            "have_info_from_repo": bool(source.url),
        }

    def _read_state(self, file: str) -> Mapping[str, Mapping[str, Any]]:
        path = child(self._states_folder, file)
        try:
            if path.stat().st_size > LARGEST_STATE:
                raise ValueError("it is too large")
            saved = json.loads(path.read_text(encoding="utf-8"))["extensions"]
            if not isinstance(saved, dict) or not all(isinstance(entry, dict) for entry in saved.values()):
                raise ValueError("it lists no extensions")
        except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
            raise InvalidRequest(f"{file[:100]} is no saved set of extensions ({error}).") from error
        return saved

    def _suspects(self) -> list[str]:
        """The user's extensions that a usual start would load."""
        if self._services.settings.snapshot()["disable_all_extensions"] != "none":
            return []
        return [row.name for row in self.rows() if not row.built_in and row.enabled and row.state != STATES["legacy"]]


def _told(here: Source, now: Source | WebuiError) -> str:
    """Whether there is something newer, for the page."""
    if isinstance(now, WebuiError):
        return str(now)
    return "latest" if now.commit == here.commit else f"new commit {now.commit[:8]}"


def _short(commit: str) -> str:
    return commit.removeprefix("sha256:")[:8]
