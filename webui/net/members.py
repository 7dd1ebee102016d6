"""What strangers pack together, in archives and repositories: which names and sizes are taken, and zip files."""

from __future__ import annotations

import shutil
import stat
import zipfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from webui.core.errors import Refused
from webui.core.file_names import safe_name

LONGEST_PATH = 400
PIECE = 1 << 20


@dataclass(frozen=True)
class Limits:
    """How much is taken: bytes that are fetched, bytes that all files have when they are unpacked, and files."""

    fetched: int = 1 << 30
    unpacked: int = 2 << 30
    files: int = 20_000


USUAL = Limits()


@dataclass(frozen=True)
class Member:
    """One file to be: its path, parts separated by "/", and its size in bytes."""

    path: str
    size: int


def check_members(members: Iterable[Member], where: str, limits: Limits = USUAL) -> tuple[Member, ...]:
    """The members, once all are known to be harmless. where: what holds them, for the sentence.

    Raises: Refused for names that lead outside, that some system can't have or would take for others, for two that
    are the same where case doesn't count, for a repository inside (.git), for too many and too large ones.
    """
    found: list[Member] = []
    seen: set[str] = set()
    size = 0
    for member in members:
        shown = ascii(member.path)[:120]
        parts = member.path.split("/")
        if len(member.path) > LONGEST_PATH or not all(map(_is_plain, parts)):
            raise Refused(f"{where} holds {shown}, which is no name inside a folder; nothing of it is unpacked.")
        if any(part.lower() == ".git" or part.lower().startswith("git~") for part in parts):
            raise Refused(f"{where} holds {shown}, which git would obey; nothing of it is unpacked.")
        if member.path.casefold() in seen:
            raise Refused(f"{where} holds {shown} twice, or in two spellings; nothing of it is unpacked.")
        seen.add(member.path.casefold())
        size += member.size
        found.append(member)
        if len(found) > limits.files:
            raise Refused(f"{where} holds more than {limits.files} files; nothing of it is unpacked.")
        if size > limits.unpacked:
            raise Refused(f"{where} unpacks to more than {limits.unpacked >> 30} GiB; nothing of it is unpacked.")
    folders = {path.rsplit("/", 1)[0] for path in seen if "/" in path}
    if clash := next((path for path in seen if path in folders), None):
        raise Refused(f"{where} holds {ascii(clash)[:120]} as a file and as a folder; nothing of it is unpacked.")
    return tuple(found)


def _is_plain(part: str) -> bool:
    """Whether every system has such a name for one file or folder."""
    part = part.replace("#", "_")
    return bool(part) and safe_name(part) == part


def unpack_zip(archive: Path, folder: Path, where: str, limits: Limits = USUAL) -> tuple[Member, ...]:
    """Unpack a zip file into a folder that is empty, without the one folder that all of it may lie in.

    Everything is checked before the first byte is written. Raises: Refused, OSError.
    """
    try:
        with zipfile.ZipFile(archive) as opened:
            infos = list(_files(opened, where, limits))
            prefix = _common_folder([info.filename for info in infos])
            names = [info.filename[len(prefix) :] for info in infos]
            sizes = [info.file_size for info in infos]
            members = check_members(map(Member, names, sizes), where, limits)
            for info, member in zip(infos, members, strict=True):
                _extract(opened, info, folder.joinpath(*member.path.split("/")), where)
    except (zipfile.BadZipFile, NotImplementedError, EOFError, UnicodeError, ValueError) as error:
        raise Refused(f"{where} is no zip file that can be read ({error}).") from error
    return members


def _files(opened: zipfile.ZipFile, where: str, limits: Limits) -> Iterator[zipfile.ZipInfo]:
    """What is no folder. Raises: Refused for links, for other special files and for encrypted ones."""
    infos = opened.infolist()
    if len(infos) > 2 * limits.files:
        raise Refused(f"{where} holds more than {limits.files} files; nothing of it is unpacked.")
    for info in infos:
        kind = stat.S_IFMT(info.external_attr >> 16)
        shown = ascii(info.filename)[:120]
        if kind == stat.S_IFLNK:
            raise Refused(f"{where} holds the link {shown}; nothing of it is unpacked.")
        if kind not in (0, stat.S_IFREG, stat.S_IFDIR) or info.flag_bits & 1:
            raise Refused(f"{where} holds {shown}, which is encrypted or no plain file; nothing of it is unpacked.")
        if "\\" in info.orig_filename or "\0" in info.orig_filename:
            raise Refused(f"{where} holds {ascii(info.orig_filename)[:120]}, which is no name inside a folder.")
        if not info.is_dir():
            yield info


def _common_folder(names: list[str]) -> str:
    """ "folder/" if every name begins with it, else ""."""
    tops = {name.partition("/")[0] for name in names}
    top = tops.pop() if len(tops) == 1 else ""
    return f"{top}/" if top not in ("", ".", "..") and all("/" in name for name in names) else ""


def _extract(opened: zipfile.ZipFile, info: zipfile.ZipInfo, path: Path, where: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    written = 0
    with opened.open(info) as source, path.open("xb") as target:
        while data := source.read(PIECE):
            written += len(data)
            if written > info.file_size:
                raise Refused(f"{where} holds {ascii(info.filename)[:120]}, which is larger than it says.")
            target.write(data)


def remove_folder(folder: Path) -> None:
    """Delete a folder and everything in it; git makes its objects read-only, which Windows heeds."""

    def writable_then_gone(remove: object, path: str, error: object) -> None:
        Path(path).chmod(stat.S_IWRITE)
        Path(path).unlink()

    if folder.is_dir():
        shutil.rmtree(folder, onerror=writable_then_gone)
