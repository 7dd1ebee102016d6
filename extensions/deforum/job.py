"""The job: an animation from its order to its frames, files and video."""

from __future__ import annotations

import logging
import shutil
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from webui.extensions.api import (
    FRAME_ENGINES,
    InvalidRequest,
    JobContext,
    JobKind,
    NotSaved,
    Params,
    WebuiError,
    encode_image,
)

from .animation import Animation
from .depth import ESTIMATORS, DepthModel, depth_picture
from .frames import depth_name, frame_name, frames_in, resume_point, timestring, write_whole
from .materials import as_array, as_png, collect, is_hybrid, local_path, needs_video, open_image, video_frames
from .painting import Interrupted, Painter
from .parseq import with_manifest
from .run import Frame, Materials, State, frames, start
from .seeds import Seeds
from .settings import Settings
from .settings_files import dump_settings, fill_placeholders, write_settings
from .subtitles import subtitles
from .units import GROUP, Units
from .video import Film, MoreFrames, film_gap, stitch

log = logging.getLogger(__name__)
CRF, PRESET, SUBTITLES = "deforum_ffmpeg_crf", "deforum_ffmpeg_preset", "deforum_save_gen_info_as_srt"
UPSCALERS = {
    "realesr-animevideov3": "R-ESRGAN AnimeVideo",
    "realesrgan-x4plus": "R-ESRGAN 4x+",
    "realesrgan-x4plus-anime": "R-ESRGAN 4x+ Anime6B",
    "Lanczos": "Lanczos",
}
"""The upscaler on offer that each of the settings' names means."""
FLOW, RIFE = FRAME_ENGINES


class Order(Params):
    """An animation as it waits in the queue: the seed drawn, its folder named, its mistakes found.

    overrides: settings of the webui for this animation alone.
    """

    settings: Settings
    seed: int
    stamp: str
    folder: str
    overrides: dict[str, Any] = {}


@dataclass(frozen=True)
class Animated:
    """files: paths of the video and the settings file. folder: where the frames lie. stamp: their names' beginning."""

    files: tuple[str, ...]
    message: str
    comments: tuple[str, ...]
    folder: str
    stamp: str
    frames: int


def plan(easel: Any, settings: Settings, overrides: dict[str, Any] | None = None, later: int = 0) -> Order:
    """The order for an animation. later: seconds by which its time string is put off, so that each has its own.

    Raises: InvalidRequest for whatever in the settings can't be computed or found.
    """
    import random
    from datetime import datetime, timedelta

    seed = random.SystemRandom().randint(0, 2**32 - 1) if settings.seed == -1 else settings.seed
    if settings.use_looper:
        settings = settings.replace(strength_0_no_init=False)
    settings = with_manifest(settings)
    Animation(settings, seed)
    if settings.resume_from_timestring:
        stamp = settings.resume_timestring.strip()
    else:
        stamp = timestring(datetime.now() + timedelta(seconds=later))
    parent = _output_folder(easel, overrides or {})
    folder = parent / fill_placeholders(settings.batch_name, settings, stamp)
    while not settings.resume_from_timestring and _settings_file(folder, stamp).exists():
        later += 1
        stamp = timestring(datetime.now() + timedelta(seconds=later))
        folder = parent / fill_placeholders(settings.batch_name, settings, stamp)
    if settings.resume_from_timestring and not frames_in(folder, stamp):
        raise InvalidRequest(f"There is no animation {stamp} in {folder} to be resumed.")
    return Order(settings=settings, seed=seed, stamp=stamp, folder=str(folder), overrides=overrides or {})


def run(easel: Any, order: Order, job: JobContext) -> Animated:
    """Paint every frame that isn't there yet, and make the video.

    An interrupted job keeps its frames, and makes the video of them.
    """
    settings, folder = order.settings, Path(order.folder)
    folder.mkdir(parents=True, exist_ok=True)
    comments: list[str] = []
    video = video_frames(settings, folder) if needs_video(settings) else []
    count = len(video) if settings.animation_mode == "Video Input" else settings.max_frames
    animation = Animation(settings, order.seed, count)
    depth = _depth(easel, order, folder, comments)
    materials = collect(settings, animation, folder, video, depth)
    _tell_what_is_left_out(settings, comments)
    settings_file = _write_settings_file(easel, order, animation, materials, video)
    job.artifact(settings_file)
    state = _state_to_begin_with(order, animation, folder)
    units = Units(easel.group(GROUP), animation, folder)
    painter = Painter(job, animation, state, units, order.overrides)
    made = frames(animation, materials, painter, state)
    try:
        for frame in made:
            _write_frame(folder, order.stamp, frame)
            job.pause_point()
            if job.interrupted or job.stopping:
                break
    except Interrupted:
        log.info("Animation %s was interrupted", order.stamp)
    if job.server_stops:
        return Animated((), "", (), order.folder, order.stamp, 0)
    files = [str(settings_file)]
    numbers = frames_in(folder, order.stamp)
    pictures = [folder / frame_name(order.stamp, number) for number in numbers]
    files = [*_videos(easel, order, animation, pictures, job, comments), *files]
    if settings.delete_imgs and len(files) > 1:
        for path in pictures:
            path.unlink()
    if settings.delete_input_frames:
        for path in video:
            path.unlink(missing_ok=True)
    message = f"{len(numbers)} of {animation.frames} frames in {folder}"
    return Animated(tuple(files), message, tuple(dict.fromkeys(comments)), order.folder, order.stamp, len(numbers))


KIND = JobKind("deforum.animate", run, Order, Animated, "Deforum", resumable=True)


def _output_folder(easel: Any, overrides: dict[str, Any]) -> Path:
    known = {**easel.settings.snapshot(), **overrides}
    place = str(known.get("outdir_samples") or known.get("outdir_img2img_samples") or "outputs/img2img-images")
    return Path(place) if Path(place).is_absolute() else Path(easel.paths.data) / place


def _settings_file(folder: Path, stamp: str) -> Path:
    return folder / f"{stamp}_settings.txt"


def _state_file(folder: Path, stamp: str) -> Path:
    return folder / f"{stamp}_state.npz"


def _write_settings_file(
    easel: Any, order: Order, animation: Animation, materials: Materials, video: list[Path]
) -> Path:
    """The settings as the animation has them, beside its frames."""
    settings = order.settings
    changes: dict[str, Any] = {"seed": order.seed, "max_frames": animation.frames}
    if materials.init is not None and not settings.use_init and video and is_hybrid(settings):
        changes |= {"use_init": True, "init_image": str(video[0])}
    name = str({**easel.settings.snapshot(), **order.overrides}.get("sd_model_checkpoint") or "")
    path = _settings_file(Path(order.folder), order.stamp)
    write_whole(path, dump_settings(write_settings(settings.replace(**changes), name)).encode())
    return path


def _write_frame(folder: Path, stamp: str, frame: Frame) -> None:
    """The picture, then the state after it, so that no state speaks of a frame that isn't there."""
    write_whole(folder / frame_name(stamp, frame.number), as_png(frame.picture))
    write_whole(_state_file(folder, stamp), frame.state.to_bytes())


def _state_to_begin_with(order: Order, animation: Animation, folder: Path) -> State:
    """The state that was written last; without one, what can be told from the frames; else the beginning."""
    kept = _state_file(folder, order.stamp)
    if kept.is_file():
        return State.from_bytes(kept.read_bytes())
    numbers = frames_in(folder, order.stamp)
    point = resume_point(len(numbers), animation.cadence) if order.settings.resume_from_timestring else None
    if point is None:
        return start(animation)
    size = order.settings.width, order.settings.height

    def picture(number: int) -> Any:
        return as_array(open_image(folder / frame_name(order.stamp, number), "Frame"), size)

    from .cadence import Kept, Pair

    seeds: Seeds = start(animation).seeds
    for frame in range(0, point.start, animation.cadence):
        seeds = seeds.following(animation.scheduled_seed(frame))
    last = picture(point.later)
    sample = None if order.settings.legacy_colormatch else picture(0)
    pair = Pair(Kept(last, point.start - animation.cadence))
    return State(point.start, point.start, seeds, last, sample, pair)


def _depth(easel: Any, order: Order, folder: Path, comments: list[str]) -> Callable[[Any, int], Any] | None:
    """What tells the depth of a picture; None, and why, where the settings want none or have no model."""
    settings = order.settings
    warps = settings.animation_mode == "3D" and settings.use_depth_warping
    masked = settings.hybrid_composite != "None" and settings.hybrid_comp_mask_type in ("Depth", "Video Depth")
    if not warps and not masked:
        return None
    flat = "the camera sees each picture as a flat plane." if warps else "nothing is masked by depth."
    estimator = ESTIMATORS.get(settings.depth_algorithm)
    if estimator is None or easel.models is None:
        comments.append(f"{settings.depth_algorithm} has no weights that Easel can run, so {flat}")
        return None
    if not estimator.is_there(Path(easel.paths.models)):
        comments.append(f"There is no depth model, so {flat} {estimator.fetchable.missing}")
        return None
    if settings.depth_algorithm.endswith("(old)"):
        comments.append(f"The depth is that of {estimator.name} alone, as AdaBins has no weights that Easel can run.")
    model = DepthModel(estimator, easel)

    def depth(picture: Any, frame: int) -> Any:
        found = model(picture)
        if settings.save_depth_maps and found is not None:
            write_whole(folder / depth_name(order.stamp, frame), as_png(depth_picture(found)))
        return found

    return depth


def _tell_what_is_left_out(settings: Settings, comments: list[str]) -> None:
    """Sentences about what the settings ask for and this version doesn't do."""
    if settings.frame_interpolation_engine == "FILM":
        comments.append(
            "Frames between are made by optical flow: FILM's weights are a program, and Easel runs none from files."
        )
    if settings.hybrid_generate_human_masks != "None":
        comments.append("Human masks are left out.")
    if settings.store_frames_in_ram:
        comments.append("Frames are written to the disk, whatever “Store frames in RAM” says.")


def _videos(
    easel: Any, order: Order, animation: Animation, pictures: list[Path], job: JobContext, comments: list[str]
) -> list[str]:
    """The videos, the GIF and the subtitles. What can't be made is told; the frames stay."""
    settings, folder = order.settings, Path(order.folder)
    if settings.skip_video_creation or not pictures:
        return []
    begun, made = time.monotonic(), list[str]()
    job.text("Making the video")

    def make(name: str, frames: list[Path], film: Film, more: MoreFrames | None = None) -> None:
        made.append(str(job.artifact(stitch(frames, folder / f"{order.stamp}{name}", film, more))))

    try:
        film = _film(easel, order, animation)
        make(".mp4", pictures, film)
        if settings.make_gif:
            make(".gif", pictures, film)
        if easel.settings.snapshot().replace(**order.overrides)[SUBTITLES]:
            path = folder / f"{order.stamp}.srt"
            write_whole(path, subtitles(animation, start(animation).seeds, len(pictures), settings.fps).encode())
            made.append(str(job.artifact(path)))
        enlarged = _enlarged(easel, order, pictures, job) if settings.r_upscale_video else []
        if enlarged:
            make("_upscaled.mp4", enlarged, film)
        if settings.frame_interpolation_engine != "None":
            times = settings.frame_interpolation_x_amount
            slower = settings.frame_interpolation_slow_mo_amount if settings.frame_interpolation_slow_mo_enabled else 1
            smoother = replace(film, fps=settings.fps * times / slower, sound=film.sound if slower == 1 else None)
            frames = enlarged if enlarged and settings.frame_interpolation_use_upscaled else pictures
            with ExitStack() as inside:
                name, between = _between(settings.frame_interpolation_engine, job, inside, comments)
                ending = f"_{name}_x{times}"
                kept = folder / f"{order.stamp}{ending}" if settings.frame_interpolation_keep_imgs else None
                gap = film_gap(len(frames), times) if settings.frame_interpolation_engine == "FILM" else times - 1
                make(f"{ending}.mp4", frames, smoother, MoreFrames(gap + 1, between, kept, smoother.sound is not None))
        if enlarged and not settings.r_upscale_keep_imgs:
            shutil.rmtree(enlarged[0].parent)
    except WebuiError as error:
        if isinstance(error, NotSaved):
            raise
        comments.append(f"{error} The frames are in {folder}.")
    log.info("Video of %d frames made in %.1f s", len(pictures), time.monotonic() - begun)
    return made


def _between(engine: str, job: JobContext, inside: ExitStack, comments: list[str]) -> tuple[str, Any]:
    """A name in files, and what makes frames between; by optical flow, and why, where a network isn't there."""
    if engine == RIFE:
        try:
            return "RIFE", inside.enter_context(job.frames_between(RIFE))
        except WebuiError as error:
            comments.append(f"{error} Frames between are made by optical flow.")
    return "flow", inside.enter_context(job.frames_between(FLOW))


def _film(easel: Any, order: Order, animation: Animation) -> Film:
    """Raises: InvalidRequest for a sound that isn't there."""
    settings, known = order.settings, easel.settings.snapshot().replace(**order.overrides)
    sound = None
    if settings.add_soundtrack == "File":
        sound = local_path(settings.soundtrack_path, "Soundtrack path")
    elif settings.add_soundtrack == "Init Video":
        sound = local_path(settings.video_init_path, "Video init path")
    positive, negative = animation.prompts[0]
    model = str(known["sd_model_checkpoint"] or "").rpartition(".")[0]
    text = (
        f"{positive}\nNegative prompt: {negative}\nSteps: {settings.steps}, Sampler: {settings.sampler}, "
        f"CFG scale: {animation.value('cfg_scale_schedule', 0):g}, Seed: {order.seed}, "
        f"Size: {settings.width}x{settings.height}, Model: {model}, Deforum: {order.stamp}_settings.txt"
    )
    return Film(settings.fps, known[CRF], known[PRESET], text, sound)


def _enlarged(easel: Any, order: Order, pictures: list[Path], job: JobContext) -> list[Path]:
    """The frames, enlarged, in a folder of their own. Raises: InvalidRequest without the upscaler's weights."""
    from PIL import Image

    settings, made = order.settings, list[Path]()
    factor = int(settings.r_upscale_factor[1:])
    enlarging = job.with_settings(easel.settings.snapshot().replace(**order.overrides))
    folder = Path(order.folder) / f"{order.stamp}_upscaled"
    folder.mkdir(exist_ok=True)
    for number, path in enumerate(pictures, 1):
        if job.interrupted:
            return []
        target = folder / path.name
        if not target.is_file():
            with Image.open(path) as image:
                larger = enlarging.enlarge(image.convert("RGB"), UPSCALERS[settings.r_upscale_model], factor)
            write_whole(target, encode_image(larger, "png", None))
        job.text(f"Making the video: frame {number} of {len(pictures)} enlarged")
        made.append(target)
    return made
