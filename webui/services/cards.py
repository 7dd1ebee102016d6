"""The cards of embeddings, hypernetworks, checkpoints and LoRAs: listing, details, the user's notes, previews.

Thousands of files are listed without opening one; sidecars and headers are read for the cards that are shown. All that
a card says comes from strangers' files: it goes out as plain text, and only into JSON.
"""

from __future__ import annotations

import hashlib
import html
import io
import re
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from webui.catalog.files import FileCatalog, ModelFile, natural_key
from webui.catalog.networks import LoraCatalog, shown_metadata
from webui.catalog.sidecars import VERSIONS, Sidecar, preview_path, read_sidecar, sidecar_path, write_sidecar
from webui.catalog.vaes import AUTOMATIC
from webui.core.errors import InvalidRequest, NotFound, WebuiError
from webui.core.files import write_atomic
from webui.core.pictures import decoded_picture, open_picture
from webui.core.texts import shown_name
from webui.services.services import Services

KINDS = ("textual_inversion", "hypernetworks", "checkpoints", "lora")
PAGE = 60
"""Cards in one answer."""
SHORTEST_SEARCH = 4
"""Letters after which a search finds files in hidden folders too."""
MANY = 500
"""LoRAs above which headers are read behind the scenes before aliases are used: file names serve until then."""
RESTING, BREATH = 0.5, 0.01
"""Seconds: between looks at whether the jobs are done, and after each header."""
DESCRIPTION = 400
"""Characters of a description on a card."""
THUMBNAIL = (512, 768)
SMALL_PREVIEW = 1 << 17
"""Bytes up to which a preview is sent as it is."""
LARGEST_PREVIEW = 64 << 20
WIDTHS = {(768,): "SD1", (1024,): "SD2", (768, 1280): "SDXL", (1280,): "SDXL"}
"""Channels of the text encoders' vectors -> version of the loaded model."""

MIME = {"PNG": "image/png", "JPEG": "image/jpeg", "WEBP": "image/webp", "GIF": "image/gif", "AVIF": "image/avif"}
WRITTEN = {"PNG": ".png", "JPEG": ".jpg", "WEBP": ".webp"}

SORTS: Mapping[str, Callable[[ModelFile], Any]] = {
    "path": lambda file: natural_key(file.name),
    "name": lambda file: natural_key(file.stem),
    "date_created": lambda file: file.created,
    "date_modified": lambda file: file.mtime_ns,
}


@dataclass(frozen=True)
class Card:
    """name: what `details` and the other questions are asked with. title: what is read on the card.

    insert: text for the prompt, "" for a checkpoint. activation, negative: what goes into the prompts with it.
    checkpoint: the title to switch to, for a checkpoint. preview: changes with the picture, None without one.
    """

    name: str
    title: str
    description: str = ""
    insert: str = ""
    activation: str = ""
    negative: str = ""
    checkpoint: str | None = None
    preview: str | None = None
    path: str = ""


@dataclass(frozen=True)
class CardPage:
    """next: what to ask for as `start` to go on, None at the end. total: files that fit the question."""

    cards: tuple[Card, ...]
    next: int | None
    total: int
    version: int


class Cards:
    """What the tabs beside Generation show. Safe to use from several threads."""

    def __init__(self, services: Services):
        self._services = services
        self._lock = threading.Lock()
        self._texts: dict[str, tuple[int, dict[ModelFile, tuple[frozenset[str], str]]]] = {}
        self._drawing = threading.Semaphore(2)
        self._aliases_read = threading.Event()
        self._reader: threading.Thread | None = None

    def catalog(self, kind: str) -> FileCatalog:
        """Raises: NotFound for an unknown kind."""
        networks = self._services.networks
        if kind == "checkpoints":
            return self._services.checkpoints.files
        if kind not in KINDS:
            raise NotFound(f'There are no cards of the kind "{kind[:40]}"; choose one of {", ".join(KINDS)}.')
        found: FileCatalog = {
            "textual_inversion": networks.embeddings,
            "hypernetworks": networks.hypernetworks,
            "lora": networks.loras,
        }[kind]
        return found

    def versions(self) -> dict[str, int]:
        """A number for each kind that changes when its files do; looks for new files at little cost."""
        self._services.checkpoints.poll()
        for kind in KINDS:
            self.catalog(kind).poll()
        return {kind: self.catalog(kind).version for kind in KINDS}

    def refresh(self, kind: str) -> None:
        """Look at every file again."""
        if kind == "checkpoints":
            self._services.checkpoints.refresh()
            self._services.vaes.refresh()
        else:
            self.catalog(kind).refresh()
        with self._lock:
            self._texts.pop(kind, None)

    def folders(self, kind: str) -> list[str]:
        """Every folder with cards below it, "a/b" and "a" too; hidden ones as the settings say."""
        shown = self._setting("extra_networks_show_hidden_directories")
        found = set()
        for file in self.catalog(kind):
            if file.folder and (shown or not file.hidden):
                parts = file.folder.split("/")
                found |= {"/".join(parts[:count]) for count in range(1, len(parts) + 1)}
        return sorted(found, key=natural_key)

    def page(
        self,
        kind: str,
        *,
        search: str = "",
        folder: str = "",
        sort: str = "path",
        descending: bool = False,
        start: int = 0,
        count: int = PAGE,
    ) -> CardPage:
        """Some cards of those that fit.

        search: words that path, hash or description hold, in any case. folder: below a root, "" for all.
        sort: a key of SORTS. start: as the page before told. Raises: NotFound, InvalidRequest.
        """
        if sort not in SORTS:
            raise InvalidRequest(f'Cards can\'t be sorted by "{sort[:40]}"; choose one of {", ".join(SORTS)}.')
        catalog = self.catalog(kind)
        version = catalog.version
        files = [file for file in self._searched(kind, catalog, search) if _is_below(file, folder)]
        files.sort(key=SORTS[sort], reverse=descending)
        card_of = self._checkpoint_cards() if kind == "checkpoints" else lambda file: self._card(kind, file)
        cards: list[Card] = []
        place = max(start, 0)
        while place < len(files) and len(cards) < max(1, min(count, 500)):
            if self._fits(kind, files[place]):
                cards.append(card_of(files[place]))
            place += 1
        return CardPage(tuple(cards), place if place < len(files) else None, len(files), version)

    def details(self, kind: str, name: str) -> dict[str, Any]:
        """All that the editor shows of one file: facts, the user's notes, header, training tags.

        The hash is computed in the background if it isn't known: asking again gives it later. Raises: NotFound.
        """
        file = self.catalog(kind).find(name)
        sidecar = read_sidecar(file)
        metadata = self._metadata(file)
        tags = metadata.get("ss_tag_frequency")
        return {
            "name": file.name,
            "title": file.stem,
            "path": shown_name(str(file.path)),
            "size": file.size,
            "modified": time.strftime("%Y-%m-%d %H:%M", time.localtime(file.mtime_ns / 1e9)),
            "hash": self._known_hash(kind, file),
            "preview": _preview_mark(file, self._format()),
            "description": sidecar.description,
            "notes": sidecar.notes,
            "sd version": sidecar.sd_version or self._version(kind, file),
            "activation text": sidecar.activation_text,
            "negative text": sidecar.negative_text,
            "preferred weight": sidecar.preferred_weight,
            "vae": sidecar.vae or AUTOMATIC,
            "vaes": list(self._services.vaes.names()) if kind == "checkpoints" else [],
            "trained_base": str(metadata.get("ss_sd_model_name") or ""),
            "tags": _tags(tags) if isinstance(tags, Mapping) else [],
            "metadata": metadata,
        }

    def save(self, kind: str, name: str, changes: Mapping[str, Any]) -> None:
        """Write the user's notes into `<stem>.json`. Raises: NotFound, InvalidRequest, WebuiError."""
        file = self.catalog(kind).find(name)
        checked = _checked_changes(kind, changes)
        try:
            write_sidecar(file, checked)
        except OSError as error:
            raise WebuiError(f"{file.stem}.json can't be written: {error.strerror or error}.") from error
        self._looked_beside(kind)

    def set_preview(self, kind: str, name: str, picture: bytes) -> None:
        """Make a picture the file's preview, as it is, with the texts in it. Raises: NotFound, InvalidRequest."""
        file = self.catalog(kind).find(name)
        if len(picture) > LARGEST_PREVIEW:
            raise InvalidRequest("The picture is too large for a preview.")
        ending = WRITTEN.get(open_picture(picture).format or "")
        if ending is None:
            raise InvalidRequest("A preview must be a PNG, JPEG or WebP picture.")
        # A picture named like the file could be taken for an embedding of its own.
        target = sidecar_path(file, f".preview{ending}" if kind == "textual_inversion" else ending)
        before = preview_path(file, self._format())
        try:
            write_atomic(target, picture)
            if before and before != target:
                before.unlink(missing_ok=True)
        except OSError as error:
            raise WebuiError(f"{target.name} can't be written: {error.strerror or error}.") from error
        self._looked_beside(kind)

    def preview(self, kind: str, name: str) -> tuple[bytes, str]:
        """A file's preview, made smaller if it is large, and its MIME type. Raises: NotFound, InvalidRequest."""
        file = self.catalog(kind).find(name)
        path = preview_path(file, self._format())
        if path is None:
            raise NotFound(f"{file.stem} has no preview.")
        try:
            stat = path.stat()
            if stat.st_size > LARGEST_PREVIEW or not path.is_file():
                raise NotFound(f"{path.name} is too large for a preview.")
            if stat.st_size <= SMALL_PREVIEW:
                return _as_it_is(path.read_bytes())
            return self._thumbnail(path, stat.st_mtime_ns), "image/webp"
        except OSError as error:
            raise NotFound(f"{path.name} can't be read: {error.strerror or error}.") from error

    def preview_at(self, path: str) -> tuple[bytes, str]:
        """The preview that lies at a path, as `preview` gives it. Raises: NotFound where no model's preview lies."""
        wanted = Path(path)
        for kind in KINDS:
            for file in self.catalog(kind).all():
                if file.path.parent == wanted.parent and preview_path(file, self._format()) == wanted:
                    return self.preview(kind, file.name)
        raise NotFound("There is no preview of a model at that path.")

    def metadata(self, kind: str, name: str) -> Mapping[str, Any]:
        """The header's text fields of a file, found by its name or as prompts write it; {} where there are none."""
        for file in self.catalog(kind).all():
            if name in (file.name, file.stem):
                return self._metadata(file)
        return {}

    # What one card says

    def _checkpoint_cards(self) -> Callable[[ModelFile], Card]:
        known = {checkpoint.path: checkpoint for checkpoint in self._services.checkpoints}

        def card_of(file: ModelFile) -> Card:
            card, checkpoint = self._plain_card(file, read_sidecar(file)), known.get(file.path)
            if checkpoint is None:  # gone meanwhile
                return card
            return replace(card, checkpoint=checkpoint.title, description=checkpoint.problem or card.description)

        return card_of

    def _card(self, kind: str, file: ModelFile) -> Card:
        sidecar = read_sidecar(file)
        card = replace(
            self._plain_card(file, sidecar), activation=sidecar.activation_text, negative=sidecar.negative_text
        )
        weight = sidecar.preferred_weight or self._setting("extra_networks_default_multiplier")
        if kind == "lora":
            return replace(card, insert=f"<lora:{self._lora_name(file)}:{weight:g}>")
        if kind == "hypernetworks":
            return replace(card, insert=f"<hypernet:{file.stem}:{weight:g}>")
        facts = self._services.networks.embeddings.facts(file)
        return replace(card, title=facts.name, insert=facts.name, description=facts.problem or card.description)

    def _plain_card(self, file: ModelFile, sidecar: Sidecar) -> Card:
        shown = self._setting("extra_networks_card_show_desc")
        return Card(
            name=file.name,
            title=file.stem,
            description=plain_text(sidecar.description)[:DESCRIPTION] if shown else "",
            preview=_preview_mark(file, self._format()),
            path=shown_name(str(file.path)),
        )

    def _setting(self, key: str) -> Any:
        return self._services.settings.snapshot()[key]

    def _fits(self, kind: str, file: ModelFile) -> bool:
        """Whether it is for the loaded model, as far as is known, and what it should be at all."""
        networks = self._services.networks
        if kind == "textual_inversion":
            facts = networks.embeddings.facts(file)
            return bool(facts.problem) or (facts.vectors > 0 and networks.embeddings.fits(facts))
        settings = self._services.settings.snapshot()
        loaded = WIDTHS.get(networks.embeddings.widths or ())
        if kind != "lora" or settings["lora_show_all"] or loaded is None:
            return True
        version = read_sidecar(file).sd_version or networks.loras.facts(file).version
        if version == "Unknown":
            return loaded not in settings["lora_hide_unknown_for_versions"]
        return version == loaded

    def _lora_name(self, file: ModelFile) -> str:
        loras = self._services.networks.loras
        if len(loras) > MANY and not self._aliases_read.is_set():
            self._read_aliases(loras)
            return file.stem
        return loras.prompt_name(file, self._setting("lora_preferred_name"))

    def _read_aliases(self, loras: LoraCatalog) -> None:
        """Read every header once, in a thread."""
        with self._lock:
            if self._reader is None:
                self._reader = threading.Thread(target=self._read, args=[loras], name="lora-headers", daemon=True)
                self._reader.start()

    def _read(self, loras: LoraCatalog) -> None:
        """At rest while jobs run, and leaving others their turn after each file."""
        for file in loras.all():
            while self._services.jobs.current() is not None:
                time.sleep(RESTING)
            loras.facts(file)
            time.sleep(BREATH)
        loras.aliases()
        self._aliases_read.set()

    def _version(self, kind: str, file: ModelFile) -> str:
        return self._services.networks.loras.facts(file).version if kind == "lora" else "Unknown"

    def _known_hash(self, kind: str, file: ModelFile) -> str:
        """Ten or twelve digits; "" while they are being computed, or with --no-hashing."""
        services = self._services
        if file.is_folder:
            return ""
        if kind == "lora":
            known = services.networks.loras.known_hash(file)
            how = "addnet" if file.path.suffix.lower() == ".safetensors" else "sha256"
            if not known:
                services.checkpoints.hasher.want([file.path], how)
            return (known or "")[:12]
        known = services.checkpoints.hashes.known(file.path)
        if not known:
            services.checkpoints.hash_file(file.path)
        return (known or "")[: 12 if kind == "textual_inversion" else 10]

    def _metadata(self, file: ModelFile) -> Mapping[str, Any]:
        if file.is_folder or file.path.suffix.lower() != ".safetensors":
            return {}
        try:
            return shown_metadata(file.path)
        except WebuiError as error:
            return {"problem": str(error)}

    # Searching

    def _searched(self, kind: str, catalog: FileCatalog, search: str) -> list[ModelFile]:
        rule = self._setting("extra_networks_hidden_models")
        words = search.lower().split()
        hidden = rule == "Always" or (rule == "When searched" and len(search.strip()) >= SHORTEST_SEARCH)
        files = [file for file in catalog.all() if hidden or not file.hidden]
        if not words:
            return files
        texts = self._search_texts(kind, catalog)
        return [file for file in files if all(word in texts.get(file, file.name.lower()) for word in words)]

    def _search_texts(self, kind: str, catalog: FileCatalog) -> dict[ModelFile, str]:
        """What a search looks at, in lower case; read at the first search, then only for folders that have changed."""
        with self._lock:
            version, known = self._texts.get(kind, (-1, {}))
            if version != catalog.version:
                version, files = catalog.version, catalog.all()
                hashes = self._services.checkpoints.hashes.known_of(files, "addnet" if kind == "lora" else "sha256")
                fresh: dict[ModelFile, tuple[frozenset[str], str]] = {}
                for file in files:
                    before = known.get(file)
                    if before is None or before[0] is not file.beside:
                        text = f"{file.name} {hashes.get(file.path, '')} {read_sidecar(file).description}"
                        before = file.beside, text.lower()
                    fresh[file] = before
                known = fresh
                self._texts[kind] = version, known
            return {file: text for file, (_, text) in known.items()}

    def _looked_beside(self, kind: str) -> None:
        """See what was just written beside a file."""
        if kind == "checkpoints":
            self._services.checkpoints.poll(0)
        else:
            self.catalog(kind).poll(0)

    # Previews

    def _format(self) -> str:
        return str(self._setting("samples_format"))

    def _thumbnail(self, path: Path, mtime_ns: int) -> bytes:
        """A WebP of at most THUMBNAIL pixels, kept in the cache folder until the picture changes."""
        key = hashlib.sha256(f"{path}\0{mtime_ns}".encode("utf-8", "surrogatepass")).hexdigest()[:32]
        kept = self._services.paths.cache / "thumbnails" / f"{key}.webp"
        if kept.exists():
            return kept.read_bytes()
        with self._drawing:
            image = decoded_picture(path.read_bytes())
            image.thumbnail(THUMBNAIL)
            file = io.BytesIO()
            image.convert("RGBA" if "A" in image.getbands() else "RGB").save(file, "WEBP", quality=80)
        write_atomic(kept, file.getvalue())
        return file.getvalue()


def plain_text(text: str) -> str:
    """Markup taken out, as Civitai's descriptions have it."""
    if "<" not in text:
        return text
    spaced = re.sub(r"<(br|/p|/li|/h\d)\b[^>]{0,200}>", "\n", text, flags=re.IGNORECASE)
    return html.unescape(re.sub(r"<[^<>]{0,2000}>", "", spaced)).strip()


def _is_below(file: ModelFile, folder: str) -> bool:
    return not folder or (file.folder + "/").startswith(folder.rstrip("/") + "/")


def _preview_mark(file: ModelFile, samples_format: str) -> str | None:
    path = preview_path(file, samples_format)
    if path is None:
        return None
    try:
        stat = path.stat()
    except OSError:
        return None
    return f"{stat.st_mtime_ns:x}-{stat.st_size:x}"  # times of two pictures may be the same


def _as_it_is(data: bytes) -> tuple[bytes, str]:
    """Raises: NotFound for what is no picture that browsers show."""
    try:
        mime = MIME.get(open_picture(data).format or "")
    except InvalidRequest:
        mime = None
    if mime is None:
        raise NotFound("The preview is no picture.")
    return data, mime


def _tags(frequency: Mapping[str, Any]) -> list[tuple[str, int]]:
    """Training tags with their counts over all folders, the most frequent first. Source: kohya's ss_tag_frequency."""
    counts: Counter[str] = Counter()
    for tags in frequency.values():
        if isinstance(tags, Mapping):
            counts.update({str(tag).strip(): count for tag, count in tags.items() if isinstance(count, int)})
    return counts.most_common(200)


def _checked_changes(kind: str, changes: Mapping[str, Any]) -> dict[str, Any]:
    """Raises: InvalidRequest naming the key."""
    known: dict[str, type] = {"description": str, "notes": str}
    if kind == "lora":
        known |= {"sd version": str, "activation text": str, "negative text": str, "preferred weight": float}
    if kind == "checkpoints":
        known["vae"] = str
    checked: dict[str, Any] = {}
    for key, value in changes.items():
        kind_of_value = known.get(key)
        if kind_of_value is float and isinstance(value, int | float) and not isinstance(value, bool):
            if not 0 <= value <= 2:
                raise InvalidRequest(f'"{key}" must be from 0 to 2, got {value}.')
        elif kind_of_value is not str or not isinstance(value, str) or len(value) > 100_000:
            raise InvalidRequest(f'"{key[:60]}" can\'t be saved for this file; known are {", ".join(known)}.')
        if key == "sd version" and value not in VERSIONS:
            raise InvalidRequest(f'"{key}" must be one of {", ".join(VERSIONS)}.')
        checked[key] = value
    return checked
