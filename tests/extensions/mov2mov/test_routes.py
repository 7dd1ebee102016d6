"""/mov2mov over HTTP, against a running server."""

from __future__ import annotations

import base64
import time
from pathlib import Path
from typing import Any

import pytest

from tests.api.conftest import Running
from tests.video.clips import moving_square, write_clip
from webui.video import open_video

BODY = {"prompt": "a harbour", "seed": 5, "steps": 2, "width": 64, "height": 64, "denoising_strength": 0.6}


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = write_clip(tmp_path_factory.mktemp("clips") / "clip.mp4", moving_square(6), 6)
    return base64.b64encode(path.read_bytes()).decode()


def ended(easel: Running, job_id: str) -> Any:
    for _ in range(1200):
        told = easel.client.get(f"/mov2mov/jobs/{job_id}").json()
        if told["state"] not in ("queued", "running"):
            return told
        time.sleep(0.1)
    raise AssertionError(told)


@pytest.mark.parametrize("prefix", ["", "data:video/mp4;base64,"])
def test_a_film_by_the_api(easel: Running, clip: str, prefix: str) -> None:
    body = {**BODY, "video": prefix + clip, "fps": 3, "max_frames": 2, "initial_noise_multiplier": 0.9}
    answer = easel.client.post("/mov2mov/run", json=body)
    assert answer.status_code == 200, answer.text
    told = ended(easel, answer.json()["job_id"])
    assert (told["state"], told["frame"], told["total"], told["progress"]) == ("done", 2, 2, 1.0)
    video = open_video(Path(told["video"]))
    assert (video.count, video.rate) == (2, 3)


def test_a_job_that_is_cancelled(easel: Running, clip: str) -> None:
    body = {**BODY, "steps": 50, "video": clip, "options": {"resume": False}}
    job_id = easel.client.post("/mov2mov/run", json=body).json()["job_id"]
    assert easel.client.delete(f"/mov2mov/jobs/{job_id}").status_code == 200
    assert ended(easel, job_id)["frame"] < 6
    assert easel.client.get("/mov2mov/jobs/none").status_code == 404
    assert easel.client.delete("/mov2mov/jobs/none").status_code == 404


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"video": None}, "video is missing"),
        ({"video": "/etc/passwd"}, "isn't a file in the data folder"),
        ({"video": "../../etc/passwd"}, "isn't a file in the data folder"),
        ({"video": "%%%%"}, "base64"),
        ({"colour": 3}, 'no field "colour"'),
        ({"steps": -1}, "steps"),
        ({"fps": 100000}, "Movie FPS"),
        ({"options": {"frames": {"speed": 2}}}, "speed"),
        ({"options": {"output": {"sound": "File", "soundtrack": "/etc/passwd"}}}, "soundtrack"),
        ({"options": {"masks": {"video": "/etc/passwd"}}}, "mask_video"),
        ({"mask_video": "/etc/passwd"}, "isn't a file in the data folder"),
        ({"soundtrack": "/etc/passwd"}, "isn't a file in the data folder"),
    ],
)
def test_mistakes(easel: Running, clip: str, change: Any, words: str) -> None:
    answer = easel.client.post("/mov2mov/run", json={**BODY, "video": clip, **change})
    assert answer.status_code == 422
    assert words in answer.json()["detail"]


def test_what_is_no_video_fails_with_a_sentence(easel: Running) -> None:
    text = base64.b64encode(b"this is not a video at all").decode()
    told = ended(easel, easel.client.post("/mov2mov/run", json={**BODY, "video": text}).json()["job_id"])
    assert told["state"] == "failed"
    assert "isn't a video" in told["message"]
