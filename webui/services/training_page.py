"""Trainings as the page and the API ask for them: looked at before the start, then submitted."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from webui.core.choices import Script
from webui.core.describing import Description
from webui.core.errors import InvalidRequest, NotFound, WebuiError
from webui.core.file_names import safe_name
from webui.core.request import GenerationRequest, GenerationResult
from webui.core.training import TITLES, Kind, TrainingRequest, TrainingResult
from webui.core.training_data import DataFolder, DataRequest
from webui.datasets.folders import Picture, caption_file, caption_suffixes, pictures_in, read_caption, subsets_in
from webui.datasets.opening import order_of
from webui.datasets.reading import Findings, look_at, subsets_of
from webui.planning.training import TrainingPlan
from webui.services.checkpoint_defaults import current_defaults
from webui.services.folders import folder_of
from webui.services.generation import submit_generation
from webui.services.kohya_config import export_config, import_config
from webui.services.services import Services
from webui.services.train_tab import (
    GROUPS,
    INTROS,
    CreateEmbedding,
    CreateHypernetwork,
    TrainTab,
    from_api,
    new_network,
    training_of,
)
from webui.services.training import check_training_allowed, plan_training, submit_new_network, submit_training
from webui.services.training_form import SECTIONS, form_of, request_of, tab_fields
from webui.services.training_presets import presets_here

PLOT = "X/Y/Z plot"


def wanted_run(services: Services, kind: str, values: Mapping[str, Any], trigger: str = "") -> TrainingRequest:
    """The request of a form, its folders absolute. trigger: a word for what is learnt, "" for none.

    Raises: InvalidRequest, and Refused for folders that this visitor may not name.
    """
    request = request_of({**values, "kind": kind})
    data = request.data
    places = {
        name: str(folder_of(services, folder))
        for name, folder in (("train_data_dir", data.train_data_dir), ("reg_data_dir", data.reg_data_dir))
        if folder.strip()
    }
    datasets = tuple(dataset.replace(folders=_placed(services, dataset.folders)) for dataset in data.datasets)
    folders = _placed(services, data.folders)
    request = request.replace(data=data.replace(**places, folders=folders, datasets=datasets))
    if request.saving.log_dir.strip():
        logs = str(folder_of(services, request.saving.log_dir))
        request = request.replace(saving=request.saving.replace(log_dir=logs))
    if request.dreambooth.class_dir.strip():
        place = folder_of(services, request.dreambooth.class_dir)
        request = request.replace(dreambooth=request.dreambooth.replace(class_dir=str(place)))
    if trigger.strip():
        request = _with_trigger(request, " ".join(trigger.split()))
    if not request.name.strip():
        request = request.replace(name=_name_for(request, trigger))
    return request


def _placed(services: Services, folders: Iterable[DataFolder]) -> tuple[DataFolder, ...]:
    """With absolute places. Raises: Refused."""
    return tuple(
        folder.replace(image_dir=str(folder_of(services, folder.image_dir))) if folder.image_dir.strip() else folder
        for folder in folders
    )


def _with_trigger(request: TrainingRequest, trigger: str) -> TrainingRequest:
    """The word is the caption of pictures without one, and stands before captions that don't hold it."""
    data = request.data.replace(caption_from="file")
    every = data.every.replace(class_tokens=data.every.class_tokens or trigger)
    if data.train_data_dir and not every.caption_prefix and _captions_lack(data, trigger):
        every = every.replace(caption_prefix=f"{trigger},", class_tokens="", keep_tokens=max(1, every.keep_tokens))
    return request.replace(data=data.replace(every=every))


def _captions_lack(data: DataRequest, word: str) -> bool:
    """Whether there is a caption without the word. What can't be read is told later, by name."""
    suffixes = caption_suffixes(data.every.caption_extension)
    try:
        for subset in subsets_in(Path(data.train_data_dir), data.every, data).found:
            for picture in pictures_in(subset.folder):
                file = caption_file(picture, suffixes)
                if file is not None and word.lower() not in read_caption(file).lower():
                    return True
    except InvalidRequest:
        return False
    return False


def _name_for(request: TrainingRequest, trigger: str) -> str:
    """The trigger word, else the folder's name, as a file can be called."""
    data = request.data
    folders = (*data.folders, *(folder for dataset in data.datasets for folder in dataset.folders))
    place = data.train_data_dir or next((folder.image_dir for folder in folders), "")
    folder = Path(place).name
    return safe_name(" ".join(trigger.split()) or folder, 100).replace("[", "_").replace(":", "_")


class Trainings:
    """What the Train tab asks, answered as JSON."""

    def __init__(self, services: Services) -> None:
        self._services = services

    # Forms

    def form(self, name: str) -> dict[str, Any]:
        """Of a sub-tab. Raises: NotFound."""
        self._services.networks.refresh()
        if name in GROUPS:
            sections = [{"title": "", "fields": tab_fields(self._services, name)}]
            return {"sections": sections, "intro": INTROS.get(name, ""), "presets": {}}
        if name in SECTIONS:
            return {"sections": form_of(self._services, name), "presets": presets_here(self._services, name)}
        raise NotFound(f'The Train tab has no form "{name[:100]}".')

    # LoRA and DreamBooth

    def look(self, kind: str, values: Mapping[str, Any], trigger: str = "") -> dict[str, Any]:
        """What would be trained on, and everything that is wrong with it: every picture is decoded."""
        request = wanted_run(self._services, kind, values, trigger)
        findings = look_at(request.data, decode=True)
        told = {"errors": [*findings.errors], "warnings": [*findings.warnings], "facts": [], "name": request.name}
        if findings.errors:
            return told
        try:
            plan = plan_training(self._services, request)
        except WebuiError as error:
            return {**told, "errors": [str(error)]}
        return {**told, "warnings": list(dict.fromkeys(plan.comments)), "facts": _facts(plan, findings)}

    def start(
        self, kind: str, values: Mapping[str, Any], trigger: str = "", job_id: str | None = None
    ) -> dict[str, Any]:
        """Submit a training. Raises: WebuiError for whatever can be seen to be wrong now."""
        check_training_allowed(self._services.flags)
        request = wanted_run(self._services, kind, values, trigger)
        subsets_of(request.data)  # a folder that is missing is told before a name that follows from it
        return self._submit(request, job_id)

    def _submit(self, request: TrainingRequest, job_id: str | None) -> dict[str, Any]:
        started = submit_training(self._services, request, job_id)
        return {"job": started, "message": f"{TITLES[request.kind]} {request.name} waits for its turn."}

    # A1111's tab

    def train(self, kind: Kind, values: Mapping[str, Any], job_id: str | None = None) -> dict[str, Any]:
        """Train an embedding or a hypernetwork that is there."""
        check_training_allowed(self._services.flags)
        return self._submit(training_of(self._services, kind, TrainTab.checked(**values)), job_id)

    def train_by_api(self, kind: Kind, args: Mapping[str, Any]) -> dict[str, Any]:
        """As `train`, with the arguments of A1111's route."""
        check_training_allowed(self._services.flags)
        return self._submit(training_of(self._services, kind, from_api(kind, args)), None)

    def wait(self, started: Mapping[str, Any]) -> TrainingResult:
        """What came of a job, once it has ended. Raises: the job's own WebuiError."""
        self._services.jobs.wait(started["job"])
        result = self._services.jobs.result(started["job"])
        assert isinstance(result, TrainingResult)
        return result

    def create(self, kind: Kind, values: Mapping[str, Any], job_id: str | None = None) -> dict[str, Any]:
        """Make an embedding or a hypernetwork to be trained."""
        check_training_allowed(self._services.flags)
        group = CreateEmbedding if kind == "embedding" else CreateHypernetwork
        request = new_network(kind, group.checked(**values))
        started = submit_new_network(self._services, request, job_id)
        return {"job": started, "message": f"{TITLES[kind]} {request.name} waits for its turn."}

    # kohya's files

    def import_toml(self, text: str) -> dict[str, Any]:
        """Values for the form. Raises: InvalidRequest."""
        found = import_config(text)
        request_of(found["values"])
        return found

    def export_toml(self, kind: str, values: Mapping[str, Any], trigger: str) -> list[dict[str, str]]:
        """Files with the form's values. Raises: InvalidRequest."""
        return export_config(wanted_run(self._services, kind, values, trigger))

    # What came of it

    def result(self, job_id: str) -> dict[str, Any]:
        """How a job of the tab ended. Raises: WebuiError, the job's own failure among them."""
        result = self._services.jobs.result(job_id)
        if isinstance(result, Description):
            return {"message": result.message, "comments": list(result.comments), "samples": 0, "compare": ""}
        if isinstance(result, GenerationResult):
            message = "The pictures of this seed, without the LoRA and at each saved epoch."
            return {"message": message, "comments": list(result.comments), "samples": len(result.images), "compare": ""}
        if not isinstance(result, TrainingResult):
            raise NotFound("This job was no training.")
        last = f"The last loss was {result.loss:.4f}." if result.loss is not None else ""
        return {
            "message": result.message,
            "comments": [text for text in (last, *(f"Saved: {file}" for file in result.files)) if text],
            "samples": len(result.samples),
            "compare": self._loras(result)[-1].stem if self._loras(result) else "",
        }

    def sample(self, job_id: str, index: int) -> tuple[bytes, str]:
        """A sample picture, or one of a comparison, and its type. Raises: NotFound."""
        result = self._services.jobs.result(job_id)
        if isinstance(result, GenerationResult) and 0 <= index < len(result.images):
            return result.images[index].data, result.images[index].mime
        if not isinstance(result, TrainingResult) or not 0 <= index < len(result.samples):
            raise NotFound("This training has no such sample picture.")
        try:
            return Path(result.samples[index]).read_bytes(), "image/png"
        except OSError as error:
            raise NotFound(f"The sample picture can't be read any more: {error.strerror}.") from error

    def compare(self, trained: str, prompt: str, job_id: str | None = None) -> dict[str, Any]:
        """An X/Y/Z plot of what a training saved, beside the checkpoint without it: the same seed for all.

        trained: the training's job. Raises: InvalidRequest when it made no LoRA or the script is off.
        """
        result = self._services.jobs.result(trained)
        loras = self._loras(result) if isinstance(result, TrainingResult) else []
        script = next((script for script in self._services.choices.all(Script) if script.title == PLOT), None)
        if not loras:
            raise InvalidRequest("This job made no LoRA to be compared.")
        if script is None or script.params is None:
            raise InvalidRequest(f'Comparisons are made by the script "{PLOT}", whose extension is off; enable it.')
        self._services.networks.refresh()
        without = f"<lora:{loras[0].stem}:0>"
        values = io.StringIO()
        csv.writer(values).writerow([without, *(f"<lora:{file.stem}:1>" for file in loras)])
        plot = script.params.checked(x_type="Prompt S/R", x_values=values.getvalue().strip(), csv_mode=True)
        native = current_defaults(self._services)
        request = GenerationRequest.checked(
            prompt=f"{prompt} {without}",
            seed=1,
            width=native.size,
            height=native.size,
            cfg_scale=native.cfg_scale,
            script=PLOT,
            extensions={script.params.__name__: plot},
        )
        return {"job": submit_generation(self._services, request, job_id), "message": "The pictures are being made."}

    def _loras(self, result: TrainingResult) -> list[Path]:
        """That it saved and that are still there, the last one last."""
        files = [Path(file) for file in result.files]
        return [file for file in files if file.is_relative_to(self._services.paths.lora) and file.exists()]


def _has_words(picture: Picture) -> bool:
    """Whether anything is said of it."""
    return bool(picture.caption or picture.subset.options.caption_prefix)


def _facts(plan: TrainingPlan, findings: Findings) -> list[tuple[str, str]]:
    """Rows for the page: what is said, and its value."""
    request = plan.request
    optimization = request.optimization
    sdxl = plan.family == "sdxl"
    orders = [
        order_of(part.request, read, part.batch_size or optimization.train_batch_size, sdxl=sdxl)
        for part, read in findings.parts
    ]
    pictures = [placed for order in orders for placed in order.pictures if not placed.is_class]
    classes = sum(len(order.pictures) for order in orders) - len(pictures)
    drawings = sum(order.count(classes=False) for order in orders)
    batches = sum(order.batches_per_epoch for order in orders)
    buckets = Counter("x".join(map(str, placed.placement.bucket)) for placed in pictures)
    captioned = sum(_has_words(placed.picture) for placed in pictures)
    phases = [phase for phase in plan.phases if phase.unet_lr] or list(plan.phases)
    a_step = optimization.train_batch_size * optimization.gradient_accumulation_steps
    drawn = phases[-1].steps * a_step / max(1, len(pictures))
    rows = [
        ("Pictures", f"{len(pictures)}, {captioned} with a caption"),
        ("An epoch", f"{drawings} pictures in {batches} batches"),
        ("Steps", " + ".join(str(phase.steps) for phase in plan.phases)),
        ("Each picture is seen", f"about {drawn:.0f} times"),
        ("Sizes", ", ".join(f"{size} ({count})" for size, count in buckets.most_common())),
        ("Checkpoint", plan.checkpoint.name),
        ("Memory", f"about {plan.memory.total / 1e9:.1f} GB"),
        ("Saved as", plan.target.name),
    ]
    return [*rows, ("Class pictures", str(classes))] if classes else rows
