"""From an address that a user pasted to the files that can be fetched there, with their sizes and hashes.

Hugging Face: https://huggingface.co/docs/hub/api, "tree"; a file kept by LFS tells its SHA-256 as `lfs.oid`.
Civitai: https://developer.civitai.com/docs/api/public-rest, "model-versions".
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, quote, unquote, urlsplit

from webui.core.errors import InvalidRequest, NotFound, Refused
from webui.net.download import RemoteFile, safe_name
from webui.net.egress import Answer, Egress

HUGGING_FACE = ("huggingface.co", "hf.co", "www.huggingface.co")
CIVITAI = ("civitai.com", "www.civitai.com", "civitai.green", "civitai.red")
SUFFIXES = (".safetensors", ".ckpt", ".pt", ".pth", ".bin")
MOST_FILES = 200
LONGEST_ANSWER = 16 << 20

CIVITAI_KINDS: Mapping[str, str] = {
    "Checkpoint": "checkpoints",
    "LORA": "lora",
    "LoCon": "lora",
    "DoRA": "lora",
    "TextualInversion": "textual_inversion",
    "Hypernetwork": "hypernetworks",
    "VAE": "vae",
    "Upscaler": "upscalers",
    "Controlnet": "controlnet",
}
TOKENS: Mapping[str, tuple[str, ...]] = {
    "huggingface.co": ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"),
    "civitai.com": ("CIVITAI_API_KEY", "CIVITAI_TOKEN"),
}
"""Host -> environment variables that may hold a token for it."""


@dataclass(frozen=True)
class Offer:
    """A file that can be fetched. kind: of model, None where nobody tells. size: bytes, None where nobody tells.

    about: what the site says of it. info: Civitai's description of the version, to be kept beside the file.
    """

    remote: RemoteFile
    kind: str | None = None
    size: int | None = None
    about: str = ""
    info: Mapping[str, Any] | None = field(default=None, repr=False)


class ModelSources:
    """Looks addresses up. tokens: host -> token, sent to that host alone."""

    def __init__(self, egress: Egress, tokens: Mapping[str, str] | None = None):
        self._egress = egress
        self._tokens = dict(tokens or {})

    def look(self, address: str) -> tuple[Offer, ...]:
        """The files behind an address: of a file, a repository, or a model's page.

        Raises: InvalidRequest for what is no address, NotFound when there is no model file, Refused, Unreachable.
        """
        text = address.strip()
        if re.fullmatch(r"[\w.-]+/[\w.-]+", text):
            text = f"https://huggingface.co/{text}"
        parts = urlsplit(text)
        host = (parts.hostname or "").lower()
        if not parts.scheme or not host:
            raise InvalidRequest(f'"{text[:100]}" is no address: paste one that begins with https://.')
        if host in HUGGING_FACE:
            return self._hugging_face(parts.path)
        if host in CIVITAI:
            return self._civitai(parts.path, parse_qs(parts.query))
        return (self._direct(text),)

    # Hugging Face

    def _hugging_face(self, path: str) -> tuple[Offer, ...]:
        words = [unquote(word) for word in path.split("/") if word]
        marks = [index for index, word in enumerate(words) if word in ("blob", "resolve", "raw", "tree")][:1]
        repo, rest = (words[: marks[0]], words[marks[0] :]) if marks else (words[:2], [])
        if not 1 <= len(repo) <= 2 or repo[0] in ("datasets", "spaces", "api"):
            raise InvalidRequest("That is no address of a model repository on Hugging Face.")
        name = "/".join(repo)
        revision = rest[1] if len(rest) > 1 else "main"
        wanted = "/".join(rest[2:])
        of_file = bool(rest) and rest[0] != "tree"
        folder = wanted.rpartition("/")[0] if of_file else wanted
        return self._repository(name, revision, folder, wanted if of_file else "")

    def _repository(self, repo: str, revision: str, folder: str, wanted: str) -> tuple[Offer, ...]:
        where = f"https://huggingface.co/api/models/{quote(repo)}/tree/{quote(revision, safe='')}"
        url = where + (f"/{quote(folder)}" if folder else "") + ("" if wanted else "?recursive=true")
        offers = []
        for item in self._json(url, list):
            path = item.get("path") if isinstance(item, dict) and item.get("type") == "file" else None
            if not isinstance(path, str) or (path != wanted if wanted else not path.lower().endswith(SUFFIXES)):
                continue
            lfs = _table(item.get("lfs"))
            sha256 = str(lfs.get("oid", ""))
            size = item.get("size")
            remote = RemoteFile(
                f"https://huggingface.co/{quote(repo)}/resolve/{quote(revision, safe='')}/{quote(path)}",
                safe_name(path),
                size if isinstance(size, int) else None,
                sha256 if re.fullmatch(r"[0-9a-f]{64}", sha256) else "",
                self._tokens.get("huggingface.co", ""),
            )
            offers.append(Offer(remote, None, remote.size, f"{repo}: {path}"))
        if not offers:
            raise NotFound(f"{repo} has no {'such file' if wanted else 'model files'} on Hugging Face.")
        return tuple(offers[:MOST_FILES])

    # Civitai

    def _civitai(self, path: str, query: Mapping[str, list[str]]) -> tuple[Offer, ...]:
        version = re.match(r"/api/download/models/(\d+)", path) or re.match(r"/api/v1/model-versions/(\d+)", path)
        model = re.match(r"/models/(\d+)", path)
        chosen = version[1] if version else query.get("modelVersionId", [""])[0]
        if chosen.isdecimal():
            return self._version(self._json(f"https://civitai.com/api/v1/model-versions/{chosen}", dict))
        if model is None:
            raise InvalidRequest("That is no address of a model on Civitai.")
        found = self._json(f"https://civitai.com/api/v1/models/{model[1]}", dict)
        versions = found.get("modelVersions")
        if not isinstance(versions, list) or not versions or not isinstance(versions[0], dict):
            raise NotFound(f"Model {model[1]} on Civitai has no version to fetch.")
        return self._version({"model": {"name": found.get("name"), "type": found.get("type")}, **versions[0]})

    def _version(self, version: dict[str, Any]) -> tuple[Offer, ...]:
        model = _table(version.get("model"))
        kind = CIVITAI_KINDS.get(str(model.get("type")))
        files = version.get("files")
        offers = []
        for file in files if isinstance(files, list) else ():
            url = file.get("downloadUrl") if isinstance(file, dict) else None
            name = str(file.get("name", "")) if isinstance(file, dict) else ""
            if not isinstance(url, str) or urlsplit(url).hostname not in CIVITAI or not name.lower().endswith(SUFFIXES):
                continue
            hashes = _table(file.get("hashes"))
            sha256 = str(hashes.get("SHA256", "")).lower()
            size = file.get("sizeKB")
            remote = RemoteFile(
                url,
                safe_name(name),
                None,
                sha256 if re.fullmatch(r"[0-9a-f]{64}", sha256) else "",
                self._tokens.get("civitai.com", ""),
            )
            about = f"{model.get('name') or 'Civitai'}, {version.get('name') or 'version'} ({file.get('type')})"
            bytes_told = round(size * 1024) if isinstance(size, int | float) else None
            own_kind = "vae" if file.get("type") == "VAE" else kind
            offers.append(Offer(remote, own_kind, bytes_told, about, version))
        if not offers:
            raise NotFound("This version on Civitai has no model file to fetch.")
        return tuple(offers[:MOST_FILES])

    # Anywhere else

    def _direct(self, url: str) -> Offer:
        with self._egress.open(url) as answer:
            if answer.status != 200:
                raise Refused(f"{urlsplit(url).hostname} answers with status {answer.status} instead of a file.")
            kind = answer.headers.get("content-type", "").partition(";")[0].strip().lower()
            if kind == "text/html":
                raise Refused("The address leads to a web page: use the address of the file itself.")
            name = safe_name(_file_name(url, answer))
            length = answer.headers.get("content-length", "")
        if not name.lower().endswith(SUFFIXES):
            raise Refused(f"{name} is no model file: Easel fetches {', '.join(SUFFIXES)}.")
        size = int(length) if re.fullmatch(r"\d{1,15}", length) else None
        return Offer(RemoteFile(url, name, size), None, size, urlsplit(url).hostname or "")

    def _json(self, url: str, kind: type) -> Any:
        """Raises: Refused, NotFound, Unreachable."""
        host = urlsplit(url).hostname or ""
        with self._egress.open(url, {"Accept": "application/json"}, secret=self._tokens.get(host, "")) as answer:
            if answer.status in (401, 403):
                raise Refused(f"{host} doesn't show this to everyone ({answer.status}): set a token for it.")
            if answer.status == 404:
                raise NotFound(f"{host} knows no such model.")
            if answer.status != 200:
                raise Refused(f"{host} answers with status {answer.status}: try again later.")
            raw = answer.read_all(LONGEST_ANSWER)
        try:
            found = json.loads(raw)
        except (ValueError, RecursionError):
            found = None
        if not isinstance(found, kind):
            raise Refused(f"{host} answers with something that isn't understood; try again later.")
        return found


def tokens_from(environ: Mapping[str, str]) -> dict[str, str]:
    """Host -> token, from the environment's variables."""
    return {host: next((environ[name] for name in names if environ.get(name)), "") for host, names in TOKENS.items()}


def _table(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _file_name(url: str, answer: Answer) -> str:
    """What the server calls the file, else the end of the address."""
    disposition = answer.headers.get("content-disposition", "")
    extended = re.search(r"filename\*\s*=\s*[\w-]*'[^']*'([^;]+)", disposition)
    if extended:
        return unquote(extended[1].strip())
    plain = re.search(r'filename\s*=\s*(?:"([^"]*)"|([^;]+))', disposition)
    if plain:
        return (plain[1] or plain[2] or "").strip()
    return unquote(urlsplit(url).path.rpartition("/")[2])
