"""Weights over the steps, in place of weight, start and end."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from PIL import Image

from extensions.controlnet.curves import divided, read_curves, weight_at
from extensions.controlnet.units import ControlNet, Unit
from tests.extensions.controlnet import nets
from tests.extensions.controlnet.workbench import Bench, picture, sent
from webui.core.errors import InvalidRequest


def test_a_curve_has_straight_lines_between_its_points_and_nothing_outside() -> None:
    curve, again = read_curves("0.2@0.1, 0.5@0.3, 0.1@0.7")
    assert curve == again
    found = [weight_at(curve, share) for share in (0, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 0.71, 1)]
    assert found == pytest.approx([0, 0, 0.2, 0.35, 0.5, 0.3, 0.1, 0, 0])
    jump, _ = read_curves("1@0, 1@0.5, 0@0.5, 0@1")
    assert [weight_at(jump, share) for share in (0, 0.49, 0.5, 1)] == [1, 1, 0, 0]
    first, second = read_curves("1@0, 1@1 | 0.5@0.5")
    assert (weight_at(first, 0.5), weight_at(second, 0.5), weight_at(second, 0.4)) == (1, 0.5, 0)
    assert divided("1@0, 0.5@1", 2) == "0.5@0, 0.25@1"


@pytest.mark.parametrize(
    "text", ["@", "1@", "1@2", "3@0.5", "-1@0.5", "a@0.1", "1@0 | ", "1@0|1@0|1@0", "nan@0", "0.5@0.1 0.2@0.3"]
)
def test_what_is_no_curve_is_told(text: str) -> None:
    with pytest.raises(InvalidRequest, match="no weight curve"):
        read_curves(text)


def test_a_curve_is_told_and_read_back() -> None:
    text = "0.2@0.1, 0.5@0.3 | 1@0"
    group = ControlNet(units=(Unit(enabled=True, module="canny", model="net", advanced_weighting=text),))
    (told,) = group.to_infotext().values()
    assert ControlNet.from_infotext({"ControlNet 0": str(told)})["units.0.advanced_weighting"] == text


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    bench = Bench(tmp_path_factory.mktemp("curves"))
    shapes = {
        "net": nets.control_shapes(bench.layout),
        "lite": nets.lllite_shapes(bench.layout),
        "prompt": nets.ip_adapter_shapes(bench.layout, "plain", 24),
        "clip vision": nets.vision_shapes(),
    }
    for name, shape in shapes.items():
        nets.write(bench.nets / f"{name}.safetensors", nets.random_weights(shape))
    yield bench
    bench.close()


KINDS: dict[str, dict[str, Any]] = {
    "net": {"model": "net"},
    "lite": {"model": "lite"},
    "prompt": {"model": "prompt", "module": "ip-adapter-auto"},
    "reference": {"module": "reference_only"},
    "colours": {"model": "net", "module": "tile_colorfix"},
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_curve_is_a_weight_in_a_range(bench: Bench, kind: str) -> None:
    def made(**values: Any) -> np.ndarray:
        unit = {"image": sent(picture()), **KINDS[kind], **values}
        return np.asarray(Image.open(io.BytesIO(bench.result(unit).images[0].data)).convert("RGB"))

    flat = made(weight=0.6, guidance_start=0.25, guidance_end=0.5)
    np.testing.assert_array_equal(made(advanced_weighting="0.6@0.25, 0.6@0.5"), flat)
    np.testing.assert_array_equal(made(advanced_weighting="0.6@0.25, 0.6@0.5", weight=2, guidance_end=0.1), flat)
    assert (made(advanced_weighting="0.6@0.25, 1.2@0.5") != flat).any()


def test_a_wrong_curve_is_a_sentence(bench: Bench) -> None:
    with pytest.raises(InvalidRequest, match="no weight curve"):
        bench.result({"image": sent(picture()), "model": "net", "advanced_weighting": "0.5@7"})
