"""Trainings under servers that are killed, and on disks that run full."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from safetensors.torch import load_file

from tests.faults.jobs import jobs, kill, new_server, start_again, states, until, until_ended
from tests.faults.test_disk_full import fill
from tests.running import Server
from tests.training.conftest import pictures

SMALL = {
    "data.resolution": "64",
    "data.min_bucket_reso": 64,
    "optimization.seed": 7,
    "optimization.learning_rate": 1e-3,
    "saving.save_state_every": 3,
    "saving.save_precision": "float",
    "lora.network_dropout": 0.2,
}


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    """One with pictures to learn; its outputs lie on a small file system of their own where that may be made."""
    running = new_server(tmp_path)
    pictures(tmp_path / "train" / "1_sks thing")
    (tmp_path / "outputs").mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", str(tmp_path / "outputs")]
    mounted = not subprocess.run(command, capture_output=True, check=False).returncode
    try:
        running.start()
        yield running
        kill(running)
    finally:
        if mounted:
            subprocess.run(["umount", "-l", str(tmp_path / "outputs")], check=True)


def train(server: Server, name: str, steps: int) -> None:
    values: dict[str, Any] = {
        **SMALL,
        "name": name,
        "data.train_data_dir": str(server.data / "train"),
        "optimization.max_train_steps": steps,
    }
    body = {"kind": "lora", "values": values, "job": f"task({name})"}
    httpx.post(f"{server.url}/easel/v1/training/start", json=body, timeout=60).raise_for_status()


def rows(server: Server, name: str) -> int:
    """Steps that a training has logged."""
    logs = list((server.data / "outputs").rglob(f"{name}-*/log.csv"))
    return len(logs[0].read_text().splitlines()) - 1 if logs else 0


@pytest.mark.timeout(900)
def test_a_training_is_killed_and_goes_on_to_the_weights_of_an_undisturbed_one(server: Server) -> None:
    train(server, "whole", 8)
    until_ended(server, 1)
    train(server, "killed", 8)
    until(lambda: rows(server, "killed") >= 5, "it does not train")
    kill(server)
    assert not (server.data / "models" / "Lora" / "killed.safetensors").exists()
    start_again(server)
    ended = until_ended(server, 2)
    assert ended["task(killed)"]["state"] == "done"
    first, second = (load_file(server.data / "models" / "Lora" / f"{name}.safetensors") for name in ("whole", "killed"))
    assert all(first[key].equal(second[key]) for key in first)


@pytest.mark.timeout(900)
def test_a_full_disk_fails_a_training_in_a_sentence_and_it_goes_on_when_there_is_space(server: Server) -> None:
    if not (server.data / "outputs").is_mount():
        pytest.skip("only root may mount a small file system")
    train(server, "full", 12)
    until(lambda: rows(server, "full") >= 3, "it does not train")
    ballast = fill(server.data / "outputs")
    until(lambda: states(server)["task(full)"] == "failed", "it did not fail")
    assert "no space" in jobs(server)["task(full)"]["error"].lower()
    before = rows(server, "full")
    ballast.unlink()
    until(lambda: states(server)["task(full)"] == "done", "it did not go on")
    assert rows(server, "full") == 12
    assert before >= 3
