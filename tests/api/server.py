"""Serving an ASGI app over real HTTP inside a test."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import uvicorn
from fastapi import FastAPI

from webui.api.errors import add_error_handlers
from webui.services.services import Services


@contextmanager
def serving(app: Any, **options: Any) -> Iterator[str]:
    """The app on a free port of the loopback interface; gives its address and stops it at the end.

    options: uvicorn's.
    """
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning", lifespan="on", **options))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    deadline = time.monotonic() + 120
    while not server.started and thread.is_alive() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert server.started, "the test server did not start"
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(10)
        listener.close()


@contextmanager
def serving_extensions(services: Services) -> Iterator[str]:
    """The routes of the extensions alone; gives their address."""
    app = FastAPI()
    add_error_handlers(app)
    services.host.api_routes(app)
    with serving(app) as address:
        yield address
