"""Bodies that ask for too much or for the wrong thing (classes 12 to 18), and what they leave behind."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import socket
import struct
import time
import unicodedata
import zlib
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from PIL import Image

from tests.api.conftest import until
from tests.hostile.conftest import Target, encoded, valid_json

MiB = 2**20
SOON = 60
"""Seconds in which a refusal comes even on a busy machine."""


def refused(answer: httpx.Response, *statuses: int) -> str:
    """The answer is a refusal in valid JSON that doesn't repeat the whole question; gives its text."""
    assert answer.status_code in (statuses or (400, 403, 404, 413, 422)), (answer.status_code, answer.text[:500])
    valid_json(answer)
    assert len(answer.content) < 20_000
    assert "Traceback" not in answer.text
    return answer.text


# 12: settings and scripts


@pytest.mark.parametrize(
    "body",
    [
        {"override_settings": {"sd_model_checkpoint": "../../../etc/passwd"}},
        {"override_settings": {"sd_model_checkpoint": "/etc/passwd"}},
        {"override_settings": {"sd_model_checkpoint": {"a": 1}}},
        {"override_settings": {"sd_vae": "../../outside/secret.txt"}},
        {"override_settings": {"samples_format": "../../x"}},
        {"override_settings": {"samples_format": "exe"}},
        {"override_settings": {"CLIP_stop_at_last_layers": "many"}},
        {"override_settings": [1, 2]},
        {"override_settings": "x"},
        {"alwayson_scripts": {"no such script": {"args": []}}},
        {"alwayson_scripts": {"../../evil.py": {"args": ["x"]}}},
        {"alwayson_scripts": {"x": "y"}},
        {"alwayson_scripts": [1]},
        {"script_name": "no such script"},
        {"script_name": "/etc/passwd", "script_args": ["x"] * 1000},
        {"script_name": "__import__('os').system('true')"},
        {"sampler_name": "../Euler"},
        {"scheduler": "no such"},
        {"styles": ["../../etc/passwd"], "sampler_name": "none"},
        {"hr_checkpoint_name": "/etc/passwd", "enable_hr": True},
        {"refiner_checkpoint": "../../x", "refiner_switch_at": 0.5},
    ],
    ids=str,
)
def test_what_is_not_there_is_named_and_changes_nothing(target: Target, body: dict[str, Any]) -> None:
    before = target.client.get("/sdapi/v1/options").json()
    text = refused(target.txt2img(**body), 400, 403, 404, 422)
    assert len(text) > 20
    assert target.client.get("/sdapi/v1/options").json() == before


# 13 and 14: addresses in place of pictures


@pytest.mark.parametrize(
    "address",
    [
        "http://169.254.169.254/latest/meta-data/",
        "http://127.0.0.1:7860/sdapi/v1/options",
        "http://localhost/x.png",
        "http://[::1]/x.png",
        "http://[::ffff:10.0.0.1]/x.png",
        "http://0x7f.1/x.png",
        "http://2130706433/x.png",
        "http://017700000001/x.png",
        "http://192.168.0.1/x.png",
        "https://user:pass@127.0.0.1/x.png",
        "http://127.0.0.1.nip.io/x.png",
        "file:///etc/passwd",
        "FILE:///etc/passwd",
        "gopher://127.0.0.1:6379/_FLUSHALL",
        "ftp://127.0.0.1/x.png",
        "dict://127.0.0.1:11211/stats",
        "data:text/html,<script>alert(1)</script>",
        "data:text/html;base64,PHNjcmlwdD4=",
        "data:image/svg+xml;base64,PHN2Zy8+",
        "jar:http://127.0.0.1!/x.png",
        "//127.0.0.1/x.png",
        "/etc/passwd",
        "\\\\127.0.0.1\\share\\x.png",
    ],
)
def test_no_address_is_fetched_for_a_picture(target: Target, address: str) -> None:
    refused(target.img2img(address), 400, 403, 422)
    whole = encoded(Image.new("RGB", (64, 64)))
    refused(target.img2img(whole, mask=address), 400, 403, 422)
    for path, body in (
        ("/sdapi/v1/png-info", {"image": address}),
        ("/sdapi/v1/extra-single-image", {"image": address}),
        ("/sdapi/v1/extra-batch-images", {"imageList": [{"data": address, "name": "x"}]}),
    ):
        refused(target.client.post(path, json=body), 400, 403, 422)


@pytest.mark.parametrize(
    "address",
    ["http://169.254.169.254/", "https://127.0.0.1/x", "https://[::ffff:10.0.0.1]/x", "https://0x7f.1/x", "file:///etc/passwd",
     "gopher://x/", "https://localhost:1/", "ext::sh -c id", "https://a" + "a" * 5000, "", "https://user@10.0.0.1/x"],
)  # fmt: skip
def test_no_address_inside_is_asked_for_a_model(target: Target, address: str) -> None:
    refused(target.client.post("/easel/v1/downloads/look", json={"address": address}), 400, 403, 404, 422, 502)


# 15: bombs


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, *more: bytes, data: bytes | None = None) -> str:
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    body = chunk(b"IDAT", zlib.compress(b"") if data is None else data)
    return base64.b64encode(b"\x89PNG\r\n\x1a\n" + header + b"".join(more) + body + chunk(b"IEND", b"")).decode()


def many_frames(count: int) -> str:
    """A GIF whose frames are copies of one another, byte by byte."""
    file = io.BytesIO()
    Image.new("P", (8, 8)).save(file, "gif")
    raw = file.getvalue()
    start = raw.index(b",")  # the image descriptor
    return base64.b64encode(raw[:start] + raw[start:-1] * count + b";").decode()


BOMBS = {
    "50,000 by 50,000": png(50_000, 50_000),
    "2 by 2**31-1": png(2, 2**31 - 1),
    "a width of 0": png(0, 64),
    "text that unfolds": png(8, 8, chunk(b"zTXt", b"parameters\0\0" + zlib.compress(b"a" * (256 * MiB), 9))),
    "text of texts": png(8, 8, *[chunk(b"tEXt", b"parameters\0" + b"a" * 1000)] * 10_000),
    "pixels that unfold": png(30_000, 30_000, data=zlib.compress(b"\0" * (64 * MiB), 9)),
    "100,000 frames": many_frames(100_000),
    "TIFF of 60,000": base64.b64encode(
        b"II*\0\x08\0\0\0\x03\0" + struct.pack("<HHII", 256, 4, 1, 60_000) + struct.pack("<HHII", 257, 4, 1, 60_000)
        + struct.pack("<HHII", 273, 4, 1, 8) + b"\0" * 4
    ).decode(),
    "no picture": base64.b64encode(b"\0" * 1000).decode(),
    "base64 without end": "A" * (130 * MiB),
}  # fmt: skip


@pytest.mark.parametrize("title", BOMBS)
def test_a_bomb_is_refused_before_it_unfolds(target: Target, title: str) -> None:
    target.txt2img()
    before, bomb = target.memory, BOMBS[title]
    begun = time.monotonic()
    routes = {"png-info": {"image": bomb}, "extra-single-image": {"image": bomb}}
    if title == "base64 without end":  # which stops at the guard, whatever the route
        routes = {}
    for answer in (
        target.img2img(bomb),
        *(target.client.post(f"/sdapi/v1/{route}", json=body) for route, body in routes.items()),
    ):
        # A picture whose pixels are fine may be taken, its texts left out.
        assert answer.status_code in (200, 400, 413, 422), answer.text[:300]
        assert answer.status_code != 200 or title in ("text that unfolds", "text of texts", "100,000 frames")
        valid_json(answer)
    assert time.monotonic() - begun < SOON
    if title != "base64 without end":  # its own length is read, once a request
        assert target.memory - before < 300 * MiB


@pytest.mark.parametrize("length", [str(1026 * MiB), str(2**40), str(2**63), "9" * 30, "-1", "1e3", "+5", "0x10"])
def test_an_upload_of_more_than_there_is_room_for_is_refused_at_once(target: Target, length: str) -> None:
    parts = urlsplit(target.url)
    head = (
        "POST /gradio_api/upload HTTP/1.1\r\nHost: localhost\r\nContent-Type: multipart/form-data; boundary=b\r\n"
        f"Content-Length: {length}\r\n\r\n--b\r\n"
    )
    with socket.create_connection((parts.hostname, parts.port), SOON) as connection:
        connection.sendall(head.encode())
        status = int(connection.makefile("rb").readline().split()[1])
    assert status in ((413,) if length.isdecimal() and len(length) < 20 else (400, 413))


# 16: numbers and nesting

BAD = ["1e309", "-1e309", "NaN", "Infinity", "-1", "1e300", "9" * 400, '"x"', "[]", "{}", "1.5", "false"]


@pytest.mark.parametrize("field", ["width", "height", "steps", "batch_size", "n_iter"])
@pytest.mark.parametrize("value", BAD)
def test_numbers_that_are_none_are_refused(target: Target, field: str, value: str) -> None:
    body = f'{{"prompt": "a", "{field}": {value}}}'
    refused(
        target.client.post("/sdapi/v1/txt2img", content=body, headers={"Content-Type": "application/json"}), 422, 400
    )


@pytest.mark.parametrize(
    ("field", "value"),
    [("steps", 10**9), ("steps", 0), ("batch_size", 10**6), ("batch_size", 0), ("n_iter", 10**9), ("width", 10**7),
     ("height", 10**5), ("width", -8), ("seed", 2**70), ("cfg_scale", 10**9), ("denoising_strength", 7),
     ("hr_scale", 1000), ("firstphase_width", -8), ("clip_skip", -1), ("eta", -5),
     ("s_churn", 10**12), ("mask_blur", 10**9), ("resize_mode", 17), ("inpainting_fill", -3)],
)  # fmt: skip
def test_numbers_out_of_range_are_refused(target: Target, field: str, value: int) -> None:
    small = {"prompt": "a", "steps": 1, "width": 64, "height": 64, "enable_hr": True, "hr_scale": 1}
    white = encoded(Image.new("RGB", (64, 64), "white"))
    path, body = "/sdapi/v1/txt2img", {**small, field: value}
    if field in ("mask_blur", "resize_mode", "inpainting_fill"):
        path, body = "/sdapi/v1/img2img", {**body, "init_images": [white], "mask": white}
    if field == "clip_skip":
        body = {**small, "override_settings": {"CLIP_stop_at_last_layers": value}}
    refused(target.client.post(path, json=body), 422, 400)


@pytest.mark.parametrize(
    "body",
    ["[" * 100_000 + "]" * 100_000, '{"a":' * 50_000 + "1" + "}" * 50_000, '{"prompt": ' + "[" * 200 + "]" * 200 + "}",
     '{"prompt": "\\ud800"}', '{"prompt": "a"', "", "\xff\xfe", '{"prompt": "a", "prompt": }',
     "[" + "1," * 2_000_000 + "1]"],
    ids=range(9),
)  # fmt: skip
@pytest.mark.parametrize(
    "path", ["/sdapi/v1/txt2img", "/sdapi/v1/options", "/gradio_api/queue/join", "/internal/progress"]
)
def test_json_that_is_none_or_too_deep_is_refused(target: Target, path: str, body: str) -> None:
    begun = time.monotonic()
    answer = target.client.post(path, content=body.encode("latin-1"), headers={"Content-Type": "application/json"})
    refused(answer, 400, 413, 415, 422)
    assert time.monotonic() - begun < SOON


def test_a_prompt_of_100_megabytes_is_refused(target: Target) -> None:
    before = target.memory
    refused(target.txt2img(prompt="a" * (100 * MiB)), 413, 422)
    refused(target.txt2img(negative_prompt="(" * (20 * MiB)), 413, 422)
    passed_over = target.txt2img(override_settings={"x" * MiB: "y" * MiB}, send_images=False)  # no such setting
    assert passed_over.status_code == 200
    assert len(passed_over.json()["info"]) < 20_000
    assert target.memory - before < 1024 * MiB


# 17: prompts built to take for ever

PROMPTS = {
    "brackets": "(" * 100_000,
    "brackets both": "(" * 50_000 + "a" + ")" * 50_000,
    "square brackets": "[" * 100_000,
    "weights": "(a:1.1)" * 25_000,
    "nested switches": "[a:b:" * 10_000 + "0.5" + "]" * 10_000,
    "alternation": "[" + "a|" * 90_000 + "b]",
    "nested alternation": "[a|" * 10_000 + "b" + "]" * 10_000,
    "LoRA tags": "<lora:x:1>" * 19_000,
    "open tags": "<lora:" * 30_000,
    "AND": " AND ".join(["a"] * 30_000),
    "wildcards": "{a|b}" * 30_000,
    "nested wildcards": "{" * 90_000,
    "backslashes": "\\" * 190_000,
    "colons": ":" * 190_000,
    "BREAK": "BREAK " * 30_000,
    "commas": "," * 190_000,
    "one word": "a" * 190_000,
    "marks": "e\u0301" * 90_000,
    "spaces": " " * 190_000 + "a",
    "comments": "#" * 190_000,
}


@pytest.mark.parametrize("title", PROMPTS)
def test_a_prompt_takes_bounded_time(target: Target, title: str) -> None:
    begun = time.monotonic()
    answer = target.txt2img(prompt=PROMPTS[title], save_images=False)
    assert answer.status_code in (200, 404, 422), answer.text[:300]
    valid_json(answer)
    assert time.monotonic() - begun < 120


# 18: patterns


@pytest.mark.parametrize(
    "pattern",
    ["[datetime<" + "%Y" * 5000 + ">]", "[" * 5000, "[datetime<" * 2000, "[prompt_words]" * 3000, "[seed" + "]" * 5000,
     "[hasprompt<" + "a|" * 3000 + ">]", "[datetime<%Y><" + "A" * 3000 + ">]"],
    ids=range(7),
)  # fmt: skip
def test_a_pattern_takes_bounded_time(target: Target, pattern: str) -> None:
    begun = time.monotonic()
    answer = target.txt2img(override_settings={"samples_filename_pattern": pattern}, save_images=True)
    assert answer.status_code in (200, 403, 422), answer.text[:300]
    assert time.monotonic() - begun < SOON
    assert not target.touched()


RESERVED = {"CON", "PRN", "AUX", "NUL", *(f"{port}{number}" for port in ("COM", "LPT") for number in range(1, 10))}


@pytest.mark.parametrize(
    "prompt", ["../../x", "CON", "con.txt", "nul", "COM1.a.b", "LPT9 ", "a" * 5000, "\u202egnp.exe", "\u2066a\u2069",
               "a\nb\r\nc", "..", ".", "/etc/x", "C:\\x", "\\\\host\\share", "~root", "$(id)", "猫" * 300, " ",
               "trailing. ", "-rf"],
)  # fmt: skip
def test_a_prompt_is_a_name_and_no_path(target: Target, prompt: str) -> None:
    folder = target.data / "outputs"
    before = set(folder.rglob("*"))
    settings = {"samples_filename_pattern": "[prompt]", "save_images_add_number": False, "save_to_dirs": False}
    answer = target.txt2img(prompt=prompt, override_settings=settings, save_images=True)
    assert answer.status_code == 200, answer.text[:300]
    (saved,) = set(folder.rglob("*.png")) - before
    assert saved.parent == folder / "txt2img-images"
    assert 0 < len(saved.name.encode()) <= 255
    assert saved.stem.partition(".")[0].strip().upper() not in RESERVED
    assert saved.stem == saved.stem.rstrip(" .").lstrip(" ")
    assert not any(unicodedata.category(letter) in ("Cc", "Cf") or letter in '\\/:*?"<>|' for letter in saved.name)
    assert not target.touched()


NAMES = ["\u202egnp.exe", "a\u2066b\u2069", "\u200fcat", "\u061c", "مرحبا"]
"""Written from right to left, or telling that they were."""


@pytest.mark.parametrize("name", NAMES, ids=ascii)
def test_a_name_from_right_to_left_is_no_other_name(target: Target, name: str) -> None:
    for answer in (
        target.txt2img(sampler_name=name),
        target.txt2img(script_name=name),
        target.txt2img(alwayson_scripts={name: {"args": []}}),
        target.txt2img(override_settings={"sd_model_checkpoint": name}),
        target.client.post("/sdapi/v1/options", json={"sd_model_checkpoint": name}),
        target.client.post("/sdapi/v1/options", json={"sd_vae": name}),
        target.client.get("/easel/v1/cards/details", params={"kind": "lora", "name": name}),
    ):
        text = str(json.loads(refused(answer, 400, 404, 422)))
        assert not any(unicodedata.bidirectional(letter) in TURNING for letter in text), ascii(text)
    picture = encoded(Image.new("RGB", (8, 8)))
    body = {"imageList": [{"data": picture, "name": f"{name}.png"}], "upscaling_resize": 1}
    assert target.client.post("/sdapi/v1/extra-batch-images", json=body).status_code == 200
    assert not target.touched()


TURNING = ("LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI")
"""Invisible characters that show what follows in another order."""


@pytest.mark.parametrize(
    "search", ["(a+)+$", "a" * 10_000, "[" * 1000, "\\", "%00", "*" * 1000, "<img src=x onerror=alert(1)>"]
)
def test_a_search_takes_bounded_time(target: Target, search: str) -> None:
    begun = time.monotonic()
    answer = target.client.get("/easel/v1/cards", params={"kind": "lora", "search": search})
    assert answer.status_code in (200, 422)
    assert time.monotonic() - begun < SOON


# 27: crowds


def test_a_thousand_jobs_of_one_client_do_not_keep_the_others_out(target: Target) -> None:
    async def crowd() -> tuple[list[int], float]:
        limits = httpx.Limits(max_connections=None)
        async with httpx.AsyncClient(base_url=target.url, timeout=300, limits=limits) as client:
            body = {"prompt": "a cat", "steps": 150, "n_iter": 100, "width": 64, "height": 64}
            jobs = [asyncio.ensure_future(client.post("/sdapi/v1/txt2img", json=body)) for _ in range(1000)]
            await asyncio.wait(jobs, timeout=20, return_when=asyncio.FIRST_COMPLETED)
            await asyncio.sleep(1)
            begun = time.monotonic()
            other = httpx.AsyncHTTPTransport(local_address="127.0.0.2")
            async with httpx.AsyncClient(base_url=target.url, timeout=60, transport=other) as neighbour:
                assert (await neighbour.get("/sdapi/v1/progress")).status_code == 200
            took = time.monotonic() - begun
            statuses = [job.result().status_code for job in jobs if job.done() and not job.exception()]
            for job in jobs:
                job.cancel()
            await asyncio.gather(*jobs, return_exceptions=True)
            return statuses, took

    statuses, took = asyncio.run(crowd())
    assert 429 in statuses
    assert took < 30
    until(lambda: cleared(target))


def cleared(target: Target) -> bool:
    """Whether nothing runs or waits any more, after asking everything that does to end."""
    waiting = target.client.get("/internal/pending-tasks").json()["tasks"]
    for job in waiting:
        target.client.post("/easel/v1/queue/cancel", params={"id": job}).raise_for_status()
    running = target.client.get("/sdapi/v1/progress").json()["state"]["job_count"]
    target.client.post("/sdapi/v1/interrupt")
    return not waiting and not running


def test_afterwards_it_still_makes_pictures(target: Target) -> None:
    target.is_well()
    config = json.loads((target.data / "config.json").read_text())
    assert "samples_save" in config
    assert not target.touched()
