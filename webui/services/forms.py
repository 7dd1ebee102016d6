"""The values of a page's form and the request they mean.

A form is a mapping from a dotted parameter path ("cfg_scale", "hires.scale") to a value. A group that can be
switched off ("hires", "refiner", "variation") has its own key, which says whether it is enabled; what is off has no
effect, whatever its fields hold. Parameters of an extension stand
under "extensions.<class name>.<path>"; settings to be overridden under "overrides", as "Label: value" lines.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from webui.core.choices import SAME_CHECKPOINT, SAME_SAMPLER, SAME_SCHEDULER
from webui.core.errors import InvalidRequest, nearest
from webui.core.params import Params, nested_group
from webui.core.request import GenerationRequest
from webui.core.settings import Setting, Settings

EXTENSIONS = "extensions"
OVERRIDES = "overrides"
NOT_CHOSEN = {None, "", SAME_CHECKPOINT, SAME_SAMPLER, SAME_SCHEDULER}


def request_from_form(
    form: Mapping[str, Any], settings: Settings, groups: Sequence[type[Params]] = (), user: str | None = None
) -> GenerationRequest:
    """The request that a form means. groups: the parameter groups of the loaded extensions.

    Raises: InvalidRequest naming the field and its value.
    """
    values = _group_values(GenerationRequest, _used(form), "")
    values[OVERRIDES] = overrides_from_lines(form.get(OVERRIDES) or (), settings)
    values[EXTENSIONS] = groups_from_form(form, groups)
    return GenerationRequest.as_given(**values, user=user)


def groups_from_form(form: Mapping[str, Any], groups: Iterable[type[Params]]) -> dict[str, Params]:
    """The values of extensions' parameter groups, by the name of each. Raises: InvalidRequest."""
    return {
        group.__name__: group.as_given(**_group_values(group, form, f"{EXTENSIONS}.{group.__name__}."))
        for group in groups
    }


def _used(form: Mapping[str, Any]) -> Mapping[str, Any]:
    """The form without a variation seed that can't be read where no variation is wanted."""
    seed = form.get("variation.seed")
    if form.get("variation.strength") or not isinstance(seed, str) or seed.strip().lstrip("-").isdecimal():
        return form
    return {path: value for path, value in form.items() if path != "variation.seed"}


def _group_values(group: type[Params], form: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for name, field in group.model_fields.items():
        path = prefix + name
        inner = nested_group(field.annotation)
        if inner is not None:
            usual = field.default is not None and any(key.startswith(path + ".") for key in form)
            if form.get(path, usual):
                values[name] = inner.as_given(**_group_values(inner, form, path + "."))
        elif path in form and path not in (EXTENSIONS, OVERRIDES):
            value = form[path]
            if field.default is None and value in NOT_CHOSEN:
                value = None
            elif value is None and isinstance(field.default, str | int | float | tuple):
                value = field.default  # a field that the user emptied
            elif value == "" and isinstance(field.default, int | float):
                value = field.default  # one whose number is typed as text
            values[name] = value
    return values


def overrides_from_lines(lines: Sequence[str], settings: Settings) -> dict[str, Any]:
    """{key: value} from "Label: value" lines, each value in its setting's type. Raises: InvalidRequest."""
    by_label = {setting.infotext: setting for setting in settings.table.values() if setting.infotext}
    found: dict[str, Any] = {}
    for line in lines:
        label, colon, text = line.partition(":")
        setting = by_label.get(label.strip())
        if setting is None or not colon:
            close = nearest(label, [known for known in by_label if known])
            raise InvalidRequest(f'No setting is written "{label.strip()}" in an infotext{close}.')
        found[setting.key] = value_from_text(setting, text.strip())
    return found


def value_from_text(setting: Setting, text: str) -> Any:
    """A setting's value from how an infotext writes it. Raises: InvalidRequest."""
    if isinstance(setting.default, bool):
        return setting.check({"true": True, "false": False}.get(text.lower(), text))
    if isinstance(setting.default, int | float):
        try:
            return setting.check(float(text))
        except ValueError:
            return setting.check(text)
    if isinstance(setting.default, list | tuple):
        return setting.check([part.strip() for part in text.split(",") if part.strip()])
    return setting.check(text)
