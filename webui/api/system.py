"""What A1111's page asks about the server itself: a report for bug reports, names of settings."""

from __future__ import annotations

import platform
import sys
from importlib.metadata import distributions
from typing import Any

import psutil
from fastapi import APIRouter, Response
from pydantic import BaseModel

from webui.api.listings import flags_of
from webui.core.settings_table import SETTINGS
from webui.core.version import VERSION
from webui.services.services import Services


class SettingName(BaseModel):
    name: str
    label: str


def system_router(services: Services) -> APIRouter:
    router = APIRouter(prefix="/internal", tags=["page"])

    @router.get("/quicksettings-hint")
    async def quicksettings_hint() -> list[SettingName]:
        """Every setting that may stand at the top of the page."""
        return [SettingName(name=setting.key, label=setting.label) for setting in SETTINGS]

    @router.get("/sysinfo")
    def sysinfo(response: Response, attachment: bool = False) -> dict[str, Any]:
        """What Easel runs on and with. attachment: as a file to save."""
        if attachment:
            response.headers["Content-Disposition"] = 'attachment; filename="sysinfo.json"'
        return report_of(services)

    @router.get("/sysinfo-download")
    def sysinfo_download(response: Response) -> dict[str, Any]:
        return sysinfo(response, attachment=True)

    return router


def report_of(services: Services) -> dict[str, Any]:
    """Under A1111's names. Passwords are left out; folders and settings are in it."""
    machine = psutil.virtual_memory()
    return {
        "Platform": platform.platform(),
        "Python": sys.version.split()[0],
        "Version": VERSION,
        "Script path": str(services.paths.code),
        "Data path": str(services.paths.data),
        "Extensions dir": str(services.paths.extensions),
        "Flags": flags_of(services),
        "CPU": {"model": platform.processor(), "count logical": psutil.cpu_count()},
        "RAM": {"total": machine.total, "available": machine.available},
        "Extensions": [{"name": item.name, "state": item.state} for item in services.host.extensions],
        "Config": dict(services.settings.snapshot()),
        "Packages": sorted({f"{item.name}=={item.version}" for item in distributions()}),
    }
