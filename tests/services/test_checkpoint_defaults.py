"""What a form begins with while a checkpoint is in use."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.tiny import tiny_checkpoint
from webui.services.checkpoint_defaults import CheckpointDefaults, current_defaults
from webui.services.services import Services


@pytest.mark.parametrize(
    ("layout", "wanted"),
    [
        ({"native_size": 64, "cfg_scale": 5}, (64, 5)),
        ({"native_size": 64}, (64, 7)),
        ({"native_size": 70, "cfg_scale": 100}, (512, 7)),  # nothing a form could begin with
    ],
)
def test_the_file_beside_the_checkpoint_is_asked(
    services: Services, layout: dict[str, float], wanted: tuple[int, float]
) -> None:
    tiny_checkpoint(services.paths.checkpoints[0], "asked", **layout)
    services.checkpoints.refresh()
    services.settings.update({"sd_model_checkpoint": "asked"})
    assert current_defaults(services) == CheckpointDefaults(*wanted)


def test_a_broken_file_has_the_usual_defaults(services: Services) -> None:
    broken: Path = services.paths.checkpoints[0] / "broken.safetensors"
    broken.write_bytes(b"no model")
    services.checkpoints.refresh()
    services.settings.update({"sd_model_checkpoint": "broken"})
    assert current_defaults(services) == CheckpointDefaults(512, 7)
