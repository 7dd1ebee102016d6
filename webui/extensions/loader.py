"""From folders to a host: finds the extensions, imports each, and lets none stop the start."""

from __future__ import annotations

import importlib.util
import logging
import re
import sys
import threading
import traceback
import zlib
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from types import ModuleType
from typing import Literal

from webui.extensions.errors import BadExtension
from webui.extensions.host import Extension, Host, State

log = logging.getLogger(__name__)

BUILT_IN = (
    *("controlnet", "deforum", "live-preview", "loopback", "mov2mov", "outpainting-mk2", "poor-mans-outpainting"),
    *("prompt-matrix", "prompts-from-file", "sd-upscale", "seamless-tiling"),
    *("animatediff", "faceswap", "hypertile", "img2img-alternative", "training-pictures", "xyz-plot"),
)
"""Ours, in the order they are loaded in; they share the folder with whatever users drop into it."""
_ORDER = {name: place for place, name in enumerate(BUILT_IN)}
LEGACY_SIGNS = ("scripts", "install.py", "preload.py", "javascript", "style.css", "localizations", "metadata.ini")
MAIN = "extension.py"


def load_extensions(
    folders: Collection[Path],
    disabled: Collection[str] = (),
    disable_all: Literal["none", "extra", "all"] = "none",
    warn_after: float = 10.0,
    left_out: Callable[[str], bool] = lambda name: False,
    loading: Callable[[str], None] = lambda name: None,
) -> Host:
    """A host with every extension found in `folders`; what went wrong is in its `problems`.

    folders: the program's own extensions/ first; one that is missing or named twice is passed over.
    disabled: names left out. disable_all: "extra" leaves out all but ours, "all" every one.
    warn_after: seconds until the log names an extension that keeps the start waiting. left_out: whether one of the
    user's, by name, stays out of this start (safe mode). loading: told each name before
    anything of that extension runs, and "" once all are loaded.
    """
    host = Host()
    for folder in _found(folders):
        built_in = folder.name in BUILT_IN and folder.parent == next(iter(folders)).resolve()
        wanted = folder.name not in disabled and (disable_all == "none" or (disable_all == "extra" and built_in))
        wanted = wanted and (built_in or not left_out(folder.name))
        state: State = "disabled"
        problem = ""
        if wanted:
            warning = threading.Timer(warn_after, log.warning, ("Extension %s is still loading", folder.name))
            warning.daemon = True
            warning.start()
            loading(folder.name)
            with host.timed(folder.name):
                state, problem = _load(host, folder)
            warning.cancel()
        host.note(Extension(folder.name, folder, built_in, state, problem))
    loading("")
    return host


def _found(folders: Collection[Path]) -> Iterator[Path]:
    """The extensions' folders, ours first, then by name."""
    parents = dict.fromkeys(folder.resolve() for folder in folders if folder.is_dir())
    for parent in parents:
        inside = [folder for folder in parent.iterdir() if folder.is_dir() and folder.name[0] not in "._"]
        yield from sorted(inside, key=lambda folder: (_ORDER.get(folder.name, len(_ORDER)), folder.name.lower()))


def is_legacy(folder: Path) -> bool:
    """Whether a folder holds an extension of AUTOMATIC1111's web UI and none of ours."""
    return not (folder / MAIN).is_file() and any((folder / sign).exists() for sign in LEGACY_SIGNS)


def _load(host: Host, folder: Path) -> tuple[State, str]:
    """What became of the extension, and a sentence if it is broken."""
    if not (folder / MAIN).is_file():
        if is_legacy(folder):
            log.info("Extension %s is legacy, not supported by this version yet", folder.name)
            return "legacy", ""
        return "broken", f'Extension "{folder.name}" was not loaded: there is no {MAIN} in {folder}.'
    try:
        if any(other.name == folder.name for other in host.extensions):
            raise BadExtension(f"there is another one of that name; rename the folder {folder}")
        host.register(folder.name, _imported(folder), folder)
    except (Exception, SystemExit) as error:
        log.warning("Extension %s was not loaded", folder.name, exc_info=True)
        return "broken", f'Extension "{folder.name}" was not loaded: {_reason(error, folder)}.'
    return "active", ""


def _imported(folder: Path) -> ModuleType:
    """The folder's extension.py as a package of its own, so that `from . import helper` finds its other files."""
    name = _module_name(folder)
    spec = importlib.util.spec_from_file_location(name, folder / MAIN, submodule_search_locations=[str(folder)])
    assert spec is not None and spec.loader is not None, folder  # noqa: PT018
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        for loaded in [key for key in sys.modules if key == name or key.startswith(name + ".")]:
            del sys.modules[loaded]
        raise
    return module


def _module_name(folder: Path) -> str:
    """Unlike any name that an extension or a library could import by accident."""
    return f"_extension_{re.sub(r'[^0-9A-Za-z]', '_', folder.name)}_{zlib.crc32(str(folder).encode()):08x}"


def _reason(error: BaseException, folder: Path) -> str:
    if isinstance(error, BadExtension):
        return str(error)
    words = " ".join(str(error).split()).rstrip(".")
    said = f"it called sys.exit({words})" if isinstance(error, SystemExit) else f"{type(error).__name__}: {words}"
    own = [frame for frame in traceback.extract_tb(error.__traceback__) if Path(frame.filename).is_relative_to(folder)]
    where = f" ({Path(own[-1].filename).relative_to(folder)}, line {own[-1].lineno})" if own else ""
    return said + where
