"""Pictures onto the disk: where, under which name, with which text in them."""

from __future__ import annotations

import datetime
import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

from PIL import Image

from webui.core.errors import not_saved
from webui.core.files import write_atomic
from webui.core.paths import Paths, inside
from webui.core.pictures import DIGITAL_SOURCE_TYPE, MIME, PARAMETERS
from webui.core.provenance import CHUNK, Provenance
from webui.core.results import GENERATED, ResultFile, Role
from webui.pipeline.saving.names import NameFacts, fill_pattern, safe_part
from webui.pipeline.saving.picture_files import Encoded, Keeper, encoded, write_jpg_copy
from webui.planning.plan import GenerationPlan


class Saver:
    """Saves the pictures of one job; one that can't be saved where it belongs goes elsewhere, and `tell` hears of it.

    provenance: written into each beside its infotext; None leaves it out. tell: takes sentences for the user.
    """

    def __init__(
        self,
        plan: GenerationPlan,
        paths: Paths,
        job_timestamp: str,
        provenance: Provenance | None = None,
        tell: Callable[[str], None] = lambda sentence: None,
    ) -> None:
        self.plan = plan
        self.paths = paths
        self.settings = plan.settings
        self.job_timestamp = job_timestamp
        self.further = {CHUNK: provenance.to_text()} if provenance else {}
        self.keeper = Keeper(self.settings, paths.rescue, tell)

    def sample(
        self,
        image: Image.Image,
        index: int,
        infotext: str,
        *,
        suffix: str = "",
        save: bool = True,
        role: Role = "picture",
        source_type: str = GENERATED,
    ) -> ResultFile:
        """One picture of the job, saved when `save`. suffix: e.g. "-before-highres-fix"."""
        picture = self._encoded(image, infotext, source_type=source_type)
        path = None
        if save:
            folder, name, numbered = self._place(index, picture.data)
            path = self._write(image, picture, folder, name, numbered=numbered, suffix=suffix)
            if path is not None:
                self._write_text(path, infotext)
        return _result(image, picture, infotext, path, role)

    def file(
        self,
        data: bytes,
        ending: str,
        mime: str,
        role: Role,
        infotext: str = "",
        *,
        index: int = 0,
        folder: Sequence[str] = (),
        name: str = "",
    ) -> ResultFile:
        """A file that is no picture, saved beside the job's pictures and named as they are.

        ending: of its name, such as "mp4". index: number of the picture that it is named after.
        folder, name: where below the folder of samples it is to be instead, and its name without the ending.
        """
        numbered = False
        write_to: Callable[[], Path] = partial(inside, self.samples_folder, [safe_part(part) for part in folder])
        if not folder:
            write_to, name, numbered = self._place(index, data)
        path = self.keeper.write(write_to, name, Encoded(data, ending, {}), numbered=numbered)
        return ResultFile(data, mime, infotext, path=str(path) if path else None, role=role)

    @property
    def samples_folder(self) -> Path:
        """Where pictures of the job go, before they are divided among folders."""
        return self.paths.data / (
            self.settings["outdir_samples"] or self.settings[f"outdir_{self.plan.request.mode}_samples"]
        )

    def _place(self, index: int, data: bytes) -> tuple[Callable[[], Path], str, bool]:
        """Folder and name of a file that belongs to a picture of the job, and whether a number goes before."""
        facts = self._facts(index, data)
        folder = partial(
            self._folder, "outdir_samples", f"outdir_{self.plan.request.mode}_samples", "save_to_dirs", facts
        )
        pattern = self.settings["samples_filename_pattern"]
        pattern = pattern or ("[seed]" if self.settings["save_to_dirs"] else "[seed]-[prompt_spaces]")
        name = fill_pattern(pattern, facts)
        numbered = self.settings["save_images_add_number"] or not name
        return folder, f"-{name}" if numbered else name, numbered

    def grid(
        self, image: Image.Image, infotext: str, *, save: bool, name: str = "grid", source_type: str = GENERATED
    ) -> ResultFile:
        """The grid of the whole job. name: the beginning of its file's name."""
        picture = self._encoded(image, infotext, grid=True, source_type=source_type)
        path = None
        if save and self.settings["grid_save"]:
            facts = self._facts(0, picture.data)
            folder = partial(
                self._folder, "outdir_grids", f"outdir_{self.plan.request.mode}_grids", "grid_save_to_dirs", facts
            )
            rest = "-" + fill_pattern("[seed]", facts) if self.settings["grid_extended_filename"] else ""
            path = self._write(image, picture, folder, rest, numbered=True, basename=name)
        return _result(image, picture, infotext, path, "grid")

    def input_picture(self, image: Image.Image, name: str) -> None:
        """A picture that img2img starts from, once under its name."""
        folder = self.paths.data / self.settings["outdir_init_images"]
        if not any(folder.glob(f"{name}.*")):
            self._write(image, encoded(image, {}, self.settings), lambda: folder, name, numbered=False)

    def _encoded(
        self, image: Image.Image, infotext: str, *, grid: bool = False, source_type: str = GENERATED
    ) -> Encoded:
        texts = {PARAMETERS: infotext, **self.further, DIGITAL_SOURCE_TYPE: source_type}
        return encoded(image, texts, self.settings, grid=grid)

    def _write(
        self, image: Image.Image, picture: Encoded, folder: Callable[[], Path], name: str, *, numbered: bool, **how: str
    ) -> Path | None:
        """The picture and its JPG copy, over nothing else that this job has written; None when it is on no disk."""
        path = self.keeper.write(folder, name, picture, numbered=numbered, **how)
        if path is not None:
            copy = write_jpg_copy(path, image, picture, self.settings, self.keeper.keep)
            self.keeper.keep.update((copy,) if copy else ())
        return path

    def _folder(self, shared: str, own: str, divided: str, facts: NameFacts) -> Path:
        """The folder that the settings choose; below it, when setting `divided` is on, the one that the facts give.

        Raises: Refused when a link leads out of it.
        """
        folder = self.paths.data / (self.settings[shared] or self.settings[own])
        if not self.settings[divided]:
            return folder
        pattern = self.settings["directories_filename_pattern"] or "[prompt_words]"
        return inside(folder, (safe_part(part) for part in re.split(r"[/\\]", fill_pattern(pattern, facts))))

    def _write_text(self, path: Path, infotext: str) -> None:
        if not self.settings["save_txt"] or not infotext:
            return
        try:
            write_atomic(path.with_name(f"{path.stem}.txt"), f"{infotext}\n".encode("utf-8", "replace"))
        except OSError as error:
            self.keeper.tell(str(not_saved(f"The text beside {path} can't be saved", error)))

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
            "denoising": _text_of(plan.hires.sampling.denoise if plan.hires else first.denoise),
            "user": plan.request.user,
            "vae_filename": _vae_filename(plan),
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


def _text_of(value: object) -> str | None:
    return None if value is None else str(value)


def _result(image: Image.Image, picture: Encoded, infotext: str, path: Path | None, role: Role) -> ResultFile:
    saved = str(path) if path else None
    return ResultFile(picture.data, MIME[picture.format], infotext, image.width, image.height, saved, role)


def _vae_filename(plan: GenerationPlan) -> str:
    """The name of the VAE's file up to its first dot."""
    vae = plan.vae_of(plan.first.checkpoint).file
    return vae.name.lstrip(".").split(".")[0] if vae else "None"
