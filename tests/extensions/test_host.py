"""Every hook, called by the host through real plugins. A plugin is a folder's extension.py, as users write it."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from PIL import Image

from webui.core.errors import InvalidRequest
from webui.core.hooks import Step, wrapped_denoiser
from webui.core.settings import Settings
from webui.core.settings_table import SETTINGS
from webui.extensions.errors import ExtensionFailed
from webui.extensions.hookspecs import hookimpl
from webui.extensions.host import Host
from webui.extensions.loader import load_extensions

HEAD = "from contextlib import contextmanager\nfrom webui.extensions.api import *\n"
Load = Callable[..., Host]
STEP = Step(0, 1, 1.0, 0.0)


@pytest.fixture
def load(tmp_path: Path) -> Load:
    def loaded(**mains: str) -> Host:
        for name, main in mains.items():
            (tmp_path / name).mkdir()
            (tmp_path / name / "extension.py").write_text(HEAD + main, encoding="utf-8")
        host = load_extensions([tmp_path])
        assert host.problems == ()
        return host

    return loaded


def picture(red: int = 0) -> Image.Image:
    return Image.new("RGB", (4, 4), (red, 0, 0))


def test_register_params(load: Load) -> None:
    host = load(a="class A(Params):\n    x: int = param(1, label='X')\n@hookimpl\ndef register_params(): return [A]\n")
    assert [(spec.name, spec.label) for group in host.params for spec in group.specs()] == [("x", "X")]


def test_register_settings(load: Load) -> None:
    host = load(a="@hookimpl\ndef register_settings(): return [Setting('a_speed', 3, 'Speed', ge=1, le=9)]\n")
    settings = Settings.defaults((*SETTINGS, *host.settings))
    assert settings["a_speed"] == 3
    assert settings.setting("a_speed").section.title == "a"  # a section of its own on the Settings tab
    with pytest.raises(InvalidRequest, match="a_speed"):
        settings.replace(a_speed=10)


def test_api_routes(load: Load) -> None:
    host = load(
        a="@hookimpl\ndef api_routes(app):\n    app.get('/a')(lambda: 'from a')\n",
        b="@hookimpl\ndef api_routes(app): raise SystemExit(1)\n",
        c="@hookimpl\ndef api_routes(app):\n    app.get('/c')(lambda: 'from c')\n",
    )
    app = FastAPI()
    host.api_routes(app)
    client = TestClient(app)
    assert [client.get(path).json() for path in ("/a", "/c")] == ["from a", "from c"]
    assert [problem.name for problem in host.problems] == ["b"]


CHAIN = """
@hookimpl({marks})
def postprocess_image(image, plan):
    plan.calls.append({name!r})
    return image.point(lambda value: value {change}) if {name!r} != "silent" else None
"""


def test_postprocess_image_is_chained_in_load_order(load: Load) -> None:
    host = load(
        a=CHAIN.format(name="a", change="+ 1", marks=""),
        b=CHAIN.format(name="b", change="* 10", marks=""),
        c=CHAIN.format(name="c", change="+ 100", marks="tryfirst=True"),
        silent=CHAIN.format(name="silent", change="", marks=""),
        z=CHAIN.format(name="z", change="+ 3", marks="trylast=True"),
    )
    plan = SimpleNamespace(calls=[])
    assert host.postprocess_image(picture(5), plan).getpixel((0, 0)) == (255, 255, 255)
    assert plan.calls == ["c", "a", "b", "silent", "z"]


def test_image_saved(load: Load, tmp_path: Path) -> None:
    host = load(a="@hookimpl\ndef image_saved(path, plan): plan.saved.append(path.name)\n")
    plan = SimpleNamespace(saved=[])
    host.image_saved(tmp_path / "00001-7.png", picture(), plan)
    assert plan.saved == ["00001-7.png"]


PATCH = """
@hookimpl
def prepare_model(model, plan):
    return patched(model, {name!r})

@contextmanager
def patched(model, name):
    model.append("+" + name)
    try:
        yield
    finally:
        model.append("-" + name)
        {at_end}
"""


def test_prepare_model_nests_and_comes_off(load: Load) -> None:
    host = load(
        a=PATCH.format(name="a", at_end=""),
        b="@hookimpl\ndef prepare_model(): return None\n",
        c=PATCH.format(name="c", at_end=""),
    )
    model: list[str] = []
    with host.prepared_model(model, None):
        model.append("sampling")
    assert model == ["+a", "+c", "sampling", "-c", "-a"]


def test_patches_come_off_when_the_job_fails_and_the_fault_stays_ours(load: Load) -> None:
    host = load(a=PATCH.format(name="a", at_end=""))
    model: list[str] = []
    with pytest.raises(ZeroDivisionError), host.prepared_model(model, None):
        raise ZeroDivisionError
    assert model == ["+a", "-a"]


def test_a_patch_cannot_swallow_our_errors(load: Load) -> None:
    swallow = "import contextlib\n@hookimpl\ndef prepare_model(): return contextlib.suppress(Exception)\n"
    host = load(a=swallow)
    with pytest.raises(ZeroDivisionError), host.prepared_model(None, None):
        raise ZeroDivisionError


def test_a_patch_that_does_not_come_off_is_named_and_the_others_do(load: Load) -> None:
    host = load(a=PATCH.format(name="a", at_end=""), b=PATCH.format(name="b", at_end="raise OSError('stuck')"))
    model: list[str] = []
    stuck = pytest.raises(ExtensionFailed, match='"b" failed: its patch did not come off: OSError: stuck')
    with stuck, host.prepared_model(model, None):
        pass
    assert model == ["+a", "+b", "-b", "-a"]


HOOK = """
class Plus(DenoiserHook):
    order = {order}
    def wrap_denoiser(self, denoise):
        def plus(x, sigma, step):
            {body}
        return plus

@hookimpl
def denoiser_hooks(plan):
    return [Plus()]
"""


def test_denoiser_hooks_wrap_by_order(load: Load) -> None:
    host = load(
        a=HOOK.format(order=2, body="return denoise(x, sigma, step) * 10"),
        b=HOOK.format(order=1, body="return denoise(x, sigma, step) + 1"),
        c="@hookimpl\ndef denoiser_hooks(job): return None\n",
    )
    hooks = host.denoiser_hooks(plan=None, model=None, job=None)
    denoise: Any = wrapped_denoiser(lambda x, sigma, step: x, hooks)
    assert denoise(4, 1.0, STEP) == 50


def network(x: Any, sigma: float, step: Step) -> Any:
    """Stands for the network below all hooks; its faults are the program's."""
    return 1 / x


def run_job(host: Host, x: Any) -> Any:
    """A job as the pipeline runs it."""
    with host.prepared_model(None, None):
        denoise: Any = wrapped_denoiser(network, host.denoiser_hooks(None, None, None))
        return denoise(x, 1.0, STEP)


def test_a_hook_that_raises_while_denoising_is_named(load: Load) -> None:
    host = load(
        outer=HOOK.format(order=9, body="return denoise(x, sigma, step)"),
        inner=HOOK.format(order=1, body="return denoise(x, sigma, step) + {}['no such key']"),
    )
    with pytest.raises(ExtensionFailed, match="\"inner\" failed: KeyError: 'no such key'") as caught:
        run_job(host, 1)
    assert caught.value.status == 500


def test_a_library_below_a_hook_is_its_own_affair(load: Load) -> None:
    host = load(a=HOOK.format(order=1, body="import json; return json.loads('{')"))
    with pytest.raises(ExtensionFailed, match='"a" failed: JSONDecodeError'):
        run_job(host, 1)


def test_code_of_ours_below_a_hook_is_ours(load: Load) -> None:
    """The extension only passes through what `webui` itself gets wrong."""
    host = load(a=HOOK.format(order=1, body="from webui.core.files import write_atomic; write_atomic(None, None)"))
    with pytest.raises((AttributeError, TypeError)):
        run_job(host, 1)


CALLS: dict[str, Callable[[Host], Any]] = {
    "postprocess_image": lambda host: host.postprocess_image(picture(), None),
    "image_saved": lambda host: host.image_saved(Path("x.png"), picture(), None),
    "denoiser_hooks": lambda host: host.denoiser_hooks(None, None, None),
    "prepare_model": lambda host: run_job(host, 1),
}


@pytest.mark.parametrize("hook", CALLS)
@pytest.mark.parametrize("error", ["ValueError: no", "SystemExit: 3"])
def test_a_failing_hook_ends_the_job_by_name(load: Load, hook: str, error: str) -> None:
    kind, words = error.split(": ")
    host = load(culprit=f"@hookimpl\ndef {hook}(plan): raise {kind}({words!r})\n")
    with pytest.raises(ExtensionFailed, match=f'Extension "culprit" failed: {error}. Disable it'):
        CALLS[hook](host)


def test_a_users_error_from_a_hook_is_said_as_it_stands(load: Load) -> None:
    host = load(a="@hookimpl\ndef postprocess_image(): raise InvalidRequest('The mask is missing; draw one.')\n")
    with pytest.raises(InvalidRequest, match="^The mask is missing; draw one.$"):
        host.postprocess_image(picture(), None)


@pytest.mark.parametrize(
    ("hook", "body", "words"),
    [
        ("postprocess_image", "return 5", "postprocess_image gave int 5, not a picture"),
        ("denoiser_hooks", "return ['x']", "denoiser_hooks gave str 'x', not a DenoiserHook"),
        ("prepare_model", "yield", "prepare_model gave generator .*, not a context manager"),
    ],
)
def test_wrong_answers_are_named(load: Load, hook: str, body: str, words: str) -> None:
    host = load(a=f"@hookimpl\ndef {hook}(): {body}\n")
    with pytest.raises(ExtensionFailed, match=words):
        CALLS[hook](host)


def test_an_object_can_be_a_plugin() -> None:
    """What an adapter registers: hooks as methods, no folder."""

    class Adapter:
        def __init__(self) -> None:
            self.entered: list[str] = []

        @hookimpl
        @contextmanager
        def prepare_model(self, model: str) -> Iterator[None]:
            self.entered.append(model)
            yield

    host, adapter = Host(), Adapter()
    host.register("legacy", adapter)
    with host.prepared_model("the model", None):
        pass
    assert adapter.entered == ["the model"]
    with pytest.raises(ValueError, match="legacy"):
        host.register("legacy", Adapter())


def test_pictures_are_real_pictures(load: Load) -> None:
    host = load(a="@hookimpl\ndef postprocess_image(image): return image.rotate(90)\n")
    buffer = io.BytesIO()
    host.postprocess_image(picture(), None).save(buffer, "PNG")
    assert buffer.getvalue().startswith(b"\x89PNG")
