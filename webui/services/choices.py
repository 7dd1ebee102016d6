"""The lists of choices that only the running program knows, by the names that parameters and settings give them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from webui.catalog.captioners import categories_in
from webui.core.choices import ATTENTIONS, ExtrasStep, FaceRestorer, Sampler, Scheduler, Upscaler
from webui.core.settings import Setting
from webui.core.values import ParamSpec
from webui.services.localization import locale_files
from webui.services.services import Services
from webui.services.templates import template_names

LISTS: Mapping[str, Callable[[Services], Sequence[str]]] = {
    "attention": lambda services: list(ATTENTIONS),
    "checkpoints": lambda services: services.checkpoints.titles(),
    "embeddings": lambda services: [file.stem for file in services.networks.embeddings],
    "face_restorers": lambda services: services.choices.names(FaceRestorer),
    "hires_upscalers": lambda services: services.choices.hires_upscalers,
    "hypernetworks": lambda services: [file.stem for file in services.networks.hypernetworks],
    "interrogate_categories": lambda services: [file.stem for file in categories_in(services.paths.categories)],
    "localizations": lambda services: ["None", *sorted(locale_files(services))],
    "loras": lambda services: [file.stem for file in services.networks.loras],
    "postprocessing": lambda services: services.choices.names(ExtrasStep),
    "samplers": lambda services: services.choices.names(Sampler),
    "schedulers": lambda services: [schedule.label for schedule in services.choices.all(Scheduler)],
    "styles": lambda services: [style.name for style in services.styles.all()],
    "templates": lambda services: template_names(services.paths.data),
    "upscalers": lambda services: services.choices.names(Upscaler),
    "vaes": lambda services: services.vaes.names(),
}


def choices_of(services: Services, declared: Setting | ParamSpec) -> tuple[str, ...]:
    """What the setting or parameter may be; empty when anything goes, or when its list isn't known here."""
    choices = declared.choices
    if isinstance(choices, str):
        found = LISTS.get(choices)
        return tuple(found(services)) if found else ()
    return tuple(choices() if callable(choices) else choices or ())
