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
from functools import cache, partial
from pathlib import Path

import uvicorn
from fastapi import FastAPI

from webui.api.application import build_api
from webui.api.guard import Guard
from webui.api.patience import ImpatientProtocol
from webui.api.share import PasswordGate, generated_credentials, open_tunnel
from webui.catalog.captioners import CaptionerCatalog
from webui.catalog.checkpoints import CheckpointCatalog
from webui.catalog.face_restorers import FaceRestorerCatalog
from webui.catalog.facts import FactCache
from webui.catalog.hashes import HashCache
from webui.catalog.hashing import BackgroundHasher
from webui.catalog.networks import EmbeddingCatalog, HypernetworkCatalog, LoraCatalog, Networks
from webui.catalog.upscalers import UpscalerCatalog
from webui.catalog.vaes import VaeCatalog
from webui.core.choices import Captioner, Choices, ExtrasStep, FaceRestorer, Script, Upscaler
from webui.core.errors import WebuiError
from webui.core.files import sweep_temporaries, takes
from webui.core.flags import BadFlag, Flags, parse_flags
from webui.core.layouts import folders_of, listed_folders
from webui.core.params import Params
from webui.core.paths import Paths
from webui.core.settings import SettingsStore, frozen_keys
from webui.core.settings_table import SETTINGS
from webui.core.stored import Codec
from webui.extensions.easel import Catalogs, Easel
from webui.extensions.loader import load_extensions
from webui.extensions.main_tabs import MainTabs
from webui.jobs.blobs import BlobStore
from webui.jobs.outcomes import Disk
from webui.jobs.runner import JobRunner
from webui.jobs.store import JobStore
from webui.planning.planner import Planner
from webui.process.data_lock import lock_data_folder
from webui.process.safe_mode import SafeModeFiles
from webui.process.supervision import (
    EXIT_FAILED_START,
    EXIT_RESTART,
    announce_ready,
    restart_count,
    watch_supervisor,
)
from webui.prompts.styles import StyleStore
from webui.prompts.tokenizer import ClipTokenizer
from webui.services.choices import choices_of
from webui.services.folders import folder_of
from webui.services.kinds import LOAD, OWN_KINDS
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
            held.enter_context(lock_data_folder(Paths.of(flags).data))
            listener = bound_socket(flags)
            services = build_services(flags)
        except (WebuiError, OSError) as error:
            log.error("Easel can't start: %s", error)
            return EXIT_FAILED_START
        return serve(services, listener)


def build_services(flags: Flags) -> Services:
    """Everything but the web server. Raises: OSError for folders that can't be written, WebuiError."""
    paths = Paths.of(flags)
    paths.make_folders()
    frozen = frozen_keys(
        SETTINGS,
        everything=flags.freeze_settings,
        sections=flags.freeze_settings_in_sections,
        keys=flags.freeze_specific_settings,
    )
    settings = SettingsStore(paths.config, SETTINGS, frozen)
    disable_all = settings.snapshot()["disable_all_extensions"]
    if flags.disable_all_extensions:
        disable_all = "all"
    elif flags.disable_extra_extensions:
        disable_all = "extra"
    disabled = settings.snapshot()["disabled_extensions"]
    safe_files = SafeModeFiles(paths.tmp)
    safe_mode = safe_files.start(flags.safe_mode, os.environ)
    places = (paths.builtin_extensions, paths.extensions)
    host = load_extensions(places, disabled, disable_all, left_out=safe_mode.left_out, loading=safe_files.loading)
    settings.declare(host.settings)
    choices = Choices()
    hashes = HashCache(paths.cache / "hashes.sqlite", enabled=not flags.no_hashing)
    own = paths.code / "models" / "Stable-diffusion"
    extra: list[str | Path] = [*flags.extra_models_dirs, *listed_folders(paths.model_folders)]
    upscalers = UpscalerCatalog(paths.models, folders_of(extra, "upscalers"), settings)
    choices.add_list(Upscaler, upscalers.all)
    choices.add_list(FaceRestorer, FaceRestorerCatalog(paths.models).all)
    choices.add_list(Captioner, CaptionerCatalog(paths.models, paths.categories).all)
    host.register_choices(choices)
    on_main_tabs = settings.snapshot()["postprocessing_enable_in_main_ui"]
    host.register("postprocessing", MainTabs(choices, on_main_tabs, lambda: host.easel))
    roots = [root for root in paths.checkpoints if root != own or root == paths.models / "Stable-diffusion"]
    roots += folders_of(extra, "checkpoints")
    files = [flags.ckpt] if flags.ckpt else []
    problems = [*settings.problems, *(problem.sentence for problem in host.problems)]
    if hashes.problem:
        problems.append(hashes.problem)
    for problem in problems:
        log.warning(problem)
    styles = StyleStore(flags.styles_files or (paths.styles,))  # which says itself what it can't read
    problems += styles.problems
    problems += [safe_mode.told()] if safe_mode.told() else []
    hasher = BackgroundHasher(hashes)
    checkpoints = CheckpointCatalog(roots, hashes, files, own, hasher)
    if flags.ckpt and not flags.freeze_settings:
        settings.update({"sd_model_checkpoint": checkpoints.find(str(flags.ckpt)).title})
    vaes = VaeCatalog((paths.vae, *folders_of(extra, "vae")), roots, hashes)
    parts = Parts(
        flags=flags,
        paths=paths,
        settings=settings,
        checkpoints=checkpoints,
        networks=_networks(paths, extra, hashes),
        vaes=vaes,
        styles=styles,
        host=host,
        choices=choices,
        planner=Planner(settings, checkpoints, vaes, styles, host, choices, flags.vae_path),
        tokenizer=cache(ClipTokenizer),
    )
    jobs = _jobs(parts)
    hasher.rest_while(lambda: jobs.current() is not None)
    services = Services(**vars(parts), jobs=jobs, problems=(*problems, *jobs.problems), safe_mode=safe_mode)
    catalogs = Catalogs(checkpoints, parts.networks, vaes)
    lists, folder = partial(choices_of, services), partial(folder_of, services)
    host.started(Easel(paths, settings, jobs, catalogs, choices, lists, folder, hashes, extra))
    return services


def _jobs(parts: Parts) -> JobRunner:
    """The queue with what the last server left in it. Raises: StoreUnavailable, OSError."""
    folder, host = parts.paths.jobs, parts.host
    blobs = BlobStore(folder / "blobs")

    def groups() -> list[type[Params]]:
        steps = [step.params for step in parts.choices.all(ExtrasStep)]
        scripts = [script.params for script in parts.choices.all(Script)]
        return [*host.params, *(params for params in (*steps, *scripts) if params is not None)]

    codec = Codec(blobs, lambda: parts.settings.snapshot().table, groups, parts.choices)
    disk = Disk(JobStore(folder / "queue.sqlite"), blobs, codec)

    def has_space(needed: int) -> bool:
        settings = parts.settings.snapshot()
        chosen = [parts.paths.data / settings[key] for key in settings if key.startswith("outdir_") and settings[key]]
        by_disk = {place.stat().st_dev: place for place in (*chosen, parts.paths.outputs, folder) if place.is_dir()}
        return all(takes(place, needed) for place in by_disk.values())

    kinds = (*OWN_KINDS, *host.job_kinds)
    return JobRunner("webui.pipeline.engine:build", parts, kinds, disk, has_space=has_space)


def _networks(paths: Paths, extra: Sequence[str | Path], hashes: HashCache) -> Networks:
    """extra: further folders, as `folders_of` takes them."""
    facts = FactCache(paths.cache / "facts.sqlite")
    loras = (paths.lora, paths.models / "LyCORIS", *folders_of(extra, "lora"))
    return Networks(
        loras=LoraCatalog(loras, hashes, facts),
        embeddings=EmbeddingCatalog((paths.embeddings, *folders_of(extra, "embeddings")), hashes, facts),
        hypernetworks=HypernetworkCatalog((paths.hypernetworks, *folders_of(extra, "hypernetworks")), hashes),
    )


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
