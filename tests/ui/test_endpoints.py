"""The events that programs call by name, with Gradio's own client."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from gradio_client import Client
from gradio_client.exceptions import AppError
from PIL import Image

from tests.api.conftest import until
from tests.api.server import serving
from tests.running import ENDLESS
from tests.tiny import tiny_checkpoint
from webui.api.guard import Guard
from webui.app import build_app
from webui.core.flags import parse_flags
from webui.services.building import build_services
from webui.ui.visitors.tables import PUBLIC

SMALL = {"prompt": "a cat", "steps": 1, "width": 64, "height": 64, "seed": 7}
LOGIN = {"Authorization": "Basic " + base64.b64encode(b"me:secret").decode()}


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """An Easel whose API asks for a login."""
    data = tmp_path_factory.mktemp("named")
    tiny_checkpoint(data / "models" / "Stable-diffusion")
    exact = ["--no-half", "--precision", "full", "--device", "cpu"]
    services = build_services(parse_flags(["--data-dir", str(data), "--api-auth", "me:secret", *exact], {})[0])
    services.jobs.start()
    with serving(Guard(build_app(services))) as url:
        yield url
    assert services.jobs.close(timeout=120)
    services.checkpoints.close()


@pytest.fixture(scope="module")
def client(address: str) -> Iterator[Client]:
    program = Client(address, headers=LOGIN, verbose=False, analytics_enabled=False)
    yield program
    program.close()


def size(encoded: str) -> tuple[int, int]:
    return Image.open(io.BytesIO(base64.b64decode(encoded))).size


def white() -> str:
    file = io.BytesIO()
    Image.new("RGB", (64, 64), "white").save(file, "png")
    return base64.b64encode(file.getvalue()).decode()


def test_the_client_lists_these_and_no_others(client: Client) -> None:
    listed: Any = client.view_api(return_format="dict")
    assert set(listed["named_endpoints"]) == {f"/{name}" for name in PUBLIC}
    assert listed["unnamed_endpoints"] == {}
    assert "/sdapi/v1/txt2img" in listed["named_endpoints"]["/txt2img"]["description"]


def test_a_picture_is_that_of_the_api(client: Client, address: str) -> None:
    named = client.predict(SMALL, api_name="/txt2img")
    asked = httpx.post(f"{address}/sdapi/v1/txt2img", json=SMALL, headers=LOGIN, timeout=120).json()
    assert named["images"] == asked["images"]
    assert named["parameters"] == asked["parameters"]


def test_a_picture_is_made_from_a_picture(client: Client) -> None:
    body = {**SMALL, "init_images": [white()], "denoising_strength": 0.5, "width": 72}
    answer = client.predict(body, api_name="/img2img")
    assert size(answer["images"][0]) == (72, 64)


def test_progress_and_interrupt_are_answered_while_a_picture_is_made(client: Client) -> None:
    job = client.submit({**SMALL, **ENDLESS}, api_name="/txt2img")
    until(lambda: client.predict(api_name="/progress")["state"]["sampling_step"] > 1)
    assert client.predict(api_name="/interrupt") == {}
    assert len(job.result(timeout=120)["images"]) == 1
    assert client.predict(api_name="/progress")["progress"] == 0


@pytest.mark.parametrize(
    ("body", "words"),
    [({"steps": "x"}, "steps"), ({"width": 7}, "width"), ({"sampler_name": "Eulr"}, "Eulr"),
     ({"steps": 10**9}, "steps"), ([1], "body"), ("a cat", "body"),
     ({"override_settings": {"outdir_samples": "/etc"}}, "outdir_samples")],
)  # fmt: skip
def test_a_mistake_is_told_in_the_apis_sentence(client: Client, body: Any, words: str) -> None:
    with pytest.raises(AppError, match=words):
        client.predict(body, api_name="/txt2img")


@pytest.mark.parametrize("headers", [{}, {"Authorization": "Basic " + base64.b64encode(b"me:guess").decode()}])
@pytest.mark.parametrize("name", sorted(PUBLIC))
def test_the_apis_login_is_asked_for(address: str, name: str, headers: dict[str, str]) -> None:
    stranger = Client(address, headers=headers, verbose=False, analytics_enabled=False)
    arguments = [SMALL] if name in ("txt2img", "img2img") else []
    with pytest.raises(AppError, match="Incorrect username or password"):
        stranger.predict(*arguments, api_name=f"/{name}")
    stranger.close()


@pytest.mark.parametrize(
    "payload", [{"path": "/etc/passwd"}, {"path": "/etc/passwd", "meta": {"_type": "gradio.FileData"}},
                {"init_images": [{"url": "http://127.0.0.1/"}]},
                {"alwayson_scripts": {"a": {"args": [{"path": "x"}]}}}],
    ids=str,
)  # fmt: skip
def test_they_take_no_files(address: str, payload: dict[str, Any]) -> None:
    for route in ("run/txt2img", "call/img2img", "api/txt2img"):
        answer = httpx.post(f"{address}/gradio_api/{route}", json={"data": [payload]}, headers=LOGIN)
        assert answer.status_code == 403, answer.text


def test_passwords_are_not_guessed_faster_here_than_at_the_api(address: str) -> None:
    stranger = Client(address, headers={"Authorization": "Basic eDp5"}, verbose=False, analytics_enabled=False)
    told = []
    for _ in range(12):
        with pytest.raises(AppError) as error:
            stranger.predict(api_name="/progress")
        told.append(str(error.value))
    stranger.close()
    assert "Incorrect" in told[0]
    assert "Too many wrong passwords" in told[-1]
