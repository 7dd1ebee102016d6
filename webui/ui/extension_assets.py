"""Scripts and styles of extensions, and the page's translation: where the browser gets them."""

from __future__ import annotations

import hashlib
import html
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from fastapi import APIRouter, FastAPI
from starlette.responses import FileResponse, JSONResponse, Response

from webui.extensions.host import Host
from webui.services.localization import translations
from webui.services.services import Services

URL = "/extension-assets"


@dataclass(frozen=True)
class Offered:
    """Addresses below the server's root."""

    scripts: tuple[str, ...]
    styles: tuple[str, ...]

    def head(self, subpath: str) -> str:
        """What goes into the page's <head>."""
        styles = (f'<link rel="stylesheet" href="{html.escape(subpath + url)}">' for url in self.styles)
        scripts = (f'<script type="module" src="{html.escape(subpath + url)}"></script>' for url in self.scripts)
        return "".join((*styles, *scripts))


def mount(app: FastAPI, host: Host) -> Offered:
    """Serve the scripts and styles that extensions register, and nothing else of their folders.

    The address changes with the content, since browsers keep scripts.
    """
    files: dict[str, Path] = {}

    def addresses(name: str, paths: Iterable[Path]) -> list[str]:
        found = []
        for path in map(Path, paths):
            version = hashlib.sha256(path.read_bytes()).hexdigest()[:12]
            key = f"{name}/{version}/{path.name}"
            files[key] = path
            found.append(f"{URL}/{quote(key)}")
        return found

    scripts, styles = [], []
    for name, assets in host.assets.items():
        scripts += addresses(name, assets.scripts)
        styles += addresses(name, assets.styles)

    @app.get(URL + "/{key:path}", include_in_schema=False)
    def asset(key: str) -> Response:
        path = files.get(key)
        return FileResponse(path) if path else Response(status_code=404)

    return Offered(tuple(scripts), tuple(styles))


def routes(services: Services) -> APIRouter:
    router = APIRouter(include_in_schema=False)

    @router.get("/internal/localization")
    def localization(language: str | None = None) -> JSONResponse:
        """The page's texts in that language, or in the one that is set."""
        return JSONResponse(translations(services, language))

    return router
