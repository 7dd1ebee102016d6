"""Repositories elsewhere: what they hold is asked by ourselves, their files are fetched by the `git` program.

git is run with nothing of the user's or the repository's configuration, without hooks, helpers and questions, and
reaches the network through a `tunnel` alone.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from webui.core.errors import InvalidRequest, NotFound, Refused
from webui.net.egress import Egress, Unreachable
from webui.net.members import USUAL, Limits, Member, check_members
from webui.net.tunnel import tunnel

ADVERTISED = "application/x-git-upload-pack-advertisement"
LONGEST_ADVERT = 16 << 20
SECONDS = 900.0
BRANCH = re.compile(r"(?!.*(\.\.|//|\.lock$|/\.|\.$|/$))[A-Za-z0-9_][A-Za-z0-9._/+-]{0,199}")
COMMIT = re.compile(r"[0-9a-f]{40}([0-9a-f]{24})?")
CONFIG = """[core]
    hooksPath = {nothing}
    fsmonitor = false
    symlinks = false
    autocrlf = false
    protectNTFS = true
    protectHFS = true
    longpaths = true
[protocol]
    version = 2
    allow = never
[protocol "https"]
    allow = always
[http]
    proxy = http://127.0.0.1:{port}
    followRedirects = false
{trusted}[credential]
    helper =
[submodule]
    recurse = false
[transfer]
    fsckObjects = true
[fetch]
    recurseSubmodules = false
[gc]
    auto = 0
[maintenance]
    auto = false
"""


@dataclass(frozen=True)
class Remote:
    """A repository. url: where it is after redirects. branches: name -> commit. default: its main branch's name."""

    url: str
    branches: Mapping[str, str]
    default: str

    def commit_of(self, branch: str) -> tuple[str, str]:
        """(branch, commit) of the named branch, or of the main one for "". Raises: NotFound."""
        name = branch or self.default
        if name not in self.branches:
            known = ", ".join(sorted(self.branches)[:10])
            raise NotFound(f'{self.url} has no branch "{name[:100]}"; it has {known or "none at all"}.')
        return name, self.branches[name]


def look(egress: Egress, url: str) -> Remote:
    """What a repository's server says of its branches. Raises: InvalidRequest, Refused, Unreachable, NotFound."""
    parts = urlsplit(url)
    if parts.query or parts.fragment:
        raise InvalidRequest("The address of a repository has no ? and no # in it.")
    question = "/info/refs?service=git-upload-pack"
    with egress.open(url.rstrip("/") + question) as answer:
        if answer.status in (401, 403, 404):
            raise NotFound(f"{parts.hostname} has no repository at {url}, or shows it to its owner alone.")
        if answer.status != 200:
            raise Unreachable(f"{parts.hostname} answers with status {answer.status} instead of a repository.")
        if answer.headers.get("content-type", "").partition(";")[0].strip() != ADVERTISED:
            raise Refused(f"{url} is no git repository: its server sends something else.")
        found, data = answer.url, answer.read_all(LONGEST_ADVERT)
    if not found.endswith(question):
        raise Refused(f"{parts.hostname} redirects to {found[:200]}, which is no repository.")
    return _remote(found.removesuffix(question), data)


def _remote(url: str, advert: bytes) -> Remote:
    """Source: git's gitprotocol-http and gitprotocol-pack, version 0."""
    refs: dict[str, str] = {}
    features = b""
    try:
        for line in _packets(advert):
            line, _, more = line.rstrip(b"\n").partition(b"\0")
            features = features or more
            commit, _, name = line.partition(b" ")
            if COMMIT.fullmatch(commit.decode("ascii", "replace")) and name:
                refs[name.decode("utf-8", "replace")] = commit.decode()
    except ValueError as error:
        raise Refused(f"{url} sends no list of branches that git could read.") from error
    branches = {name.removeprefix("refs/heads/"): commit for name, commit in refs.items() if _is_branch(name)}
    head = re.search(rb"symref=HEAD:refs/heads/(\S+)", features)
    named = head[1].decode("utf-8", "replace") if head else ""
    same = (name for name, commit in branches.items() if commit == refs.get("HEAD"))
    return Remote(url, branches, named if named in branches else next(same, ""))


def _is_branch(ref: str) -> bool:
    return ref.startswith("refs/heads/") and BRANCH.fullmatch(ref.removeprefix("refs/heads/")) is not None


def _packets(data: bytes) -> list[bytes]:
    """Raises: ValueError."""
    found, place = [], 0
    while place < len(data):
        length = int(data[place : place + 4], 16)
        if 0 < length < 4 or place + length > len(data):
            raise ValueError("a packet that ends before it begins, or after everything")
        if length:
            found.append(data[place + 4 : place + length])
        place += max(length, 4)
    return found


@dataclass(frozen=True)
class Git:
    """The program. trusted: a file with certificates to be trusted instead of the system's."""

    program: str
    egress: Egress
    trusted: Path | None = None
    limits: Limits = USUAL

    @classmethod
    def found(cls, egress: Egress, trusted: Path | None = None, limits: Limits = USUAL) -> Git | None:
        """git, where this machine has it."""
        program = shutil.which("git")
        return cls(program, egress, trusted, limits) if program else None

    def fetch(self, remote: Remote, branch: str, commit: str, folder: Path) -> Checkout:
        """Fetch one commit into `folder`, which is not there yet, and lay out its files.

        Everything is checked before the first file is laid out; submodules are left out.
        Raises: Refused for links, hostile names and too much of it; Unreachable.
        """
        assert COMMIT.fullmatch(commit), commit
        assert BRANCH.fullmatch(branch), branch
        with tempfile.TemporaryDirectory(prefix="easel-git-") as home:
            with tunnel(self.egress, remote.url, self.limits.fetched) as way:
                self._configure(Path(home), way.port)
                self._run(Path(home), None, ["init", "--quiet", "--template=", "--", str(folder)])
                fetch = ["fetch", "--quiet", "--depth=1", "--no-tags", "--no-recurse-submodules", "--", remote.url]
                try:
                    self._run(Path(home), folder, [*fetch, commit])
                except Unreachable:
                    if way.exceeded:
                        raise Refused(f"{remote.url} sends more than {self.limits.fetched >> 30} GiB.") from None
                    raise
            members, submodules = self._listed(Path(home), folder, commit, remote.url)
            date = int(self._run(Path(home), folder, ["log", "-1", "--format=%ct", commit]).strip() or 0)
            self._run(Path(home), folder, ["config", "remote.origin.url", remote.url])
            self._run(Path(home), folder, ["config", "remote.origin.fetch", "+refs/heads/*:refs/remotes/origin/*"])
            self._run(Path(home), folder, ["checkout", "--quiet", "-B", branch, commit, "--"])
        return Checkout(members, submodules, date)

    def tracked(self, folder: Path) -> list[str]:
        """The files that a repository's own index lists; nothing but the index is read of it."""
        with tempfile.TemporaryDirectory(prefix="easel-git-") as home:
            self._configure(Path(home), 9)
            empty = Path(home) / "empty"
            self._run(Path(home), None, ["init", "--quiet", "--template=", "--", str(empty)])
            index = {"GIT_INDEX_FILE": str(folder / ".git" / "index")}
            return self._run(Path(home), empty, ["ls-files", "-z"], index).decode("utf-8", "replace").split("\0")[:-1]

    def _listed(self, home: Path, folder: Path, commit: str, url: str) -> tuple[tuple[Member, ...], tuple[str, ...]]:
        """The files of a commit, and the names of its submodules. Raises: Refused."""
        members, submodules = [], []
        for row in self._run(home, folder, ["ls-tree", "-r", "-l", "-z", "--full-tree", commit]).split(b"\0")[:-1]:
            facts, _, raw = row.partition(b"\t")
            path = raw.decode("utf-8", "replace")
            mode, _, _, size = facts.split()
            if mode == b"160000":
                submodules.append(path)
            elif mode == b"120000":
                raise Refused(f"{url} holds the link {ascii(path)[:120]}; nothing of it is unpacked.")
            else:
                members.append(Member(path, int(size)))
        check_members([Member(path, 0) for path in submodules], url)
        return check_members(members, url, self.limits), tuple(submodules)

    def _configure(self, home: Path, port: int) -> None:
        trusted = f'    sslCAInfo = "{self.trusted.as_posix()}"\n' if self.trusted else ""
        nothing = (home / "nothing").as_posix()
        config = CONFIG.format(nothing=f'"{nothing}"', port=port, trusted=trusted)
        (home / ".gitconfig").write_text(config, encoding="utf-8")

    def _run(
        self, home: Path, folder: Path | None, words: Sequence[str], more: Mapping[str, str] | None = None
    ) -> bytes:
        """git's answer. Raises: Unreachable with its last words."""
        kept = {name: os.environ[name] for name in ("PATH", "SYSTEMROOT", "TMPDIR", "TEMP") if name in os.environ}
        environ = {
            **kept,
            "HOME": str(home),
            "XDG_CONFIG_HOME": str(home / "nothing"),
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_CONFIG_GLOBAL": str(home / ".gitconfig"),
            "GIT_ATTR_NOSYSTEM": "1",
            "GIT_TERMINAL_PROMPT": "0",
            "GIT_ASKPASS": "echo",
            "GIT_ALLOW_PROTOCOL": "https",
            "GIT_NO_REPLACE_OBJECTS": "1",
            "GIT_LFS_SKIP_SMUDGE": "1",
            "LC_ALL": "C",
            **(more or {}),
        }
        where = ["-C", str(folder)] if folder else []
        try:
            ended = subprocess.run(
                [self.program, *where, *words],
                env=environ,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=SECONDS,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise Unreachable(f"git could not be run to its end: {error}.") from error
        if ended.returncode:
            lines = ended.stderr.decode("utf-8", "replace").strip().splitlines() or ["it gave no reason"]
            raise Unreachable(f"git {words[0]} failed: {lines[-1][:300]}")
        return ended.stdout


@dataclass(frozen=True)
class Checkout:
    """What was laid out. submodules: paths of what belongs to it and wasn't fetched. date: seconds, 0 if unknown."""

    members: tuple[Member, ...]
    submodules: tuple[str, ...]
    date: int
