"""The program as a process: what starting it loads, how it stops, and what survives when it is killed."""

from __future__ import annotations

import base64
import io
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import httpx
import psutil
import pytest
from PIL import Image

from tests.api.conftest import until
from tests.running import ENDLESS, EXACT, ROOT, Server
from tests.tiny import tiny_checkpoint
from webui.app import bound_socket, exposure_warning, update_extensions
from webui.core.flags import parse_flags
from webui.core.paths import Paths
from webui.process.supervision import RESTARTS

OPEN_THE_PAGE = """
import sys
from webui.app import build_app
from webui.services.building import build_services
from webui.core.flags import parse_flags
from fastapi.testclient import TestClient
flags, _ = parse_flags(["--data-dir", sys.argv[1]], {})
answer = TestClient(build_app(build_services(flags))).get("/")
assert answer.status_code == 200, answer.status_code
heavy = {"torch", "diffusers", "transformers", "torchsde", "numpy.f2py"} & set(sys.modules)
assert not heavy, heavy
"""


def test_extensions_are_looked_up_at_the_first_start_where_that_is_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Of a repository on this machine, which nothing is ever fetched from, so that the look itself is told."""
    repository = tmp_path / "extensions" / "stars" / ".git"
    repository.mkdir(parents=True)
    (repository / "config").write_text('[remote "origin"]\n url = https://127.0.0.1/stars.git\n')
    (repository / "HEAD").write_text("1" * 40)

    def looked_up(*words: str) -> bool:
        caplog.clear()
        flags, warnings = parse_flags(["--data-dir", str(tmp_path), *words], {})
        assert warnings == []
        assert update_extensions(flags, Paths.of(flags)) is False
        return "Extension stars is not updated" in caplog.text

    assert looked_up("--update-all-extensions")
    assert not looked_up()
    monkeypatch.setenv(RESTARTS, "1")
    assert not looked_up("--update-all-extensions")


def test_opening_the_page_loads_no_torch(tmp_path: Path) -> None:
    result = subprocess.run(
        [sys.executable, "-c", OPEN_THE_PAGE, str(tmp_path)], cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        ("", ""),
        ("--share", ""),
        ("--gradio-auth a:b", ""),
        ("--server-name 127.0.0.1", ""),
        ("--listen", "NO LOGIN"),
        ("--server-name 192.0.2.1", "NO LOGIN"),
        ("--listen --api-auth a:b", "guards the API alone"),
        ("--listen --gradio-auth a:b", "plain text"),
    ],
)
def test_a_server_that_others_can_reach_says_so(flags: str, says: str) -> None:
    warning = exposure_warning(parse_flags(flags.split(), {})[0])
    assert says in warning
    assert bool(says) == bool(warning)


def test_answers_are_sent_at_once() -> None:
    """asyncio switches the 40 ms wait of small packets off only on sockets that say they are TCP."""
    with bound_socket(parse_flags([], {})[0]) as listener:
        assert listener.proto == socket.IPPROTO_TCP


def test_a_picture_is_saved_where_a1111_saves_it(server: Server) -> None:
    outputs = server.data / "outputs"
    before = set(outputs.rglob("*.png"))
    answer = server.txt2img(save_images=True, batch_size=2, seed=41)
    assert answer.status_code == 200, answer.text
    new = set(outputs.rglob("*.png")) - before
    saved = sorted(path for path in new if path.is_relative_to(outputs / "txt2img-images"))
    names = [path.name for path in saved]
    assert any(name.endswith("-41.png") for name in names), names
    assert any(name.endswith("-42.png") for name in names), names
    picture = Image.open(next(path for path in saved if path.name.endswith("-41.png")))
    assert picture.size == (64, 64)
    assert picture.info["parameters"].startswith("a cat\nSteps: 2, Sampler: Euler, Schedule type: Automatic")
    (grid,) = new - set(saved)
    assert grid.is_relative_to(outputs / "txt2img-grids")
    assert grid.name.startswith("grid-")
    assert Image.open(grid).size == (128, 64)
    assert json.loads(answer.json()["info"])["index_of_first_image"] == 1


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        ({"width": 7}, 422, ["width", "7", "8"]),
        ({"sampler_name": "Eulr"}, 422, ["Eulr", "Euler"]),
        ({"scheduler": "Karas"}, 422, ["Karas", "Karras"]),
        ({"steps": 0}, 422, ["steps", "0"]),
        ({"override_settings": {"sd_model_checkpoint": "no such"}}, 404, ["no such", "Refresh"]),
        ({"override_settings": {"CLIP_stop_at_last_layers": 99}}, 422, ["CLIP_stop_at_last_layers", "99"]),
    ],
)
def test_a_mistake_is_answered_in_a_sentence(server: Server, body: dict, status: int, words: list[str]) -> None:
    answer = server.txt2img(**body)
    assert answer.status_code == status, answer.text
    for word in words:
        assert word in answer.text
    assert "Traceback" not in answer.text
    assert server.txt2img().status_code == 200


def test_a_corrupt_checkpoint_leaves_the_loaded_model_working(server: Server) -> None:
    models = server.data / "models" / "Stable-diffusion"
    whole = (models / "tiny.safetensors").read_bytes()
    (models / "cut.safetensors").write_bytes(whole[: len(whole) // 2])
    httpx.post(f"{server.url}/sdapi/v1/refresh-checkpoints", timeout=60)
    answer = server.txt2img(override_settings={"sd_model_checkpoint": "cut"})
    (models / "cut.safetensors").unlink()
    assert 400 <= answer.status_code < 500, answer.text
    assert "cut.safetensors" in answer.text
    assert server.txt2img().status_code == 200


def test_an_interrupt_with_nothing_running_does_nothing(server: Server) -> None:
    for route in ("interrupt", "skip"):
        assert httpx.post(f"{server.url}/sdapi/v1/{route}", timeout=60).status_code == 200
    assert server.txt2img().status_code == 200


def test_a_dropped_checkpoint_appears_after_refresh_and_loads(server: Server) -> None:
    tiny_checkpoint(server.data / "models" / "Stable-diffusion", "dropped", seed=9)
    httpx.post(f"{server.url}/sdapi/v1/refresh-checkpoints", timeout=60)
    names = [item["model_name"] for item in httpx.get(f"{server.url}/sdapi/v1/sd-models", timeout=60).json()]
    assert "dropped" in names
    ours, theirs = (
        server.txt2img(override_settings={"sd_model_checkpoint": name}).json()["images"][0]
        for name in ("tiny", "dropped")
    )
    assert ours != theirs
    for file in (server.data / "models" / "Stable-diffusion").glob("dropped.*"):
        file.unlink()


def test_the_same_request_gives_the_same_bytes(server: Server) -> None:
    body = {"sampler_name": "DPM++ 2M SDE", "steps": 3, "seed": 5}
    first, again = (server.txt2img(**body).json()["images"] for _ in range(2))
    assert first == again


def test_a_batch_equals_its_pictures_made_one_by_one(server: Server) -> None:
    batch = server.txt2img(sampler_name="Euler a", steps=3, batch_size=3, seed=5).json()["images"]
    for offset, encoded in enumerate(batch):
        single = server.txt2img(sampler_name="Euler a", steps=3, seed=5 + offset).json()["images"][0]
        a, b = (Image.open(io.BytesIO(base64.b64decode(data))).tobytes() for data in (encoded, single))
        assert max(abs(x - y) for x, y in zip(a, b, strict=True)) <= 1


def test_a_job_can_be_interrupted_and_hands_back_what_it_has(server: Server) -> None:
    answers: list[httpx.Response] = []
    job = threading.Thread(target=lambda: answers.append(server.txt2img(**ENDLESS)))
    job.start()
    try:
        server.wait_for_step(2)
    finally:
        httpx.post(f"{server.url}/sdapi/v1/interrupt", timeout=60)
        job.join(timeout=60)
    assert answers[0].status_code == 200
    assert len(answers[0].json()["images"]) == 1


def test_a_killed_server_is_restarted_and_loses_nothing(tmp_path: Path) -> None:
    tiny_checkpoint(tmp_path / "models" / "Stable-diffusion")
    running = Server(tmp_path, command=(sys.executable, "launch.py", "--skip-prepare-environment"))
    running.start()
    try:
        settings = {"samples_filename_pattern": "[seed]-[steps]"}
        assert httpx.post(f"{running.url}/sdapi/v1/options", json=settings, timeout=60).status_code == 200
        assert running.txt2img(save_images=True, seed=7).status_code == 200
        before = {path: path.read_bytes() for path in (tmp_path / "outputs").rglob("*.png")}
        assert before
        job = threading.Thread(target=lambda: pytest.raises(httpx.TransportError, running.txt2img, **ENDLESS))
        job.start()
        running.wait_for_step()
        (worker,) = psutil.Process(running.process.pid).children()
        worker.send_signal(signal.SIGKILL)
        job.join(timeout=60)
        running.wait_until_up()
        assert "SIGKILL" in running.log
        options = httpx.get(f"{running.url}/sdapi/v1/options", timeout=60).json()
        assert options["samples_filename_pattern"] == "[seed]-[steps]"
        assert {path: path.read_bytes() for path in before} == before
        running.wait_for_step()  # the job that was cut off runs again
        httpx.post(f"{running.url}/sdapi/v1/interrupt", timeout=60)
        assert running.txt2img(seed=8).status_code == 200
    finally:
        assert running.stop() == 0


def test_a_taken_port_is_named(server: Server, tmp_path: Path) -> None:
    second = subprocess.run(
        [sys.executable, "-m", "webui.app", "--port", str(server.port), "--data-dir", str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert second.returncode == 3
    assert str(server.port) in second.stderr
    assert "Traceback" not in second.stderr


def test_without_a_tunnel_the_server_goes_on_and_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTPS_PROXY", "https_proxy"):  # where the sharing service can be reached, it can't be either
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    tiny_checkpoint(tmp_path / "models" / "Stable-diffusion")
    running = Server(tmp_path, flags=("--share", "--skip-load-model-at-start"))
    running.start()
    try:
        until(lambda: "No public link" in running.log)
        assert "No public link: the sharing service can't be reached" in running.log
        assert "Traceback" not in running.log
        assert httpx.get(running.url, timeout=60).status_code == 200
    finally:
        assert running.stop() == 0


LASTING = """
import threading
import time

for number in range(3):
    threading.Thread(target=time.sleep, args=(600,), name=f"endless {number}").start()
"""


def test_threads_of_an_extension_do_not_hold_up_the_end_and_a_broken_styles_file_is_logged(tmp_path: Path) -> None:
    folder = tmp_path / "extensions" / "lasting"
    folder.mkdir(parents=True)
    (folder / "extension.py").write_text(LASTING)
    (tmp_path / "styles.csv").write_bytes(b"a letter\nto somebody\n")
    server = Server(tmp_path, (*EXACT, "--skip-load-model-at-start"))
    server.start()
    started = time.monotonic()
    assert server.stop() == 0
    assert time.monotonic() - started < 30
    assert "endless 0, endless 1, endless 2" in server.log
    assert f"The styles in {tmp_path / 'styles.csv'} can't be read" in server.log
    assert (tmp_path / "styles.csv").read_bytes() == b"a letter\nto somebody\n"
