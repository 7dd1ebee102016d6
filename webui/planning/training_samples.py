"""Prompts of sample pictures as kohya writes them: "a cat --n bad --w 512 --h 512 --d 1 --l 7 --s 20"."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from webui.core.choices import Choices
from webui.core.errors import InvalidRequest
from webui.core.training import Samples

_OPTION = re.compile(r"\s--(?=[a-z]+\s)")
SEED = 1
"""Of the first prompt that names none; the others count on from it, so that a sample can be compared with the last."""

SAMPLERS: Mapping[str, str] = {
    "ddim": "DDIM",
    "ddpm": "DDIM",
    "euler": "Euler",
    "k_euler": "Euler",
    "euler_a": "Euler a",
    "k_euler_a": "Euler a",
    "heun": "Heun",
    "lms": "LMS",
    "k_lms": "LMS",
    "dpm_2": "DPM2",
    "k_dpm_2": "DPM2",
    "dpm_2_a": "DPM2 a",
    "k_dpm_2_a": "DPM2 a",
    "dpmsolver": "DPM++ 2M",
    "dpmsolver++": "DPM++ 2M",
    "dpmsingle": "DPM++ 2S a",
    "pndm": "PLMS",
}
"""kohya's names -> ours."""


@dataclass(frozen=True)
class SamplePrompt:
    prompt: str
    negative: str = ""
    width: int = 512
    height: int = 512
    seed: int = SEED
    cfg_scale: float = 7.5
    steps: int = 30
    sampler: str = "DDIM"


_FIELDS: Mapping[str, tuple[str, Callable[[str], Any]]] = {
    "n": ("negative", str),
    "w": ("width", int),
    "h": ("height", int),
    "d": ("seed", int),
    "l": ("cfg_scale", float),
    "g": ("cfg_scale", float),
    "s": ("steps", int),
    "ss": ("sampler", str),
}


def read_sample_prompts(samples: Samples, choices: Choices, size: tuple[int, int]) -> tuple[SamplePrompt, ...]:
    """size: (width, height) of those that name none. Raises: InvalidRequest naming the line."""
    prompts: list[SamplePrompt] = []
    for line in samples.prompts.splitlines():
        if line.strip() and not line.lstrip().startswith("#"):
            sampler = SAMPLERS.get(samples.sampler.lower(), samples.sampler)
            plain = SamplePrompt("", width=size[0], height=size[1], seed=SEED + len(prompts), sampler=sampler)
            prompts.append(_read(line.strip(), plain, choices))
    if not prompts and (samples.every_n_steps or samples.every_n_epochs or samples.at_first):
        raise InvalidRequest("Sample pictures are asked for and there is no prompt for them; write one.")
    return tuple(prompts)


def _read(line: str, plain: SamplePrompt, choices: Choices) -> SamplePrompt:
    first, *options = _OPTION.split(f" {line}") if line.startswith("--") else _OPTION.split(line)
    changes: dict[str, Any] = {}
    for option in options:
        key, _, value = option.partition(" ")
        if key not in _FIELDS:
            raise InvalidRequest(f'The sample prompt "{line[:80]}" has an option --{key}, which isn\'t known.')
        name, read = _FIELDS[key]
        try:
            changes[name] = read(value.strip())
        except ValueError:
            raise InvalidRequest(f'The sample prompt "{line[:80]}": --{key} must be a number.') from None
    sampler = changes.get("sampler", plain.sampler)
    changes["sampler"] = choices.find_sampler(SAMPLERS.get(sampler.lower(), sampler))[0].name
    if not 1 <= changes.get("steps", plain.steps) <= 150:
        raise InvalidRequest(f'The sample prompt "{line[:80]}": --s must be between 1 and 150.')
    return replace(plain, prompt=first.strip(), **changes)
