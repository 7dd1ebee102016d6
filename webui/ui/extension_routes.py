"""What the Extensions tab asks the server: JSON both ways."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any

from fastapi import APIRouter, Body

from webui.services.extension_index import ExtensionIndexes, usual_address
from webui.services.extension_manager import ExtensionManager, check_access
from webui.services.extension_sources import Staged
from webui.services.services import Services

Text = Annotated[str, Body(max_length=4096)]
Names = Annotated[list[str], Body(max_length=10_000)]


def extension_routes(services: Services, manager: ExtensionManager | None = None) -> APIRouter:
    """manager: one that reaches elsewhere than the usual one."""
    manager = manager or ExtensionManager(services)
    router = APIRouter(prefix="/easel/v1/extensions", tags=["page"])
    _add_installed(router, services, manager)
    _add_installing(router, manager)
    _add_index(router, services, manager)
    _add_sets(router, manager)
    return router


def _add_installed(router: APIRouter, services: Services, manager: ExtensionManager) -> None:
    @router.get("")
    def installed() -> dict[str, Any]:
        """Every extension, and the state of the safe mode."""
        return {
            "extensions": [asdict(row) for row in manager.rows()],
            "disable_all": services.settings.snapshot()["disable_all_extensions"],
            "restarts": services.restart.starts_again,
            "folder": str(services.paths.extensions),
            "search": manager.search(),
        }

    @router.post("/check")
    def check() -> dict[str, str]:
        """Ask each extension's repository for newer commits."""
        return manager.check_updates()

    @router.post("/apply")
    def apply(disabled: Names, update: Names, disable_all: Annotated[str, Body(max_length=10)]) -> dict[str, Any]:
        """Update, save which are disabled, start again."""
        failed = manager.apply(disabled, update, disable_all)
        return {"failed": failed, "restarts": not failed}

    @router.post("/search")
    def search(act: Annotated[str, Body(embed=True, max_length=20)]) -> dict[str, bool]:
        """The next step of the search for the extension at fault."""
        manager.do_search(act)
        return {"restarts": True}


def _add_installing(router: APIRouter, manager: ExtensionManager) -> None:
    @router.post("/fetch")
    def fetch(url: Text, branch: Text = "", name: Text = "") -> dict[str, Any]:
        """Fetch an extension, to tell what it is; nothing of it is installed or run."""
        return shown(manager.prepare(url, branch, name))

    @router.post("/install")
    def install(id: Annotated[str, Body(embed=True)]) -> dict[str, str]:
        """Install what was fetched."""
        return {"told": manager.install(id)}

    @router.post("/discard")
    def discard(id: Annotated[str, Body(embed=True)]) -> dict[str, str]:
        """Delete what was fetched."""
        manager.discard(id)
        return {"told": ""}


def _add_index(router: APIRouter, services: Services, manager: ExtensionManager) -> None:
    indexes = ExtensionIndexes(services.paths.cache / "extension-index", manager.sources.egress)

    @router.get("/index")
    def index(url: str = "") -> dict[str, Any]:
        """The index as it was last fetched."""
        return asdict(indexes.kept(url[:4096] or usual_address()))

    @router.post("/index")
    def fetch_index(url: Annotated[str, Body(embed=True, max_length=4096)]) -> dict[str, Any]:
        """The index as it is now."""
        check_access(services.flags)
        return asdict(indexes.fetch(url))


def _add_sets(router: APIRouter, manager: ExtensionManager) -> None:
    @router.get("/states")
    def states() -> list[str]:
        """The saved sets."""
        return manager.states()

    @router.post("/states")
    def save(name: Annotated[str, Body(embed=True, max_length=200)]) -> dict[str, Any]:
        """Save which extensions there are."""
        return {"saved": manager.save_state(name), "states": manager.states()}

    @router.get("/planned")
    def planned(file: str) -> list[dict[str, str]]:
        """What restoring a saved set would do."""
        return [{"name": change.name, "act": change.act, "told": change.told} for change in manager.planned(file)]

    @router.post("/restore")
    def restore(file: Annotated[str, Body(embed=True, max_length=300)]) -> dict[str, list[str]]:
        """Restore a saved set."""
        return {"failed": manager.restore(file)}


def shown(staged: Staged) -> dict[str, Any]:
    """What the user agrees to."""
    source = staged.source
    return {
        "id": staged.id,
        "name": staged.name,
        "url": source.url,
        "branch": source.branch,
        "commit": source.commit,
        "date": source.date,
        "size": staged.size,
        "files": len(source.files),
        "packages": staged.packages,
        "legacy": staged.legacy,
        "notes": staged.notes,
    }
