"""The live preview on a job without a queue: what it shows, and when."""

from __future__ import annotations

import io
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from PIL import Image

from webui.core.capabilities import SD1_COLOURS, SDXL_COLOURS
from webui.core.errors import NotFound
from webui.core.hooks import Row, Step, wrapped_denoiser, wrapped_network
from webui.core.settings import Settings
from webui.core.settings_table import SETTINGS
from webui.extensions.host import Host
from webui.extensions.loader import load_extensions
from webui.jobs.context import JobContext
from webui.jobs.progress import Preview

torch = pytest.importorskip("torch")
COLOURS = (SD1_COLOURS, SDXL_COLOURS)
EXTENSIONS = Path(__file__).resolve().parents[2] / "extensions"


def no_tiny() -> None:
    raise NotFound("TAESD isn't there.")


class Model:
    """A family's data and a decoder that doubles the latent's size. tiny: TAESD, if it is there."""

    def __init__(
        self, colours: Any = SD1_COLOURS, embedded: str = "", sharing: str = "together", tiny: Any = None
    ) -> None:
        self.capabilities = SimpleNamespace(preview_colours=colours)
        self.checkpoint = SimpleNamespace(model_name=embedded or "any", embedded=bool(embedded))
        self.placement = SimpleNamespace(sharing=sharing)
        self.vae = SimpleNamespace(tiny=lambda: tiny or no_tiny())

    def decode(self, latents: Any) -> Any:
        return latents[:, :3].repeat_interleave(2, 2).repeat_interleave(2, 3)


@pytest.fixture(scope="module")
def host() -> Host:
    return load_extensions([EXTENSIONS], disable_all="extra")


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
    sd, sdxl = (opened(run(host, x0, model=Model(colours))[0][1]).getpixel((0, 0)) for colours in COLOURS)
    assert sd != sdxl
    grey = opened(run(host, torch.ones(1, 16, 6, 8), model=Model(()))[0][1]).getpixel((0, 0))
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


def test_taesd_decodes_where_it_is_there(host: Host) -> None:
    tiny = SimpleNamespace(decode=lambda x0: x0[:, :3].repeat_interleave(8, 2).repeat_interleave(8, 3))
    image = opened(run(host, ONE + 1, model=Model(tiny=tiny), show_progress_type="TAESD")[0][1])
    assert image.size == (64, 48)
    assert image.getpixel((0, 0)) == (255, 255, 255)


def test_missing_taesd_is_said_in_the_progress(host: Host) -> None:
    plan = SimpleNamespace(settings=Settings.defaults(SETTINGS).replace(show_progress_type="TAESD"))
    job = JobContext.alone()
    denoise: Any = wrapped_denoiser(lambda *_: ONE, host.denoiser_hooks(plan, Model(), job))
    denoise(ONE, 1.0, Step(9, 10, 1.0, 0.0))
    assert "TAESD" in job.progress.text
    assert job.progress.preview is not None


def test_the_models_parts_stay_where_they_are_unless_allowed(host: Host) -> None:
    """With --medvram the VAE would come to the device in the network's place at every preview."""
    model = Model(sharing="in turn")
    assert opened(run(host, ONE, model=model, show_progress_type="Full")[0][1]).size == (8, 6)
    allowed = run(host, ONE, model=model, show_progress_type="Full", live_preview_allow_lowvram_full=True)
    assert opened(allowed[0][1]).size == (16, 12)


def test_the_embedded_model_has_colours_of_its_own(host: Host) -> None:
    bias = json.loads((EXTENSIONS / "live-preview" / "colours.json").read_text())["easel-emoji"]["bias"]
    image = opened(run(host, ONE, model=Model(embedded="easel-emoji"))[0][1])
    assert image.getpixel((0, 0)) == tuple(int((value + 1) * 127.5) for value in bias)
    assert image.getpixel((0, 0)) != opened(run(host, ONE)[0][1]).getpixel((0, 0))


def guided(host: Host, parts: int, together: bool, skips: bool = False, **changes: Any) -> tuple[int, int, int]:
    """The preview's colour for two pictures of `parts` AND parts each: red prompts, green negative prompts, blue x0."""
    plan = SimpleNamespace(settings=Settings.defaults(SETTINGS).replace(show_progress_type="Full", **changes))
    job = JobContext.alone()
    hooks = host.denoiser_hooks(plan, Model(), job)
    red, green, blue = (torch.full((2, 4, 6, 8), -1.0) for _ in range(3))
    red[:, 0], green[:, 1], blue[:, 2] = 1.0, 1.0, 1.0
    red = red.repeat_interleave(parts, 0)
    predict: Any = wrapped_network(lambda x, *_: x, hooks)

    def guide(x: Any, sigma: float, step: Step) -> Any:
        positive = (red, tuple(Row(picture, 1, part) for picture in range(2) for part in range(parts)))
        negative = (green, (Row(0, -1), Row(1, -1)))
        both = (torch.cat([red, green]), positive[1] + negative[1])
        for latents, rows in [positive] if skips else [both] if together else [positive, negative]:
            predict(latents, sigma, SimpleNamespace(rows=rows), step)
        return blue

    denoise: Any = wrapped_denoiser(guide, hooks)
    denoise(blue, 1.0, Step(9, 10, 1.0, 0.0))
    assert job.progress.preview is not None
    colour: Any = opened(job.progress.preview).getpixel((0, 0))
    return colour


@pytest.mark.parametrize("parts", [1, 3])
@pytest.mark.parametrize("together", [True, False])
def test_the_preview_shows_what_the_setting_says(host: Host, parts: int, together: bool) -> None:
    assert guided(host, parts, together, live_preview_content="Prompt") == (255, 0, 0)
    assert guided(host, parts, together, live_preview_content="Negative prompt") == (0, 255, 0)
    assert guided(host, parts, together, live_preview_content="Combined") == (0, 0, 255)
    assert guided(host, 1, together, skips=True, live_preview_content="Negative prompt") == (255, 0, 0)


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
