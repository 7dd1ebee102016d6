from __future__ import annotations

import os
import time
from pathlib import Path

from webui.core.files import atomic_file, sweep_temporaries


def test_only_what_a_killed_process_left_is_swept(tmp_path: Path) -> None:
    now, deep = time.time(), tmp_path / "txt2img-images" / "2026-01-01"
    deep.mkdir(parents=True)
    others = [".hidden.tmp", "a.abcdefgh.tmp", ".a.png.ABCDEFGH.tmp", ".a.png.abcdefgh.tmp.png", "00001.png"]
    for path in [deep / name for name in others]:
        path.write_bytes(b"whole")
        os.utime(path, (now - 100, now - 100))
    with atomic_file(deep / "c.png") as file:
        file.write(b"half")
        (half,) = deep.glob(".c.png.*.tmp")
        os.link(half, deep / "kept")
    fresh = deep / ".b.png.a_c4e6g8.tmp"
    os.rename(deep / "kept", half)
    fresh.write_bytes(b"half")
    for path, age in ((half, 1), (fresh, -1)):
        os.utime(path, (now - age, now - age))
    sweep_temporaries(tmp_path, now)
    assert sorted(path.name for path in deep.iterdir()) == sorted([*others, "c.png", fresh.name])
    sweep_temporaries(tmp_path / "none such", now)
