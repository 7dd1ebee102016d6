"""The server is killed at bad moments, and started again on the same data folder."""

from __future__ import annotations

import os
import random
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from PIL import Image

from tests.faults.jobs import (
    jobs,
    kill,
    new_server,
    pixels,
    rows,
    saved_pictures,
    start_again,
    states,
    submit,
    until,
    until_ended,
)
from tests.running import ENDLESS, Server

POISON = """
import os, signal
from webui.extensions.api import *

@hookimpl
def postprocess_image(image, plan):
    if "poison" in plan.request.prompt:
        os.kill(os.getpid(), signal.SIGKILL)
"""
ROUNDS = int(os.environ.get("EASEL_KILL_ROUNDS", "3"))
"""How often the server is killed among thirty jobs; ten to be thorough, which takes minutes."""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    running = new_server(tmp_path)
    running.start()
    yield running
    if running.process is not None and running.process.poll() is None:
        kill(running)


def test_what_waits_and_what_ran_are_there_again_with_the_same_pictures(server: Server, tmp_path: Path) -> None:
    seeds = {}
    submit(server, "task(long)", steps=60, seed=-1, prompt="a dog")
    for name in ("b", "a", "c"):
        submit(server, f"task({name})", seed=-1)
    server.wait_for_step(2)
    kill(server)
    assert [name for name, _, _ in rows(tmp_path)] == ["task(long)", "task(b)", "task(a)", "task(c)"]
    start_again(server)
    assert jobs(server)["task(long)"]["attempt"] in (0, 2)
    answer = httpx.post(f"{server.url}/internal/progress", json={"id_task": "task(a)"}).json()
    assert answer["queued"] or answer["active"] or answer["completed"]
    ended = until_ended(server, 4)
    assert {job["state"] for job in ended.values()} == {"done"}
    assert list(ended) == ["task(c)", "task(a)", "task(b)", "task(long)"]  # the latest first
    assert ended["task(long)"]["attempt"] == 2
    assert ended["task(a)"]["attempt"] == 1
    for name in ended:
        info = httpx.get(f"{server.url}/easel/v1/queue/result", params={"id": name}).json()["info"]
        seeds[name] = __import__("json").loads(info)["seed"]
    again = server.txt2img(steps=60, seed=seeds["task(long)"], prompt="a dog", force_task_id="task(undisturbed)")
    assert again.status_code == 200
    assert pixels(server, "task(undisturbed)") == pixels(server, "task(long)")


def test_results_outlive_the_server(server: Server) -> None:
    saved = {"force_task_id": "task(saved)", "save_images": True}
    assert server.txt2img(**saved).status_code == 200
    assert server.txt2img(force_task_id="task(unsaved)", n_iter=2, seed=5).status_code == 200
    assert server.txt2img(force_task_id="task(bad)", prompt="x", sampler_name="none such").status_code != 200
    before = [pixels(server, name) for name in ("task(saved)", "task(unsaved)")]
    kill(server)
    half = saved_pictures(server.data)[0].with_name(".00001-2.png.x_y2z3ab.tmp")
    half.write_bytes(b"half a picture")
    start_again(server)
    assert [pixels(server, name) for name in ("task(saved)", "task(unsaved)")] == before
    task = httpx.post(f"{server.url}/internal/progress", json={"id_task": "task(saved)"}).json()
    assert task["completed"]
    small = httpx.get(f"{server.url}/easel/v1/queue/thumbnail", params={"id": "task(saved)"})
    assert small.headers["content-type"] == "image/jpeg"
    until(lambda: not half.exists(), "what a killed server left half written is still there")


def test_a_job_that_kills_the_server_twice_is_parked_and_the_rest_runs(tmp_path: Path) -> None:
    server = new_server(tmp_path, extension=POISON)
    server.start()
    try:
        submit(server, "task(poison)", prompt="poison")
        for deaths in (1, 2):
            assert server.process is not None
            assert server.process.wait(timeout=120) == -signal.SIGKILL
            assert rows(tmp_path)[0] == ("task(poison)", "running", deaths)
            start_again(server)
        submit(server, "task(good)")
        ended = until_ended(server, 2)
        assert ended["task(good)"]["state"] == "done"
        assert ended["task(poison)"]["state"] == "parked"
        assert "the server ended 2 times while it ran" in ended["task(poison)"]["error"]
        refused = httpx.get(f"{server.url}/easel/v1/queue/result", params={"id": "task(poison)"})
        assert refused.status_code == 500
        assert "set aside" in refused.json()["errors"]
    finally:
        kill(server)


def test_launch_starts_the_killed_server_again_and_the_job_with_it(tmp_path: Path) -> None:
    server = new_server(tmp_path)
    server.command = (sys.executable, "launch.py", "--skip-prepare-environment")
    server.start()
    try:
        submit(server, "task(a)", steps=100)
        server.wait_for_step(1)
        assert server.process is not None
        children = Path(f"/proc/{server.process.pid}/task/{server.process.pid}/children").read_text().split()
        os.kill(int(children[0]), signal.SIGKILL)
        time.sleep(0.5)
        server.wait_until_up()
        job = until_ended(server, 1)["task(a)"]
        assert (job["state"], job["attempt"]) == ("done", 2)
        assert len(saved_pictures(tmp_path)) == 1
    finally:
        server.stop()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stopped_server_answers_who_waits_and_saves_the_picture_so_far(
    server: Server, tmp_path: Path, number: int
) -> None:
    answers: dict[str, httpx.Response] = {}

    def ask(name: str, **body: object) -> None:
        answers[name] = server.txt2img(force_task_id=f"task({name})", save_images=True, **body)

    from threading import Thread

    threads = [Thread(target=ask, args=("long",), kwargs={"steps": ENDLESS["steps"]})]
    threads[0].start()
    server.wait_for_step(2)
    threads.append(Thread(target=ask, args=("waits",)))
    threads[1].start()
    until(lambda: "task(waits)" in jobs(server), "not queued")
    assert server.process is not None
    server.process.send_signal(number)
    for thread in threads:
        thread.join(60)
    assert server.process.wait(60) == 0
    for name in ("long", "waits"):
        assert answers[name].status_code == 503
        assert answers[name].headers["content-type"] == "application/json"
        assert f'"task({name})" is kept' in answers[name].json()["errors"]
    assert len(saved_pictures(tmp_path)) == 1
    assert rows(tmp_path) == [("task(long)", "queued", 0), ("task(waits)", "queued", 0)]
    start_again(server)
    until(lambda: states(server)["task(long)"] == "running", "it doesn't run again")
    httpx.post(f"{server.url}/sdapi/v1/interrupt")
    assert {job["state"] for job in until_ended(server, 2).values()} == {"done"}


def test_killed_at_random_moments_every_job_ends_once_in_order(tmp_path: Path) -> None:
    dice, count, deaths = random.Random(11), 30, 0
    steps = 2 * ROUNDS  # so that enough of them are left at the last round
    server = new_server(tmp_path / "killed")
    server.start()
    try:
        for number in range(count):
            submit(server, f"task({number:02})", steps=steps, seed=100 + number)
        for _ in range(ROUNDS):
            before = list(states(server).values()).count("done")
            until(lambda before=before: list(states(server).values()).count("done") > before, "nothing ends")
            time.sleep(dice.uniform(0, 0.5))
            kill(server)
            running = [attempts for _, state, attempts in rows(server.data) if state == "running"]
            assert running in ([], [1])
            deaths += len(running)
            for path in saved_pictures(server.data):
                Image.open(path).load()  # whole, or not there
            start_again(server)
        assert deaths
        ended = until_ended(server, count)
        assert [job["state"] for job in ended.values()] == ["done"] * count
        assert list(ended) == [f"task({number:02})" for number in reversed(range(count))]
        assert [attempts for _, _, attempts in rows(server.data)].count(2) == deaths
        assert count <= len(saved_pictures(server.data)) <= count + deaths
        made = {name: pixels(server, name) for name in ended}
    finally:
        kill(server)
    undisturbed = new_server(tmp_path / "undisturbed")
    undisturbed.start()
    try:
        for number in range(count):
            answer = undisturbed.txt2img(steps=steps, seed=100 + number, force_task_id=f"task({number:02})")
            assert answer.status_code == 200
        assert {name: pixels(undisturbed, name) for name in made} == made
    finally:
        kill(undisturbed)
