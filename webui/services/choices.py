"""The lists of choices that only the running program knows, by the names that parameters and settings give them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from webui.catalog.captioners import categories_in
from webui.core.choices import ATTENTIONS, ExtrasStep, FaceRestorer, Sampler, Scheduler, Upscaler
from webui.core.params import Params
from webui.core.request import GenerationRequest
from webui.core.settings import Setting
from webui.core.values import ParamSpec
from webui.services.localization import locale_files
from webui.services.services import Services
from webui.services.templates import template_names

DEFAULT_THEME = "Default"
THEMES = (DEFAULT_THEME, "gradio/base", "gradio/glass", "gradio/monochrome", "gradio/soft")
"""What setting gradio_theme may be: Easel's own and those that come with Gradio."""

LISTS: Mapping[str, Callable[[Services], Sequence[str]]] = {
    "attention": lambda services: list(ATTENTIONS),
    "checkpoints": lambda services: services.checkpoints.titles(),
    "embeddings": lambda services: [file.stem for file in services.networks.embeddings],
    "face_restorers": lambda services: services.choices.names(FaceRestorer),
    "hires_upscalers": lambda services: services.choices.hires_upscalers,
    "extensions": lambda services: [extension.name for extension in services.host.extensions],
    "hypernetworks": lambda services: [file.stem for file in services.networks.hypernetworks],
    "infotext_labels": lambda services: _infotext_labels(services),
    "interrogate_categories": lambda services: [file.stem for file in categories_in(services.paths.categories)],
    "localizations": lambda services: ["None", *sorted(locale_files(services))],
    "loras": lambda services: [file.stem for file in services.networks.loras],
    "postprocessing": lambda services: services.choices.names(ExtrasStep),
    "samplers": lambda services: services.choices.names(Sampler),
    "settings": lambda services: list(services.settings.snapshot()),
    "schedulers": lambda services: [schedule.label for schedule in services.choices.all(Scheduler)],
    "styles": lambda services: [style.name for style in services.styles.all()],
    "themes": lambda services: list(THEMES),
    "unets": lambda services: ["Automatic", "None"],
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


def _infotext_labels(services: Services) -> list[str]:
    """What a picture's text may say, of our own parameters, of settings and of extensions."""
    groups: tuple[type[Params], ...] = (GenerationRequest, *services.host.params)
    settings = services.settings.snapshot().table.values()
    labels = [*(key for group in groups for key in group.infotext_keys()), *(setting.infotext for setting in settings)]
    return list(dict.fromkeys(label for label in labels if label and "{index}" not in label))
