"""The job: a video in, a video out, img2img on the frames between."""

from __future__ import annotations

import hashlib
import io
import json
import secrets
import time
from dataclasses import replace
from fractions import Fraction
from itertools import chain, count
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from webui.extensions.api import Easel, FromImage, GenerationRequest, Inpaint, InvalidRequest, JobContext, WebuiError
from webui.extensions.api import video as kit

from .folder import WorkFolder, source_mark
from .frames import FrameSettings, Processed, film, make_frames
from .kinds import Film, FilmMade
from .parameters import MASKED_CONTENTS, RESIZE_MODES, Mov2Mov
from .plan import FramePlan, frame_prompts, plan_frames, with_key_frames
from .sizes import fit, scaled_size

PREVIEW_SIDE = 512
_SEEDS = 2**32
_CUT_SIDE = 160
"""Pixels of the longer side at which scene cuts are looked for."""


class Stopped(WebuiError):
    """The job was told to end in the middle of a frame."""


def run(easel: Easel, asked: Film, job: JobContext) -> FilmMade:
    """Diffuse what isn't there yet and put the film together, also of a part when the job is interrupted."""
    settings = easel.settings.snapshot()
    options, request = asked.options, asked.request
    prompts = frame_prompts(options.prompts)
    source = kit.open_video(Path(asked.video), options.frames.movie_fps)
    name = Path(asked.name or asked.video).stem[:80] or "video"
    if options.size.enable:
        width, height = scaled_size(source, options.size)
        request = request.replace(width=width, height=height)
    job.text("Looking at the video")
    plan = _planned(source, options)
    masks = _masks(options, plan)
    encoding, sound = _encoding(options), _sound(options, source, plan)
    kit.require_writable(encoding, plan.rate, request.width, request.height, sound)
    folder = _folder(easel.paths.data / settings["mov2mov_outpath_samples"], name, asked, request, source, plan, job)

    image = request.image or FromImage()
    mode = RESIZE_MODES[image.resize_mode]

    def fitted(picture: Any) -> Any:
        return fit(picture, request.width, request.height, mode)

    comments = dict[str, None]()
    if request.batch_count * request.batch_size > 1:
        comments["A film is made once: batch count and batch size have no effect."] = None
    done, total = folder.finished, folder.count
    if done:
        job.child(done / total)
    process = _Process(job, request, options, asked.name or Path(asked.video).name, folder, masks, total, comments)
    todo = () if asked.stitch else make_frames(source, plan, options, folder, process, fitted, request.prompt, prompts)
    try:
        for frame in todo:
            if frame.failure:
                comments[f"Frame {frame.index + 1} failed twice and is the video's own: {frame.failure}"] = None
            job.show(_preview(frame.picture), "image/jpeg")
            if job.interrupted or job.stopping:
                break
            job.pause_point()
    except Stopped:
        pass  # the frame in hand is made anew when the run goes on
    finished = folder.finished
    if not finished or job.server_stops:
        return FilmMade(
            (), "Stopped before the first frame was finished.", tuple(comments), str(folder.path), finished, total
        )
    job.text("Writing the film")
    pictures = film(source, plan, options, folder, fitted)
    path = _untaken(easel.paths.data / settings["mov2mov_output_dir"], encoding.format)
    written = kit.write_video(path, pictures, plan.rate, encoding, folder.infotext(0), sound)
    message = f"{finished} of {total} frames, {written.count / float(written.rate):.2f} s, in {written.path.name}"
    if finished < total:
        message += "; start again with the same settings to go on"
    files = (str(written.path),) if written.path.is_file() else ()
    return FilmMade(files, message + ".", tuple(comments), str(folder.path), finished, total)


def _planned(source: kit.Video, options: Mov2Mov) -> FramePlan:
    plan = plan_frames(source, options.frames)
    deflickers = options.temporal.deflicker and options.temporal.reset_at_cuts
    if not (options.editor.enable or deflickers):
        return plan
    used = plan.used
    small = (_small(frame.picture) for frame in source.selected(used))
    plan = replace(plan, cuts=frozenset(used[place] for place in kit.scene_cuts(small)))
    if not options.editor.enable:
        return plan
    return with_key_frames(plan, options.editor, frame_prompts(options.prompts), plan.cuts)


def _small(picture: Any) -> Any:
    height, width = picture.shape[:2]
    scale = min(_CUT_SIDE / max(height, width), 1)
    return kit.resized(picture, max(round(width * scale), 1), max(round(height * scale), 1))


def _folder(
    root: Path,
    name: str,
    asked: Film,
    request: GenerationRequest,
    source: kit.Video,
    plan: FramePlan,
    job: JobContext,
) -> WorkFolder:
    """Where this run's frames are: begun by it before the server went down, left by an equal one, or new."""
    begun = job.load_state()
    if begun is not None and (Path(begun["folder"]) / "job.json").is_file():
        return WorkFolder(Path(begun["folder"]))
    options = asked.options.model_dump(mode="json", exclude={"resume", "output"})
    wanted = request.model_dump(exclude={"user", "remarks", "save_samples", "save_grid"}, serialize_as_any=True)
    same = {"request": _plain(wanted), "options": options, "source": source_mark(Path(asked.video))}
    folder = WorkFolder.latest(root, same, not asked.stitch) if asked.options.resume or asked.stitch else None
    if folder is None and asked.stitch:
        raise InvalidRequest("No run of these settings has left frames; Generate makes some.")
    if folder is None:
        seed, subseed = (
            given if given >= 0 else secrets.randbelow(_SEEDS) for given in (request.seed, request.variation.seed)
        )
        facts = {"asked": same, "seed": seed, "subseed": subseed, "made": plan.made, "rate": str(plan.rate)}
        folder = WorkFolder.begin(root, name, facts)
    job.save_state({"folder": str(folder.path)})
    return folder


class _Process:
    """Makes a frame by img2img within the job."""

    def __init__(
        self,
        job: JobContext,
        request: GenerationRequest,
        options: Mov2Mov,
        source_name: str,
        folder: WorkFolder,
        masks: kit.Video | None,
        total: int,
        comments: dict[str, None],
    ) -> None:
        self._job, self._total, self._comments = job, total, comments
        self._source, self._options, self._masks = source_name, options, masks
        self._image = request.image or FromImage()
        variation = request.variation
        if variation.strength:
            variation = variation.replace(seed=int(folder.facts["subseed"]))
        self._request = request.replace(variation=variation, batch_count=1, batch_size=1, hires=None, script="")
        self._rate = float(Fraction(folder.facts["rate"]))

    def __call__(self, picture: Any, settings: FrameSettings) -> Processed:
        image = self._image.replace(images=(_png(picture),), noise_multiplier=settings.noise_multiplier)
        if self._masks is not None:
            image = image.replace(inpaint=self._inpaint(self._masks, settings.number, picture))
        request = self._request.replace(image=image, prompt=settings.prompt, seed=settings.seed)
        self._job.text(f"Frame {settings.index + 1}/{self._total}")
        result = self._job.child(1 / self._total).generate(request, save=False)
        if self._job.interrupted:
            raise Stopped("The job was interrupted.")
        self._comments |= dict.fromkeys(result.comments)
        made = result.images[result.index_of_first_image :]
        pictures = [np.array(Image.open(io.BytesIO(file.data)).convert("RGB")) for file in made[:1]]
        frames = self._options.frames
        told = f"source: {self._source}, frame: {settings.number + 1}, fps: {self._rate:g}"
        told += f", max frames: {frames.max_frames}, noise multiplier: {settings.noise_multiplier:g}"
        return Processed(pictures, f"{made[0].infotext}, mov2mov: {json.dumps(told, ensure_ascii=False)}")

    def _inpaint(self, masks: kit.Video, number: int, picture: Any) -> Inpaint:
        mask = next(masks.selected([min(number, masks.count - 1)])).picture
        size = picture.shape[1::-1]
        mask = np.asarray(Image.fromarray(mask[:, :, 0]).resize(size, Image.Resampling.NEAREST))
        asked = self._options.masks
        return Inpaint(
            mask=_png(mask),
            blur_x=asked.blur,
            blur_y=asked.blur,
            invert=asked.mode == "Inpaint not masked",
            fill=MASKED_CONTENTS.index(asked.content),
            only_masked=asked.area == "Only masked",
        )


def _masks(options: Mov2Mov, plan: FramePlan) -> kit.Video | None:
    """The mask video. Raises: InvalidRequest for one that ends before the film's frames do."""
    if options.masks.video is None:
        return None
    masks = kit.open_video(Path(options.masks.video))
    wanted = plan.made[-1] + 1
    if 1 < masks.count < wanted:
        raise InvalidRequest(
            f"The mask video has {masks.count} frames, the video's are needed up to frame {wanted}; give a longer one, "
            "one picture for all, or end the film earlier."
        )
    return masks


def _encoding(options: Mov2Mov) -> kit.Encoding:
    output = options.output
    return kit.Encoding(output.format, crf=output.crf, preset=output.preset, loop=output.loop)


def _sound(options: Mov2Mov, source: kit.Video, plan: FramePlan) -> kit.Sound | None:
    """Raises: InvalidRequest when a soundtrack is wanted and there is none."""
    output = options.output
    if output.sound == "Keep":
        return kit.sound_of(source, plan.start)
    if output.sound == "None":
        return None
    if not output.soundtrack:
        raise InvalidRequest('There is no soundtrack; give one, or set Sound to "Keep" or "None".')
    return kit.Sound(Path(output.soundtrack))


def _untaken(root: Path, format: str) -> Path:
    """`{unix seconds}.mp4`, a folder for PNGs."""
    ending = "" if format == "png" else f".{format}"
    now = int(time.time())
    names = chain([f"{now}"], (f"{now}-{number}" for number in count(2)))
    return next(path for name in names if not (path := root / f"{name}{ending}").exists())


def _plain(value: Any) -> Any:
    """The value as JSON has it, with a digest in place of bytes."""
    return json.loads(json.dumps(value, default=lambda item: hashlib.sha256(bytes(item)).hexdigest()))


def _png(picture: Any) -> bytes:
    data = io.BytesIO()
    Image.fromarray(picture).save(data, "PNG", compress_level=1)
    return data.getvalue()


def _preview(picture: Any) -> bytes:
    image, data = Image.fromarray(picture), io.BytesIO()
    image.thumbnail((PREVIEW_SIDE, PREVIEW_SIDE))
    image.save(data, "JPEG", quality=85)
    return data.getvalue()
