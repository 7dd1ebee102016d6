"""A new extension's folder, which works and has a test; for `python launch.py new-extension NAME`."""

from __future__ import annotations

import re
from pathlib import Path

NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")

MAIN = '''"""TITLE: what it does, in one sentence."""

from PIL import ImageEnhance

from webui.extensions.api import Params, hookimpl, param


class CLASS(Params, title="TITLE"):
    """What a picture may have of it."""

    strength: float = param(0.0, label="Strength", infotext="TITLE strength", ge=0, le=1, step=0.05)


@hookimpl
def register_params():
    return CLASS


@hookimpl
def postprocess_image(image, plan):
    """As an example: less colour."""
    strength = plan.extension(CLASS).strength
    return ImageEnhance.Color(image).enhance(1 - strength) if strength else None
'''

TEST = '''"""Run it with: python launch.py test FOLDER"""

from pathlib import Path
from types import SimpleNamespace

from PIL import Image

from webui.extensions.loader import load_extensions

HERE = Path(__file__).parent


def test_it_changes_a_picture_and_by_default_does_not():
    host = load_extensions([HERE.parent])
    assert [problem.sentence for problem in host.problems if problem.name == HERE.name] == []
    group = next(group for group in host.params if group.__name__ == "CLASS")
    red = Image.new("RGB", (8, 8), "red")
    made = {}
    for strength in (0, 1):
        plan = SimpleNamespace(extension=lambda group, strength=strength: group(strength=strength))
        made[strength] = host.postprocess_image(red, plan).getpixel((0, 0))
    assert made[0] == (255, 0, 0)
    assert len(set(made[1])) == 1  # grey
    assert group(strength=0.5).to_infotext() == {"TITLE strength": 0.5}
'''

REQUIREMENTS = """# What this extension needs besides Easel's own packages, one exact version a line: name==1.2.3
# A package that would bring ones Easel has in other versions goes without them: --no-deps name==1.2.3
"""


def make_extension(parent: Path, name: str) -> Path:
    """Write the folder; returns it. Raises: ValueError for a name that won't do, FileExistsError, OSError."""
    if not NAME.fullmatch(name):
        raise ValueError(f'"{name}" is no name for an extension; use small letters, digits and single hyphens')
    folder = parent / name
    folder.mkdir(parents=True)
    words = name.split("-")
    texts = {"TITLE": " ".join(words).capitalize(), "CLASS": "".join(map(str.capitalize, words)), "FOLDER": str(folder)}
    test = f"test_{name.replace('-', '_')}.py"
    for file, text in {"extension.py": MAIN, test: TEST, "requirements.txt": REQUIREMENTS}.items():
        for word, meaning in texts.items():
            text = text.replace(word, meaning)
        (folder / file).write_text(text, encoding="utf-8")
    return folder
