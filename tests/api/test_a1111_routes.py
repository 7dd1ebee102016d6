"""Every route of A1111's API is there: with its answer, or with one sentence about what is missing."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.api.conftest import Running
from webui.core.flags import parse_flags
from webui.services.building import build_services
from webui.services.installed import installed_from_git
from webui.services.services import Services

PREFIXES = ("/sdapi/", "/internal/", "/sd_extra_networks/")
HTTP = ("get", "post", "put", "delete", "patch", "head", "trace", "options")


def recorded(parity: Path, name: str) -> Any:
    return json.loads((parity / "api" / f"{name}.json").read_text())


@pytest.mark.parity
def test_every_route_and_method_of_a1111_is_there(easel: Running, parity: Path) -> None:
    theirs = json.loads((parity / "openapi.json").read_text())["paths"]
    ours = easel.client.get("/openapi.json").json()["paths"]
    wanted = {(path, method) for path, item in theirs.items() if path.startswith(PREFIXES) for method in item}
    assert len(wanted) > 45
    assert wanted <= {(path, method) for path, item in ours.items() for method in item}


@pytest.mark.parity
def test_every_query_parameter_of_a1111_is_there(easel: Running, parity: Path) -> None:
    theirs = json.loads((parity / "openapi.json").read_text())["paths"]
    ours = easel.client.get("/openapi.json").json()["paths"]
    for path, item in theirs.items():
        for method, operation in item.items():
            if path.startswith(PREFIXES):
                wanted = {parameter["name"] for parameter in operation.get("parameters", [])}
                assert wanted <= {parameter["name"] for parameter in ours[path][method].get("parameters", [])}, path


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/internal/profile-startup", None),
        ("/sd_extra_networks/cover-images", None),
        ("/sd_extra_networks/get-single-card", None),
    ],
)
def test_what_is_missing_is_said_in_a_sentence(easel: Running, path: str, body: dict[str, Any] | None) -> None:
    answer = easel.client.get(path) if body is None else easel.client.post(path, json=body)
    assert answer.status_code == 501
    assert set(answer.json()) == {"error", "detail", "body", "errors"}
    assert answer.json()["detail"].endswith(".")


def test_lists_of_what_easel_has_none_of_are_empty(easel: Running) -> None:
    assert easel.client.get("/sdapi/v1/extensions").json() == []


OWN_SCRIPTS = ("loopback", "prompt matrix", "prompts from file or textbox", "soft inpainting", "x/y/z plot")


@pytest.mark.parity
def test_the_scripts_that_both_have_are_described_alike(easel: Running, parity: Path) -> None:
    infos = easel.client.get("/sdapi/v1/script-info").json()
    ours = {(item["name"], item["is_img2img"]): item for item in infos}
    for script in recorded(parity, "script-info"):
        if script["name"] in OWN_SCRIPTS:
            mine = ours[script["name"], script["is_img2img"]]
            assert mine["is_alwayson"] == script["is_alwayson"]
            for mine_arg, theirs in zip(mine["args"], script["args"], strict=True):
                assert (mine_arg["label"], mine_arg["value"]) == (theirs["label"], theirs["value"])
                assert [mine_arg[key] for key in ("minimum", "maximum", "step")] == [
                    theirs[key] for key in ("minimum", "maximum", "step")
                ]
                choices, recorded_choices = mine_arg["choices"] or [], theirs["choices"] or []
                if script["name"] == "x/y/z plot":  # which are counted; extensions' own come after
                    assert choices[: len(recorded_choices)] == recorded_choices
                else:
                    assert set(choices) <= set(recorded_choices)


def test_script_info_names_what_alwayson_scripts_takes(easel: Running) -> None:
    infos = easel.client.get("/sdapi/v1/script-info").json()
    names = {item["name"] for item in infos if not item["is_img2img"]}
    assert names == set(easel.client.get("/sdapi/v1/scripts").json()["txt2img"])
    for item in infos:
        if not item["is_img2img"] and item["is_alwayson"]:
            args = [arg["value"] for arg in item["args"]]
            body = {"alwayson_scripts": {item["name"]: {"args": args}}, "steps": 1, "width": 64, "height": 64}
            assert easel.client.post("/sdapi/v1/txt2img", json=body).status_code == 200


@pytest.mark.parity
@pytest.mark.parametrize("path", ["/internal/ping", "/internal/pending-tasks"])
def test_idle_answers_are_a1111s(easel: Running, parity: Path, path: str) -> None:
    assert easel.client.get(path).json() == recorded(parity, path.replace("/", "_"))


def test_quicksettings_hints_are_keys_and_labels(easel: Running) -> None:
    hints = {item["name"]: item["label"] for item in easel.client.get("/internal/quicksettings-hint").json()}
    assert hints["sd_model_checkpoint"] == "Stable Diffusion checkpoint"
    assert set(hints) <= set(easel.client.get("/sdapi/v1/options").json())


def test_sysinfo_tells_versions_and_settings(easel: Running) -> None:
    report = easel.client.get("/internal/sysinfo").json()
    assert report["Config"]["jpeg_quality"] == easel.client.get("/sdapi/v1/options").json()["jpeg_quality"]
    assert any(line.startswith("gradio==") for line in report["Packages"])
    assert report["Flags"]["gradio_auth"] is None
    answer = easel.client.get("/internal/sysinfo-download")
    assert answer.headers["content-disposition"].startswith("attachment")
    assert easel.client.get("/internal/sysinfo?attachment=true").headers["content-disposition"]


# Cards


@pytest.fixture
def previewed(easel: Running) -> Path:
    """A checkpoint's preview."""
    services: Services = easel.services
    path = services.paths.models / "Stable-diffusion" / "first.preview.png"
    Image.new("RGB", (8, 8), "red").save(path)
    services.checkpoints.poll(0)
    return path


def test_a_thumb_is_a_models_preview_and_nothing_else(easel: Running, previewed: Path) -> None:
    answer = easel.client.get("/sd_extra_networks/thumb", params={"filename": str(previewed)})
    assert answer.status_code == 200
    assert answer.content == previewed.read_bytes()
    assert answer.headers["content-type"] == "image/png"
    others = [previewed.with_name("first.safetensors"), "/etc/passwd", "", "../" * 9 + "etc/passwd", previewed.name]
    others += [previewed.parent / ".." / previewed.parent.name / previewed.name, "\0", "x" * 9999, "/proc/self/environ"]
    for path in others:
        assert easel.client.get("/sd_extra_networks/thumb", params={"filename": str(path)}).status_code == 404, path


def test_metadata_is_the_header_as_text(easel: Running) -> None:
    header = json.dumps({"__metadata__": {"ss_output_name": "grün", "ss_tag_frequency": '{"a": {"b": 1}}'}}).encode()
    path = easel.services.paths.models / "Lora" / "described.safetensors"
    path.write_bytes(struct.pack("<Q", len(header)) + header)
    easel.services.networks.loras.refresh()
    answer = easel.client.get("/sd_extra_networks/metadata", params={"page": "Lora", "item": "described"})
    assert json.loads(answer.json()["metadata"])["ss_output_name"] == "grün"
    path.unlink()
    easel.services.networks.loras.refresh()


def test_metadata_is_text_or_nothing(easel: Running) -> None:
    for page, item in (("lora", "nothing"), ("nothing", "first"), ("", ""), ("checkpoints", "broken")):
        answer = easel.client.get("/sd_extra_networks/metadata", params={"page": page, "item": item})
        assert answer.status_code == 200
        assert set(answer.json()) <= {"metadata"}


# Addresses


def test_a_slash_at_the_end_changes_nothing(easel: Running) -> None:
    small = {"steps": 1, "width": 64, "height": 64, "seed": 3}
    assert len(easel.client.post("/sdapi/v1/txt2img/", json=small).json()["images"]) == 1
    for path in ("/sdapi/v1/samplers", "/internal/ping", "/sdapi/v1/options"):
        assert easel.client.get(path + "/").json() == easel.client.get(path).json()


@pytest.mark.parametrize("method", ["TRACE", "PUT", "DELETE", "PATCH", "GET", "HEAD", "BREW"])
@pytest.mark.parametrize("path", ["/sdapi/v1/txt2img", "/sdapi/v1/txt2img/", "/internal/progress"])
def test_other_methods_are_405_and_told_which_one(easel: Running, path: str, method: str) -> None:
    answer = easel.client.request(method, path)
    assert answer.status_code == 405
    assert answer.headers["allow"] == "POST"
    if method != "HEAD":
        assert set(answer.json()) == {"error", "detail", "body", "errors"}


@pytest.mark.parametrize(
    "path", ["/sdapi/v1/nothing", "/sdapi/", "/sdapi/v1/", "/internal/x/", "/easel/v9", "/sdapi//"]
)
def test_unknown_paths_are_404_in_the_apis_shape(easel: Running, path: str) -> None:
    for method in ("GET", "POST", "TRACE"):
        answer = easel.client.request(method, path)
        assert answer.status_code == 404
        assert set(answer.json()) == {"error", "detail", "body", "errors"}


def test_extensions_that_were_cloned_are_listed(tmp_path: Path) -> None:
    for name, config in (
        ("cloned", '[core]\n\tbare = false\n[remote "origin"]\n\turl = https://x.example/y\n'),
        ("bare", ""),
    ):
        folder = tmp_path / "extensions" / name
        (folder / ".git" / "refs" / "heads").mkdir(parents=True)
        (folder / "extension.py").write_text("")
        (folder / ".git" / "config").write_text(config)
        (folder / ".git" / "HEAD").write_text("ref: refs/heads/main\n")
        (folder / ".git" / "refs" / "heads" / "main").write_text("0123456789abcdef\n")
    services = build_services(parse_flags(["--data-dir", str(tmp_path)], {})[0])
    [found] = installed_from_git(services)
    assert (found.name, found.remote, found.branch) == ("cloned", "https://x.example/y", "main")
    assert (found.commit_hash, found.version, found.enabled) == ("0123456789abcdef", "01234567", True)
    services.checkpoints.close()
