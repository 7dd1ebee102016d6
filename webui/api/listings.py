"""What there is to choose from: samplers, schedules, upscalers, styles, flags."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import psutil
from fastapi import APIRouter

from webui.catalog.upscalers import REALESRGAN_MODELS
from webui.core.choices import LATENT_UPSCALERS, FaceRestorer, Sampler, Scheduler, Upscaler
from webui.core.flags import flag_parser
from webui.services.services import Services

SECRET_FLAGS = frozenset({"gradio_auth", "gradio_auth_path", "api_auth", "ngrok", "ngrok_options", "tls_keyfile"})
NOT_A1111S = frozenset({"credentials", "api_credentials", "port_given"})
UPSCALER_SCALE = 4.0  # what A1111 lists for upscalers that take any factor


def listings_router(services: Services) -> APIRouter:
    router = APIRouter(prefix="/sdapi/v1", tags=["lists"])

    @router.get("/samplers")
    async def samplers() -> list[dict[str, Any]]:
        return [
            {"name": item.name, "aliases": item.aliases, "options": item.options}
            for item in services.choices.all(Sampler)
        ]

    @router.get("/schedulers")
    async def schedulers() -> list[dict[str, Any]]:
        return [
            {
                "name": item.name,
                "label": item.label,
                "aliases": item.aliases or None,
                "default_rho": item.default_rho,
                "need_inner_model": item.need_inner_model,
            }
            for item in services.choices.all(Scheduler)
        ]

    @router.get("/upscalers")
    async def upscalers() -> list[dict[str, Any]]:
        return [_upscaler(upscaler) for upscaler in services.choices.all(Upscaler)]

    @router.get("/latent-upscale-modes")
    async def latent_upscale_modes() -> list[dict[str, Any]]:
        return [{"name": name} for name in LATENT_UPSCALERS]

    @router.get("/prompt-styles")
    def prompt_styles() -> list[dict[str, Any]]:
        return [
            {"name": style.name, "prompt": style.prompt, "negative_prompt": style.negative_prompt}
            for style in services.styles.all()
        ]

    @router.get("/face-restorers")
    async def face_restorers() -> list[dict[str, Any]]:
        """Those that A1111 names, whether or not their files are here."""
        return [{"name": name, "cmd_dir": None} for name in services.choices.names(FaceRestorer)]

    @router.get("/realesrgan-models")
    async def realesrgan_models() -> list[dict[str, Any]]:
        """Those that A1111 names, whether or not their weights are here."""
        return [{"name": known.name, "path": known.address, "scale": known.scale} for known in REALESRGAN_MODELS]

    @router.get("/cmd-flags")
    async def cmd_flags() -> dict[str, Any]:
        return flags_of(services)

    @router.get("/memory")
    def memory() -> dict[str, Any]:
        """Main memory in bytes. The device's is not told: only the worker may touch it."""
        process, machine = psutil.Process().memory_info(), psutil.virtual_memory()
        free = float(machine.total - process.rss)
        return {
            "ram": {"free": free, "used": process.rss, "total": machine.total},
            "cuda": {"error": "unavailable"},
        }

    return router


def _upscaler(upscaler: Upscaler) -> dict[str, Any]:
    """As A1111 lists it. model_path: the file, or the address of one that isn't here."""
    network = upscaler.network
    return {
        "name": upscaler.name,
        "model_name": network.model_name if network else None,
        "model_path": network.address if network else None,
        "model_url": None,
        "scale": float(network.scale) if network else UPSCALER_SCALE,
    }


def flags_of(services: Services) -> dict[str, Any]:
    """Every flag that A1111 or Easel knows, with its value; never a password."""
    known = vars(flag_parser().parse_args([]))
    given = {field.name: getattr(services.flags, field.name) for field in dataclasses.fields(services.flags)}
    paths = {"data_dir": services.paths.data, "ui_settings_file": services.paths.config}
    merged = {**known, **{name: value for name, value in given.items() if name not in NOT_A1111S}, **paths}
    return {name: _plain(value) for name, value in merged.items() if name not in SECRET_FLAGS} | dict.fromkeys(
        SECRET_FLAGS
    )


def _plain(value: Any) -> Any:
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value
