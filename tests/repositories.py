"""Small repositories of extensions, made for a test and served by `tests.fileserver`."""

from __future__ import annotations

import io
import os
import stat
import subprocess
import zipfile
from collections.abc import Mapping
from pathlib import Path

VALID = "from webui.extensions.api import hookimpl\n"
WHO = ("-c", "user.name=Ann", "-c", "user.email=ann@example.com", "-c", "init.defaultBranch=main")


def run_git(folder: Path, *words: str, data: bytes = b"") -> str:
    """git's answer, run with nobody's configuration."""
    environ = {**os.environ, "GIT_CONFIG_NOSYSTEM": "1", "HOME": str(folder), "GIT_COMMITTER_DATE": "1700000000 +0000"}
    return (
        subprocess.run(
            ["git", "-C", str(folder), *WHO, *words], env=environ, input=data, capture_output=True, check=True
        )
        .stdout.decode()
        .strip()
    )


def commit(repositories: Path, name: str, files: Mapping[str, str | None], branch: str = "main") -> str:
    """Add a commit to `name`.git, a bare repository; None for a path deletes it. Returns: the commit."""
    work = repositories / f"{name}-work"
    bare = repositories / f"{name}.git"
    if not bare.exists():
        work.mkdir(parents=True)
        run_git(work, "init", "-q")
        run_git(work, "init", "-q", "--bare", str(bare))
        run_git(work, "remote", "add", "origin", str(bare))
    run_git(work, "checkout", "-q", "-B", branch)
    for path, text in files.items():
        file = work / path
        if text is None:
            file.unlink()
        else:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
    run_git(work, "add", "-A")
    run_git(work, "commit", "-q", "--allow-empty", "-m", "a change")
    run_git(work, "push", "-q", "origin", branch)
    return run_git(work, "rev-parse", "HEAD")


def commit_entry(repositories: Path, name: str, mode: str, path: str, content: str) -> str:
    """Add a commit with an entry that no usual work tree would give: a link (120000), a submodule (160000)."""
    work, bare = repositories / f"{name}-work", repositories / f"{name}.git"
    commit(repositories, name, {"extension.py": VALID})
    blob = content if mode == "160000" else run_git(work, "hash-object", "-w", "--stdin", data=content.encode())
    tree = run_git(work, "ls-tree", "HEAD") + f"\n{mode} {'commit' if mode == '160000' else 'blob'} {blob}\t{path}\n"
    made = run_git(work, "mktree", "--missing", data=tree.encode())
    parent = run_git(work, "commit-tree", made, "-m", "odd")
    run_git(work, "push", "-q", "-f", str(bare), f"{parent}:refs/heads/main")
    return parent


def zipped(files: Mapping[str, str | bytes], links: Mapping[str, str] | None = None) -> bytes:
    """A zip file. links: path -> where it leads."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for path, content in files.items():
            archive.writestr(path, content)
        for path, target in (links or {}).items():
            info = zipfile.ZipInfo(path)
            info.external_attr = (stat.S_IFLNK | 0o777) << 16
            archive.writestr(info, target)
    return packed.getvalue()
