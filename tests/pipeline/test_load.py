"""Loading a checkpoint as a job."""

from __future__ import annotations

import pytest

from tests.tiny import tiny_checkpoint
from webui.app import build_services
from webui.core.errors import BadModelFile, NotFound
from webui.core.flags import parse_flags
from webui.jobs.context import JobContext
from webui.pipeline.engine import Engine, build
from webui.pipeline.load import run, unload


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Engine:
    data = tmp_path_factory.mktemp("data")
    models = data / "models" / "Stable-diffusion"
    tiny_checkpoint(models)
    (models / "broken.safetensors").write_bytes(b"no model")
    flags, _ = parse_flags(["--data-dir", str(data), "--device", "cpu"], {})
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
