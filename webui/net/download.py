"""One file from the network to the disk: resumable, checked, and never half there.

What has arrived lies in `<name>.part`, with `<name>.part.json` saying of which file; the name itself appears by a
rename once size and hash are right.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from urllib.parse import urlsplit

from webui.core.errors import BadModelFile, InvalidRequest, Refused, WebuiError
from webui.core.files import sync_folder, write_atomic
from webui.net.egress import Answer, Egress, Unreachable

CHUNK = 1 << 20
PAUSES = (1.0, 2.0, 5.0, 10.0, 20.0)
"""Seconds before each new try when a connection broke off; a try that brought something starts them anew."""
MARGIN = 500_000_000
"""Bytes of the disk that stay free."""
LONGEST_NAME = 150
RETRIED = frozenset({408, 429, 500, 502, 503, 504})

_ILLEGAL = re.compile(r'[<>:"/\\|?*\x00-\x1f\x7f\u200b-\u200f\u202a-\u202e\u2066-\u2069\ufeff]')
_RESERVED = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)


class Cancelled(WebuiError):
    """The user stopped the download; what has arrived is kept."""


class NoSpace(WebuiError):
    """The disk has no room for the file."""

    status = 507


@dataclass(frozen=True)
class RemoteFile:
    """What is to be fetched. name: of the file here. size: bytes, None where only the answer tells.

    sha256: of the content, "" where nobody tells. secret: a token for the first host; never written anywhere.
    """

    url: str
    name: str
    size: int | None = None
    sha256: str = ""
    secret: str = ""

    def __repr__(self) -> str:
        return f"RemoteFile({self.url!r}, {self.name!r}, {self.size}, {self.sha256!r})"


@dataclass(frozen=True)
class Part:
    """What a `.part` file is a part of. tag: the server's strong ETag, "" without one."""

    url: str
    size: int
    tag: str
    sha256: str


def download(
    egress: Egress,
    remote: RemoteFile,
    folder: Path,
    *,
    told: Callable[[int, int], None] = lambda done, total: None,
    keep_going: Callable[[], bool] = lambda: True,
    check_start: Callable[[bytes], None] = lambda start: None,
    check: Callable[[Path], None] = lambda path: None,
    pauses: tuple[float, ...] = PAUSES,
) -> Path:
    """Fetch a file into `folder`, going on where an earlier try ended; returns its path.

    told: called with bytes there and bytes in all. keep_going: asked often; False cancels.
    check_start: sees the first bytes, check: the whole file under its `.part` name; they raise what is wrong.
    Raises: InvalidRequest when a file of that name is there, Refused, Unreachable, NoSpace, BadModelFile for content
    that isn't what was promised (the part is removed then), Cancelled, OSError.
    """
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / safe_name(remote.name)
    if target.exists():
        raise InvalidRequest(f"{target.name} is in {folder.name} already: move it away to fetch it again.")
    part = _PartFile(target, remote)
    waits = list(pauses)
    while True:
        before = part.length
        try:
            _fetch_rest(egress, remote, part, told, keep_going, check_start)
            break
        except Unreachable:
            if part.length > before:
                waits = list(pauses)
            if not waits or not part.begun:  # nothing has ever come from there
                raise
            _wait(waits.pop(0), keep_going)
        except BadModelFile:
            part.forget()
            raise
    try:
        _verify(part, remote)
        check(part.path)
    except WebuiError:
        part.forget()
        raise
    part.become(target)
    return target


def safe_name(name: str) -> str:
    """A name that every system takes for a file in the folder at hand. Raises: InvalidRequest when nothing is left."""
    base = re.split(r"[/\\]", name.strip())[-1]
    clean = _ILLEGAL.sub("_", base).strip(" .")
    if _RESERVED.fullmatch(clean):
        clean = f"_{clean}"
    stem, suffix = os.path.splitext(clean)
    while len((stem + suffix).encode()) > LONGEST_NAME and stem:
        stem = stem[:-1]
    if not stem.strip("_ ."):
        raise InvalidRequest("The address names no file; use the address of the file itself.")
    return stem.rstrip(" .") + suffix


class _PartFile:
    """The beginning of a file, and the note of what it is the beginning of. begun: a server has promised it."""

    def __init__(self, target: Path, remote: RemoteFile):
        self.path = target.with_name(f"{target.name}.part")
        self.note_path = target.with_name(f"{target.name}.part.json")
        self.note = self._read_note()
        ours = self.note is not None and (
            self.note.url == _lasting(remote.url) or (remote.sha256 and self.note.sha256 == remote.sha256)
        )
        if not ours or (remote.size is not None and self.note is not None and self.note.size != remote.size):
            self.forget()
        self.begun = self.note is not None

    @property
    def length(self) -> int:
        try:
            return self.path.stat().st_size
        except OSError:
            return 0

    def begin(self, note: Part) -> None:
        """Note what is to come, before any of it."""
        write_atomic(self.note_path, json.dumps(asdict(note)).encode())
        self.note = note
        self.begun = True

    def forget(self) -> None:
        self.path.unlink(missing_ok=True)
        self.note_path.unlink(missing_ok=True)
        self.note = None

    def become(self, target: Path) -> None:
        """Give the file its name, unless there is one by now."""
        with self.path.open("rb+") as file:
            os.fsync(file.fileno())
        if target.exists():
            raise InvalidRequest(f"{target.name} has appeared meanwhile; the download is kept as {self.path.name}.")
        os.replace(self.path, target)
        sync_folder(target.parent)
        self.note_path.unlink(missing_ok=True)

    def _read_note(self) -> Part | None:
        try:
            found = json.loads(self.note_path.read_bytes())
            return Part(str(found["url"]), int(found["size"]), str(found["tag"]), str(found["sha256"]))
        except (OSError, ValueError, KeyError, TypeError):
            return None


def _fetch_rest(
    egress: Egress,
    remote: RemoteFile,
    part: _PartFile,
    told: Callable[[int, int], None],
    keep_going: Callable[[], bool],
    check_start: Callable[[bytes], None],
) -> None:
    """Append what is missing. Raises: as `download`; Unreachable when it broke off before the end."""
    have, note = part.length, part.note
    if note is not None and have == note.size:
        return
    resumable = have > 0 and note is not None and bool(note.tag or note.sha256)
    headers = {"Range": f"bytes={have}-"} if resumable else {}
    if resumable and note is not None and note.tag:
        headers["If-Range"] = note.tag
    with egress.open(remote.url, headers, secret=remote.secret) as answer:
        _check_status(answer, remote)
        partial = answer.status == 206
        if answer.status == 416 or (partial and not resumable):
            part.forget()
            raise Unreachable(f"{_host(answer.url)} can't go on where the download ended; it begins anew.")
        size = _promised_size(answer, have if partial else 0)
        if remote.size is not None and size != remote.size:
            raise BadModelFile(f"{_host(answer.url)} offers {size} bytes where {remote.size} were announced.")
        fresh = Part(_lasting(remote.url), size, _strong_tag(answer), remote.sha256)
        if partial and note is not None and (note.size, note.tag) != (fresh.size, fresh.tag):
            part.forget()
            raise Unreachable(f"The file on {_host(answer.url)} has changed meanwhile; the download begins anew.")
        part.begin(fresh)
        have = part.length if partial else 0
        _check_room(part.path.parent, size - have)
        with part.path.open("ab" if partial else "wb") as file:
            start = b""
            told(have, size)
            while have < size:
                if not keep_going():
                    raise Cancelled("The download was stopped; starting it again goes on from here.")
                data = answer.read(min(CHUNK, size - have))
                if not data:
                    break
                if not partial and len(start) < 64:
                    start += data[:512]
                    check_start(start)
                file.write(data)
                have += len(data)
                told(have, size)
        if have < size:
            raise Unreachable(f"The connection to {_host(answer.url)} broke off after {have} of {size} bytes.")
        if answer.read(1):
            part.forget()
            raise BadModelFile(f"{_host(answer.url)} sends more than the {size} bytes that it announced.")


def _check_status(answer: Answer, remote: RemoteFile) -> None:
    """Raises: Unreachable for what may pass, Refused for what won't."""
    status, host = answer.status, _host(answer.url)
    if status in (401, 403):
        raise Refused(
            f"{host} refuses the file ({status}): it may need an account's token, or its licence accepted on the site."
        )
    if status in (404, 410):
        raise Refused(f"{host} has no such file ({status}): check the address.")
    if status == 429:
        raise Unreachable(f"{host} has had too many requests (429): try again later.")
    if status in RETRIED:
        raise Unreachable(f"{host} can't answer now ({status}): try again later.")
    if status not in (200, 206, 416):
        raise Refused(f"{host} answers with status {status} instead of the file.")
    if status != 416 and answer.headers.get("content-type", "").partition(";")[0].strip().lower() == "text/html":
        raise BadModelFile(f"{host} sends a web page instead of {remote.name}: use the address of the file itself.")


def _promised_size(answer: Answer, start: int) -> int:
    """Raises: Refused unless the answer says how large the whole file is."""
    headers = answer.headers
    if answer.status == 206:
        match = re.fullmatch(r"bytes (\d+)-\d+/(\d+)", headers.get("content-range", "").strip())
        if not match or int(match[1]) != start:
            raise Refused(f"{_host(answer.url)} sends another part than the one asked for.")
        return int(match[2])
    if not re.fullmatch(r"\d{1,15}", headers.get("content-length", "")) or "content-encoding" in headers:
        raise Refused(f"{_host(answer.url)} doesn't say how large the file is, so it is not downloaded.")
    return int(headers["content-length"])


def _check_room(folder: Path, needed: int) -> None:
    free = shutil.disk_usage(folder).free
    if free < needed + MARGIN:
        raise NoSpace(
            f"The disk of {folder} has {free / 1e9:.1f} GB free; the download needs {needed / 1e9:.1f} GB more."
        )


def _verify(part: _PartFile, remote: RemoteFile) -> None:
    """Raises: BadModelFile unless the hash is the announced one."""
    if not remote.sha256:
        return
    digest = hashlib.sha256()
    with part.path.open("rb") as file:
        while data := file.read(CHUNK):
            digest.update(data)
    found = digest.hexdigest()
    if found != remote.sha256.lower():
        raise BadModelFile(
            f"{remote.name} arrived with the SHA-256 {found[:10]}… where {remote.sha256[:10].lower()}… was announced; "
            "it is removed."
        )


def _wait(seconds: float, keep_going: Callable[[], bool]) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if not keep_going():
            raise Cancelled("The download was stopped; starting it again goes on from here.")
        time.sleep(min(0.1, seconds))


def _strong_tag(answer: Answer) -> str:
    tag = answer.headers.get("etag", "")
    return tag if re.fullmatch(r'"[^"]{1,200}"', tag) else ""


def _lasting(url: str) -> str:
    """The address without its query, which may hold a signature or a token."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.hostname}{parts.path}"


def _host(url: str) -> str:
    return urlsplit(url).hostname or "the server"
