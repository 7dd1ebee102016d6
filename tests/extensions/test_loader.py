"""Real extension folders, written by each test and loaded by the real loader."""

import ast
import logging
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Literal

import pytest
from PIL import Image

from webui.extensions.loader import BUILT_IN, load_extensions

CODE = Path(__file__).resolve().parents[2]
Write = Callable[..., Path]

GOOD = """
from webui.extensions.api import Params, hookimpl, param

class Vignette(Params):
    "Darken the corners."
    strength: float = param(0.0, label="Strength", infotext="Vignette strength", ge=0, le=1, step=0.05)

@hookimpl
def register_params():
    return Vignette
"""


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def written(name: str, main: str | None = GOOD, **others: str) -> Path:
        """An extension's folder; its parent is what the loader is given."""
        folder = tmp_path / "extensions" / name
        folder.mkdir(parents=True)
        if main is not None:
            (folder / "extension.py").write_text(main, encoding="utf-8")
        for path, text in others.items():
            (folder / f"{path}.py").write_text(text, encoding="utf-8")
        return folder.parent

    return written


def test_a_good_folder_is_picked_up(write: Write) -> None:
    host = load_extensions([write("vignette")])
    (extension,) = host.extensions
    assert (extension.name, extension.state, extension.built_in, host.problems) == ("vignette", "active", False, ())
    assert [group.__name__ for group in host.params] == ["Vignette"]


BROKEN = {
    "syntax": ("def (", "was not loaded: SyntaxError"),
    "missing": ("import no_such_package_of_theirs", "ModuleNotFoundError: No module named 'no_such_package_of_theirs'"),
    "raises": ("x = 1\n\nraise OSError('disk on fire')", "OSError: disk on fire (extension.py, line 3)"),
    "exits": ("import sys\nsys.exit('bye')", "it called sys.exit(bye) (extension.py, line 2)"),
    "recursion": ("def f(): f()\nf()", "RecursionError"),
    "misspelt": (
        "from webui.extensions.api import hookimpl\n@hookimpl\ndef postproces_image(image): pass",
        'there is no hook "postproces_image"; the closest is "postprocess_image"',
    ),
    "argument": (
        "from webui.extensions.api import hookimpl\n@hookimpl\ndef postprocess_image(picture): pass",
        "Argument(s) {'picture'} are declared in the hookimpl but can not be found in the hookspec",
    ),
    "unmarked": ("def postprocess_image(image): pass", '"postprocess_image" lacks its @hookimpl'),
    "wrapper": (
        "from webui.extensions.api import hookimpl\n@hookimpl(wrapper=True)\ndef image_saved(path): yield",
        '"image_saved" can\'t be a wrapper',
    ),
    "not-params": (
        "from webui.extensions.api import hookimpl\n@hookimpl\ndef register_params(): return [3]",
        "register_params gave int 3, not a Params class",
    ),
    "taken-infotext": (
        "from webui.extensions.api import *\nclass P(Params):\n    a: int = param(1, label='a', infotext='Steps')\n"
        "@hookimpl\ndef register_params(): return P",
        'the infotext key "Steps" of P is in use already',
    ),
    "not-a-setting": (
        "from webui.extensions.api import hookimpl\n@hookimpl\ndef register_settings(): return ['eta']",
        "register_settings gave str 'eta', not a Setting",
    ),
    "taken-setting": (
        "from webui.extensions.api import *\n@hookimpl\ndef register_settings(): return [Setting('tiling', 1, 'T')]",
        'there is a setting "tiling" already',
    ),
    "params-raise": (
        "from webui.extensions.api import hookimpl\n@hookimpl\ndef register_params(): return 1 / 0",
        "ZeroDivisionError: division by zero (extension.py, line 3)",
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_one_is_reported_by_name_and_stops_nothing(write: Write, name: str) -> None:
    main, words = BROKEN[name]
    write(name, main)
    modules = set(sys.modules)
    host = load_extensions([write("zz-good")])
    assert {extension.name: extension.state for extension in host.extensions} == {name: "broken", "zz-good": "active"}
    (problem,) = host.problems
    assert problem.name == name
    assert problem.sentence.startswith(f'Extension "{name}" was not loaded: ')
    assert words in problem.sentence
    assert problem.sentence.endswith(".")
    assert [group.__name__ for group in host.params] == ["Vignette"]
    if name == "raises":
        assert not [module for module in set(sys.modules) - modules if "raises" in module]


def test_helpers_are_relative_and_private(write: Write) -> None:
    main = "from . import helper\nfrom .helper import register_settings\n"
    helper = (
        "from webui.extensions.api import Setting, hookimpl\n"
        "@hookimpl\ndef register_settings(): return [Setting({key!r}, True, 'On')]"
    )
    write("a-b", main, helper=helper.format(key="first_on"))
    paths = list(sys.path)
    host = load_extensions([write("a_b", main, helper=helper.format(key="second_on"))])
    assert host.problems == ()
    assert [setting.key for setting in host.settings] == ["first_on", "second_on"]
    assert sys.path == paths
    assert "helper" not in sys.modules


def test_legacy_folders_are_listed_not_run(write: Write, tmp_path: Path) -> None:
    folder = write("sd-webui-something", None, install="raise SystemExit('never run')") / "sd-webui-something"
    (folder / "scripts").mkdir()
    (folder / "scripts" / "something.py").write_text("raise SystemExit('never run')", encoding="utf-8")
    host = load_extensions([folder.parent])
    assert host.legacy == ("sd-webui-something",)
    assert host.problems == ()
    assert [extension.state for extension in host.extensions] == ["legacy"]


def test_a_folder_of_neither_kind_says_what_it_lacks(write: Write) -> None:
    host = load_extensions([write("empty", None)])
    assert "there is no extension.py in" in host.problems[0].sentence


@pytest.mark.parametrize(
    ("disabled", "disable_all", "active"),
    [
        ((), "none", ["seamless-tiling", "mine", "other"]),
        (("mine",), "none", ["seamless-tiling", "other"]),
        (("seamless-tiling",), "none", ["mine", "other"]),
        ((), "extra", ["seamless-tiling"]),
        ((), "all", []),
    ],
)
def test_extensions_can_be_disabled(
    write: Write, disabled: tuple[str, ...], disable_all: Literal["none", "extra", "all"], active: list[str]
) -> None:
    for name in ("mine", "other"):
        write(name, GOOD.replace("Vignette", name))
    host = load_extensions([write("seamless-tiling", "")], disabled, disable_all)
    assert [extension.name for extension in host.extensions if extension.state == "active"] == active
    assert host.problems == ()
    assert len(host.extensions) == 3


def test_a_disabled_one_is_not_imported(write: Write) -> None:
    host = load_extensions([write("mine", "raise SystemExit('never run')")], disabled=["mine"])
    assert host.problems == ()


WAITS = """
import time
from pathlib import Path
while not Path(__file__).with_name("named").exists():
    time.sleep(0.01)
"""
"""An extension that loads for as long as nobody has said so."""


def test_one_that_keeps_the_start_waiting_is_named(write: Write) -> None:
    parent, said = write("slow", WAITS), list[str]()

    class Named(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            said.append(record.getMessage())
            (parent / "slow" / "named").touch()

    handler, log = Named(), logging.getLogger("webui.extensions.loader")
    log.addHandler(handler)
    try:
        load_extensions([parent], warn_after=0.01)
        assert said == ["Extension slow is still loading"]
        load_extensions([parent], warn_after=1000)
        assert len(said) == 1, "it is quick now"
    finally:
        log.removeHandler(handler)


def test_two_of_one_name_and_two_of_one_class(write: Write, tmp_path: Path) -> None:
    write("one")
    parent = write("two")
    elsewhere = tmp_path / "data" / "one"
    elsewhere.mkdir(parents=True)
    (elsewhere / "extension.py").write_text("", encoding="utf-8")
    host = load_extensions([parent, elsewhere.parent])
    assert [(problem.name, problem.sentence.split(": ", 1)[1]) for problem in host.problems] == [
        ("two", 'another extension has parameters named "Vignette"; rename the class.'),
        ("one", f"there is another one of that name; rename the folder {elsewhere}."),
    ]


def test_a_folder_given_twice_or_missing_is_no_trouble(write: Write, tmp_path: Path) -> None:
    parent = write("mine")
    (parent / ".git").mkdir()
    (parent / "__pycache__").mkdir()
    (parent / "put extensions here.txt").touch()
    host = load_extensions([parent, parent, tmp_path / "missing"])
    assert [extension.name for extension in host.extensions] == ["mine"]


def test_ours_are_those_in_the_repository() -> None:
    host = load_extensions([CODE / "extensions"])
    ours = {extension.name: extension.state for extension in host.extensions if extension.built_in}
    assert ours == dict.fromkeys(BUILT_IN, "active")
    ignored = (CODE / ".gitignore").read_text(encoding="utf-8")
    assert set(re.findall(r"^!/extensions/(\S+)/$", ignored, re.MULTILINE)) == set(BUILT_IN)


def test_loading_imports_neither_torch_nor_gradio() -> None:
    code = (
        "import sys; from pathlib import Path; from webui.extensions.loader import load_extensions;"
        "host = load_extensions([Path('extensions')], disable_all='extra'); assert not host.problems, host.problems;"
        "print(sorted({'torch', 'gradio', 'diffusers', 'transformers'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=CODE, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_example_of_the_manual_works(write: Write) -> None:
    manual = (CODE / "docs" / "extensions.md").read_text(encoding="utf-8")
    example = manual.split("```python\n")[1].split("```")[0]
    host = load_extensions([write("vignette", example)])
    assert host.problems == ()
    (group,) = host.params
    white = Image.new("RGB", (64, 48), "white")
    for strength in (0, 0.5, 1):
        plan = SimpleNamespace(extension=lambda group, strength=strength: group(strength=strength))
        result = host.postprocess_image(white, plan)
        corner, middle = (result.getpixel(place)[0] for place in ((0, 0), (32, 24)))  # type: ignore[index]
        assert corner == pytest.approx(255 * (1 - strength), abs=8)
        assert middle > 245


@pytest.mark.parametrize("name", BUILT_IN)
def test_ours_import_nothing_of_easel_but_the_api(name: str) -> None:
    for file in (CODE / "extensions" / name).rglob("*.py"):
        tree = ast.parse(file.read_text(encoding="utf-8"))
        imported = [node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module]
        imported += [alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names]
        assert {module for module in imported if module.startswith("webui")} <= {"webui.extensions.api"}
