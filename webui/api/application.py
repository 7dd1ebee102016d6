"""The HTTP API as one FastAPI application, which the page is mounted on."""

from __future__ import annotations

from fastapi import APIRouter, Depends, FastAPI

from webui.api.capabilities import capabilities_router
from webui.api.checkpoints import checkpoints_router
from webui.api.describing import describing_router
from webui.api.errors import ERRORS, add_error_handlers
from webui.api.extra_networks import extra_networks_router
from webui.api.extras import extras_router
from webui.api.generation import generation_router
from webui.api.listings import listings_router
from webui.api.login import credentials_of, login_required
from webui.api.networks import networks_router
from webui.api.options import options_router
from webui.api.paths import ApiPaths
from webui.api.png_info import png_info_router
from webui.api.progress import page_router, progress_router
from webui.api.queue import queue_router
from webui.api.reproduce import reproduce_router
from webui.api.scripts import scripts_router
from webui.api.system import system_router
from webui.api.timing import ProcessTime
from webui.api.training import training_router
from webui.api.unavailable import unavailable_router
from webui.api.vaes import vaes_router
from webui.api.waiting import Waiters
from webui.api.weights import weights_router
from webui.core.version import VERSION
from webui.services.logins import Logins
from webui.services.services import Services


def build_api(services: Services) -> FastAPI:
    """Every route of this version; those of /sdapi behind --api-auth."""
    app = FastAPI(title="Easel", version=VERSION, description="A1111's HTTP API.", responses=ERRORS)
    app.add_middleware(ApiPaths, routes=app.router.routes)
    app.add_middleware(ProcessTime, log_calls=services.flags.api_log)
    add_error_handlers(app)
    waiters = Waiters()
    login = Depends(login_required(Logins(credentials_of(services.flags))))
    protected: list[APIRouter] = [
        generation_router(services, waiters),
        extras_router(services, waiters),
        describing_router(services, waiters),
        progress_router(services),
        options_router(services, waiters),
        checkpoints_router(services, waiters),
        capabilities_router(services),
        vaes_router(services),
        networks_router(services),
        extra_networks_router(services),
        listings_router(services),
        scripts_router(services),
        system_router(services),
        training_router(services, waiters),
        unavailable_router(),
        png_info_router(services),
        reproduce_router(services),
        weights_router(services),
        queue_router(services),
    ]
    for router in protected:
        app.include_router(router, dependencies=[login])
    app.include_router(page_router(services))
    return app
