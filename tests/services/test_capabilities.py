"""What each checkpoint in the list can do, without loading it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tools.random_checkpoint import TINY_SIZES, write_checkpoint
from webui.core.choices import SAMPLERS, SCHEDULERS
from webui.services.capabilities import current_offer, offer_of
from webui.services.services import Services

EVERY_SAMPLER = tuple(sampler.name for sampler in SAMPLERS)


@pytest.fixture
def models(services: Services) -> Path:
    folder = services.paths.checkpoints[0]
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@pytest.mark.parametrize(
    ("name", "family", "kind", "size", "all_samplers"),
    [
        ("sd1-inpaint", "sd1", "inpaint", 64, True),
        ("sdxl", "sdxl", "plain", 1024, True),
        ("sd2-v", "sd2", "plain", 768, True),
        ("sd3", "sd3", "plain", 1024, False),
    ],
)
def test_the_header_tells(
    name: str, family: str, kind: str, size: int, all_samplers: bool, services: Services, models: Path
) -> None:
    write_checkpoint(models / f"{name}.safetensors", TINY_SIZES[name])
    services.checkpoints.refresh()
    services.settings.update({"sd_model_checkpoint": name})
    offer = current_offer(services)
    assert offer is not None
    assert offer.family is not None
    assert offer.capabilities is not None
    assert (offer.family.id, offer.capabilities.input_kind, offer.capabilities.native_size) == (family, kind, size)
    assert (offer.samplers == EVERY_SAMPLER) is all_samplers
    assert (len(offer.schedules) == len(SCHEDULERS)) is all_samplers
    assert offer.problem is None


def test_a_file_that_cant_be_loaded_offers_nothing_and_says_why(services: Services, models: Path) -> None:
    (models / "broken.safetensors").write_bytes(b"nothing")
    services.checkpoints.refresh()
    offer = offer_of(services.checkpoints.find("broken"), services.choices)
    assert offer.capabilities is None
    assert offer.samplers == ()
    assert offer.problem
    assert offer.problem.startswith("broken.safetensors ")


def test_a_changed_sidecar_is_seen(services: Services, models: Path) -> None:
    write_checkpoint(models / "one.safetensors", TINY_SIZES["sd1"])
    services.checkpoints.refresh()
    found = services.checkpoints.find("one")
    before = offer_of(found, services.choices).capabilities
    sidecar = models / "one.yaml"
    sidecar.write_text(sidecar.read_text().replace("native_size: 64", "native_size: 96"))
    after = offer_of(found, services.choices).capabilities
    assert before is not None
    assert after is not None
    assert (before.native_size, after.native_size) == (64, 96)


def test_no_torch_is_needed() -> None:
    code = "import sys, webui.services.capabilities, webui.api.capabilities; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[2], check=False).returncode == 0
