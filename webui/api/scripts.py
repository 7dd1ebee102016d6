"""/sdapi/v1/scripts, script-info and extensions: what alwayson_scripts and script_name take, what was cloned."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from fastapi import APIRouter
from pydantic import BaseModel, Field

from webui.api.schema import SOFT_INPAINTING
from webui.core.choices import Choices, Script
from webui.core.params import Params, listed_group
from webui.core.request import SoftInpainting
from webui.core.values import ParamSpec
from webui.services.installed import installed_from_git
from webui.services.services import Services


class ScriptsAnswer(BaseModel):
    txt2img: list[str]
    img2img: list[str]


class ScriptArg(BaseModel):
    label: str = Field(description="Its name on the page")
    value: Any = Field(description="The default")
    minimum: float | int | None = None
    maximum: float | int | None = None
    step: float | int | None = None
    choices: list[str] | None = None


class ScriptInfo(BaseModel):
    name: str
    is_alwayson: bool = Field(description="Named in alwayson_scripts, not by script_name")
    is_img2img: bool
    args: list[ScriptArg] = Field(description="What its args are, in order")


class ExtensionItem(BaseModel):
    name: str
    remote: str = Field(description="Where the repository came from")
    branch: str
    commit_hash: str
    version: str = Field(description="The hash's first eight digits")
    commit_date: str = Field(description="Always empty: Easel doesn't run git")
    enabled: bool


TABS = ("txt2img", "img2img")
SWITCH = ScriptArg(label="Soft inpainting", value=False)


def scripts_router(services: Services) -> APIRouter:
    router = APIRouter(prefix="/sdapi/v1", tags=["lists"])

    @router.get("/scripts")
    async def scripts() -> ScriptsAnswer:
        """Extensions with parameters of their own, by the names alwayson_scripts takes, and selectable scripts."""
        names = [group.__name__.lower() for group in services.host.params]
        own = {tab: [script.title.lower() for script in services.choices.scripts(tab)] for tab in TABS}
        return ScriptsAnswer(txt2img=[*names, *own["txt2img"]], img2img=[*names, SOFT_INPAINTING, *own["img2img"]])

    @router.get("/script-info")
    async def script_info() -> list[ScriptInfo]:
        """The arguments of each script, once for txt2img and once for img2img where both have it."""
        return list(script_infos(services.host.params, services.choices))

    @router.get("/extensions")
    def extensions() -> list[ExtensionItem]:
        """Extensions that were cloned with git; /easel's page lists all of them."""
        return [ExtensionItem(**vars(item)) for item in installed_from_git(services)]

    return router


def script_infos(groups: Sequence[type[Params]], choices: Choices) -> Iterator[ScriptInfo]:
    for is_img2img in (False, True):
        for group in groups:
            args = list(_arguments(group))
            yield ScriptInfo(name=group.__name__.lower(), is_alwayson=True, is_img2img=is_img2img, args=args)
    soft = [SWITCH, *(_argument(spec) for spec in SoftInpainting.specs())]
    yield ScriptInfo(name=SOFT_INPAINTING, is_alwayson=True, is_img2img=True, args=soft)
    for tab in TABS:
        for script in choices.scripts(tab):
            args = list(_script_arguments(script, tab))
            yield ScriptInfo(name=script.title.lower(), is_alwayson=False, is_img2img=tab == "img2img", args=args)


def _arguments(group: type[Params]) -> Iterator[ScriptArg]:
    """In order. Items of a list are objects: one argument each where the group is nothing but the list."""
    defaults = group.default_args()
    if defaults is not None:
        yield from (ScriptArg(label="", value=value) for value in defaults)
        return
    if not any(listed_group(field.annotation) for field in group.model_fields.values()):
        yield from (_argument(spec) for spec in group.specs())
        return
    known = {spec.dotted: spec for spec in group.specs()}
    for name, field in group.model_fields.items():
        if listed_group(field.annotation) is not None:
            items = [item.model_dump(mode="json") for item in field.default]
            if len(group.model_fields) == 1:
                yield from (ScriptArg(label="", value=item) for item in items)
            else:
                yield ScriptArg(label=name, value=items)
        elif name in known:
            yield _argument(known[name])


def _script_arguments(script: Script, tab: str) -> Iterator[ScriptArg]:
    for spec in script.params.specs() if script.params else ():
        yield _argument(spec, script.choices_on(tab, spec.dotted) if script.choices_on else None)


def _argument(spec: ParamSpec, offered: Sequence[str] | None = None) -> ScriptArg:
    """offered: what it may be, where that isn't as declared."""
    low, high, step = spec.slider or (None, None, None)
    declared = spec.choices if isinstance(spec.choices, tuple) else None
    choices = list(offered) if offered is not None else list(declared) if declared is not None else None
    return ScriptArg(label=spec.label, value=spec.default, minimum=low, maximum=high, step=step, choices=choices)
