"""Everything but the web server: settings, catalogs, extensions, the queue, put together."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from functools import cache, partial
from pathlib import Path

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
from webui.core.files import takes
from webui.core.flags import Flags
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
from webui.process.safe_mode import SafeModeFiles
from webui.prompts.styles import StyleStore
from webui.prompts.tokenizer import ClipTokenizer
from webui.services.belongings import Belongings
from webui.services.choices import choices_of
from webui.services.folders import folder_of
from webui.services.kinds import OWN_KINDS
from webui.services.services import Parts, Services

log = logging.getLogger("easel")


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
    services = Services(
        **vars(parts),
        jobs=jobs,
        belongings=Belongings(paths.users, flags),
        problems=(*problems, *jobs.problems),
        safe_mode=safe_mode,
    )
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
