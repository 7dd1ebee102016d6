"""The script Prompts from file or textbox: pictures of each line, which may name parameters of its own."""

import shlex
from pathlib import Path
from typing import Literal

from webui.extensions.api import InvalidRequest, Params, Script, drawn, hookimpl, param

MOST_LINES = 10_000
LABEL = "List of prompt inputs"


class PromptsFromFile(Params, title="Prompts from file or textbox"):
    """A list of prompts, one a line."""

    checkbox_iterate: bool = param(False, label="Iterate seed every line")
    checkbox_iterate_batch: bool = param(False, label="Use same random seed for all lines")
    prompt_position: Literal["start", "end"] = param(
        "start", label="Insert prompts at the", choices=("start", "end"), kind="radio"
    )
    prompt_txt: str = param("", label=LABEL, max_length=2_000_000)


@hookimpl
def register_choices(choices):
    choices.add(Script("Prompts from file or textbox", expand=expand, params=PromptsFromFile, build=build))


def build(panel):
    import gradio as gr

    for name in ("checkbox_iterate", "checkbox_iterate_batch", "prompt_position"):
        panel.place(name)
    text = panel.place("prompt_txt", lines=1, max_lines=20)
    file = gr.File(label="Upload prompt inputs", elem_id=panel.elem_id("file"), type="filepath", file_types=["text"])
    file.upload(lines_of, file, text, show_progress="hidden", api_visibility="private")


def lines_of(path):
    """The content of a text file; a notice where it is none."""
    import gradio as gr

    try:
        return Path(path).read_text(encoding="utf-8-sig") if path else gr.skip()
    except (OSError, UnicodeDecodeError):
        gr.Warning("The prompts can't be read: the file must be text in UTF-8.")
        return gr.skip()


def expand(request, settings):
    """One request a line, blank ones left out."""
    values = request.extension(PromptsFromFile)
    lines = [line for line in map(str.strip, values.prompt_txt.splitlines()) if line]
    if not lines:
        raise InvalidRequest(f'{LABEL} is empty; write a prompt into each line, or choose "None" as script.')
    if len(lines) > MOST_LINES:
        raise InvalidRequest(f"{LABEL} has {len(lines)} lines; {MOST_LINES} are the most.")
    seed = request.seed
    if values.checkbox_iterate or values.checkbox_iterate_batch:
        seed = drawn(seed)
    requests = []
    for number, line in enumerate(lines, start=1):
        own = named(line, number) if "--" in line else {"prompt": line}
        start = request.replace(seed=seed)
        requests.append(start.replace(**changes(start, own, values.prompt_position)))
        if values.checkbox_iterate:
            seed += request.batch_count * request.batch_size
    return requests


def changes(request, own, position):
    """What a line changes of the request. own: by the names of fields."""
    found = {**own, "remarks": (*request.remarks, *own.get("remarks", ()))}
    for name in ("prompt", "negative_prompt"):
        if name in found:
            texts = [found[name], getattr(request, name)]
            found[name] = " ".join(filter(None, texts if position == "start" else reversed(texts)))
    overrides = {**request.overrides, **found.pop("overrides", {})}
    groups = {name: found.pop(name) for name in list(found) if isinstance(found[name], dict)}
    for name, inner in groups.items():
        found[name] = getattr(request, name).replace(**inner)
    return {**found, "overrides": overrides}


def named(line, number):
    """The fields that a line such as `--prompt "a dog" --steps 4` gives. Raises: InvalidRequest naming the line."""
    try:
        words = shlex.split(line)
    except ValueError as error:
        raise InvalidRequest(f"Line {number} of the prompts can't be read: {error}.") from None
    found, position = {}, 0
    while position < len(words):
        tag = words[position].removeprefix("--")
        if tag not in (*TAGS, *IDLE) or words[position] == tag:
            known = ", ".join((*TAGS, *IDLE))
            raise InvalidRequest(
                f'Line {number} of the prompts has "{words[position][:100]}", which is none of {known}.'
            )
        position += 1
        if tag in LONG:  # up to the next tag, quoted or not
            end = next((n for n in range(position, len(words)) if words[n].startswith("--")), len(words))
            text, position = " ".join(words[position:end]), end
        elif position == len(words):
            raise InvalidRequest(f"Line {number} of the prompts ends with --{tag}; a value belongs after it.")
        else:
            text, position = words[position], position + 1
        where = f"Line {number} of the prompts: --{tag}"
        if tag in IDLE:
            found["remarks"] = (*found.get("remarks", ()), f"{where} has no effect: {IDLE[tag]}.")
        else:
            put(found, *TAGS[tag], text, where)
    return found


def put(found, path, read, text, where):
    try:
        value = read(text)
    except ValueError:
        raise InvalidRequest(f'{where} can\'t be "{text[:100]}".') from None
    *groups, name = path.split(".")
    for group in groups:
        found = found.setdefault(group, {})
    found[name] = value


def truth(text):
    if text.lower() not in ("true", "false"):
        raise ValueError(text)
    return text.lower() == "true"


def untruth(text):
    return not truth(text)


def names(text):
    return tuple(part.strip() for part in text.split(",") if part.strip())


TAGS = {
    "sd_model": ("overrides.sd_model_checkpoint", str),
    "prompt": ("prompt", str),
    "negative_prompt": ("negative_prompt", str),
    "styles": ("styles", names),
    "seed": ("seed", int),
    "subseed_strength": ("variation.strength", float),
    "subseed": ("variation.seed", int),
    "seed_resize_from_h": ("variation.resize_from_height", int),
    "seed_resize_from_w": ("variation.resize_from_width", int),
    "sampler_index": ("sampler", str),
    "sampler_name": ("sampler", str),
    "batch_size": ("batch_size", int),
    "n_iter": ("batch_count", int),
    "steps": ("steps", int),
    "cfg_scale": ("cfg_scale", float),
    "width": ("width", int),
    "height": ("height", int),
    "restore_faces": ("restore_faces", truth),
    "tiling": ("tiling", truth),
    "do_not_save_samples": ("save_samples", untruth),
    "do_not_save_grid": ("save_grid", untruth),
}
"""A line's tag -> the field of the request, and how its value is read."""
IDLE = {
    "outpath_samples": "the folders for pictures are chosen in Settings",
    "outpath_grids": "the folders for grids are chosen in Settings",
    "prompt_for_display": "a picture tells the prompt that it was made from",
}
LONG = ("prompt", "negative_prompt", "prompt_for_display")
"""Tags whose value goes up to the next tag, in quotes or not."""
