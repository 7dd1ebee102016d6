"""Animations with a model, held against the original's, where its frames don't feed later ones or are stable."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image

from tests.extensions.deforum.test_job import job_of, submit
from tests.recordings import lay_out
from tests.running import Server

pytestmark = pytest.mark.parity
CASES = ("nofb-interpolation-seed-schedule", "nofb-video-strength-etas", "3d-rotate")


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory, parity: Path) -> Iterator[Server]:
    data = tmp_path_factory.mktemp("deforum-parity")
    lay_out(parity, data)
    (data / "config.json").write_text(json.dumps({"sd_model_checkpoint": "tinyA.safetensors"}))
    running = Server(data)
    running.start()
    yield running
    assert running.stop() == 0


def with_paths(value: Any, inputs: Path) -> Any:
    if isinstance(value, dict):
        return {key: with_paths(item, inputs) for key, item in value.items()}
    return value.replace("@inputs/", f"{inputs}/") if isinstance(value, str) else value


@pytest.mark.parametrize("name", CASES)
def test_frames_as_recorded(name: str, recorded: Server, parity: Path) -> None:
    folder = parity / "deforum"
    case = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))[name]
    found = job_of(recorded, submit(recorded, with_paths(case["deforum_settings"], folder / "inputs"))["job_ids"][0])
    assert found["status"] == "SUCCEEDED", found["message"]
    for frame in case["frames"][: case["stable"]]:
        ours = np.asarray(Image.open(Path(found["outdir"]) / f"{found['timestring']}_{frame}")).astype(int)
        theirs = np.asarray(Image.open(folder / "images" / name / frame).convert("RGB"))
        assert (np.abs(ours - theirs) <= 2).mean() >= 0.99, frame


def test_it_answers(recorded: Server) -> None:
    assert httpx.get(f"{recorded.url}/deforum/api_version").json() == {"version": "1.0"}
