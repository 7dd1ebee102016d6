from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

from safetensors.torch import load_file, save_file

from tests.tiny import tiny_checkpoint
from webui.catalog.checkpoints import EMBEDDED_STEM, CheckpointCatalog
from webui.catalog.hashes import HashCache
from webui.services.hints import first_run_hint
from webui.services.services import Services


def with_checkpoints(services: Services, own: Path) -> Services:
    hashes = HashCache(services.paths.cache / "hashes.sqlite", enabled=False)
    return replace(services, checkpoints=CheckpointCatalog([services.paths.checkpoints[0]], hashes, own=own))


def test_the_hint_names_the_folder_until_there_is_a_model(services: Services, tmp_path: Path) -> None:
    folder, own = services.paths.checkpoints[0], tmp_path / "own"
    empty = first_run_hint(with_checkpoints(services, own))
    assert empty is not None
    assert str(folder) in empty
    tiny_checkpoint(own, EMBEDDED_STEM)
    embedded = first_run_hint(with_checkpoints(services, own))
    assert embedded is not None
    assert "ships with Easel" in embedded
    assert str(folder) in embedded
    tiny_checkpoint(folder, "real")
    assert first_run_hint(with_checkpoints(services, own)) is None


def test_the_hint_has_prompts_that_the_shipped_model_knows(services: Services, tmp_path: Path) -> None:
    checkpoint = tiny_checkpoint(tmp_path / "own", EMBEDDED_STEM)
    own = {"name": "Easel Emoji", "examples": ["a red apple", "a <b>cat</b>"]}
    save_file(load_file(checkpoint), checkpoint, metadata={"easel": json.dumps(own)})
    hint = first_run_hint(with_checkpoints(services, tmp_path / "own"))
    assert hint is not None
    assert "try “a red apple” or “a <b>cat</b>”. For real pictures" in hint
