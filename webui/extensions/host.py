"""The extensions of this server, and the one door through which the program calls their hooks."""

from __future__ import annotations

import importlib
import inspect
import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import pluggy
from PIL.Image import Image

from webui.core.choices import Choices
from webui.core.errors import WebuiError, nearest
from webui.core.hooks import DenoiserHook
from webui.core.params import Params, can_be_key
from webui.core.request import GenerationRequest, GenerationResult
from webui.core.results import Picture, ResultFile
from webui.core.settings import Section, Setting
from webui.core.settings_table import SETTINGS
from webui.extensions import hookspecs
from webui.extensions.errors import BadExtension, ExtensionFailed
from webui.extensions.page import Assets, Panel, Tab
from webui.jobs.kinds import JobKind

if TYPE_CHECKING:
    from fastapi import FastAPI

    from webui.extensions.easel import Easel

T = TypeVar("T")

log = logging.getLogger(__name__)

WEBUI = Path(__file__).parents[1]
State = Literal["active", "disabled", "broken", "legacy"]


@dataclass(frozen=True)
class Extension:
    """One folder among the extensions.

    state: "legacy" is an extension of AUTOMATIC1111's web UI, which Easel can't run yet.
    problem: a sentence that says why it is broken, else "".
    """

    name: str
    folder: Path
    built_in: bool
    state: State
    problem: str = ""


@dataclass(frozen=True)
class Problem:
    """What went wrong with one extension, as a sentence that names it."""

    name: str
    sentence: str


class Host:
    """Holds the extensions and calls their hooks. Extensions are added at the start; later calls may come from any
    thread.
    """

    def __init__(self) -> None:
        self._plugins = pluggy.PluginManager(hookspecs.PROJECT)
        self._plugins.add_hookspecs(hookspecs)
        self._folders: dict[Path, str] = {}
        self._extensions: list[Extension] = []
        self._problems: list[Problem] = []
        self._params: list[type[Params]] = []
        self._settings: list[Setting] = []
        self._job_kinds: list[JobKind] = []
        self._easel: Easel | None = None
        self._panels: dict[type[Params], tuple[str, Panel]] = {}
        self._assets: dict[str, Assets] = {}
        self._seconds: dict[str, float] = {}

    @property
    def extensions(self) -> tuple[Extension, ...]:
        """Every folder found, in load order, whatever became of it."""
        return tuple(self._extensions)

    @property
    def startup_seconds(self) -> Mapping[str, float]:
        """How long each extension kept the start waiting, by its name."""
        return MappingProxyType(self._seconds)

    @contextmanager
    def timed(self, name: str) -> Iterator[None]:
        """What runs inside counts as the extension's start."""
        began = time.perf_counter()
        try:
            yield
        finally:
            self._seconds[name] = self._seconds.get(name, 0.0) + time.perf_counter() - began

    @property
    def problems(self) -> tuple[Problem, ...]:
        return tuple(self._problems)

    @property
    def legacy(self) -> tuple[str, ...]:
        """Names of the A1111 extensions, which are left alone."""
        return tuple(extension.name for extension in self._extensions if extension.state == "legacy")

    @property
    def params(self) -> tuple[type[Params], ...]:
        """Parameter groups of all extensions; requests hold their values under the class's name."""
        return tuple(self._params)

    @property
    def settings(self) -> tuple[Setting, ...]:
        """Settings of all extensions, to be appended to the program's own table."""
        return tuple(self._settings)

    @property
    def job_kinds(self) -> tuple[JobKind, ...]:
        """Kinds of jobs of all extensions, to be run by a worker whose engine has `models`."""
        return tuple(self._job_kinds)

    @property
    def panels(self) -> Mapping[type[Params], tuple[str, Panel]]:
        """The groups that are laid out by hand: by whom and how."""
        return MappingProxyType(self._panels)

    @property
    def assets(self) -> Mapping[str, Assets]:
        """What each extension adds to the page, by the extension's name."""
        return MappingProxyType(self._assets)

    @property
    def easel(self) -> Any:
        """The parts of the program that extensions are given."""
        return self._easel

    def tabs(self) -> list[tuple[str, Tab]]:
        """Every extension's tabs, by its name. One that fails is reported, and has none."""
        found: list[tuple[str, Tab]] = []
        for name, hook in self._hooks("tabs"):
            try:
                offered = list(hook(easel=self._easel) or ())
                for tab in offered:
                    if not isinstance(tab, Tab):
                        raise BadExtension(f"tabs gave {_kind(tab)}, not a Tab")
            except (Exception, SystemExit) as error:
                log.exception("Extension %s could not add its tabs", name)
                self.report(name, "could not add its tabs", error)
                continue
            found += [(name, tab) for tab in offered]
        return found

    def report(self, name: str, what: str, error: BaseException) -> None:
        """Keep what an extension raised outside of a job among the problems. what: "could not ..."."""
        said = str(error) if isinstance(error, BadExtension | WebuiError) else f"{type(error).__name__}: {error}"
        self._problems.append(Problem(name, f'Extension "{name}" {what}: {said.rstrip(".")}.'))

    def note(self, extension: Extension) -> None:
        """List an extension; a broken one is a problem too."""
        self._extensions.append(extension)
        if extension.problem:
            self._problems.append(Problem(extension.name, extension.problem))

    def register(self, name: str, plugin: object, folder: Path | None = None) -> None:
        """Take the hooks of `plugin`, a module or an object, under the extension's name.

        folder: where its code lies; faults in that code are laid at its door.
        Raises: BadExtension for a misspelt hook, unknown arguments, or what clashes with another extension; whatever
        its register_params, register_settings or register_jobs raise. The plugin is left out then.
        """
        try:
            self._plugins.register(plugin, name)
            self._check_hooks(plugin)
            params = self._checked_params(self._call_one(plugin, "register_params"))
            settings = self._checked_settings(name, self._call_one(plugin, "register_settings"))
            kinds = self._checked_kinds(name, self._call_one(plugin, "register_jobs"))
            panels = self._checked_panels(self._call_one(plugin, "register_panels"), params)
            assets = self._checked_assets(self._call_one(plugin, "register_assets"), folder)
        except pluggy.PluginValidationError as error:
            self._plugins.unregister(name=name)
            raise BadExtension(_first_line(error)) from error
        except BaseException:
            self._plugins.unregister(name=name)
            raise
        self._params += params
        self._settings += settings
        self._job_kinds += kinds
        self._panels |= {panel.group: (name, panel) for panel in panels}
        if assets is not None:
            self._assets[name] = assets
        if folder is not None:
            self._folders |= {folder.resolve(): name, folder.absolute(): name}  # it may be a link

    def started(self, easel: Easel) -> None:
        """Give every extension the parts of the program. One that fails is reported, and the start goes on."""
        self._easel = easel = replace(easel, groups=self.params)
        self._call_at_start("started", "start", easel=easel)

    def api_routes(self, app: FastAPI) -> None:
        """Let every extension add its routes. One that fails is reported, and the start goes on."""
        self._call_at_start("api_routes", "add its API routes", app=app, easel=self._easel)

    def revise_request(self, request: GenerationRequest) -> GenerationRequest:
        """The request after every extension had its turn. Raises: WebuiError, ExtensionFailed."""
        return self._revised("revise_request", "request", request, easel=self._easel)

    def revise_plan(self, plan: T) -> T:
        """The plan after every extension had its turn. Raises: WebuiError, ExtensionFailed."""
        return self._revised("revise_plan", "plan", plan)

    def register_choices(self, choices: Choices) -> None:
        """Let every extension add what it offers. One that fails is reported, and the start goes on."""
        for name, hook in self._hooks("register_choices"):
            try:
                with self.timed(name):
                    hook(choices=choices)
            except (Exception, SystemExit) as error:
                log.exception("Extension %s could not register its choices", name)
                sentence = f'Extension "{name}" could not register its choices: {type(error).__name__}: {error}.'
                self._problems.append(Problem(name, sentence))

    @contextmanager
    def prepared_model(self, model: Any, plan: Any) -> Iterator[None]:
        """Open while `model` samples and decodes; every extension's patches are on inside and undone after.

        Whatever an extension's code raises inside, be it in a denoiser hook, becomes ExtensionFailed.
        """
        with self.naming_the_culprit(), ExitStack() as patches:
            for name, hook in self._hooks("prepare_model"):
                patch = hook(model=model, plan=plan)
                if patch is not None:
                    patches.enter_context(_Patch(name, patch))
            yield

    def denoiser_hooks(self, plan: Any, model: Any, job: Any) -> list[DenoiserHook]:
        """All extensions' middleware for a pass; `webui.core.hooks` nests it by `order`."""
        found: list[DenoiserHook] = []
        with self.naming_the_culprit():
            for name, hook in self._hooks("denoiser_hooks"):
                hooks = hook(plan=plan, model=model, job=job) or ()
                for item in hooks:
                    if not isinstance(item, DenoiserHook):
                        raise _failed(name, f"denoiser_hooks gave {_kind(item)}, not a DenoiserHook")
                found += hooks
        return found

    def postprocess_image(self, image: Image, plan: Any) -> Image:
        """The picture after every extension had its turn."""
        with self.naming_the_culprit():
            for name, hook in self._hooks("postprocess_image"):
                changed = hook(image=image, plan=plan)
                if changed is not None and not isinstance(changed, Image):
                    raise _failed(name, f"postprocess_image gave {_kind(changed)}, not a picture")
                image = image if changed is None else changed
        return image

    def revise_pass(self, parts: Any, this_pass: Any) -> Any:
        """The pass's parts after every extension had its turn."""
        with self.naming_the_culprit():
            for name, hook in self._hooks("revise_pass"):
                revised = hook(parts=parts, this_pass=this_pass, easel=self._easel)
                if revised is not None and not isinstance(revised, type(parts)):
                    raise _failed(name, f"revise_pass gave {_kind(revised)}, not PassParts")
                parts = parts if revised is None else revised
        return parts

    def wrap_sampling(self, sample: Any, this_pass: Any) -> Any:
        """The pass's sampling inside every extension's; the first loaded is innermost."""
        with self.naming_the_culprit():
            for name, hook in self._hooks("wrap_sampling"):
                wrapped = hook(sample=sample, this_pass=this_pass)
                if wrapped is not None and not callable(wrapped):
                    raise _failed(name, f"wrap_sampling gave {_kind(wrapped)}, not a function")
                sample = sample if wrapped is None else wrapped
        return sample

    def revise_inputs(
        self, pictures: list[Image], plan: Any, models: Any, job: Any, report: Any, state: Any
    ) -> list[Image]:
        """The pictures that img2img starts from, after every extension had its turn."""
        given = {"plan": plan, "models": models, "job": job, "report": report, "state": state, "easel": self._easel}
        with self.naming_the_culprit():
            for name, hook in self._hooks("revise_inputs"):
                changed = hook(pictures=tuple(pictures), **given)
                if changed is None:
                    continue
                if len(changed) != len(pictures):
                    raise _failed(name, f"revise_inputs gave {len(changed)} pictures for {len(pictures)}")
                pictures = list(changed)
        return pictures

    def finish_batch(self, pictures: list[Picture], this_pass: Any) -> list[Picture]:
        """A batch's pictures after every extension had its turn."""
        with self.naming_the_culprit():
            for name, hook in self._hooks("finish_batch"):
                changed = hook(pictures=tuple(pictures), this_pass=this_pass, easel=self._easel)
                if changed is None:
                    continue
                for item in changed:
                    if not isinstance(item, Picture):
                        raise _failed(name, f"finish_batch gave {_kind(item)}, not a Picture")
                pictures = list(changed)
        return pictures

    def finish(
        self, result: GenerationResult, plan: Any, job: Any, report: Any, state: Any, save_file: Any
    ) -> list[ResultFile]:
        """The files that extensions add to a job's result."""
        added: list[ResultFile] = []
        given = {"plan": plan, "job": job, "report": report, "state": state, "save_file": save_file}
        with self.naming_the_culprit():
            for name, hook in self._hooks("finish"):
                files = hook(result=result, **given) or ()
                for item in files:
                    if not isinstance(item, ResultFile):
                        raise _failed(name, f"finish gave {_kind(item)}, not a ResultFile")
                added += files
        return added

    def revise_result(self, result: GenerationResult, plan: Any) -> GenerationResult:
        """What is handed back after every extension had its turn."""
        with self.naming_the_culprit():
            for name, hook in self._hooks("revise_result"):
                changed = hook(result=result, plan=plan)
                if changed is not None and not isinstance(changed, GenerationResult):
                    raise _failed(name, f"revise_result gave {_kind(changed)}, not a GenerationResult")
                result = result if changed is None else changed
        return result

    def image_saved(self, path: Path, image: Image, plan: Any) -> None:
        """Tell every extension of a saved picture."""
        with self.naming_the_culprit():
            for _, hook in self._hooks("image_saved"):
                hook(path=path, image=image, plan=plan)

    def _call_at_start(self, hook_name: str, what: str, **arguments: Any) -> None:
        """what: ends the sentence "Extension x could not ..."."""
        for name, hook in self._hooks(hook_name):
            try:
                with self.timed(name):
                    hook(**arguments)
            except (Exception, SystemExit) as error:
                log.exception("Extension %s could not %s", name, what)
                sentence = f'Extension "{name}" could not {what}: {type(error).__name__}: {error}.'
                self._problems.append(Problem(name, sentence))

    def _revised(self, hook_name: str, argument: str, value: T, **others: Any) -> T:
        """A value handed from extension to extension, each of which may return another one of its kind."""
        for name, hook in self._hooks(hook_name):
            try:
                changed = hook(**{argument: value}, **others)
            except WebuiError:
                raise
            except (Exception, SystemExit) as error:
                log.exception("Extension %s failed", name)
                raise _failed(name, f"{type(error).__name__}: {error}") from error
            if changed is not None and not isinstance(changed, type(value)):
                raise _failed(name, f"{hook_name} gave {_kind(changed)}, not a {type(value).__name__}")
            value = value if changed is None else changed
        return value

    def _hooks(self, name: str) -> Iterator[tuple[str, Any]]:
        """(extension, its implementation of the hook `name`, taking keywords) in load order."""
        implementations = getattr(self._plugins.hook, name).get_hookimpls()
        for implementation in sorted(implementations, key=lambda found: found.trylast - found.tryfirst):
            yield implementation.plugin_name, _wanting_only(implementation)

    def _call_one(self, plugin: object, name: str) -> Any:
        for implementation in getattr(self._plugins.hook, name).get_hookimpls():
            if implementation.plugin is plugin:
                return _wanting_only(implementation)()
        return None

    def _check_hooks(self, plugin: object) -> None:
        """Raises: BadExtension for a hook that doesn't exist, lacks its marker, or wraps others."""
        known = [name for name, item in vars(hookspecs).items() if hasattr(item, f"{hookspecs.PROJECT}_spec")]
        callers = self._plugins.get_hookcallers(plugin) or []
        for caller in callers:
            if not caller.has_spec():
                raise BadExtension(f'there is no hook "{caller.name}"{nearest(caller.name, known)}')
            for implementation in caller.get_hookimpls():
                if implementation.plugin is plugin and (implementation.wrapper or implementation.hookwrapper):
                    raise BadExtension(f'"{caller.name}" can\'t be a wrapper; hooks are called one by one')
        marked = {caller.name for caller in callers}
        for name in known:
            if name not in marked and inspect.isroutine(getattr(plugin, name, None)):
                raise BadExtension(f'"{name}" lacks its @hookimpl, so it would never be called')

    def _checked_params(self, offered: Any) -> list[type[Params]]:
        groups = [offered] if isinstance(offered, type) else list(offered or ())
        taken = {group.__name__.lower() for group in self._params}
        keys = {spec.infotext for spec in GenerationRequest.specs()}
        keys |= {key for group in self._params for key in group.infotext_keys()}
        for group in groups:
            if not (isinstance(group, type) and issubclass(group, Params)):
                raise BadExtension(f"register_params gave {_kind(group)}, not a Params class")
            if group.__name__.lower() in taken:
                raise BadExtension(f'another extension has parameters named "{group.__name__}"; rename the class')
            for key in group.infotext_keys():
                if key in keys:
                    raise BadExtension(f'the infotext key "{key}" of {group.__name__} is in use already')
                if not can_be_key(key):
                    raise BadExtension(
                        f'the infotext key "{key}" of {group.__name__} can\'t be read again; use two or more letters, '
                        'digits, spaces, "_", "-" and "/", a letter or digit first'
                    )
            taken.add(group.__name__.lower())
            keys |= set(group.infotext_keys())
        return groups

    def _checked_settings(self, name: str, offered: Any) -> list[Setting]:
        """The settings, those that name no section in one of the extension's own."""
        settings = list(offered or ())
        taken = {setting.key for setting in (*SETTINGS, *self._settings)}
        for setting in settings:
            if not isinstance(setting, Setting):
                raise BadExtension(f"register_settings gave {_kind(setting)}, not a Setting")
            if setting.key in taken:
                raise BadExtension(f'there is a setting "{setting.key}" already; choose another key')
            taken.add(setting.key)
        own = Section(name, name, None)
        return [setting if setting.section.id else replace(setting, section=own) for setting in settings]

    def _checked_kinds(self, name: str, offered: Any) -> list[JobKind]:
        """The kinds as the queue takes them: under the extension's name, called with its Easel."""
        kinds = []
        taken = {kind.id for kind in self._job_kinds}
        for kind in offered or ():
            if not isinstance(kind, JobKind):
                raise BadExtension(f"register_jobs gave {_kind(kind)}, not a JobKind")
            if kind.id in taken:
                raise BadExtension(f'there is a kind of job "{kind.id}" already; choose another id')
            taken.add(kind.id)
            kinds.append(replace(kind, run=partial(self._run_job, kind.run)))
        return kinds

    def _run_job(self, run: str | Callable[..., object], engine: Any, payload: Any, job: Any) -> object:
        """In the worker: an extension's job with its Easel, which can load models now."""
        assert self._easel is not None, "started() comes before any job"
        with self.naming_the_culprit():
            function: Any = run
            if isinstance(run, str):
                module, _, name = run.partition(":")
                function = getattr(importlib.import_module(module), name)
            return function(replace(self._easel, models=engine.models), payload, job)

    def _checked_panels(self, offered: Any, groups: Sequence[type[Params]]) -> list[Panel]:
        panels = list(offered or ())
        for panel in panels:
            if not isinstance(panel, Panel):
                raise BadExtension(f"register_panels gave {_kind(panel)}, not a Panel")
            if panel.group not in groups:
                raise BadExtension(f"register_panels lays out {panel.group.__name__}, which register_params lacks")
        return panels

    def _checked_assets(self, offered: Any, folder: Path | None) -> Assets | None:
        if offered is not None and not isinstance(offered, Assets):
            raise BadExtension(f"register_assets gave {_kind(offered)}, not Assets")
        for file in offered.files if offered else ():
            if folder is None or not Path(file).resolve().is_relative_to(folder.resolve()):
                raise BadExtension(f"{file} doesn't lie in the extension's folder")
            if not Path(file).is_file():
                raise BadExtension(f"there is no file {file}")
        return offered

    @contextmanager
    def naming_the_culprit(self) -> Iterator[None]:
        """Lay an error at the door of the extension in whose code, or below it, it was raised.

        Libraries don't count, so the culprit is the innermost frame that lies in ours or in an extension's folder.
        """
        try:
            yield
        except WebuiError:
            raise
        except (Exception, SystemExit) as error:
            culprit = self._culprit(error.__traceback__)
            if culprit is None:
                raise
            log.exception("Extension %s failed", culprit)
            raise _failed(culprit, f"{type(error).__name__}: {error}") from error

    def _culprit(self, traceback: TracebackType | None) -> str | None:
        """Name of the extension whose code a traceback ends in, None if it ends in ours."""
        culprit = None
        while traceback is not None:
            folders = Path(traceback.tb_frame.f_code.co_filename).parents
            if WEBUI in folders:
                culprit = None
            culprit = next((name for folder, name in self._folders.items() if folder in folders), culprit)
            traceback = traceback.tb_next
        return culprit


class _Patch:
    """An extension's context manager that can't swallow the errors of others and is named for its own."""

    def __init__(self, name: str, patch: AbstractContextManager[Any]) -> None:
        self._name = name
        self._patch = patch

    def __enter__(self) -> None:
        if not isinstance(self._patch, AbstractContextManager):
            raise _failed(self._name, f"prepare_model gave {_kind(self._patch)}, not a context manager")
        self._patch.__enter__()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            self._patch.__exit__(kind, error, traceback)
        except Exception as own:
            if own is not error:
                raise _failed(self._name, f"its patch did not come off: {type(own).__name__}: {own}") from own


def _wanting_only(implementation: pluggy.HookImpl) -> Any:
    """The hook's function, callable with all the keywords of its specification."""

    def call(**arguments: Any) -> Any:
        return implementation.function(*(arguments[name] for name in implementation.argnames))

    return call


def _failed(name: str, reason: str) -> ExtensionFailed:
    words = " ".join(reason.split()).rstrip(".")
    return ExtensionFailed(f'Extension "{name}" failed: {words}. Disable it if that goes on.')


def _kind(item: object) -> str:
    return f"{type(item).__name__} {item!r:.60}"


def _first_line(error: BaseException) -> str:
    return str(error).strip().splitlines()[-1]
