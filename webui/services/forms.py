"""The values of a page's form and the request they mean.

A form is a mapping from a dotted parameter path ("cfg_scale", "hires.scale") to a value. A group that can be
switched off ("hires", "refiner", "variation") has its own key, which says whether it is enabled; what is off has no
effect, whatever its fields hold. Items of a list have their number in the path. Parameters of an extension stand
under "extensions.<class name>.<path>", as do those of the script that "script" names; settings to be overridden under
"overrides", as "Label: value" lines. A picture is its bytes, or the path of its file.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from webui.core.choices import SAME_CHECKPOINT, SAME_SAMPLER, SAME_SCHEDULER, Choices
from webui.core.errors import InvalidRequest, nearest
from webui.core.params import Params, listed_group, nested_group
from webui.core.request import GenerationRequest
from webui.core.settings import Setting, Settings
from webui.core.values import from_text, is_pictures, to_text, value_type

EXTENSIONS = "extensions"
SCRIPT, NO_SCRIPT = "script", "None"
OVERRIDES = "overrides"
Group = TypeVar("Group", bound=Params)
NOT_CHOSEN = {None, "", SAME_CHECKPOINT, SAME_SAMPLER, SAME_SCHEDULER}


def request_from_form(
    form: Mapping[str, Any], settings: Settings, groups: Sequence[type[Params]] = (), user: str | None = None
) -> GenerationRequest:
    """The request that a form means. groups: the parameter groups of the loaded extensions.

    Raises: InvalidRequest naming the field and its value.
    """
    values = _group_values(GenerationRequest, _used(form), "")
    if values.get(SCRIPT) == NO_SCRIPT:
        del values[SCRIPT]
    values[OVERRIDES] = overrides_from_lines(form.get(OVERRIDES) or (), settings)
    values[EXTENSIONS] = groups_from_form(form, groups)
    return GenerationRequest.as_given(**values, user=user)


def script_groups(choices: Choices, mode: str) -> list[type[Params]]:
    """The parameter groups of the scripts of txt2img or img2img."""
    return [script.params for script in choices.scripts(mode) if script.params is not None]


def chosen_groups(form: Mapping[str, Any], choices: Choices, mode: str) -> list[type[Params]]:
    """The parameter group of the script that the form names, none where it names none."""
    title = form.get(SCRIPT) or NO_SCRIPT
    params = choices.find_script(title, mode).params if title != NO_SCRIPT else None
    return [params] if params is not None else []


def groups_from_form(form: Mapping[str, Any], groups: Iterable[type[Params]]) -> dict[str, Params]:
    """The values of extensions' parameter groups, by the name of each. Raises: InvalidRequest."""
    return {group.__name__: group_from_form(group, form, f"{EXTENSIONS}.{group.__name__}.") for group in groups}


def group_from_form(group: type[Group], form: Mapping[str, Any], prefix: str = "") -> Group:
    """A group from the form's fields that begin with `prefix`. Raises: InvalidRequest."""
    return group.as_given(**_group_values(group, form, prefix))


def form_from_request(request: GenerationRequest, settings: Settings) -> dict[str, Any]:
    """The form that means the request: the opposite of `request_from_form`, but for `user` and overrides of settings
    that no infotext tells, which a form can't hold.
    """
    form = _form_values(request, "")
    labels = {key: settings.setting(key).infotext for key in request.overrides}
    form[OVERRIDES] = [f"{labels[key]}: {to_text(value)}" for key, value in request.overrides.items() if labels[key]]
    for name, group in request.extensions.items():
        form |= _form_values(group, f"{EXTENSIONS}.{name}.")
    return form


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
        if listed_group(field.annotation) is not None:
            assert inner is not None
            count = _count_of_items(form, path + ".")
            if count:
                count = max(count, len(field.default))
                values[name] = tuple(_item(inner, field.default, index, form, path) for index in range(count))
        elif inner is not None:
            usual = field.default is not None and any(key.startswith(path + ".") for key in form)
            if form.get(path, usual):
                values[name] = inner.as_given(**_group_values(inner, form, path + "."))
        elif path in form and path not in (EXTENSIONS, OVERRIDES):
            values[name] = _field_value(field.annotation, field.default, form[path])
    return values


def _field_value(annotation: Any, default: Any, value: Any) -> Any:
    """Raises: InvalidRequest for a picture's file that is gone."""
    if is_pictures(annotation):
        return tuple(_picture(item) for item in value or ())
    if value_type(annotation) is bytes and isinstance(value, str | Path):
        return _picture(value) if value else None
    if default is None and (value is None or isinstance(value, str)) and value in NOT_CHOSEN:
        return None
    if value is None and isinstance(default, str | int | float | tuple):
        return default  # a field that the user emptied
    if value == "" and isinstance(default, int | float):
        return default  # one whose number is typed as text
    return value


def _picture(item: Any) -> bytes:
    """The content of a picture that is bytes or a file. Raises: InvalidRequest when the file is gone."""
    item = item[0] if isinstance(item, tuple) else item  # a gallery's picture comes with its caption
    if isinstance(item, bytes):
        return item
    try:
        return Path(item).read_bytes()
    except OSError:
        raise InvalidRequest("The picture is no longer on the server; load it again.") from None


def _count_of_items(form: Mapping[str, Any], prefix: str) -> int:
    """How many items the form has of a list, those left out before the last one included."""
    numbers = [key[len(prefix) :].partition(".")[0] for key in form if key.startswith(prefix)]
    return max((int(number) + 1 for number in numbers if number.isdecimal() and len(number) < 4), default=0)


def _item(group: type[Params], defaults: Sequence[Params], index: int, form: Mapping[str, Any], path: str) -> Params:
    default = defaults[index] if index < len(defaults) else group()
    return default.replace(**_group_values(group, form, f"{path}.{index}."))


def _form_values(group: Params, prefix: str) -> dict[str, Any]:
    form: dict[str, Any] = {}
    for name, field in type(group).model_fields.items():
        path, value = prefix + name, getattr(group, name)
        if path in (EXTENSIONS, OVERRIDES, "user"):
            continue
        if listed_group(field.annotation) is not None:
            for index, item in enumerate(value):
                form |= _form_values(item, f"{path}.{index}.")
        elif nested_group(field.annotation) is not None:
            if field.default is None:
                form[path] = value is not None
            if value is not None:
                form |= _form_values(value, path + ".")
        else:
            form[path] = value
    return form


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
    try:
        return setting.check(from_text(setting.spec.annotation, text))
    except ValueError:
        return setting.check(text)  # which tells what it may be
