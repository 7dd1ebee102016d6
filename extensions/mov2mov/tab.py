"""The tab: the video, the form of img2img, what mov2mov adds, and beside it the film."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import gradio as gr

from webui.extensions.api import FromImage, InvalidRequest, WebuiError, keep_file

from .kinds import KIND, Film
from .parameters import RESIZE_MODES, Editor, Frames, Masks, Mov2Mov, Output, Own, Size, Start, Temporal
from .plan import FramePlan, plan_frames

NAME = "mov2mov"
GROUPS = {"size": Size, "frames": Frames, "temporal": Temporal, "editor": Editor, "masks": Masks, "output": Output}
UPSTREAM_IDS = {"frames.movie_fps": "mov2mov_movie_frames", "frames.max_frames": "mov2mov_max_frames"}


def build_for(easel: Any) -> Callable[[Any], None]:
    def build(page: Any) -> None:
        with gr.Row(equal_height=False):
            with gr.Column(elem_id=f"{NAME}_settings_column"):
                video = gr.Video(label="Video", elem_id=f"{NAME}_mov", sources=["upload"], interactive=True)
                start = page.widgets(Start, NAME)
                form = page.generation_form(NAME)
                own = page.widgets(Own, NAME)
                for field, group in GROUPS.items():
                    with gr.Accordion(
                        str(group.model_config.get("title")), open=field == "frames", elem_id=f"{NAME}_{field}"
                    ):
                        placed = page.widgets(group, f"{NAME}_{field}")
                        own |= {f"{field}.{path}": item for path, item in placed.items()}
                        if field == "editor":
                            _place_key_frames(video, own)
                        if field == "masks":
                            masks = gr.File(
                                label="Mask video", elem_id=f"{NAME}_mask_video", file_types=["video", ".gif", ".webp"]
                            )
                        if field == "output":
                            sound = gr.File(
                                label="Soundtrack",
                                elem_id=f"{NAME}_soundtrack",
                                file_types=["audio", "video"],
                                visible=False,
                            )
                            choice = placed["sound"]
                            choice.change(lambda kind: gr.File(visible=kind == "File"), choice, sound, queue=False)
                for path, elem_id in UPSTREAM_IDS.items():
                    own[path].elem_id = elem_id
            with gr.Column():

                def begin(values: Any, job_id: str | None, user: str | None, stitch: bool = False) -> None:
                    request = form.request(values, user)
                    picked = Start.checked(**{path: values[item] for path, item in start.items()})
                    image = FromImage(
                        denoising_strength=picked.denoising_strength, resize_mode=RESIZE_MODES.index(picked.resize_mode)
                    )
                    options = options_of({path: values[item] for path, item in own.items()})
                    if not values[video]:
                        raise InvalidRequest("There is no video yet; load one first.")
                    root = easel.paths.data / easel.settings.snapshot()["mov2mov_outpath_samples"] / "sources"
                    if options.output.sound == "File":
                        if not values[sound]:
                            raise InvalidRequest('There is no soundtrack; load one, or set Sound to "Keep" or "None".')
                        kept = str(keep_file(Path(values[sound]), root))
                        options = options.replace(output=options.output.replace(soundtrack=kept))
                    if values[masks]:
                        kept = str(keep_file(Path(values[masks]), root))
                        options = options.replace(masks=options.masks.replace(video=kept))
                    path = Path(values[video])
                    film = Film(request.replace(image=image), options, str(keep_file(path, root)), path.name, stitch)
                    easel.jobs.submit(KIND, film, job_id=job_id)

                inputs = {video, sound, masks, *start.values(), *own.values(), *form.inputs}
                panel = page.job_panel(NAME, begin, inputs)
                stitched = gr.Button("Stitch what exists", elem_id=f"{NAME}_stitch")
                panel.submits(stitched, partial(begin, stitch=True), inputs)
                save = gr.DownloadButton("Save", elem_id=f"{NAME}_save", visible=True)
                panel.video.change(lambda path: gr.DownloadButton(value=path), panel.video, save, queue=False)

    return build


def _place_key_frames(video: gr.Video, own: dict[str, Any]) -> None:
    """A frame of the film to look at, and buttons that list it among the prompts of frames."""
    prompts = own["prompts"]
    chosen = [own[f"frames.{name}"] for name in Frames.model_fields]
    with gr.Row():
        frame = gr.Image(label="Frame", elem_id=f"{NAME}_frame", interactive=False, height=240)
        with gr.Column():
            number = gr.Slider(1, 2, value=1, step=1, label="Frame number", elem_id=f"{NAME}_frame_number")
            add = gr.Button("Add", elem_id=f"{NAME}_add_key")
            remove = gr.Button("Remove", elem_id=f"{NAME}_remove_key")
            clear = gr.Button("Clear", elem_id=f"{NAME}_clear_keys")
    quiet: dict[str, Any] = {"show_progress": "hidden"}
    for event in (video.change, *(item.change for item in chosen)):
        event(lambda *given: gr.Slider(maximum=frame_count(*given), value=1), [video, *chosen], number, **quiet)
    for event in (video.change, number.release):
        event(frame_shown, [number, video, *chosen], frame, **quiet)
    add.click(with_key, [prompts, number], prompts, **quiet)
    remove.click(without_key, [prompts, number], prompts, **quiet)
    clear.click(lambda: "", None, prompts, **quiet)


def _looked_at(path: str | None, chosen: tuple[Any, ...]) -> tuple[Any, FramePlan] | None:
    """The video and what the film shows of it; None for what can't be one, which Generate tells."""
    from webui.extensions.api import video as kit

    if not path:
        return None
    try:
        source = kit.open_video(Path(path))
        return source, plan_frames(source, Frames.checked(**dict(zip(Frames.model_fields, chosen, strict=True))))
    except WebuiError:
        return None


def frame_count(path: str | None, *chosen: Any) -> int:
    """How many frames the film has; at least 2, since a slider has two ends. chosen: the values of `Frames`."""
    found = _looked_at(path, chosen)
    return max(len(found[1].shown), 2) if found else 2


def frame_shown(number: float, path: str | None, *chosen: Any) -> Any:
    """The picture of the video that frame `number` of the film, counted from 1, is made of."""
    found = _looked_at(path, chosen)
    if found is None:
        return None
    source, plan = found
    return next(source.selected([plan.shown[min(int(number), len(plan.shown)) - 1]])).picture


def with_key(text: str, number: float) -> str:
    """The lines of prompts with one of a frame, in order; one that is there stays."""
    lines = [line for line in text.splitlines() if line.strip()]
    if int(number) not in map(_number_of, lines):
        lines.append(f"{int(number)}: ")
    return "\n".join(sorted(lines, key=_number_of))


def without_key(text: str, number: float) -> str:
    return "\n".join(line for line in text.splitlines() if line.strip() and _number_of(line) != int(number))


def _number_of(line: str) -> int:
    """0 for a line that isn't a frame's prompt; it stays in front."""
    start = line.partition(":")[0].strip()
    return int(start) if start.isdecimal() else 0


def options_of(values: dict[str, Any]) -> Mov2Mov:
    """values: by dotted path. Raises: InvalidRequest."""
    groups = {
        field: group.checked(
            **{name: values[f"{field}.{name}"] for name in group.model_fields if f"{field}.{name}" in values}
        )
        for field, group in GROUPS.items()
    }
    return Mov2Mov.checked(**{name: values[name] for name in Own.model_fields}, **groups)
