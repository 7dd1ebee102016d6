"""The hooks around a job's beginning, through a program that isn't served: services, planner, queue and worker."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.tiny import tiny_checkpoint
from webui.core.errors import InvalidRequest
from webui.core.flags import parse_flags
from webui.core.request import GenerationRequest
from webui.extensions.errors import ExtensionFailed
from webui.services.building import build_services
from webui.services.services import Services

HEAD = "from dataclasses import replace\nfrom webui.extensions.api import *\n"
Start = Callable[..., Services]
COUNTER = """
class Count(Params):
    words: tuple[str, ...] = ()
    fails: bool = False

def run(easel, count, job):
    assert easel.models is not None and easel.paths.outputs.is_dir()
    if count.fails:
        raise ValueError("one word too many")
    first = job.load_state() or 0
    job.save_state(first + 1)
    requests = [GenerationRequest(prompt=word, seed=3, steps=1, width=64, height=64) for word in count.words]
    made = job.spawn(requests, save=False)
    job.artifact(easel.paths.outputs / "words.txt").write_text(" ".join(count.words))
    return Count(words=tuple(result.info["prompt"] for result in made))

KIND = JobKind("counter.count", run, Count, Count, "Count", resumable=True)

@hookimpl
def register_jobs():
    return [KIND]

@hookimpl
def started(easel):
    easel.paths.outputs.joinpath("started.txt").write_text(str(easel.models))
"""


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    built: list[Services] = []

    def started(**mains: str) -> Services:
        tiny_checkpoint(tmp_path / "models" / "Stable-diffusion")
        for name, main in mains.items():
            (tmp_path / "extensions" / name).mkdir(parents=True)
            (tmp_path / "extensions" / name / "extension.py").write_text(HEAD + main)
        flags = ["--data-dir", str(tmp_path), "--no-half", "--precision", "full", "--device", "cpu", "--no-hashing"]
        built.append(build_services(parse_flags(flags, {})[0]))
        return built[-1]

    yield started
    for services in built:
        services.jobs.close(60)
        services.checkpoints.close()


def test_revise_request(start: Start) -> None:
    services = start(
        a="@hookimpl\ndef revise_request(request, easel):\n"
        "    assert easel.settings.snapshot()['samples_save']\n"
        "    return request.replace(prompt=request.prompt.replace('__animal__', 'cat'))\n",
        b="@hookimpl\ndef revise_request(request): return request.replace(prompt=request.prompt + ', ink')\n",
        silent="@hookimpl\ndef revise_request(request): return None\n",
    )
    plan = services.planner.plan(GenerationRequest(prompt="a __animal__"))
    assert plan.first.prompts == ("a cat, ink",)
    assert plan.request.prompt == "a cat, ink"


def test_revise_plan(start: Start) -> None:
    services = start(
        a="@hookimpl\ndef revise_plan(plan):\n"
        "    prompts = tuple(f'{prompt} {number}' for number, prompt in enumerate(plan.first.prompts))\n"
        "    return replace(plan, first=replace(plan.first, prompts=prompts), seeds=(7, 5))\n",
    )
    plan = services.planner.plan(GenerationRequest(prompt="cat", batch_size=2, seed=1))
    assert (plan.first.prompts, plan.seeds) == (("cat 0", "cat 1"), (7, 5))


def test_a_hook_that_fails_or_gives_something_else_ends_the_submit_and_is_named(start: Start) -> None:
    services = start(
        a="@hookimpl\ndef revise_request(request):\n"
        "    if request.prompt == 'fault': raise KeyError('animal')\n"
        "    if request.prompt == 'mistake': raise InvalidRequest('There is no wildcard animal.')\n"
        "    if request.prompt == 'other': return 'a cat'\n",
    )
    for prompt, kind, words in (
        ("fault", ExtensionFailed, 'Extension "a" failed: KeyError'),
        ("mistake", InvalidRequest, "no wildcard animal"),
        ("other", ExtensionFailed, "gave str 'a cat', not a GenerationRequest"),
    ):
        with pytest.raises(kind, match=words):
            services.planner.plan(GenerationRequest(prompt=prompt))


def test_started_and_register_jobs(start: Start, tmp_path: Path) -> None:
    services = start(counter=COUNTER)
    assert (tmp_path / "outputs" / "started.txt").read_text() == "None"
    module: Any = next(item for name, item in sys.modules.items() if name.startswith("_extension_counter"))
    services.jobs.start()
    job_id = services.jobs.submit(module.KIND, module.Count(words=("a cat", "a dog")))
    result: Any = services.jobs.result(job_id, timeout=240)
    assert result == module.Count(words=("a cat", "a dog"))
    progress = services.jobs.progress(job_id)
    assert progress.title == "Count"
    assert progress.artifacts == (str(tmp_path / "outputs" / "words.txt"),)
    assert (tmp_path / "outputs" / "words.txt").read_text() == "a cat a dog"
    assert not list((tmp_path / "outputs").rglob("*.png"))
    failed = services.jobs.submit(module.KIND, module.Count(fails=True))
    with pytest.raises(ExtensionFailed, match='Extension "counter" failed: ValueError: one word too many'):
        services.jobs.result(failed, timeout=240)


@pytest.mark.parametrize(
    ("main", "words"),
    [
        ("@hookimpl\ndef register_jobs(): return [3]\n", "gave int 3, not a JobKind"),
        (
            "@hookimpl\ndef register_jobs():\n    kind = JobKind('x', 'a:b')\n    return [kind, kind]\n",
            'a kind of job "x" already',
        ),
    ],
)
def test_register_jobs_refuses_nonsense(start: Start, main: str, words: str) -> None:
    services = start(bad=main)
    (problem,) = (item for item in services.host.problems if item.name == "bad")
    assert re.search(words, problem.sentence)
