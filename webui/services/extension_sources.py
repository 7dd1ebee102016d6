"""Extensions from elsewhere: fetched and looked at beside the others, nothing of them run, until the user agrees."""

from __future__ import annotations

import hashlib
import json
import re
import secrets
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from urllib.parse import urlsplit

from webui.core.errors import InvalidRequest, NotFound, Refused
from webui.core.files import write_atomic
from webui.extensions.loader import BUILT_IN, MAIN, is_legacy
from webui.net import git
from webui.net.egress import Egress, Unreachable
from webui.net.members import USUAL, Limits, remove_folder, unpack_zip
from webui.process.extension_packages import FILE, Needs, needs_of

MANIFEST = ".easel.json"
PIECE = 1 << 20
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,79}(?<![.])")
LARGEST_REQUIREMENTS = 1 << 16
ARCHIVES = {
    "github.com": "https://codeload.github.com/{path}/zip/{commit}",
    "gitlab.com": "https://gitlab.com/{path}/-/archive/{commit}/archive.zip",
    "codeberg.org": "https://codeberg.org/{path}/archive/{commit}.zip",
}
"""Where sites that we know give a commit as a zip file, for machines without git."""


@dataclass(frozen=True)
class Source:
    """Where an extension came from: what `.easel.json` in its folder keeps.

    commit: of a repository, or "sha256:..." of a zip file. date: of the commit, seconds, 0 if unknown.
    files: what came with it, parts separated by "/"; whatever else lies in the folder is the user's.
    """

    url: str
    branch: str = ""
    commit: str = ""
    date: int = 0
    files: tuple[str, ...] = field(default=(), repr=False)


@dataclass(frozen=True)
class Staged:
    """An extension that was fetched and waits for consent. size: bytes. notes: sentences about it."""

    id: str
    name: str
    source: Source
    folder: Path
    size: int
    legacy: bool
    packages: tuple[str, ...]
    notes: tuple[str, ...]


class ExtensionSources:
    """Fetches extensions into folders of their own. folder: where; emptied at the start.

    trusted: as in `Git`. use_git: False goes without the program, as on a machine that lacks it.
    """

    def __init__(
        self,
        folder: Path,
        egress: Egress,
        *,
        trusted: Path | None = None,
        use_git: bool = True,
        limits: Limits = USUAL,
    ):
        self._folder = folder
        self.egress = egress
        self._limits = limits
        self.git = git.Git.found(egress, trusted, limits) if use_git else None
        remove_folder(folder)

    def look(self, url: str, branch: str = "") -> Source:
        """Where a repository stands now. Raises: as `git.look`."""
        remote = git.look(self.egress, checked_address(url))
        name, commit = remote.commit_of(checked_branch(branch))
        return Source(remote.url, name, commit)

    def stage(self, url: str, branch: str = "", name: str = "", commit: str = "") -> Staged:
        """Fetch an extension and tell what it is. commit: of a repository, its branch's newest for "".

        Raises: InvalidRequest, NotFound, Refused, Unreachable, OSError.
        """
        url = checked_address(url)
        name = checked_name(name or name_from(url))
        key = secrets.token_hex(8)
        folder = self._folder / key / name
        folder.parent.mkdir(parents=True)
        try:
            if urlsplit(url).path.lower().endswith(".zip"):
                return self._looked_at(key, name, *self._from_zip(url, folder))
            return self._looked_at(key, name, *self._from_repository(url, branch, commit, folder))
        except BaseException:
            remove_folder(folder.parent)
            raise

    def discard(self, staged: Staged) -> None:
        """Delete what was fetched; a no-op for what has found its place."""
        remove_folder(staged.folder.parent)

    def _from_repository(self, url: str, branch: str, commit: str, folder: Path) -> tuple[Source, Path, list[str]]:
        remote = git.look(self.egress, url)
        name, newest = remote.commit_of(checked_branch(branch))
        commit = commit or newest
        if not git.COMMIT.fullmatch(commit):
            raise InvalidRequest(f'"{commit[:80]}" is no commit.')
        if self.git is None:
            return self._without_git(remote, name, commit, folder)
        done = self.git.fetch(remote, name, commit, folder)
        notes = [f'It has the submodule "{path}", which is not fetched.' for path in done.submodules]
        files = tuple(member.path for member in done.members)
        return Source(remote.url, name, commit, done.date, files), folder, notes

    def _without_git(
        self, remote: git.Remote, branch: str, commit: str, folder: Path
    ) -> tuple[Source, Path, list[str]]:
        parts = urlsplit(remote.url)
        pattern = ARCHIVES.get(parts.hostname or "")
        if pattern is None:
            raise Refused(
                f"git isn't installed here, and {parts.hostname} is no site that Easel can fetch a commit from without "
                "it: install git, or use the address of a zip file."
            )
        path = parts.path.strip("/").removesuffix(".git")
        source, folder, _ = self._from_zip(pattern.format(path=path, commit=commit), folder)
        note = "git isn't installed here, so the commit is fetched as a zip file."
        return replace(source, url=remote.url, branch=branch, commit=commit), folder, [note]

    def _from_zip(self, url: str, folder: Path) -> tuple[Source, Path, list[str]]:
        archive = folder.with_name("archive.zip")
        digest, size = hashlib.sha256(), 0
        host = urlsplit(url).hostname
        with self.egress.open(url) as answer, archive.open("wb") as file:
            if answer.status != 200:
                raise NotFound(f"{host} has no such file ({answer.status}): check the address.")
            while data := answer.read(PIECE):
                size += len(data)
                if size > self._limits.fetched:
                    raise Refused(f"{host} sends more than {self._limits.fetched >> 30} GiB; it is not fetched.")
                digest.update(data)
                file.write(data)
        promised = answer.headers.get("content-length", str(size))
        if promised != str(size):
            raise Unreachable(f"The connection to {host} broke off after {size} of {promised} bytes.")
        folder.mkdir()
        members = unpack_zip(archive, folder, url, self._limits)
        archive.unlink()
        files = tuple(member.path for member in members)
        return Source(url, "", f"sha256:{digest.hexdigest()}", 0, files), folder, []

    def _looked_at(self, key: str, name: str, source: Source, folder: Path, notes: list[str]) -> Staged:
        legacy = is_legacy(folder)
        if not legacy and not (folder / MAIN).is_file():
            raise Refused(f"{source.url} is no extension: there is no {MAIN} in it, and nothing that A1111 would load.")
        needs = _needs(folder)
        notes += [f'It asks for "{line[:100]}", which names no exact version: not installed.' for line in needs.refused]
        if legacy:
            notes.append("It is written for A1111's web UI. Easel lists it and can't run it yet; nothing is installed.")
        if (folder / "install.py").is_file():
            notes.append("Its install.py is not run.")
        write_source(folder, source)
        size = sum(path.lstat().st_size for path in folder.rglob("*") if path.is_file())
        packages = () if legacy else (*needs.lines, *needs.alone)
        return Staged(key, name, source, folder, size, legacy, packages, tuple(notes))


def checked_address(url: str) -> str:
    """Raises: InvalidRequest for what is no https address, as ext::, file:, ssh and options of git are."""
    url = url.strip()
    if not url.startswith("https://") or "\\" in url:
        raise InvalidRequest(f'"{url[:200]}" is not fetched: only addresses that begin with https:// are.')
    return url.rstrip("/")


def checked_branch(branch: str) -> str:
    """Raises: InvalidRequest for what can't be the name of a branch; "" stands for the main one."""
    if branch and not git.BRANCH.fullmatch(branch):
        raise InvalidRequest(f'"{branch[:100]}" can\'t be the name of a branch.')
    return branch


def checked_name(name: str) -> str:
    """Raises: InvalidRequest for what can't be an extension's folder."""
    reserved = re.fullmatch(r"(?i)(con|prn|aux|nul|com\d|lpt\d)(\..*)?", name)
    if not NAME.fullmatch(name) or reserved:
        raise InvalidRequest(
            f"\"{name[:100]}\" can't be an extension's folder: use letters, digits and . _ -, beginning with a letter."
        )
    if name.lower() in BUILT_IN:
        raise InvalidRequest(f'"{name}" is one of Easel\'s own extensions; choose another Local directory name.')
    return name


def name_from(url: str) -> str:
    """The folder's name that an address suggests."""
    last = urlsplit(url).path.rstrip("/").rpartition("/")[2]
    return re.sub(r"\.(git|zip)$", "", last, flags=re.IGNORECASE)


def same_address(one: str, other: str) -> bool:
    """Whether two addresses lead to one repository, as far as can be seen."""
    first, second = (re.sub(r"(\.git)?/*$", "", url.strip()).lower() for url in (one, other))
    return first == second


def write_source(folder: Path, source: Source) -> None:
    write_atomic(folder / MANIFEST, json.dumps(asdict(source)).encode())
    exclude = folder / ".git" / "info" / "exclude"
    if (folder / ".git").is_dir():
        exclude.parent.mkdir(exist_ok=True)
        exclude.write_text(f"/{MANIFEST}\n", encoding="utf-8")


def read_source(folder: Path) -> Source | None:
    """What was noted when the extension was installed, None for one that came another way."""
    try:
        found = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        texts = {key: str(found[key]) for key in ("url", "branch", "commit")}
        return Source(**texts, date=int(found["date"]), files=tuple(map(str, found["files"])))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _needs(folder: Path) -> Needs:
    file = folder / FILE
    if not file.is_file():
        return Needs(folder.name, (), (), ())
    unreadable = Needs(folder.name, (), (), (f"an unreadable {FILE}",))
    try:
        return needs_of(folder) if file.stat().st_size <= LARGEST_REQUIREMENTS else unreadable
    except (OSError, UnicodeDecodeError):
        return unreadable
