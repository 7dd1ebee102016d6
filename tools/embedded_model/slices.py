"""Stages `slice` and `unslice`: train on a machine that is to be had for minutes at a time, and take it home.

A slice finds the pack and whatever state was brought along, goes on with the stage that is due, and stops in time. What
travels back is a tar of compact states in parts, so that a slice cut off at any moment leaves its last save.
"""

from __future__ import annotations

import importlib
import io
import os
import shutil
import sys
import tarfile
import time
from contextlib import redirect_stdout
from pathlib import Path
from typing import TextIO

from .config import Preset
from .sources import unpack_wheels

PART = 15 * 2**20  # bytes of one part
PARTS = 4
SAVING_SECONDS = 25.0  # kept for the last save, previews and the way out
SHORTEST = 60.0  # seconds; a stage isn't begun for less
ORDER = ("vae", "decoder", "encode", "unet")
TRAVELS = ("vae.pt", "decoder.pt", "unet.pt", "whitening.pt")
SHEETS = ("vae.png", "unet.png")


class Tee(io.TextIOBase):
    """Writes to a stream and to a log."""

    def __init__(self, stream: TextIO, log: Path):
        self.stream, self.log = stream, log.open("a", encoding="utf-8")

    def write(self, text: str) -> int:
        self.log.write(text)
        self.log.flush()
        return self.stream.write(text)

    def flush(self) -> None:
        self.stream.flush()


def out_folder(preset: Preset) -> Path:
    """$OUT where the machine gives one, else a folder beside the runs."""
    return Path(os.environ.get("OUT") or preset.runs / f"{preset.name}-out")


def run(preset: Preset, minutes: float, last: bool = False, started: float | None = None) -> None:
    """started: when the process began, in time.time()'s seconds; importing counts. last: no slice follows this one."""
    started = started or time.time()
    deadline = started + 60 * minutes - SAVING_SECONDS
    out = out_folder(preset)
    out.mkdir(parents=True, exist_ok=True)
    with redirect_stdout(Tee(sys.stdout, out / "log.txt")):
        unpack_wheels(preset)
        importlib.import_module(f"{__package__}.data").run(preset)
        print(f"ready after {time.time() - started:.0f} s", flush=True)
        go_on(preset, deadline, last, out)
        print(f"stopped after {time.time() - started:.0f} s of {60 * minutes:.0f}", flush=True)


def go_on(preset: Preset, deadline: float, last: bool, out: Path) -> None:
    """One stage after the other until all are done or the time is up."""
    from .loop import Clock

    clock = Clock(deadline, last, lambda: write_out(preset, out))
    while (stage := due(preset)) and clock.left > min(SHORTEST, 60 * stage_minutes(preset, stage)):
        print(f"{stage}: {clock.left:.0f} s left", flush=True)
        # Only the UNet fills what is left: the stages before it keep to their own minutes.
        own = Clock(deadline, last and stage == "unet", clock.saved)
        importlib.import_module(f"{__package__}.{stage}").run(preset, own)
    write_out(preset, out)
    print("all is trained" if due(preset) is None else f"next: {due(preset)}", flush=True)


def stage_minutes(preset: Preset, stage: str) -> float:
    """Of training; `encode` and stages counted in steps have no plan and are begun for any time."""
    return 0.0 if stage == "encode" else float(getattr(preset, stage).minutes)


def due(preset: Preset) -> str | None:
    """The first stage of ORDER that isn't done; latents don't travel, so they may be due again."""
    from .loop import is_done

    left = [stage for stage in ORDER if stage != "encode" and not is_done(preset, stage)]
    if not left:
        return None
    if left[0] == "unet" and not (preset.run / "latents.pt").exists():
        return "encode"
    return left[0]


def write_out(preset: Preset, out: Path) -> None:
    """All states as they are on disk now, made compact, with curves, as parts; and the sheets beside."""
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as tar:
        for path in sorted(preset.run.iterdir()) if preset.run.exists() else []:
            if path.name in TRAVELS or path.suffix == ".csv":
                add(tar, path)
    data = content.getvalue()
    parts = [data[start : start + PART] for start in range(0, len(data), PART)]
    assert len(parts) <= PARTS, f"{len(data) / 1e6:.0f} MB of state are more than {PARTS} parts"
    for number, part in enumerate(parts):
        beside = out / f"part-{number}.new"
        beside.write_bytes(part)
        beside.replace(out / f"state-{number}-of-{len(parts)}.part")
    for old in out.glob("state-*.part"):
        if not old.name.endswith(f"-of-{len(parts)}.part"):
            old.unlink()
    for name in SHEETS:
        if (preset.run / name).exists():
            shutil.copy(preset.run / name, out / name)


def add(tar: tarfile.TarFile, path: Path) -> None:
    data = path.read_bytes()
    if path.name in {"vae.pt", "decoder.pt", "unet.pt"}:
        data = compact_bytes(path)
    info = tarfile.TarInfo(path.name)
    info.size = len(data)
    tar.addfile(info, io.BytesIO(data))


def compact_bytes(path: Path) -> bytes:
    import torch

    from .loop import compact, load_state

    state = load_state(path)
    assert state is not None, path
    buffer = io.BytesIO()
    torch.save(compact(state), buffer)
    return buffer.getvalue()


def unslice(preset: Preset, folder: Path) -> None:
    """Put a slice's output into runs/, where the next slice, `export` and `evaluate` find it.

    Raises: FileNotFoundError unless all parts of one state are there.
    """
    parts = sorted(folder.glob("state-*-of-*.part"), key=lambda path: int(path.name.split("-")[1]))
    if not parts or len(parts) != int(parts[0].stem.split("-")[3]):
        raise FileNotFoundError(f"{folder} has {len(parts)} parts of a state, which aren't all")
    preset.run.mkdir(parents=True, exist_ok=True)
    with tarfile.open(fileobj=io.BytesIO(b"".join(part.read_bytes() for part in parts))) as tar:
        for member in tar.getmembers():
            file = tar.extractfile(member)
            assert file is not None
            assert "/" not in member.name, member.name
            (preset.run / member.name).write_bytes(file.read())
            print(f"{member.name}: {member.size / 1e6:.2f} MB")
    # Latents of another VAE than the one that came, if any; a slice makes its own.
    (preset.run / "latents.pt").unlink(missing_ok=True)
    for name in SHEETS:
        if (folder / name).exists():
            shutil.copy(folder / name, preset.run / name)
    left = due(preset)
    print("all is trained: export, then evaluate" if left is None else f"next: {left}")
