"""2,000 requests made from the schema: nothing fails, and every answer is one that the schema declares."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator
from typing import Any

import hypothesis
import pytest
from PIL import Image

from tests.api.server import serving
from tests.tiny import tiny_checkpoint
from webui.api.guard import Guard
from webui.app import build_app
from webui.core.flags import parse_flags
from webui.core.settings_table import SETTINGS
from webui.services.building import build_services

schemathesis = pytest.importorskip("schemathesis")  # there is none for Python 3.10

CASES = 2000
DECLARED_FAULTS = (501, 502, 503)
"""5xx that say something true: not in this version, another machine can't be reached, the server is stopping."""
CHECKS = (
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
)
JOBS = {"/sdapi/v1/txt2img": 100, "/sdapi/v1/img2img": 100, "/sdapi/v1/extra-single-image": 60}
"""Requests that make pictures, and how many of each are sent; the others share the rest."""
SMALLEST = {
    "steps": 1, "width": 64, "height": 64, "n_iter": 1, "batch_size": 1, "hr_scale": 1, "hr_resize_x": 0,
    "hr_resize_y": 0, "hr_second_pass_steps": 1, "firstphase_width": 0, "firstphase_height": 0,
    "upscaling_resize": 2, "upscaling_resize_w": 64, "upscaling_resize_h": 64, "upscaler_1": "Nearest",
}  # fmt: skip
NAMES = ("sampler_name", "sampler_index", "scheduler", "hr_sampler_name", "hr_scheduler", "hr_checkpoint_name",
         "refiner_checkpoint", "script_name", "alwayson_scripts", "override_settings", "styles", "hr_upscaler",
         "upscaler_2", "force_task_id", "gfpgan_visibility", "codeformer_visibility")  # fmt: skip
"""What refuses nearly every random value; left out of every other case, so that jobs run."""


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """An Easel of its own, whose settings may be changed at random."""
    data = tmp_path_factory.mktemp("random")
    tiny_checkpoint(data / "models" / "Stable-diffusion", "first", seed=1)
    flags, _ = parse_flags(["--data-dir", str(data), "--no-half", "--precision", "full", "--device", "cpu"], {})
    services = build_services(flags)
    services.jobs.start()
    try:
        with serving(Guard(build_app(services))) as url:
            yield url
    finally:
        assert services.jobs.close(timeout=120)
        services.checkpoints.close()


def picture() -> str:
    file = io.BytesIO()
    Image.new("RGB", (8, 8), "teal").save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()


def made_small(path: str, body: Any, number: int) -> Any:
    """The body with jobs of one step at the smallest size; every other one keeps pictures and names as they came."""
    if not isinstance(body, dict) or not path.endswith(("2img", "-image", "-images", "/options", "/png-info")):
        return body
    if path.endswith("/options"):
        keys = [setting.key for setting in SETTINGS]
        return {keys[(number * 7 + place) % len(keys)]: value for place, value in enumerate(body.values())}
    small = {name: value for name, value in body.items() if name not in NAMES or number % 2}
    small |= {name: value for name, value in SMALLEST.items() if isinstance(body.get(name), int | float)}
    if path.endswith("2img"):
        small |= {"steps": 1, "width": 64, "height": 64}
    if number % 2 == 0:
        images = {"init_images": [picture()], "image": picture(), "imageList": [{"data": picture(), "name": "a.png"}]}
        small |= {name: value for name, value in images.items() if name in body or path.endswith("img2img")}
        small.pop("mask", None)
        small.pop("latent_mask", None)
    return small


@schemathesis.check
def no_undeclared_fault(ctx: Any, response: Any, case: Any) -> None:
    """In place of schemathesis's own check, which knows no honest 5xx."""
    assert response.status_code < 500 or response.status_code in DECLARED_FAULTS, response.text[:500]


def ask(operation: Any, most: int, checks: list[Any]) -> int:
    """Send up to `most` different requests; returns how many it were. Raises: what the checks found."""
    count = 0

    @hypothesis.settings(
        max_examples=most,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(hypothesis.HealthCheck),
        phases=[hypothesis.Phase.generate],
    )
    @hypothesis.given(case=operation.as_strategy())
    def asking(case: Any) -> None:
        nonlocal count
        count += 1
        case.body = made_small(operation.path, case.body, count)
        case.call_and_validate(checks=checks, timeout=120)

    asking()
    return count


@pytest.mark.timeout(900)
def test_every_answer_is_declared_and_none_is_a_fault(address: str, subtests: pytest.Subtests) -> None:
    schema = schemathesis.openapi.from_url(f"{address}/openapi.json")
    checks = [no_undeclared_fault, *(getattr(schemathesis.checks, name) for name in CHECKS)]
    operations = [found.ok() for found in schema.get_all_operations()]
    # Those with little to vary come first: what they leave of their share goes to the others.
    operations.sort(key=lambda operation: (bool(operation.body), bool(operation.query)))
    sharing = [operation.label for operation in operations if operation.body or operation.query]
    sharing = [label for label in sharing if label.partition(" ")[2] not in JOBS]
    left, sent = CASES - sum(JOBS.values()), 0
    for operation in operations:
        most = JOBS.get(operation.path, 1)
        if operation.label in sharing:
            most = left // (len(sharing) - sharing.index(operation.label)) + 1
        with subtests.test(operation.label):
            count = ask(operation, most, checks)
            sent += count
            left -= count if operation.label in sharing else 0
    assert sent >= CASES
