"""What the Save buttons do: copies of chosen pictures in a folder of their own, with a log of how they were made."""

from __future__ import annotations

import csv
import io
import os
import re
import shutil
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from webui.core.errors import NotSaved, Refused, WebuiError
from webui.core.files import write_atomic
from webui.core.request import GenerationResult
from webui.core.results import ResultFile
from webui.services.services import Services

COLUMNS = (
    "prompt",
    "seed",
    "width",
    "height",
    "sampler",
    "cfgs",
    "steps",
    "filename",
    "negative_prompt",
    "sd_model_name",
    "sd_model_hash",
)
_saving = threading.Lock()
"""Two clicks must not draw the same number or lose each other's line in log.csv."""


def save_pictures(services: Services, result: GenerationResult, selected: int) -> list[Path]:
    """Copy pictures to the folder of setting `outdir_save` and log them in its log.csv; returns the copies.

    selected: index of the chosen picture, the only one saved under setting `save_selected_only`. The grid
    chosen means all. Raises: WebuiError when the folder can't be written.
    """
    settings = services.settings.snapshot()
    chosen = list(enumerate(result.images))
    if settings["save_selected_only"] and result.index_of_first_image <= selected < len(chosen):
        chosen = [chosen[selected]]
    folder = services.paths.data / settings["outdir_save"]
    try:
        with _saving:
            folder.mkdir(parents=True, exist_ok=True)
            saved = [_save(folder, image, _seed(result, index)) for index, image in chosen]
            if settings["save_write_log_csv"] and saved:
                _log(folder / "log.csv", result.info, [path.name for path in saved])
    except OSError as error:
        raise WebuiError(f"The pictures can't be saved to {folder}: {error.strerror or error}.") from error
    return saved


def zip_pictures(services: Services, files: Sequence[Path], result: GenerationResult) -> Path:
    """One archive of saved pictures, beside them. Raises: WebuiError when it can't be written."""
    seeds = result.info.get("all_seeds") or [0]
    model = re.sub(r'[\\/:*?"<>|]', "_", str(result.info.get("sd_model_name") or "model"))
    name = f"{time.strftime('%Y%m%d%H%M%S')}_[{model}]_{seeds[0]}-{seeds[-1]}.zip"
    folder = services.paths.data / services.settings.snapshot()["outdir_save"]
    content = io.BytesIO()
    try:
        with zipfile.ZipFile(content, "w", zipfile.ZIP_STORED) as archive:
            for file in files:
                archive.write(file, file.name)
        write_atomic(folder / name, content.getvalue())
    except OSError as error:
        raise WebuiError(f"{folder / name} can't be written: {error.strerror or error}.") from error
    return folder / name


def open_folder(services: Services, mode: str = "txt2img", picture: Path | None = None) -> Path:
    """Show the folder of a mode's pictures in the file manager of the machine the server runs on.

    mode: "txt2img", "img2img" or "extras". picture: the one that is looked at; the folder it lies in is opened unless
    the setting open_dir_button_choice wants the outermost one.

    Raises: Refused when others can reach the server, WebuiError naming the folder when nothing can show it.
    """
    settings = services.settings.snapshot()
    folder = services.paths.data / (settings["outdir_samples"] or settings[f"outdir_{mode}_samples"])
    choice = settings["open_dir_button_choice"]
    if picture is not None and choice != "Output Root":
        within = picture.is_relative_to(folder) or choice == "Subdirectory (even temp dir)"
        folder = picture.parent if within and picture.parent.is_dir() else folder
    if not services.flags.is_local:
        raise Refused(f"The pictures are in {folder}; folders are opened only on a server for this machine alone.")
    folder.mkdir(parents=True, exist_ok=True)
    if sys.platform == "win32":
        os.startfile(folder)
        return folder
    program = "open" if sys.platform == "darwin" else shutil.which("xdg-open")
    if program is None:
        raise WebuiError(f"No file manager was found here; the pictures are in {folder}.")
    subprocess.Popen([program, str(folder)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return folder


def _seed(result: GenerationResult, index: int) -> int | None:
    """The picture's seed; None for the grid."""
    seeds = result.info.get("all_seeds") or ()
    number = index - result.index_of_first_image
    return seeds[number] if 0 <= number < len(seeds) else None


def _save(folder: Path, image: ResultFile, seed: int | None) -> Path:
    numbers = [int(found[0]) for path in folder.iterdir() if (found := re.match(r"\d+", path.name))]
    ending = Path(image.path).suffix if image.path else "." + image.mime.rpartition("/")[2].replace("jpeg", "jpg")
    path = folder / f"{max(numbers, default=-1) + 1:05d}-{'grid' if seed is None else seed}{ending}"
    write_atomic(path, image.data)
    return path


def _log(path: Path, info: Mapping[str, Any], names: Sequence[str]) -> None:
    """Append one line for these pictures; an older file with fewer columns gets the new header and is kept.

    Raises: NotSaved when the file there isn't CSV in UTF-8; OSError.
    """
    try:
        old = list(csv.reader(io.StringIO(path.read_bytes().decode(), newline=""))) if path.exists() else []
    except (UnicodeDecodeError, csv.Error) as error:
        raise NotSaved(f"The pictures are saved; {path} can't be read ({error}) and was left as it is.") from error
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(COLUMNS)
    for row in old[1:]:
        writer.writerow([*row, *[""] * (len(COLUMNS) - len(row))])
    keys = ("prompt", "seed", "width", "height", "sampler_name", "cfg_scale", "steps")
    line = [info.get(key, "") for key in keys]
    last = [info.get(key, "") for key in ("negative_prompt", "sd_model_name", "sd_model_hash")]
    writer.writerow([*line, names[0], *last])
    write_atomic(path, text.getvalue().encode())
