"""Who may import whom: the table of docs/architecture.md, read from the source of every module."""

from __future__ import annotations

import ast
import importlib.util
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parents[1]

# A package may import itself and these. `webui.app`, the composition root, may import anything.
LAYERS = {
    "core": (),
    "catalog": ("core",),
    "prompts": ("core",),
    "diffusion": ("core",),
    "jobs": ("core",),
    "video": ("core",),
    "datasets": ("core",),
    "extensions": ("core", "catalog", "jobs", "video"),
    "net": ("core",),
    "process": ("core",),
    "models": ("core", "catalog", "diffusion"),
    "planning": ("core", "catalog", "prompts", "extensions", "datasets"),
    "pipeline": ("core", "catalog", "prompts", "diffusion", "models", "extensions", "jobs", "planning", "video"),
    "training": (
        *("core", "catalog", "prompts", "diffusion", "models", "extensions", "jobs", "planning", "pipeline", "video"),
        "datasets",
    ),
    "services": ("core", "catalog", "prompts", "jobs", "extensions", "net", "planning", "process", "video", "datasets"),
    "ui": ("core", "catalog", "jobs", "extensions", "services"),
    "api": ("core", "catalog", "jobs", "extensions", "services"),
}
# Heavy packages, and the only packages of ours that may load them.
HEAVY = {
    **dict.fromkeys(
        ("torch", "diffusers", "transformers", "torchsde", "accelerate"),
        ("diffusion", "models", "pipeline", "training"),
    ),
    **dict.fromkeys(("gradio", "gradio_client"), ("ui", "api")),
    **dict.fromkeys(("fastapi", "starlette", "uvicorn"), ("ui", "api")),
    **dict.fromkeys(("av", "cv2"), ("video",)),
}


class Import(NamedTuple):
    """One imported name. types_only: it stands under `if TYPE_CHECKING` and is never run."""

    line: int
    name: str
    types_only: bool


def imports_of(source: str, module: str, is_package: bool = False) -> Iterator[Import]:
    """Every import in `source`, with absolute names; those inside functions and `import_module("...")` included.

    module: the dotted name of the module that `source` is; relative imports are resolved against it.
    """
    package = module if is_package else module.rpartition(".")[0]
    tree = ast.parse(source)
    guarded = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING")
        for statement in node.body
        for inner in ast.walk(statement)
    }
    for node in ast.walk(tree):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = importlib.util.resolve_name("." * node.level + (node.module or ""), package)
            names = [f"{base}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
            called = ast.unparse(node.func).rpartition(".")[2]
            if called in ("import_module", "__import__"):
                names = [str(node.args[0].value)]
        for name in names:
            yield Import(node.lineno, name, id(node) in guarded)


def violations(source: str, module: str, is_package: bool = False) -> list[str]:
    """Sentences about the imports in `source` that its place in the table forbids."""
    _, _, rest = module.partition(".")
    layer = rest.partition(".")[0]
    if layer in ("", "app"):
        return []
    if layer not in LAYERS:
        return [f"{module}: webui/{layer} has no row in the table of layers"]
    found = []
    for line, name, types_only in imports_of(source, module, is_package):
        top, _, below = name.partition(".")
        target = below.partition(".")[0]
        if top == "webui" and target != layer and target not in LAYERS[layer]:
            found.append(f"{module}:{line} imports {name}: {layer} may import {', '.join(LAYERS[layer]) or 'nothing'}")
        if top in HEAVY and layer not in HEAVY[top] and not types_only:
            found.append(f"{module}:{line} imports {name}: only {', '.join(HEAVY[top])} may import {top}")
    return found


def modules() -> list[Path]:
    return sorted((ROOT / "webui").rglob("*.py"))


@pytest.mark.parametrize("path", modules(), ids=lambda path: path.relative_to(ROOT).as_posix())
def test_imports_point_one_way(path: Path) -> None:
    parts = path.relative_to(ROOT).with_suffix("").parts
    is_package = parts[-1] == "__init__"
    module = ".".join(parts[:-1] if is_package else parts)
    assert violations(path.read_text(encoding="utf-8"), module, is_package) == []


def test_the_modules_are_found() -> None:
    assert ROOT / "webui" / "core" / "errors.py" in modules()


@pytest.mark.parametrize(
    "path",
    sorted((ROOT / "extensions").rglob("*.py")),
    ids=lambda path: path.relative_to(ROOT / "extensions").as_posix(),
)
def test_built_in_extensions_import_the_extension_api_only(path: Path) -> None:
    parts = path.relative_to(ROOT / "extensions").with_suffix("").parts
    is_package = parts[-1] == "__init__"
    module = ".".join(parts[:-1] if is_package else parts)
    names = [found.name for found in imports_of(path.read_text(encoding="utf-8"), module, is_package)]
    ours = [name for name in names if name.partition(".")[0] in ("webui", "modules")]
    assert [name for name in ours if not name.startswith("webui.extensions.api.")] == []


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("webui.core.request", "import webui.jobs.runner"),
        ("webui.core.request", "from webui import jobs"),
        ("webui.core.request", "import torch.nn"),
        ("webui.ui.txt2img", "from webui.models.manager import ModelManager"),
        ("webui.ui.txt2img", "def click():\n    from webui.pipeline import generate"),
        ("webui.api.progress", "from ..models import manager"),
        ("webui.api.progress", "import importlib\nimportlib.import_module('webui.diffusion.samplers')"),
        ("webui.services.generate", "import gradio as gr"),
        ("webui.prompts.tokenizer", "from transformers import CLIPTokenizerFast"),
        ("webui.models.manager", "from webui.jobs import runner"),
        ("webui.core.hooks", "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import webui.models.manager"),
        ("webui.core.hooks", "if TYPE_CHECKING:\n    import json\nelse:\n    import torch"),
        ("webui.newcomer.thing", "import os"),
        ("webui.datasets.folders", "import torch"),
        ("webui.planning.training", "from webui.training import loop"),
        ("webui.services.training", "from webui.training import loop"),
    ],
)
def test_a_forbidden_import_is_found(module: str, source: str) -> None:
    assert len(violations(source, module)) == 1


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("webui.core.request", "from .params import Params\nfrom webui.core import errors\nimport json"),
        ("webui.pipeline.generate", "import torch\nfrom webui.jobs.context import JobContext"),
        ("webui.ui.txt2img", "import gradio\nfrom webui.services.services import Services"),
        ("webui.core.hooks", "if TYPE_CHECKING:\n    from torch import Tensor"),
        ("webui.app", "import gradio, torch\nimport webui.pipeline.engine"),
    ],
)
def test_allowed_imports_pass(module: str, source: str) -> None:
    assert violations(source, module) == []
