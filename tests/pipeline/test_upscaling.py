"""Sizes that upscaling ends at, with resizers and with an upscaler of a fixed factor."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import pytest
from PIL import Image

from webui.core.choices import Choices, Upscaler
from webui.core.errors import InvalidRequest
from webui.core.flags import parse_flags
from webui.jobs.context import JobContext
from webui.pipeline.engine import build
from webui.pipeline.from_image.image_input import JUST_RESIZE, fitted
from webui.pipeline.upscaling import Enlarger, resized, upscale
from webui.services.building import build_services

FIND = Choices().find_upscaler
AtWork = Callable[[Upscaler], Enlarger]
IMAGE = Image.effect_noise((30, 20), 80).convert("RGB")


@pytest.fixture(scope="module")
def at_work(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AtWork]:
    """What makes an upscaler one that works for a job of its own."""
    flags, _ = parse_flags(["--data-dir", str(tmp_path_factory.mktemp("data")), "--device", "cpu"], {})
    services = build_services(flags)
    models, settings = build(services).models, services.settings.snapshot()
    yield lambda upscaler: Enlarger(upscaler, settings, models, JobContext.alone())
    services.checkpoints.close()


@pytest.mark.parametrize(
    ("scale", "size"), [(1.0, (24, 16)), (2.0, (56, 40)), (1.5, (40, 24)), (0.5, (8, 8)), (0.1, (8, 8))]
)
@pytest.mark.parametrize("name", ["None", "Lanczos", "nearest"])
def test_sides_are_multiples_of_8(at_work: AtWork, name: str, scale: float, size: tuple[int, int]) -> None:
    assert upscale(IMAGE, at_work(FIND(name)), scale).size == size


def test_each_resizer_is_pillows(at_work: AtWork) -> None:
    picture = IMAGE.crop((0, 0, 24, 16))
    assert upscale(picture, at_work(FIND("Nearest")), 2) == picture.resize((48, 32), Image.Resampling.NEAREST)
    assert upscale(picture, at_work(FIND("Lanczos")), 2) == picture.resize((48, 32), Image.Resampling.LANCZOS)


def doubled(image: Image.Image, scale: float, enlarger: Enlarger) -> Image.Image:
    return image.resize((image.width * 2, image.height * 2), Image.Resampling.NEAREST)


def test_a_fixed_factor_is_applied_up_to_three_times(at_work: AtWork) -> None:
    twice = at_work(Upscaler("Twice", f"{__name__}:doubled"))
    picture = IMAGE.crop((0, 0, 8, 8))
    assert upscale(picture, twice, 4) == picture.resize((32, 32), Image.Resampling.NEAREST)
    ten = upscale(picture, twice, 10)
    eight = picture.resize((64, 64), Image.Resampling.NEAREST)
    assert ten == eight.resize((80, 80), Image.Resampling.LANCZOS)


def test_an_exact_size_is_met(at_work: AtWork) -> None:
    for upscaler in map(at_work, Choices().all(Upscaler)):
        assert resized(IMAGE, upscaler, 61, 35).size == (61, 35)
        assert resized(IMAGE, upscaler, 10, 90).size == (10, 90)
    assert resized(IMAGE, at_work(FIND("Nearest")), 30, 20) is IMAGE
    smaller = resized(IMAGE, at_work(FIND("Nearest")), 15, 10)
    assert smaller == IMAGE.resize((15, 10), Image.Resampling.LANCZOS)


def test_an_unknown_upscaler_is_named_with_the_nearest() -> None:
    with pytest.raises(InvalidRequest, match='"Lanczoss"; the closest is "Lanczos"'):
        FIND("Lanczoss")


def test_an_upscaler_is_asked_where_a_picture_grows_and_for_no_mask(at_work: AtWork) -> None:
    checks = Image.fromarray((np.indices((4, 4)).sum(0) % 2 * 255).astype(np.uint8)).convert("RGB")
    nearest = at_work(FIND("Nearest"))
    assert set(fitted(checks, JUST_RESIZE, 16, 16, nearest).getdata()) == {(0, 0, 0), (255, 255, 255)}
    assert len(set(fitted(checks, JUST_RESIZE, 16, 16).getdata())) > 2
    assert len(set(fitted(checks.convert("L"), JUST_RESIZE, 16, 16, nearest).getdata())) > 2
    assert fitted(checks, JUST_RESIZE, 2, 2, nearest).tobytes() == fitted(checks, JUST_RESIZE, 2, 2).tobytes()
