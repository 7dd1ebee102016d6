"""Extensions that were cloned with git: where from, and which commit. Git itself isn't run: a repository may hold
commands for it."""

from __future__ import annotations

import configparser
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from webui.services.services import Services


@dataclass(frozen=True)
class ClonedExtension:
    name: str
    remote: str
    branch: str
    commit_hash: str
    version: str
    commit_date: str
    enabled: bool


def installed_from_git(services: Services) -> Iterator[ClonedExtension]:
    """Extensions in the user's folder whose repository names a remote."""
    for extension in services.host.extensions:
        cloned = None if extension.built_in else cloned_from(extension.folder)
        if cloned is not None:
            remote, branch, commit = cloned
            enabled = extension.state != "disabled"
            yield ClonedExtension(extension.name, remote, branch, commit, commit[:8], "", enabled)


def cloned_from(folder: Path) -> tuple[str, str, str] | None:
    """(remote, branch, commit) of a clone, None for a folder whose repository names no remote."""
    git = folder / ".git"
    remote = _remote(git)
    return (remote, *_head(git)) if remote else None


def _remote(git: Path) -> str:
    config = configparser.RawConfigParser(strict=False, allow_no_value=True)
    try:
        config.read_string((git / "config").read_text("utf-8", "replace"))
    except (OSError, configparser.Error):
        return ""
    return config.get('remote "origin"', "url", fallback="") or ""


def _head(git: Path) -> tuple[str, str]:
    """(branch, commit), each "" where it can't be told."""
    head = _line(git / "HEAD")
    name = head.removeprefix("ref: ")
    if name == head:
        return "", head
    branch = name.removeprefix("refs/heads/")
    return branch, _line(git / name) if name.startswith("refs/") and ".." not in name else ""


def _line(file: Path) -> str:
    try:
        return file.read_text("utf-8", "replace")[:200].strip()
    except OSError:
        return ""
