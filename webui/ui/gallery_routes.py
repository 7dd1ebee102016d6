"""What the Gallery tab asks the server: JSON, thumbnails and the files themselves."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import asdict
from pathlib import PurePosixPath
from typing import Annotated, Any, TypeAlias

from fastapi import APIRouter, Body, Query, Request, Response
from fastapi.responses import FileResponse
from pydantic import Field

from webui.core.errors import Refused
from webui.services.gallery import MIME, Gallery, Wish
from webui.services.gallery_index import GalleryIndex
from webui.services.services import Services
from webui.ui.visitors.visitors import Visitors

HEADERS = {
    "Content-Security-Policy": "sandbox; default-src 'none'",
    "Cache-Control": "private, max-age=31536000, immutable",  # the address changes with the file
}
Id = Annotated[int, Query(ge=0, lt=1 << 63)]
Ids = Annotated[list[Annotated[int, Field(ge=0, lt=1 << 63)]], Body(embed=True, max_length=1000)]
ShownTo: TypeAlias = Callable[[Request], Collection[str] | None]
"""Of a request: the paths below the outputs that its visitor may see, None for all."""
Seconds = Annotated[float, Query(ge=-9e9, le=9e9)]
"""Since 1970, as far as nanoseconds fit into 64 bits."""


def gallery_routes(services: Services, visitors: Visitors) -> APIRouter:
    """visitors: who was given what; where several people use the page, each sees what was made for them."""
    root = services.paths.outputs
    gallery = Gallery(GalleryIndex(root, services.paths.cache / "gallery.sqlite"), services.paths.cache / "thumbnails")
    router = APIRouter(prefix="/easel/v1/gallery", tags=["page"])

    def shown_to(request: Request) -> Collection[str] | None:
        """Paths below the outputs that this visitor may see, None for all."""
        if services.belongings.for_one:
            return None
        place = root.resolve()
        handed = visitors.handed_to(request.scope)
        return {file.relative_to(place).as_posix() for file in handed if file.is_relative_to(place)}

    _add_pages(router, gallery, shown_to)
    _add_files(router, gallery, shown_to)
    _add_trash(router, gallery, services)
    return router


def _add_pages(router: APIRouter, gallery: Gallery, shown_to: ShownTo) -> None:
    @router.get("")
    def page(
        request: Request,
        search: str = "",
        model: str = "",
        lora: str = "",
        kind: str = "",
        section: str = "",
        since: Seconds = 0,
        until: Seconds = 0,
        trashed: bool = False,
        number: Annotated[int, Query(ge=0, le=1 << 31)] = 0,
    ) -> dict[str, Any]:
        """One page of the outputs, the newest first."""
        only = shown_to(request)
        wish = Wish(search[:500], model, lora, kind, section, since, until, trashed and only is None, only)
        found = gallery.page(wish, number)
        files = [{**asdict(file), "name": PurePosixPath(file.path).name} for file in found.files]
        return {**asdict(found), "files": files}

    @router.get("/choices")
    def choices(request: Request) -> dict[str, Any]:
        """The models, LoRAs and folders of all outputs; may_delete: whether the trash may be used."""
        only = shown_to(request)
        return {**gallery.choices(only), "may_delete": only is None}


def _add_files(router: APIRouter, gallery: Gallery, shown_to: ShownTo) -> None:
    @router.get("/details")
    def details(request: Request, id: Id) -> dict[str, Any]:
        """How one file was made."""
        return gallery.details(gallery.known(id, shown_to(request)))

    @router.get("/thumbnail")
    def thumbnail(request: Request, id: Id) -> Response:
        """A small picture of one file."""
        data = gallery.thumbnail(gallery.known(id, shown_to(request)))
        return Response(data, media_type="image/jpeg", headers=HEADERS)

    @router.get("/file")
    def file(request: Request, id: Id) -> FileResponse:
        """The file itself."""
        path = gallery.file(gallery.known(id, shown_to(request)))
        return FileResponse(path, media_type=MIME[path.suffix.lower()], headers=HEADERS)


def _add_trash(router: APIRouter, gallery: Gallery, services: Services) -> None:
    def check_owner() -> None:
        if not services.belongings.for_one:
            raise Refused("Where several people use the page nobody deletes outputs from it.")

    @router.post("/delete")
    def delete(ids: Ids) -> dict[str, int]:
        """Move files into the trash."""
        check_owner()
        gallery.delete([gallery.known(number) for number in ids])
        return {"count": len(ids)}

    @router.post("/restore")
    def restore(ids: Ids) -> dict[str, int]:
        """Move files from the trash back to where they were."""
        check_owner()
        gallery.restore([gallery.known(number) for number in ids])
        return {"count": len(ids)}

    @router.post("/empty")
    def empty() -> dict[str, int]:
        """Delete what is in the trash for good."""
        check_owner()
        return {"count": gallery.empty_trash()}
