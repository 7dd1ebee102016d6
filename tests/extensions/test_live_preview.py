"""The live preview on a job without a queue: what it shows, and when."""

from __future__ import annotations

import io
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from PIL import Image

from webui.core.hooks import Step, wrapped_denoiser
from webui.core.settings import Settings
from webui.core.settings_table import SETTINGS
from webui.extensions.host import Host
from webui.extensions.loader import load_extensions
from webui.jobs.context import JobContext
from webui.jobs.progress import Preview

torch = pytest.importorskip("torch")


class Model:
    """A family's data and a decoder that doubles the latent's size."""

    def __init__(self, latent_scale: float = 0.18215) -> None:
        self.capabilities = SimpleNamespace(latent_scale=latent_scale)

    def decode(self, latents: Any) -> Any:
        return latents[:, :3].repeat_interleave(2, 2).repeat_interleave(2, 3)


@pytest.fixture(scope="module")
def host() -> Host:
    return load_extensions([Path(__file__).resolve().parents[2] / "extensions"], disable_all="extra")


def run(host: Host, x0: Any, count: int = 20, calls: int = 1, model: Model | None = None, **changes: Any) -> list[Any]:
    """(step, Preview) of everything shown in a pass of `count` steps with `calls` predictions each."""
    plan = SimpleNamespace(settings=Settings.defaults(SETTINGS).replace(**changes))
    job = JobContext.alone()
    denoise: Any = wrapped_denoiser(lambda *_: x0, host.denoiser_hooks(plan, model or Model(), job))
    shown: list[tuple[int, Preview]] = []
    for index in range(count):
        for call in range(calls):
            denoise(x0, 1.0 - call / 2, Step(index, count, 1.0, 0.0))
            preview = job.progress.preview
            if preview is not None and (not shown or preview.number != shown[-1][1].number):
                shown.append((index, preview))
    return shown


def opened(preview: Preview) -> Image.Image:
    image = Image.open(io.BytesIO(preview.data))
    assert preview.mime == f"image/{(image.format or '').lower()}"
    return image


ONE = torch.zeros(1, 4, 6, 8)


@pytest.mark.parametrize(
    ("every", "steps"), [(10, [9, 19]), (7, [6, 13]), (1, list(range(20))), (0, list(range(20))), (-1, [19])]
)
def test_every_n_steps(host: Host, every: int, steps: list[int]) -> None:
    assert [step for step, _ in run(host, ONE, show_progress_every_n_steps=every)] == steps


def test_once_a_step_however_often_it_predicts(host: Host) -> None:
    shown = run(host, ONE, calls=2, show_progress_every_n_steps=5)
    assert [(step, preview.number) for step, preview in shown] == [(4, 1), (9, 2), (14, 3), (19, 4)]


def test_off_means_no_hook(host: Host) -> None:
    assert run(host, ONE, live_previews_enable=False) == []


def test_cheap_colours_are_a_linear_map_of_the_latent(host: Host) -> None:
    x0 = torch.zeros(1, 4, 6, 8)
    x0[:, 0, :, 4:] = 2.0
    (_, preview), *_ = run(host, x0, show_progress_type="Approx cheap")
    image = opened(preview)
    assert image.size == (8, 6)
    assert image.getpixel((0, 0)) == (127, 127, 127)
    assert image.getpixel((7, 5)) == tuple(int((2 * weight + 1) * 127.5) for weight in (0.298, 0.207, 0.208))


def test_families_have_their_own_colours_and_unknown_ones_are_grey(host: Host) -> None:
    x0 = torch.zeros(1, 4, 6, 8)
    x0[:, 3] = 1.0
    sd, sdxl = (opened(run(host, x0, model=Model(scale))[0][1]).getpixel((0, 0)) for scale in (0.18215, 0.13025))
    assert sd != sdxl
    grey = opened(run(host, torch.ones(1, 16, 6, 8), model=Model(1.5305))[0][1]).getpixel((0, 0))
    assert grey == (255, 255, 255)


def test_full_decodes_with_the_vae(host: Host) -> None:
    x0 = torch.zeros(3, 4, 6, 8)
    x0[0, 0], x0[1, 1] = 1.0, -1.0
    image = opened(run(host, x0, show_progress_type="Full")[0][1])
    assert image.size == (2 * 16, 2 * 12)
    corners = [image.getpixel(place) for place in ((0, 0), (31, 0), (0, 23), (31, 23))]
    assert corners == [(255, 127, 127), (127, 0, 127), (127, 127, 127), (0, 0, 0)]


@pytest.mark.parametrize("method", ["Approx NN", "TAESD"])
def test_other_methods_fall_back_to_cheap(host: Host, method: str) -> None:
    assert run(host, ONE, show_progress_type=method) == run(host, ONE, show_progress_type="Approx cheap")


@pytest.mark.parametrize(("count", "grid"), [(1, (1, 1)), (2, (2, 1)), (3, (2, 2)), (4, (2, 2)), (6, (3, 2))])
def test_a_batch_is_a_grid_or_its_first_picture(host: Host, count: int, grid: tuple[int, int]) -> None:
    batch = torch.zeros(count, 4, 6, 8)
    assert opened(run(host, batch)[0][1]).size == (8 * grid[0], 6 * grid[1])
    assert opened(run(host, batch, show_progress_grid=False)[0][1]).size == (8, 6)


@pytest.mark.parametrize("file_format", ["png", "jpeg", "webp"])
def test_formats(host: Host, file_format: str) -> None:
    (_, preview), *_ = run(host, ONE, live_previews_image_format=file_format)
    assert preview.mime == f"image/{file_format}"
    opened(preview).load()


def test_half_precision_and_broken_numbers_are_shown_too(host: Host) -> None:
    opened(run(host, torch.full((1, 4, 6, 8), float("nan"), dtype=torch.bfloat16))[0][1]).load()


def test_the_prediction_passes_through_unchanged(host: Host) -> None:
    plan = SimpleNamespace(settings=Settings.defaults(SETTINGS))
    x0 = torch.randn(1, 4, 6, 8)
    denoise: Any = wrapped_denoiser(lambda *_: x0, host.denoiser_hooks(plan, Model(), JobContext.alone()))
    assert denoise(x0, 1.0, Step(9, 10, 1.0, 0.0)) is x0
