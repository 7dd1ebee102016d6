"""Loading a checkpoint as a job."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.tiny import tiny_checkpoint
from webui.core.errors import BadModelFile, NotFound
from webui.core.flags import parse_flags
from webui.jobs.context import JobContext
from webui.models.weights import open_weights
from webui.pipeline.engine import Engine, build
from webui.pipeline.load import run, unload
from webui.services.building import build_services


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Engine:
    data = tmp_path_factory.mktemp("data")
    models = data / "models" / "Stable-diffusion"
    tiny_checkpoint(models)
    (models / "broken.safetensors").write_bytes(b"no model")
    flags, _ = parse_flags(["--data-dir", str(data), "--device", "cpu", "--no-half"], {})
    return build(build_services(flags))


def test_the_hash_is_known_once_a_checkpoint_is_loaded(engine: Engine) -> None:
    assert engine.checkpoints.find("tiny").sha256 is None
    title = run(engine, "tiny", JobContext.alone())
    assert engine.models.current is not None
    assert engine.models.current.model_name == "tiny"
    known = engine.checkpoints.find("tiny")
    assert known.sha256
    assert title == known.title == f"tiny.safetensors [{known.sha256[:10]}]"


def test_what_cannot_be_loaded_leaves_the_old_model(engine: Engine) -> None:
    run(engine, "tiny", JobContext.alone())
    with pytest.raises(BadModelFile, match="broken"):
        run(engine, "broken", JobContext.alone())
    with pytest.raises(NotFound, match="tinny"):
        run(engine, "tinny", JobContext.alone())
    assert engine.models.current is not None
    assert engine.models.current.model_name == "tiny"


def test_unloading_is_for_the_next_job_to_undo(engine: Engine) -> None:
    run(engine, "tiny", JobContext.alone())
    unload(engine, None, JobContext.alone())
    assert engine.models.current is None
    run(engine, "tiny", JobContext.alone())
    assert engine.models.current is not None


def cut(path: Path) -> None:
    """Make the file half as long, in place."""
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size // 2)


@pytest.mark.parametrize("suffix", [".safetensors", ".ckpt"])
def test_a_file_cut_off_under_a_loaded_model_is_named_and_stays_chosen(engine: Engine, suffix: str) -> None:
    models = engine.paths.checkpoints[0]
    path = tiny_checkpoint(models, "cut", seed=9, dtype="F32")
    if suffix == ".ckpt":
        torch.save(load_file(path), models / "cut.ckpt")
        path.unlink()
        path = models / "cut.ckpt"
    engine.checkpoints.refresh()
    run(engine, path.name, JobContext.alone())
    whole = path.read_bytes()
    cut(path)
    for _ in range(2):
        with pytest.raises(BadModelFile, match=rf"cut\{suffix}"):
            run(engine, None, JobContext.alone())
        assert str(engine.settings.snapshot()["sd_model_checkpoint"]).startswith(path.name)
    path.write_bytes(whole)
    engine.checkpoints.refresh()
    assert run(engine, None, JobContext.alone()).startswith(path.name)
    run(engine, "tiny", JobContext.alone())
    path.unlink()
    engine.checkpoints.refresh()


def test_a_file_cut_off_while_it_is_read_is_named(engine: Engine) -> None:
    path = tiny_checkpoint(engine.paths.data, "torn")
    file = open_weights(path)
    name = next(iter(file.shapes))
    file.tensor(name)
    cut(path)
    with pytest.raises(BadModelFile, match=r"torn\.safetensors was cut off while it was in use"):
        file.tensor(name)
