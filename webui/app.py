"""The composition root: builds the parts, mounts page and API, serves.

Nothing here imports torch: the page answers while the worker thread loads the model.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import sys
import threading
import time
import webbrowser
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial

import uvicorn
from fastapi import FastAPI

from webui.api.application import build_api
from webui.api.guard import Guard
from webui.api.patience import ImpatientProtocol
from webui.api.share import PasswordGate, generated_credentials, open_tunnel
from webui.core.errors import WebuiError
from webui.core.files import sweep_temporaries
from webui.core.flags import BadFlag, Flags, parse_flags
from webui.core.paths import Paths
from webui.net.egress import Egress
from webui.process.data_lock import lock_data_folder
from webui.process.supervision import (
    EXIT_FAILED_START,
    EXIT_RESTART,
    announce_ready,
    is_supervised,
    restart_count,
    watch_supervisor,
)
from webui.services.building import build_services
from webui.services.extension_folder import ExtensionFolder
from webui.services.extension_sources import ExtensionSources
from webui.services.kinds import LOAD
from webui.services.services import Parts, Services

log = logging.getLogger("easel")

A_DAY = 24 * 3600.0
LAST_WORK = 1.0
"""Seconds that threads of extensions have to end by themselves when the server has stopped."""

OTHER_PORTS = 100
"""How many ports after the default one are tried when it is taken and none was asked for."""


def main(argv: Sequence[str] | None = None) -> int:
    """Serve until stopped. Returns the exit status; see webui.process.supervision."""
    try:
        flags, warnings = parse_flags(list(sys.argv[1:] if argv is None else argv), os.environ)
    except BadFlag as error:
        print(error, file=sys.stderr)
        return 2
    logging.basicConfig(level=(flags.loglevel or "INFO").upper(), format="%(levelname)s %(name)s: %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)
    watch_supervisor()
    for warning in warnings:
        log.warning(warning)
    with ExitStack() as held:
        try:
            paths = Paths.of(flags)
            held.enter_context(lock_data_folder(paths.data))
            if update_extensions(flags, paths) and is_supervised():
                return EXIT_RESTART  # launch.py installs what the new versions need
            listener = bound_socket(flags)
            services = build_services(flags)
        except (WebuiError, OSError) as error:
            log.error("Easel can't start: %s", error)
            return EXIT_FAILED_START
        return serve(services, listener)


def update_extensions(flags: Flags, paths: Paths) -> bool:
    """What --update-all-extensions asks for, at the first start alone. Returns: whether any extension has changed."""
    if not flags.update_all_extensions or restart_count():
        return False
    return bool(ExtensionFolder(paths, ExtensionSources(paths.tmp / "extensions", Egress())).update_all())


def build_app(services: Services) -> FastAPI:
    """Page and API as one application, without the guard."""
    app = build_api(services)
    services.host.api_routes(app)
    if services.flags.nowebui:
        return app
    from webui.ui.page import mount

    return mount(app, services)


def bound_socket(flags: Flags) -> socket.socket:
    """A listening socket on the wished port, or on the next free one when none was wished for.

    Raises: OSError with a sentence when the port is taken.
    """
    last = flags.port if flags.port_given else flags.port + OTHER_PORTS - 1
    for port in range(flags.port, last + 1):
        family = socket.AF_INET6 if ":" in flags.host else socket.AF_INET
        # With the protocol named: asyncio sends at once (TCP_NODELAY) only where it reads TCP, else answers lag 40 ms.
        listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        if os.name != "nt":
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((flags.host, port))
            listener.listen(128)
            return listener
        except OSError as error:
            listener.close()
            if port == last:
                raise OSError(
                    f"port {flags.port} on {flags.host} can't be used ({error.strerror}). Is Easel running already? "
                    "Choose another one with --port."
                ) from error
    raise AssertionError("the loop ends by return or raise")


class Server(uvicorn.Server):
    """uvicorn, which says when it answers, and when it is about to end, while those who wait can still be answered."""

    def __init__(self, config: uvicorn.Config, started: Callable[[], None], stopping: Callable[[], None]) -> None:
        super().__init__(config)
        self._started = started
        self._stopping = stopping

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Stop on SIGINT and SIGTERM; unlike uvicorn's own, without raising them again afterwards."""
        wanted = (signal.SIGINT, signal.SIGTERM)
        before = {number: signal.signal(number, self.handle_exit) for number in wanted}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self._started()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        await asyncio.to_thread(self._stopping)
        await super().shutdown(sockets)


def serve(services: Services, listener: socket.socket) -> int:
    """Serve on the socket until SIGINT or SIGTERM; the running job ends after its current step."""
    flags, port = services.flags, listener.getsockname()[1]
    if warning := exposure_warning(flags):
        log.warning(warning)
    guard = Guard(
        build_app(services),
        hosts=[flags.server_name] if flags.server_name else [],
        listen=flags.listen,
        origins=flags.cors_allow_origins,
        origin_regex=flags.cors_allow_origins_regex,
        subpath=flags.subpath,
    )
    gate = PasswordGate(guard)
    config = uvicorn.Config(
        gate,
        http=ImpatientProtocol,
        log_level="warning",
        timeout_keep_alive=flags.timeout_keep_alive,
        timeout_graceful_shutdown=3,
        server_header=False,
        root_path=flags.subpath,
    )
    url = f"http://{'127.0.0.1' if flags.host in ('0.0.0.0', '::') else flags.host}:{port}{flags.subpath}"

    def started() -> None:
        announce_ready(port)
        print(f"Easel runs at {url}", flush=True)
        _start_work(services)
        if flags.share:
            threading.Thread(target=_share, args=(services, guard, gate, port), daemon=True).start()
        if flags.autolaunch and restart_count() == 0:
            webbrowser.open(url)

    server = Server(config, started, services.jobs.close_queue)
    services.restart.stops_by(partial(setattr, server, "should_exit", True))
    server.run(sockets=[listener])
    services.jobs.close(timeout=10)
    services.checkpoints.close()
    return EXIT_RESTART if services.restart.asked and services.restart.starts_again else 0


def exposure_warning(flags: Flags) -> str:
    """What to tell whoever starts a server that others can reach, "" where nothing is to be told.

    A public link (--share) has a password of its own.
    """
    frame = "!" * 100
    if flags.is_local or flags.share:
        return ""
    if not flags.credentials:
        api = " (--api-auth guards the API alone)" if flags.api_credentials else ""
        return (
            f"\n{frame}\nNO LOGIN: everyone who can reach {flags.host} may use this server, see its pictures and "
            f"queue jobs{api}.\nStart it with --gradio-auth USER:PASSWORD, or without --listen for yourself alone.\n"
            f"{frame}"
        )
    return (
        "Names and passwords reach this server in plain text over http: in a network you don't trust, put a reverse "
        "proxy with https in front of it."
    )


def _sweep(parts: Parts, before: float) -> None:
    """Delete half a picture, or half a merged checkpoint, of a server that was killed.

    before: when this server started. In folders outside the data folder, where others may write too, only old files go.
    """
    settings, paths = parts.settings.snapshot(), parts.paths
    chosen = [paths.data / settings[key] for key in settings if key.startswith("outdir_") and settings[key]]
    for folder in {paths.outputs, paths.models, *chosen}:
        sweep_temporaries(folder, before if folder.is_relative_to(paths.data) else before - A_DAY)


def _start_work(services: Services) -> None:
    """Start the worker, and load the model before anyone asks for a picture."""
    threading.Thread(target=_sweep, args=(services, time.time()), name="sweep", daemon=True).start()
    services.jobs.start()
    if not services.flags.skip_load_model_at_start and len(services.checkpoints):
        services.jobs.submit(LOAD, None)


def _share(services: Services, guard: Guard, gate: PasswordGate, port: int) -> None:
    """Open the public link; whatever happens is told, and the local server goes on."""
    credentials = services.flags.credentials or (generated_credentials(),)
    try:
        url = open_tunnel(port)
    except WebuiError as error:
        log.warning("No public link: %s Easel goes on at http://127.0.0.1:%d.", error, port)
        return
    name = url.partition("://")[2].partition("/")[0]
    gate.protect(name, credentials)
    guard.allow_host(name)
    print(f"Public link: {url}")
    if not services.flags.credentials:
        print(f"User: {credentials[0][0]}   Password: {credentials[0][1]}", flush=True)


def leave(status: int) -> None:
    """End the process with this exit status, also when threads that an extension started go on and on."""
    deadline = time.monotonic() + LAST_WORK
    others = [thread for thread in threading.enumerate() if thread is not threading.current_thread()]
    lasting = [thread for thread in others if not thread.daemon]
    for thread in lasting:
        thread.join(max(deadline - time.monotonic(), 0))
    left = [thread.name for thread in lasting if thread.is_alive()]
    if not left:
        sys.exit(status)
    log.warning("Easel ends without waiting for threads that still run: %s.", ", ".join(left))
    logging.shutdown()
    sys.stdout.flush()
    os._exit(status)


if __name__ == "__main__":
    leave(main())
