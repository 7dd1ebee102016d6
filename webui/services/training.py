"""Trainings as the page and the API ask for them: looked at before the start, then submitted."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from webui.core.errors import InvalidRequest
from webui.core.file_names import safe_name
from webui.core.training import TrainingRequest
from webui.datasets.epochs import mixed_order
from webui.datasets.buckets import BucketRules
from webui.datasets.folders import caption_file, caption_suffixes, pictures_in, read_caption, subsets_in
from webui.datasets.reading import Findings, look_at
from webui.services.folders import folder_of
from webui.services.services import Services
from webui.services.training_form import request_of


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
    request = request.replace(data=data.replace(**places))
    if request.dreambooth.class_dir.strip():
        place = folder_of(services, request.dreambooth.class_dir)
        request = request.replace(dreambooth=request.dreambooth.replace(class_dir=str(place)))
    if trigger.strip():
        request = _with_trigger(request, " ".join(trigger.split()))
    if not request.name.strip():
        request = request.replace(name=_name_for(request, trigger))
    return request


def _with_trigger(request: TrainingRequest, trigger: str) -> TrainingRequest:
    """The word is the caption of pictures without one, and stands before captions that don't hold it."""
    data = request.data.replace(caption_from="file")
    every = data.every.replace(class_tokens=data.every.class_tokens or trigger)
    if data.train_data_dir and not every.caption_prefix and _captions_lack(data.train_data_dir, every, trigger):
        every = every.replace(caption_prefix=f"{trigger},", class_tokens="", keep_tokens=max(1, every.keep_tokens))
    return request.replace(data=data.replace(every=every))


def _captions_lack(folder: str, every: Any, word: str) -> bool:
    """Whether there is a caption without the word. What can't be read is told later, by name."""
    suffixes = caption_suffixes(every.caption_extension)
    try:
        for subset in subsets_in(Path(folder), every).found:
            for picture in pictures_in(subset.folder):
                file = caption_file(picture, suffixes)
                if file is not None and word.lower() not in read_caption(file).lower():
                    return True
    except InvalidRequest:
        return False
    return False


def _name_for(request: TrainingRequest, trigger: str) -> str:
    """The trigger word, else the folder's name, as a file can be called."""
    folder = Path(request.data.train_data_dir).name if request.data.train_data_dir else ""
    return safe_name(trigger or folder, 100).replace("[", "_").replace(":", "_")


def look_at_run(services: Services, request: TrainingRequest) -> dict[str, Any]:
    """What would be trained on, and what is wrong with it: every picture is decoded. JSON for the page."""
    findings = look_at(request.data, decode=True)
    told: dict[str, Any] = {"errors": list(findings.errors), "warnings": list(findings.warnings), "name": request.name}
    return told if findings.errors else told | _counts(request, findings)


def _counts(request: TrainingRequest, findings: Findings) -> dict[str, Any]:
    optimization = request.optimization
    order = mixed_order(findings.pictures, BucketRules.of(request.data), optimization.train_batch_size)
    pictures = [placed for placed in order.pictures if not placed.is_class]
    updates = math.ceil(order.batches_per_epoch / optimization.gradient_accumulation_steps)
    buckets = Counter("x".join(map(str, placed.placement.bucket)) for placed in pictures)
    captions = Counter(bool(placed.picture.caption) for placed in pictures)
    steps = optimization.max_train_epochs * updates or optimization.max_train_steps
    if request.kind == "dreambooth" and request.dreambooth.te_mode == "sequential":
        steps = request.dreambooth.te_steps + request.dreambooth.unet_steps
    drawn = steps * optimization.gradient_accumulation_steps * optimization.train_batch_size
    return {
        "pictures": len(pictures),
        "captioned": captions[True],
        "draws": order.count(classes=False),
        "class_pictures": len(order.pictures) - len(pictures),
        "steps_per_epoch": updates,
        "steps": steps,
        "exposures": drawn / max(1, len(pictures)),
        "buckets": dict(buckets.most_common()),
    }
