"""Pictures of a batch: img2img's Batch tab beside the units' own, and StyleAlign."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers.models.attention_processor import Attention, AttnProcessor
from PIL import Image

from extensions.controlnet.style_align import Sharing, StyleAlign
from extensions.controlnet.units import ControlNet
from tests.extensions.controlnet.nets import control_shapes, random_weights, write
from tests.extensions.controlnet.workbench import Bench, picture, sent
from webui.core.batch import BatchPicture, PictureBatch
from webui.core.errors import InvalidRequest
from webui.core.request import FromImage, GenerationResult
from webui.jobs.context import JobContext
from webui.pipeline.batch import run
from webui.planning.batch import make_batch_plan


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    bench = Bench(tmp_path_factory.mktemp("batches"))
    write(bench.nets / "net.safetensors", random_weights(control_shapes(bench.layout)))
    yield bench
    bench.close()


def pixels(result: GenerationResult) -> list[np.ndarray]:
    return [np.asarray(Image.open(io.BytesIO(image.data)).convert("RGB"), np.int16) for image in result.images]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three pictures, and a folder of two maps for them."""
    for number in range(3):
        picture(number).save(tmp_path / f"{number}.png")
    (tmp_path / "maps").mkdir()
    for number in range(2):
        picture(10 + number).save(tmp_path / "maps" / f"{number}.png")
    return tmp_path


def of_batch(bench: Bench, folder: Path, **unit: Any) -> GenerationResult:
    request = bench.request({"model": "net", **unit}, steps=2).replace(image=FromImage(denoising_strength=0.9))
    batch = PictureBatch(request, tuple(BatchPicture(path) for path in sorted(folder.glob("*.png"))))
    return run(bench.engine, make_batch_plan(batch, bench.engine.planner), JobContext.alone(engine=bench.engine))


def alone(bench: Bench, path: Path, **unit: Any) -> list[np.ndarray]:
    request = bench.request({"model": "net", **unit}, steps=2)
    image = FromImage(images=(path.read_bytes(),), denoising_strength=0.9)
    return pixels(bench.engine.generate(request.replace(image=image), JobContext.alone(engine=bench.engine)))


def test_a_unit_s_batch_goes_on_with_that_of_img2img_until_the_shortest_ends(bench: Bench, folder: Path) -> None:
    result = of_batch(bench, folder, input_mode="batch", batch_images=str(folder / "maps"))
    assert len(result.images) == 4  # two pictures, each with its map
    assert any("2.png was left out: ControlNet unit 0 has only 2 pictures" in comment for comment in result.comments)
    made = pixels(result)
    for number in range(2):
        expected = alone(bench, folder / f"{number}.png", image=sent(picture(10 + number)))
        np.testing.assert_array_equal(made[2 * number], expected[0])
        np.testing.assert_array_equal(made[2 * number + 1], expected[1])


def test_a_unit_without_a_folder_takes_img2img_s_pictures(bench: Bench, folder: Path) -> None:
    made = pixels(of_batch(bench, folder, input_mode="batch"))
    assert len(made) == 6
    for number in (0, 2):
        np.testing.assert_array_equal(made[2 * number], alone(bench, folder / f"{number}.png")[0])
    uploaded = [sent(picture(10)), sent(picture(11)), sent(picture(12))]
    np.testing.assert_array_equal(
        pixels(of_batch(bench, folder, input_mode="batch", batch_images=uploaded))[2],
        alone(bench, folder / "1.png", image=uploaded[1])[0],
    )


def test_loopback_beside_a_batch_of_img2img_is_said_to_have_no_effect(bench: Bench, folder: Path) -> None:
    result = of_batch(bench, folder, input_mode="batch", loopback=True)
    assert sum("[Batch Loopback] has no effect" in comment for comment in result.comments) == 1


def test_a_folder_that_is_not_there_is_one_sentence(bench: Bench, folder: Path) -> None:
    with pytest.raises(InvalidRequest, match="there is no folder"):
        of_batch(bench, folder, input_mode="batch", batch_images=str(folder / "none"))


def test_rows_of_one_prompt_look_at_each_other() -> None:
    torch.manual_seed(0)
    attention = Attention(query_dim=8, heads=2, dim_head=4).eval()
    align = StyleAlign()
    sharing = Sharing(align, AttnProcessor())
    x = torch.randn(4, 5, 8)
    align.groups = [[0, 1], [2, 3]]
    with torch.inference_mode():
        shared = sharing(attention, x)
        expected = AttnProcessor()(attention, x[1:2], x[:2].reshape(1, 10, 8))
        torch.testing.assert_close(shared[1:2], expected)
        alike = x[:1].expand(4, -1, -1)
        torch.testing.assert_close(sharing(attention, alike), AttnProcessor()(attention, alike))


def aligned(bench: Bench, *units: dict[str, Any], batch_size: int = 2, style_align: bool = True) -> GenerationResult:
    request = bench.request(*units, steps=2).replace(batch_size=batch_size)
    group = request.extensions.get(ControlNet.__name__, ControlNet()).replace(style_align=style_align)
    request = request.replace(extensions={ControlNet.__name__: group}, save_grid=False)
    return bench.engine.generate(request, JobContext.alone(engine=bench.engine))


def test_style_align_changes_batches_alone_and_is_told(bench: Bench) -> None:
    steered = {"model": "net", "image": sent(picture())}
    for units in ((), (steered,), (steered, {"module": "reference_only", "image": sent(picture(1))})):
        plain, together = aligned(bench, *units, style_align=False), aligned(bench, *units)
        for before, after in zip(pixels(plain)[:2], pixels(together)[:2], strict=True):
            assert (before != after).any()
        assert all("ControlNet StyleAlign: True" in text for text in together.info["infotexts"])
        assert "StyleAlign" not in plain.info["infotexts"][0]
    single = aligned(bench, batch_size=1)
    assert any("[StyleAlign] has no effect" in comment for comment in single.comments)
    np.testing.assert_array_equal(pixels(single)[0], pixels(aligned(bench, batch_size=1, style_align=False))[0])


def test_style_align_is_read_back_from_the_text() -> None:
    group = ControlNet(style_align=True)
    texts = group.to_infotext()
    assert all(ControlNet.reads_key(key) for key in texts)
    assert ControlNet.from_infotext({key: str(text) for key, text in texts.items()})["style_align"] is True
