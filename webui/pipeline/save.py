"""Pictures onto the disk: where, under which name, with which text in them."""

from __future__ import annotations

import datetime
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from webui.core.errors import WebuiError
from webui.core.files import write_atomic
from webui.core.paths import Paths
from webui.core.pictures import encode_image
from webui.core.request import ResultImage
from webui.core.settings import Settings
from webui.pipeline.names import NameFacts, fill_pattern, safe_part
from webui.pipeline.plan import GenerationPlan

MIME = {"png": "image/png", "jpg": "image/jpeg", "webp": "image/webp"}
LARGEST_SIDE = {"jpg": 65_535, "webp": 16_383}


@dataclass(frozen=True)
class SavedImage:
    """A picture as a file. path: None when it was only encoded."""

    data: bytes
    mime: str
    path: Path | None


def encoded(image: Image.Image, infotext: str, settings: Settings, *, grid: bool = False) -> tuple[bytes, str]:
    """(file content, format) in the format of the settings; PNG where a picture is too large for it."""
    chosen = str(settings["grid_format" if grid else "samples_format"]).lower().lstrip(".")
    kind = "jpg" if chosen == "jpeg" else chosen
    if kind not in MIME:
        raise WebuiError(f'The picture format "{chosen}" is unknown; choose png, jpg or webp in Settings.')
    if max(image.size) > LARGEST_SIDE.get(kind, max(image.size)):
        kind = "png"
    data = encode_image(
        image,
        kind,  # type: ignore[arg-type]
        infotext if settings["enable_pnginfo"] else None,
        quality=settings["jpeg_quality"],
        lossless=settings["webp_lossless"],
    )
    return data, kind


class Saver:
    """Saves the pictures of one job."""

    def __init__(self, plan: GenerationPlan, paths: Paths, job_timestamp: str) -> None:
        self.plan = plan
        self.paths = paths
        self.settings = plan.settings
        self.job_timestamp = job_timestamp

    def sample(
        self, image: Image.Image, index: int, infotext: str, *, suffix: str = "", save: bool = True
    ) -> ResultImage:
        """One picture of the job, saved when `save`. suffix: e.g. "-before-highres-fix"."""
        data, kind = encoded(image, infotext, self.settings)
        path = None
        if save:
            folder = self._folder("outdir_samples", f"outdir_{self.plan.request.mode}_samples")
            facts = self._facts(index, data)
            if self.settings["save_to_dirs"]:
                folder = folder / self._subfolder(facts)
            pattern = self.settings["samples_filename_pattern"]
            pattern = pattern or ("[seed]" if self.settings["save_to_dirs"] else "[seed]-[prompt_spaces]")
            name = fill_pattern(pattern, facts)
            numbered = self.settings["save_images_add_number"] or not name
            path = self._write(folder, "", name if not numbered else f"-{name}", numbered, suffix, kind, data)
            self._write_text(path, infotext)
        return ResultImage(data, MIME[kind], infotext, image.width, image.height, str(path) if path else None)

    def grid(self, image: Image.Image, infotext: str, *, save: bool) -> ResultImage:
        """The grid of the whole job."""
        data, kind = encoded(image, infotext, self.settings, grid=True)
        path = None
        if save and self.settings["grid_save"]:
            folder = self._folder("outdir_grids", f"outdir_{self.plan.request.mode}_grids")
            facts = self._facts(0, data)
            if self.settings["grid_save_to_dirs"]:
                folder = folder / self._subfolder(facts)
            name = "-" + fill_pattern("[seed]", facts) if self.settings["grid_extended_filename"] else ""
            path = self._write(folder, "grid", name, True, "", kind, data)
        return ResultImage(data, MIME[kind], infotext, image.width, image.height, str(path) if path else None, True)

    def _folder(self, shared: str, own: str) -> Path:
        chosen = self.settings[shared] or self.settings[own]
        return self.paths.data / chosen

    def _subfolder(self, facts: NameFacts) -> Path:
        pattern = self.settings["directories_filename_pattern"] or "[prompt_words]"
        parts = (part for part in re.split(r"[/\\]", fill_pattern(pattern, facts)))
        return Path(*(safe_part(part) for part in parts if part.strip(" .")))

    def _write(
        self, folder: Path, basename: str, name: str, numbered: bool, suffix: str, kind: str, data: bytes
    ) -> Path:
        """Write under the next free number of the folder. Raises: WebuiError naming the folder."""
        try:
            folder.mkdir(parents=True, exist_ok=True)
            if not numbered:
                stem = name + suffix
                path = folder / f"{stem}.{kind}"
                if self.settings["save_images_replace_action"] != "Replace":
                    path = _free(path)
            else:
                number = next_number(folder, basename)
                stem = f"{basename}-{number:04}" if basename else f"{number:05}"
                path = _free(folder / f"{stem}{name}{suffix}.{kind}")
            write_atomic(path, data)
        except OSError as error:
            raise WebuiError(
                f"The picture can't be saved in {folder}: {error.strerror}. Free some space or choose another "
                "output folder in Settings; the picture is still shown on the page."
            ) from error
        return path

    def _write_text(self, path: Path, infotext: str) -> None:
        if self.settings["save_txt"] and infotext:
            write_atomic(path.with_suffix(".txt"), f"{infotext}\n".encode())

    def _facts(self, index: int, data: bytes) -> NameFacts:
        plan, first, batch_size = self.plan, self.plan.first, self.plan.request.batch_size
        count = len(plan.seeds)
        schedule = "" if first.schedule.name == "automatic" else first.schedule.label
        values: Mapping[str, str | None] = {
            "seed": str(plan.seeds[index]),
            "seed_first": str(plan.seeds[0]),
            "seed_last": None if count == 1 else str(plan.seeds[-1]),
            "steps": str(first.steps),
            "cfg": str(plan.request.cfg_scale),
            "width": str(plan.hires.sampling.width if plan.hires else first.width),
            "height": str(plan.hires.sampling.height if plan.hires else first.height),
            "styles": ", ".join(plan.request.styles) or "None",
            "sampler": first.sampler.name,
            "scheduler": first.schedule.label,
            "sampler_scheduler": f"{first.sampler.name} {schedule}".strip(),
            "model_hash": first.checkpoint.shorthash or "",
            "model_name": first.checkpoint.model_name,
            "job_timestamp": self.job_timestamp,
            "batch_number": None if batch_size == 1 else str(index % batch_size + 1),
            "batch_size": str(batch_size),
            "generation_number": None if count == 1 else str(index + 1),
            "clip_skip": str(plan.clip_skip),
            "denoising": str(plan.hires.sampling.denoise) if plan.hires else None,
            "user": plan.request.user,
            "vae_filename": "None",
            "basename": "",
        }
        return NameFacts(
            values=values,
            prompt=first.prompts[index],
            prompt_without_styles=plan.request.prompt,
            negative_prompt=plan.request.negative_prompt,
            image_bytes=lambda: data,
            now=datetime.datetime.now(),
            max_prompt_words=self.settings["directories_max_prompt_words"],
        )


def next_number(folder: Path, basename: str) -> int:
    """One more than the highest number that a file of the folder begins with; 0 in an empty one."""
    start = f"{basename}-" if basename else ""
    highest = -1
    for entry in folder.iterdir():
        if entry.name.startswith(start):
            digits = re.match(r"\d+", entry.name[len(start) :])
            if digits:
                highest = max(highest, int(digits.group(0)))
    return highest + 1


def _free(path: Path) -> Path:
    """The path, or with -1, -2, ... behind the stem while that name is taken."""
    candidate, count = path, 0
    while candidate.exists():
        count += 1
        candidate = path.with_name(f"{path.stem}-{count}{path.suffix}")
    return candidate
