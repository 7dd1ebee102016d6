"""Model files and texts from strangers (classes 19 to 21 and 23), through the public door."""

from __future__ import annotations

import html
import json
import struct
import time
from pathlib import Path

import httpx
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from tests.hostile.conftest import Target
from tests.hostile_files import CANARY, hostile_files, named, program, text, zipped
from tests.running import ROOT

MARKUP = [
    "<img src=x onerror=alert(1)>",
    "<script>alert(1)</script>",
    "</textarea><svg onload=alert(1)>",
    "<a href='javascript:alert(1)'>x</a>",
    "\"><iframe srcdoc='<script>alert(1)</script>'>",
    "<style>*{display:none}</style>",
    "&lt;img src=x onerror=alert(1)&gt;<img src=x onerror=alert(2)>",
]


def gadget(module: str, name: str, argument: str) -> bytes:
    """A pickle that would call a function found by another one, two steps away from any list of names."""
    return program(named(module, name) + text(argument) + b"\x85R")


GADGETS = {
    "pkgutil": zipped(gadget("pkgutil", "resolve_name", "os:system")),
    "operator": zipped(gadget("operator", "attrgetter", "system")),
    "builtins getattr": zipped(gadget("builtins", "getattr", "system")),
    "torch.hub": zipped(gadget("torch.hub", "load", "evil/repo")),
    "torch.serialization": zipped(gadget("torch.serialization", "load", "/etc/passwd")),
    "numpy": zipped(gadget("numpy", "load", "x.npy")),
    "subprocess by dots": zipped(gadget("torch._utils", "os.system", f"touch {CANARY}")),
}


def safetensors(header: object, length: int | None = None, tail: bytes = b"") -> bytes:
    content = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(content) if length is None else length) + content + tail


TENSOR = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}
TABLES = {
    "header of 2**63": safetensors(b"{}", 2**63),
    "header of 2**64-1": safetensors(b"{}", 2**64 - 1),
    "header of nothing": safetensors(b"", 0),
    "overlapping": safetensors({"a": TENSOR, "b": {**TENSOR, "data_offsets": [4, 12]}}, tail=bytes(12)),
    "unknown kind": safetensors({"a": {**TENSOR, "dtype": "F3"}}, tail=bytes(8)),
    "cut off": safetensors({"a": {**TENSOR, "shape": [2000], "data_offsets": [0, 8000]}}, tail=bytes(8)),
    "backwards": safetensors({"a": {**TENSOR, "data_offsets": [8, 0]}}, tail=bytes(8)),
    "below nothing": safetensors({"a": {**TENSOR, "shape": [-2]}}, tail=bytes(8)),
    "twice": safetensors(b"{%b,%b}" % ((b"\"a\":" + json.dumps(TENSOR).encode(),) * 2), tail=bytes(8)),
    "a product too large": safetensors({"a": {**TENSOR, "shape": [2**40, 2**40]}}, tail=bytes(8)),
    "a million tensors": safetensors({f"t{number}": TENSOR for number in range(1_000_000)}, tail=bytes(8)),
    "no object": safetensors([1, 2]),
    "no JSON": safetensors(b"x" * 1000),
}  # fmt: skip
OTHERS = {
    title: (suffix, content) for number, (title, suffix, content) in enumerate(hostile_files()) if number % 6 == 1
}


@pytest.mark.parametrize("title", [*GADGETS, *TABLES, *OTHERS])
def test_a_hostile_checkpoint_is_refused_by_a_sentence(target: Target, title: str) -> None:
    suffix, content = OTHERS.get(title) or (
        (".ckpt", GADGETS[title]) if title in GADGETS else (".safetensors", TABLES[title])
    )
    folder = target.data / "models" / "Stable-diffusion"
    good = next(folder.glob("*.safetensors"))
    evil = folder / f"evil model{suffix}"
    evil.write_bytes(content)
    begun = time.monotonic()
    try:
        assert target.client.post("/sdapi/v1/refresh-checkpoints").status_code == 200
        assert target.client.get("/sdapi/v1/sd-models").status_code == 200
        answer = target.client.post("/sdapi/v1/options", json={"sd_model_checkpoint": evil.name})
        assert answer.status_code in (400, 404, 422), answer.text
        assert "Traceback" not in answer.text
        assert target.client.get("/sdapi/v1/options").json()["sd_model_checkpoint"].startswith(good.stem)
        assert target.txt2img(override_settings={"sd_model_checkpoint": evil.name}).status_code in (400, 404, 422)
    finally:
        evil.unlink()
    assert time.monotonic() - begun < 60
    for place in (ROOT, folder, target.data, Path.cwd()):
        assert not (place / CANARY).exists()


def test_after_all_of_them_the_good_one_still_works(target: Target) -> None:
    assert target.client.post("/sdapi/v1/refresh-checkpoints").status_code == 200
    target.is_well()


@pytest.mark.parametrize("markup", MARKUP)
def test_markup_in_a_picture_is_shown_as_text(target: Target, markup: str, tmp_path: Path) -> None:
    texts = PngInfo()
    texts.add_text("parameters", f"{markup}\nNegative prompt: {markup}\nSteps: 1, Sampler: {markup}, Model: {markup}")
    texts.add_text(markup[:70], markup)
    Image.new("RGB", (64, 64)).save(tmp_path / "evil.png", pnginfo=texts)
    with httpx.Client(base_url=target.url, timeout=60) as visitor:
        visitor.get("/")
        path = visitor.post("/gradio_api/upload", files={"files": ("evil.png", (tmp_path / "evil.png").read_bytes())})
        file = {"path": path.json()[0], "meta": {"_type": "gradio.FileData"}}
        config = visitor.get("/config").json()
        ids = {row["props"].get("elem_id"): row["id"] for row in config["components"]}
        number = next(row["id"] for row in config["dependencies"] if [ids["pnginfo_image"], "change"] in row["targets"])
        body = {"fn_index": number, "session_hash": f"markup{MARKUP.index(markup)}", "data": [file]}
        answer = visitor.post("/gradio_api/run/predict", json=body)
        assert answer.status_code == 200, answer.text
        shown = answer.json()["data"][0]
        assert markup not in shown
        assert html.escape(markup) in shown or html.escape(markup, quote=False) in shown
        assert "<img" not in shown
        assert "<script" not in shown


@pytest.mark.parametrize("markup", MARKUP[:5])
def test_markup_in_names_and_errors_is_json_and_never_a_page(target: Target, markup: str) -> None:
    for answer in (
        target.client.get("/easel/v1/cards/details", params={"kind": markup, "name": markup}),
        target.client.get(f"/{markup}"),
        target.client.get(f"/sdapi/v1/{markup}"),
        target.client.post("/sdapi/v1/options", json={markup: markup}),
        target.txt2img(sampler_name=markup),
        target.txt2img(override_settings={"sd_model_checkpoint": markup}),
        target.client.post("/login", data={"username": markup, "password": markup}),
    ):
        assert not (markup in answer.text and "text/html" in answer.headers.get("content-type", ""))


@pytest.mark.parametrize(
    "infotext",
    [
        "a\nSteps: 1, Model: ../../../etc/passwd, Model hash: 0123456789",
        "a\nSteps: 1, VAE: /etc/passwd, Script: ../../evil, sd_model_checkpoint: /etc/passwd",
        "a\nSteps: 1, outdir_samples: /tmp/evil, samples_filename_pattern: ../../x",
        "a\nSteps: 1, Hires checkpoint: /dev/zero, Refiner: /etc/passwd",
        "a\nSteps: 99999999999, Size: 999999x999999, CFG scale: 1e309, Seed: -5",
        'a\nSteps: 1, Lora hashes: "../../x: 0", TI hashes: "/etc/passwd: 1"',
    ],
)
def test_a_pictures_parameters_load_no_file_and_set_no_folder(target: Target, infotext: str) -> None:
    before = target.client.get("/sdapi/v1/options").json()
    answer = target.txt2img(infotext=infotext)
    assert answer.status_code in (200, 400, 404, 422), answer.text
    assert "root:" not in answer.text
    assert target.client.get("/sdapi/v1/options").json() == before
    assert not target.touched()
