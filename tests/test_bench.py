"""The benchmarks: what their figures mean, and that they still fit the program they measure."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from bench.device import PARTS, DeviceReport
from bench.device.rows import Found, Row, Rows
from bench.measure import Bar, Report, Sample, Series, alternating
from bench.programs import ROOT
from tests.tiny import NATIVE_SIZE, tiny_checkpoint
from webui.core.choices import SAMPLERS


def test_a_ratio_is_that_of_the_rounds_not_of_the_medians() -> None:
    base = Series("base", [Sample(1, 2), Sample(2, 2), Sample(10, 2)])
    own = Series("own", [Sample(2, 1), Sample(4, 1), Sample(5, 3)])
    assert own.ratio(base) == Sample(2, 0.5)
    assert (own.wall, base.wall) == (4, 2)


def test_bars_say_whether_they_are_held() -> None:
    assert Bar("step", 1.02, 1.02, "x").held
    assert not Bar("page", 6.1, 6.0, "s").held
    assert Bar("load", 3.0, None, "x").line == "load: 3.000 x"
    assert Bar("step", 1.5, 1.02, "x", cpu=1.01).line == "step: 1.500 x (1.010 in CPU time), bar 1.02 x: NOT held"


def test_on_a_busy_machine_the_cpu_time_decides() -> None:
    assert Bar("step", 1.5, 1.02, "x", cpu=1.01, by_cpu=True).held
    assert not Bar("step", 1.0, 1.02, "x", cpu=1.05, by_cpu=True).held


def test_no_arm_comes_first_in_every_round() -> None:
    assert [list(order) for order in alternating(3, 2)] == [[0, 1, 2], [2, 1, 0]]


def test_a_report_is_plain_json() -> None:
    report = Report("step", {"rounds": 1}, {"quiet": True})
    report.series = [Series("own", [Sample(2, 1)]), Series("base", [Sample(1, 1)])]
    report.compare("own by base", *report.series, limit=1.5)
    assert json.loads(json.dumps(report.record()))["bars"][0]["held"] is False
    assert any("NOT held" in line for line in report.lines())


def run(*words: str, rounds: bool = True) -> dict:
    command = [sys.executable, "-m", "bench", *words, "--json", *(("--rounds", "1") if rounds else ())]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600)
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


@pytest.mark.slow
def test_steps_of_easel_and_diffusers_are_timed(tmp_path: Path) -> None:
    checkpoint = tiny_checkpoint(tmp_path)
    record = run("step", "--checkpoint", str(checkpoint), "--pixels", str(NATIVE_SIZE), "--dtype", "fp32")
    assert [series["title"] for series in record["series"]] == ["Easel fp32", "diffusers fp32"]
    assert all(series["wall"] > 0 and series["cpu"] > 0 for series in record["series"])


@pytest.mark.slow
def test_steps_with_a_control_network_are_timed(tmp_path: Path) -> None:
    checkpoint = tiny_checkpoint(tmp_path)
    record = run("control", "--checkpoint", str(checkpoint), "--pixels", str(NATIVE_SIZE))
    assert [series["title"] for series in record["series"]] == ["Easel", "diffusers"]
    assert all(series["wall"] > 0 and series["cpu"] > 0 for series in record["series"])


@pytest.mark.slow
def test_the_first_picture_is_timed(tmp_path: Path) -> None:
    checkpoint = tiny_checkpoint(tmp_path)
    record = run("first-picture", "--checkpoint", str(checkpoint))
    assert record["setup"]["pixels"] == NATIVE_SIZE
    assert [series["title"] for series in record["series"]] == ["page", "first picture", "second picture"]


def test_every_sampler_is_timed() -> None:
    record = run("samplers", "--steps", "3", "--pixels", "64")
    assert [series["title"] for series in record["series"]] == [sampler.name for sampler in SAMPLERS]
    assert all(series["cpu"] > 0 for series in record["series"])


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["lora", "dreambooth"])
def test_the_embedded_model_learns_a_subject_that_it_does_not_know(kind: str) -> None:
    words = ("--parts", "teaches", "--kinds", kind, "--steps", "80", "--batch", "3", "--pictures", "4")
    words = (*words, "--others", "dog", "--lessons", "4")
    record = run("training", *words, rounds=False)
    (series,) = record["series"]
    assert series["facts"]["sure after"] > series["facts"]["sure before"] + 0.3


def device_rows(*words: str, tmp_path: Path) -> list[Row]:
    command = [sys.executable, "-m", "bench", "device", "--small", "--device", "cpu", "--json", *words]
    environ = {**os.environ, "OUT": str(tmp_path / "out")}
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=280, env=environ)
    assert result.returncode == 0, result.stderr
    record = json.loads(result.stdout)
    assert json.loads((tmp_path / "out" / "device.json").read_text())["rows"] == record["rows"]
    return [Row.of(row) for row in record["rows"]]


@pytest.mark.slow
@pytest.mark.parametrize("part", [part for part in PARTS if part != "b"])
def test_every_row_of_the_device_benchmark_is_ok_on_a_cpu(part: str, tmp_path: Path) -> None:
    rows = device_rows("--parts", part, tmp_path=tmp_path)
    assert len(rows) >= 7
    assert {row.part for row in rows} == {part}
    assert not [row.line for row in rows if row.status != "ok"]


@pytest.mark.slow
def test_a_checkpoint_that_is_not_there_costs_only_its_own_rows(tmp_path: Path) -> None:
    rows = device_rows("--parts", "b", "--checkpoint", str(tmp_path / "nowhere.safetensors"), tmp_path=tmp_path)
    failed = [row for row in rows if row.status != "ok"]
    assert [row.name for row in failed] == ["SD 1.5: the model"]
    assert "nowhere" in failed[0].why
    assert any(row.name == "SDXL, 64 px, batch 4, float32: Easel" for row in rows)


def test_a_row_that_fails_costs_only_itself(tmp_path: Path) -> None:
    def broken() -> Found:
        raise RuntimeError("CUDA error: misaligned address")

    rows = Rows("b", tmp_path / "rows", seconds=60)
    assert rows.measure("broken", broken) is None
    assert rows.measure("a step", lambda: Found(2.0, "it/s", least=1.0)) == Found(2.0, "it/s", least=1.0)
    rows.measure("too slow", lambda: Found(0.5, "it/s", least=1.0))
    rows.measure("no number", lambda: Found(float("nan"), "levels", most=1.0))
    rows.until = 0.0
    rows.measure("too late", broken)
    read = [Row.of(json.loads(line)) for line in (tmp_path / "rows").read_text().splitlines()]
    assert [row.status for row in read] == ["failed", "ok", "NOT held", "NOT held", "left out"]
    assert "misaligned" in read[0].why
    report = DeviceReport({}, {})
    for row in read:
        report.add(row)
    assert report.lines()[-1] == "1 ok, 2 NOT held, 1 failed, 1 left out"
