"""The gallery of all outputs: search, details, thumbnails, and a trash that gives back what was put there."""

from __future__ import annotations

import hashlib
import io
import json
import logging
import os
import re
import time
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from webui.core.errors import InvalidRequest, NotFound, Refused, WebuiError, not_saved
from webui.core.files import write_atomic
from webui.core.infotext import parse
from webui.core.pictures import decoded_picture, flattened
from webui.services.file_texts import read_file_texts
from webui.services.gallery_index import TRASH, VIDEOS, GalleryIndex, Known

log = logging.getLogger(__name__)

PAGE = 100
SMALL = 256
"""Pixels of a thumbnail's longer side."""
MOST_AT_ONCE = 1000
MIME = {
    ".png": "image/png",
    ".jpg": "image/jpeg",
    ".jpeg": "image/jpeg",
    ".webp": "image/webp",
    ".avif": "image/avif",
    ".gif": "image/gif",
    ".mp4": "video/mp4",
    ".webm": "video/webm",
    ".mkv": "video/x-matroska",
    ".mov": "video/quicktime",
    ".avi": "video/x-msvideo",
}
COLUMNS = "id, path, section, kind, mtime, size, model, trashed"
SEARCHED = re.compile(r'(-?)(?:"([^"]*)"|(\S+))')


@dataclass(frozen=True)
class Wish:
    """What is looked for; "" and 0 ask for nothing. kind: "image" or "video". section: a folder of the outputs.

    since, until: seconds; `until` itself is left out. only: paths below the outputs that may be shown, None for all.
    """

    search: str = ""
    model: str = ""
    lora: str = ""
    kind: str = ""
    section: str = ""
    since: float = 0
    until: float = 0
    trashed: bool = False
    only: Collection[str] | None = None


@dataclass(frozen=True)
class GalleryPage:
    """files: newest first. total: of all pages. busy: whether files are still being read; read: how many so far."""

    files: tuple[Known, ...]
    total: int
    pages: int
    busy: bool
    read: int


class Gallery:
    """index: of the outputs. thumbnails: a folder that may be deleted at any time. Safe to use from any thread."""

    def __init__(self, index: GalleryIndex, thumbnails: Path):
        self.index = index
        self._thumbnails = thumbnails

    def page(self, wish: Wish, number: int = 0) -> GalleryPage:
        """One page of what is looked for, counted from 0; the last one for a higher number."""
        self.index.refresh()
        where, values = _conditions(wish)
        with self.index.connected() as connection:
            (total,) = connection.execute(f"SELECT count(*) FROM files WHERE {where}", values).fetchone()
            pages = max(1, -(-total // PAGE))
            start = PAGE * max(0, min(number, pages - 1))
            rows = connection.execute(
                f"SELECT {COLUMNS} FROM files WHERE {where} ORDER BY mtime DESC, id DESC LIMIT ? OFFSET ?",
                (*values, PAGE, start),
            )
            files = tuple(_known(row) for row in rows)
        return GalleryPage(files, total, pages, self.index.busy, self.index.read)

    def choices(self, only: Collection[str] | None = None) -> dict[str, list[str]]:
        """The models, LoRAs and folders there are to choose from, of files that may be shown."""
        where, values = _conditions(Wish(only=only))
        questions = {
            "models": f"SELECT DISTINCT model FROM files WHERE {where} AND model != ''",
            "loras": f"SELECT DISTINCT name FROM loras JOIN files ON file = id WHERE {where}",
            "sections": f"SELECT DISTINCT section FROM files WHERE {where} AND section != ''",
        }
        with self.index.connected() as connection:
            return {
                name: sorted((row[0] for row in connection.execute(question, values)), key=str.lower)[:2000]
                for name, question in questions.items()
            }

    def known(self, number: int, only: Collection[str] | None = None) -> Known:
        """Raises: NotFound, in the same words for a file that isn't there and one that may not be shown."""
        with self.index.connected() as connection:
            row = connection.execute(f"SELECT {COLUMNS} FROM files WHERE id = ?", (number,)).fetchone()
        if row is None or (only is not None and row[1] not in only):
            raise NotFound("There is no such file in the gallery; load its page again.")
        return _known(row)

    def file(self, known: Known) -> Path:
        """The file itself. Raises: NotFound when it has gone or has become a link."""
        path = self.index.root / known.path
        root = self.index.root.resolve()
        if path.is_symlink() or not path.is_file() or path.resolve() != root / known.path:
            raise NotFound("This file isn't there any more.")
        return path

    def details(self, known: Known) -> dict[str, Any]:
        """All that the file tells of itself: its infotext, the fields of it, further texts."""
        path = self.file(known)
        try:
            if known.kind == "video":
                from webui.video import read_texts

                infotext, texts = read_texts(path)
            else:
                infotext, texts = read_file_texts(path.read_bytes())
        except WebuiError:
            infotext, texts = None, {}
        fields = parse(infotext, fill_defaults=False, backcompat=False) if infotext else {}
        return {
            "infotext": infotext or "",
            "fields": {key: str(value) for key, value in fields.items()},
            "texts": texts,
        }

    def thumbnail(self, known: Known) -> bytes:
        """A small JPEG, made at the first time. Raises: NotFound, WebuiError for what can't be read."""
        path = self.file(known)
        digest = hashlib.sha256(f"{known.path}\0{known.mtime}\0{known.size}".encode()).hexdigest()
        kept = self._thumbnails / digest[:2] / f"{digest[2:34]}.jpg"
        try:
            return kept.read_bytes()
        except OSError:
            data = _small(path)
        try:
            write_atomic(kept, data)
        except OSError as error:
            log.info("A thumbnail can't be kept: %s", error.strerror)
        return data

    # The trash

    def delete(self, files: Sequence[Known]) -> None:
        """Move files, with the texts beside them, into the trash. Raises: NotFound, InvalidRequest, NotSaved."""
        when = f"{time.strftime('%Y%m%d-%H%M%S')}-{time.time_ns() % 10**9:09}"
        for known in _few(files):
            if known.trashed:
                raise InvalidRequest("This file is in the trash already.")
            for path in _with_texts(self.file(known)):
                self._move(path, self.index.root / TRASH / when / path.relative_to(self.index.root))
            self.index.moved(known.id, f"{TRASH}/{when}/{known.path}")

    def restore(self, files: Sequence[Known]) -> None:
        """Move files from the trash back to where they were. Raises: NotFound, Refused where there is another one."""
        for known in _few(files):
            if not known.trashed:
                raise InvalidRequest("This file isn't in the trash.")
            for path in _with_texts(self.file(known)):
                inside = path.relative_to(self.index.root).parts[2:]
                target = self.index.root.joinpath(*inside)
                if os.path.lexists(target):
                    raise Refused(f"There is another {'/'.join(inside)} by now; rename it to restore the one deleted.")
                self._move(path, target)
            self.index.moved(known.id, known.path.split("/", 2)[2])

    def empty_trash(self) -> int:
        """Delete what is in the trash for good. Returns: how many pictures and videos that were."""
        with self.index.connected() as connection:
            rows = connection.execute(f"SELECT {COLUMNS} FROM files WHERE trashed").fetchall()
        gone = []
        for row in rows:
            try:
                for path in _with_texts(self.file(_known(row))):
                    path.unlink(missing_ok=True)
                gone.append(_known(row).id)
            except (NotFound, OSError) as error:
                log.warning("%s stays in the trash: %s", row[1], error)
        for folder, _, _ in os.walk(self.index.root / TRASH, topdown=False):
            if not os.listdir(folder):
                os.rmdir(folder)
        self.index.forget(gone)
        return len(gone)

    def _move(self, source: Path, target: Path) -> None:
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            if not target.parent.resolve().is_relative_to(self.index.root.resolve()):
                raise Refused(f"{target.parent} is a link that leads out of the outputs; it isn't followed.")
            source.rename(target)
        except OSError as error:
            raise not_saved(f"{source.name} can't be moved", error) from error


def _few(files: Sequence[Known]) -> Sequence[Known]:
    if len(files) > MOST_AT_ONCE:
        raise InvalidRequest(f"Choose at most {MOST_AT_ONCE} files at once.")
    return files


def _known(row: Sequence[Any]) -> Known:
    number, path, section, kind, mtime, size, model, trashed = row
    return Known(number, path, section, kind, mtime, size, model, bool(trashed))


def _conditions(wish: Wish) -> tuple[str, list[Any]]:
    """(condition, values) of a SELECT from files."""
    where = ["trashed = ?"]
    values: list[Any] = [wish.trashed]
    if match := _match(wish.search):
        where.append("id IN (SELECT rowid FROM texts WHERE texts MATCH ?)")
        values.append(match)
    if without := _match(wish.search, excluded=True):
        where.append("id NOT IN (SELECT rowid FROM texts WHERE texts MATCH ?)")
        values.append(without)
    for column in ("model", "kind", "section"):
        if wanted := getattr(wish, column):
            where.append(f"{column} = ?")
            values.append(wanted)
    if wish.lora:
        where.append("id IN (SELECT file FROM loras WHERE name = ?)")
        values.append(wish.lora)
    for sign, seconds in ((">=", wish.since), ("<", wish.until)):
        if seconds:
            where.append(f"mtime {sign} ?")
            values.append(int(seconds * 1e9))
    if wish.only is not None:
        where.append("path IN (SELECT value FROM json_each(?))")
        values.append(json.dumps(sorted(wish.only)))
    return " AND ".join(where), values


def _match(search: str, excluded: bool = False) -> str:
    """FTS5's question for words and "phrases", or for those with a minus in front; each word may go on."""
    parts = []
    for minus, phrase, word in SEARCHED.findall(search):
        text = phrase or word
        if bool(minus) == excluded and re.search(r"\w", text):
            parts.append('"{}"{}'.format(text.replace('"', '""'), "" if phrase else "*"))
    return (" OR " if excluded else " AND ").join(parts)


def _with_texts(path: Path) -> Iterator[Path]:
    """The file, and the text file that was saved beside it."""
    beside = path.with_suffix(".txt")
    if beside.is_file() and not beside.is_symlink():
        yield beside
    yield path


def _small(path: Path) -> bytes:
    """Raises: WebuiError, OSError."""
    if path.suffix.lower() in VIDEOS:
        from webui.video import open_video

        frame = next(iter(open_video(path).frames()))
        image = Image.fromarray(frame.picture)
    else:
        image = decoded_picture(path.read_bytes(), path.name)
    image.thumbnail((SMALL, SMALL))
    file = io.BytesIO()
    flattened(image, "#808080").convert("RGB").save(file, "jpeg", quality=80)
    return file.getvalue()
