"""Every hook there is, on one page.

An extension implements any of them in its extension.py, each marked with @hookimpl, and names only the arguments
it wants. Extensions are called in the order they were loaded: ours first, then by folder name. A hook that
raises ends its job with a sentence that names the extension.

plan: the job's GenerationPlan: seeds, prompts, sizes, `plan.settings`, and `plan.extension(MyParams)`.
model: the LoadedModel of this pass: `unet` and `vae.module` (torch modules), `capabilities`, `decode(latents)`.
job: the job's JobContext: `show(data, mime)`, `text(words)`, `interrupted`.
this_pass: a frozen Pass: `plan`, `sampling`, `kind` ("first", "hires", or "source" from pictures), `indices` (which of
    the job's pictures), `model`, `source`, `encode(prompts, negative_prompts)`, `noise_table(levels)`, `job`, `report`,
    `state`, `relieved` (the pass that a refiner takes over from), `motion_loras` (what the prompt's LoRAs have for
    motion modules), and `models`, whose `borrow(key, load, bytes)` is a context manager around a network beside the
    checkpoint.
report: `fields`, a dict of infotext entries, and `comment(sentence)` for the user.
state: a dict that lasts as long as the job, for what one hook leaves for another; use your own keys.
easel: the parts of the program, an `Easel`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pluggy

from webui.core.choices import Choices
from webui.core.hooks import DenoiserHook
from webui.core.params import Params
from webui.core.request import GenerationRequest, GenerationResult
from webui.core.results import Picture, ResultFile
from webui.core.settings import Setting
from webui.extensions.page import Assets, Panel, Tab
from webui.jobs.kinds import JobKind

if TYPE_CHECKING:
    from fastapi import FastAPI
    from PIL.Image import Image

    from webui.extensions.easel import Easel

PROJECT = "easel"
hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


# At the start, in the server's main thread; torch must not be imported here.


@hookspec
def register_params() -> type[Params] | Sequence[type[Params]] | None:
    """Groups of parameters; panel, API field and infotext come from them. A group's docstring is its title."""


@hookspec
def register_settings() -> Sequence[Setting] | None:
    """Settings of this extension, for the Settings tab and config.json."""


@hookspec
def register_jobs() -> Sequence[JobKind] | None:
    """Kinds of jobs of this extension; `easel.jobs.submit(kind, payload)` queues one.

    Its `run(easel, payload, job)` is called in the worker thread, or names such a function by import path. The id
    stays the same in every version: jobs that wait are found again by it.
    """


@hookspec
def started(easel: Easel) -> None:
    """The parts of the program are there; the page isn't served yet."""


@hookspec
def register_panels() -> Sequence[Panel] | None:
    """Groups of parameters to be laid out by hand, and in which section of the form; others get an accordion."""


@hookspec
def register_assets() -> Assets | None:
    """Scripts, styles and translations for the page."""


@hookspec
def tabs(easel: Any) -> Sequence[Tab] | None:
    """Tabs of this extension, in the order to be shown. Called when the page is built."""


@hookspec
def register_choices(choices: Choices) -> None:
    """Offer samplers, schedules, upscalers, Extras steps, scripts and more: `choices.add(Upscaler(...), ...)`.

    `choices.add_list(Upscaler, function)` for a list that is asked whenever it is shown. Functions are named by
    import path, f"{__name__}:double" for one in your module.
    """


@hookspec
def api_routes(app: FastAPI, easel: Easel) -> None:
    """Add routes to the server. They run in HTTP threads: submit work as jobs, don't compute there."""


# When a job is submitted, in an HTTP thread, and for requests that a long job makes on its way; torch must not be
# imported here.


@hookspec
def revise_request(request: GenerationRequest, easel: Easel) -> GenerationRequest | None:
    """What the user asked, before anything is decided: expand wildcards, apply presets, exchange the source picture.

    Return the changed request (`request.replace(...)`), or None to leave it. Calls are chained. Random choices must
    follow from `request.seed` where that isn't -1, so that the same request makes the same pictures.
    """


@hookspec
def revise_plan(plan: Any) -> Any | None:
    """What will happen, with seeds drawn and names looked up: give each picture a prompt or a seed of its own.

    Return the changed plan (`dataclasses.replace(plan, ...)`), or None to leave it. Calls are chained. The plan waits
    in the queue as JSON, so put only plain values into it.
    """


# During a job, in the worker thread; here torch may be imported.


@hookspec
def prepare_model(model: Any, plan: Any) -> AbstractContextManager[None] | None:
    """A context manager that is open while this model samples and decodes: patch, yield, undo."""


@hookspec
def denoiser_hooks(plan: Any, model: Any, job: Any) -> Sequence[DenoiserHook] | None:
    """This pass's middleware around denoising."""


@hookspec
def revise_pass(parts: Any, this_pass: Any, easel: Any) -> Any:
    """Before each pass is sampled, and again for a refiner: changed PassParts, or None to leave them.

    parts: frozen: `conds`, `table`, `guidance`, `noise`, `start`, `hooks`, `channels`; `dataclasses.replace` changes
    them.
    """


@hookspec
def wrap_sampling(sample: Callable[[Any], Any], this_pass: Any) -> Callable[[Any], Any] | None:
    """A function in the place of `sample`, which takes PassParts and returns clean latents (B, C, h, w).

    It may call `sample` several times; each begins with the next draw of `parts.noise`.
    """


@hookspec
def postprocess_image(image: Image, plan: Any) -> Image | None:
    """A finished picture before it is saved; return the changed one, or None to leave it. Calls are chained."""


@hookspec
def revise_inputs(
    pictures: Sequence[Image], plan: Any, models: Any, job: Any, report: Any, state: dict[str, Any], easel: Easel
) -> Sequence[Image] | None:
    """The pictures that img2img starts from, before they are brought to size: as many changed ones, or None.

    models: as of a pass.
    """


@hookspec
def finish_batch(pictures: Sequence[Picture], this_pass: Any, easel: Easel) -> Sequence[Picture] | None:
    """A batch's pictures, after `postprocess_image`: return them changed, with more or fewer; None leaves them.

    A picture's `fields` are told in its own text, its `source_type` in its file's metadata.
    """


@hookspec
def image_saved(path: Path, image: Image, plan: Any) -> None:
    """A picture has been written to `path`, complete with its infotext."""


@hookspec
def finish(
    result: GenerationResult,
    plan: Any,
    job: Any,
    report: Any,
    state: dict[str, Any],
    save_file: Callable[..., ResultFile],
) -> Sequence[ResultFile] | None:
    """The job's pictures are made and saved; return files to hand back beside them: a video, sound, text.

    save_file: `(data, ending, mime, role, infotext="", index=0)` writes one beside the pictures and returns it; with
        `folder=("Films", "2026"), name="one"` elsewhere below the folder of samples.
    """


@hookspec
def revise_result(result: GenerationResult, plan: Any) -> GenerationResult | None:
    """What the job hands back, files of `finish` included: show a film in the place of its pictures.

    Return the changed result (`dataclasses.replace(result, ...)`), or None to leave it. Calls are chained.
    """
