"""From packed art to measured pictures: slices on a bare copy of the repository, one of them killed."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from tests.tools.embedded_model_art import SIDE, small_preset, write_packages
from tools.embedded_model import evaluate, export, pack, slices
from tools.embedded_model.config import PRESETS, REPOSITORY
from tools.embedded_model.loop import compact, load_state, save_state
from tools.embedded_model.networks import VOCABULARY, build_vae

START = """
import sys
from dataclasses import replace
from pathlib import Path
from tests.tools.embedded_model_art import small_preset
from tools.embedded_model.__main__ import main
preset = small_preset(Path({folder!r}))
preset = replace(preset, vae=replace(preset.vae, minutes={vae_minutes}))
main({{"small": preset}}, {words!r})
"""


def bare_copy(folder: Path) -> Path:
    """What a slice needs of the repository, and nothing that was made in it."""
    made, cached = shutil.ignore_patterns("__pycache__", "data", "runs", "npm"), shutil.ignore_patterns("__pycache__")
    shutil.copytree(REPOSITORY / "tools" / "embedded_model", folder / "tools" / "embedded_model", ignore=made)
    (folder / "tests" / "tools").mkdir(parents=True)
    shutil.copy(REPOSITORY / "tests" / "tools" / "embedded_model_art.py", folder / "tests" / "tools")
    for package in ("prompts", "core"):
        shutil.copytree(REPOSITORY / "webui" / package, folder / "webui" / package, ignore=cached)
    return folder


def begin(copy: Path, out: Path, *words: str, vae_minutes: float = 0.05) -> subprocess.Popen[str]:
    """A slice as on a machine of its own: the copy's code, its carried folder, and $OUT emptied."""
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir()
    code = START.format(
        folder=str(copy / "carried"), words=["slice", "--preset", "small", *words], vae_minutes=vae_minutes
    )
    environment = {**os.environ, "OUT": str(out), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, "-c", code], cwd=copy, env=environment, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip


def has_saved(out: Path) -> bool:
    """Whether a slice has logged its progress and left a state."""
    log = out / "log.txt"
    return bool(list(out.glob("state-*.part"))) and log.exists() and "l1" in log.read_text()


@pytest.mark.slow
def test_pack_slices_export_and_evaluate_make_a_measured_checkpoint(tmp_path: Path):
    preset = small_preset(tmp_path / "home")
    pack.run(preset, write_packages(tmp_path / "node_modules"))
    out = tmp_path / "out"

    # A first slice, which would train its VAE for an hour, is killed without a word once it has saved.
    first = bare_copy(tmp_path / "first")
    shutil.copytree(preset.data / "pack", first / "carried" / "data" / "pack")
    running = begin(first, out, "--minutes", "60", vae_minutes=60)
    deadline = time.time() + 120
    while not has_saved(out) and time.time() < deadline and running.poll() is None:
        time.sleep(0.1)
    running.send_signal(signal.SIGKILL)
    said = running.communicate()[0]
    assert has_saved(out), said
    slices.unslice(preset, out)
    halfway = load_state(preset.run / "vae.pt")
    assert halfway is not None
    assert not halfway["done"]
    assert "optimizer" not in halfway
    assert halfway["average"][0].dtype == torch.float16

    # A second machine finds pack and state, ends all stages and stops by itself.
    second = bare_copy(tmp_path / "second")
    shutil.copytree(preset.data / "pack", second / "carried" / "data" / "pack")
    shutil.copytree(preset.run, second / "carried" / "runs" / "small")
    running = begin(second, out, "--minutes", "5")
    said = running.communicate(timeout=240)[0]
    assert running.returncode == 0, said
    assert "all is trained" in said
    files = list(out.iterdir())
    assert len(files) <= 8
    assert all(file.stat().st_size <= 16 * 2**20 for file in files)
    slices.unslice(preset, out)
    assert slices.due(preset) is None
    resumed = load_state(preset.run / "vae.pt")
    assert resumed is not None
    assert resumed["step"] > halfway["step"]
    rows = (preset.run / "vae.csv").read_text().splitlines()
    steps = [int(row.split(",")[0]) for row in rows[1:]]
    assert steps == sorted(steps), "the curve goes on where the first slice's ended"

    # At home.
    shutil.copytree(second / "carried" / "data" / "art-64", preset.data / "art-64")
    shutil.copy(second / "carried" / "data" / "emoji.json", preset.data)
    checkpoint = tmp_path / "models" / "small.safetensors"
    export.run(preset, checkpoint)
    with safe_open(checkpoint, "pt") as file:
        facts = json.loads(file.metadata()["easel"])
    assert facts["examples"] == list(preset.examples)
    assert facts["steps"] == load_state(preset.run / "unet.pt")["step"]
    effort = evaluate.Effort(
        adherence=4, held_out=2, weights=2, negative=1, inpainting=1, vae=14, judge_steps=4, sheet=4, natural=4
    )  # fmt: skip
    evaluate.run(preset, checkpoint, tmp_path / "docs", effort)
    figures = json.loads((tmp_path / "docs" / "figures.json").read_text())
    assert figures["native_size"] == SIDE
    assert figures["sampler"] == "DPM++ 2M, 20 steps, CFG 5"
    assert 0 <= figures["subject_top1"] <= figures["subject_top5"] <= 1
    assert set(figures["weights"]) == set(figures["weights_small"]) == {"0.5", "1.0", "1.5"}
    assert figures["inpainting"]["outside_max"] == 0
    assert figures["inpainting"]["inside_mean"] > 0
    assert figures["seeds_mean_distance"] > 0
    made = {path.name for path in (tmp_path / "docs").iterdir()}
    assert made == {"figures.json", "vae.png", "subjects.png", "prompts.png", "curves.png"}


def test_a_state_lacking_a_part_is_refused(tmp_path: Path):
    (tmp_path / "state-0-of-2.part").write_bytes(b"half")
    with pytest.raises(FileNotFoundError, match="1 parts"):
        slices.unslice(small_preset(tmp_path), tmp_path)


def test_states_travel_in_parts_of_at_most_sixteen_mebibytes(tmp_path: Path):
    preset = small_preset(tmp_path)
    weights = [torch.randn(9_000_000)]
    state = {"networks": [{}], "optimizer": {}, "average": weights, "step": 7, "minutes": 1.0, "done": False}
    save_state(preset.run / "vae.pt", state)
    out = tmp_path / "out"
    out.mkdir()
    (out / "state-0-of-1.part").write_bytes(b"of an earlier, smaller state")
    slices.write_out(preset, out)
    assert sorted(path.name for path in out.iterdir()) == ["state-0-of-2.part", "state-1-of-2.part"]
    assert all(path.stat().st_size <= 16 * 2**20 for path in out.iterdir())
    home = replace(preset, runs=tmp_path / "home")
    slices.unslice(home, out)
    back = load_state(home.run / "vae.pt")
    assert back is not None
    assert torch.equal(back["average"][0], weights[0].half())
    assert (back["step"], back["minutes"]) == (7, 1.0)


def test_what_travels_of_a_full_run_fits_with_the_pack_and_the_tree():
    sizes = PRESETS["full"].sizes
    table = 2 * VOCABULARY * sizes.text
    words = 2 * 8000 * sizes.text  # rows of the packed table; about half as many are used
    decoder = sum(2 * p.numel() for p in build_vae(sizes).decoder.parameters())  # once more, sharpened
    state = export.shipped_bytes(sizes) - table + words + decoder
    assert state <= slices.PARTS * slices.PART
    art, tree = 21.5e6, 4.5e6  # the pack, and the tracked files with the checkpoint moved aside
    assert state + art + tree < 64 * 2**20


def test_compact_keeps_the_counters_and_drops_the_moments():
    state = {"networks": [], "optimizer": {}, "average": [torch.ones(2)], "extras": {"a": torch.ones(1)}, "step": 3}
    assert set(compact(state)) == {"average", "extras", "step"}
    assert compact(state)["extras"]["a"].dtype == torch.float16
