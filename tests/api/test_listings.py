"""The lists hold what there is, in A1111's shapes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.api.conftest import Running
from webui.core.choices import SAMPLERS

NEWER = {sampler.name for sampler in SAMPLERS if sampler.group == "newer"}
ROUTES = ["samplers", "schedulers", "upscalers", "latent-upscale-modes", "sd-models", "prompt-styles"]


def recorded(parity: Path, name: str) -> Any:
    return json.loads((parity / "api" / f"{name}.json").read_text())


def shape(value: Any) -> Any:
    """Key names and kinds of values: whole and fractional numbers count as one, null as anything."""
    if isinstance(value, dict):
        return {key: shape(item) for key, item in value.items()}
    if isinstance(value, list):
        return [shape(value[0])] if value else []
    return "number" if isinstance(value, int | float) and not isinstance(value, bool) else type(value).__name__


def matches(ours: Any, theirs: Any) -> bool:
    if "NoneType" in (ours, theirs):
        return True
    if isinstance(ours, dict) and isinstance(theirs, dict):
        return set(ours) == set(theirs) and all(matches(ours[key], theirs[key]) for key in theirs)
    if isinstance(ours, list) and isinstance(theirs, list) and ours and theirs:
        return matches(ours[0], theirs[0])
    return ours == theirs or [] in (ours, theirs)


@pytest.mark.parity
@pytest.mark.parametrize("route", [*ROUTES, "memory", "progress"])
def test_shapes_are_a1111s(easel: Running, parity: Path, route: str) -> None:
    ours, theirs = easel.client.get(f"/sdapi/v1/{route}").json(), recorded(parity, route)
    if route in ("samplers", "prompt-styles"):  # their values vary: compare the keys
        ours, theirs = ([sorted(item) for item in rows] for rows in (ours, theirs))
    assert matches(shape(ours), shape(theirs))


@pytest.mark.parity
@pytest.mark.parametrize("route", ["samplers", "schedulers", "upscalers", "latent-upscale-modes"])
def test_what_we_have_is_listed_as_a1111_lists_it(easel: Running, parity: Path, route: str) -> None:
    theirs = {item["name"]: item for item in recorded(parity, route)}
    for item in easel.client.get(f"/sdapi/v1/{route}").json():
        if item["name"] not in NEWER:
            assert item == theirs[item["name"]]


@pytest.mark.parity
@pytest.mark.parametrize("route", ["upscalers", "realesrgan-models", "face-restorers"])
def test_upscalers_and_restorers_are_listed_as_recorded(easel: Running, parity: Path, route: str) -> None:
    assert easel.client.get(f"/sdapi/v1/{route}").json() == recorded(parity, route)


@pytest.mark.parity
def test_flags_are_a1111s_and_hold_no_password(easel: Running, parity: Path) -> None:
    ours = easel.client.get("/sdapi/v1/cmd-flags").json()
    assert set(recorded(parity, "cmd-flags")) <= set(ours)
    assert (ours["no_half"], ours["precision"], ours["listen"]) == (True, "full", False)
    assert ours["data_dir"] == str(easel.services.paths.data)
    assert {ours["gradio_auth"], ours["api_auth"]} == {None}
    assert not {"credentials", "api_credentials"} & set(ours)


def test_styles_are_listed(easel: Running) -> None:
    styles = easel.client.get("/sdapi/v1/prompt-styles").json()
    assert styles == [{"name": "ink", "prompt": "ink drawing of {prompt}", "negative_prompt": "photo"}]


ON_TXT2IMG = ("prompt matrix", "prompts from file or textbox", "x/y/z plot")
ON_IMG2IMG = (
    "img2img alternative test",
    "loopback",
    "outpainting mk2",
    "poor man's outpainting",
    "sd upscale",
    *ON_TXT2IMG,
)


def test_scripts_are_the_extensions_with_parameters(easel: Running) -> None:
    names = [group.__name__.lower() for group in easel.services.host.params]
    assert easel.client.get("/sdapi/v1/scripts").json() == {
        "txt2img": [*names, *ON_TXT2IMG],
        "img2img": [*names, "soft inpainting", *sorted(ON_IMG2IMG)],
    }
