"""Infotext: the generation parameters that a picture carries, written and read as A1111 does.

a cat
Negative prompt: ugly
Steps: 20, Sampler: Euler a, CFG scale: 7, Seed: 1, Size: 512x512, Version: v1.10.1
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

FIELD_ORDER = (
    *("Steps", "Sampler", "Schedule type", "CFG scale", "Image CFG scale", "Seed", "Face restoration", "Size"),
    *("Model hash", "Model", "FP8 weight", "Cache FP16 weight for LoRA", "VAE hash", "VAE"),
    *("Variation seed", "Variation seed strength", "Seed resize from", "Denoising strength"),
    *("Conditional mask weight", "Clip skip", "ENSD", "Token merging ratio", "Token merging ratio hr"),
    *("Init image hash", "RNG", "Tiling"),
)
LAST_FIELDS = ("Version", "User")
OTHER_KEYS = ("Hypernet", "First pass size-1", "TI hashes", "Lora hashes", "Script", "X Type", "Mask blur", "Parser")
"""Keys of A1111's that no parameter or setting has."""
NEGATIVE = "Negative prompt:"
MIN_FIELDS = 3

_LAST_ONES = re.compile(r'(?:, (?:Version|User): (?:"(?:\\.|[^\\"])+"|[^,\n]*))*\Z')
_FIRST_FIELD = re.compile(r"\s*Steps: *\d+ *,")
_SURE = frozenset(["Steps", "Sampler", "CFG scale", "Seed", "Size", "Model hash", "Model", "Schedule type", "Version"])
"""Keys of which every line of fields has some."""
_VALUE = re.compile(r'\s*("(?:\\.|[^\\"])+"|[^,]*)(?:,|$)')
_SIZE = re.compile(r"(\d+)x(\d+)")
_VERSION = re.compile(r"v?(\d{1,6}(?:\.\d{1,6})*)(-?rc\d*)?(?:-(\d{1,6}))?(?:-g.*)?", re.IGNORECASE)

_DEFAULTS: Mapping[str, Any] = {
    "Hires sampler": "Use same sampler",
    "Hires schedule type": "Use same scheduler",
    "Hires checkpoint": "Use same checkpoint",
    "Hires prompt": "",
    "Hires negative prompt": "",
    "Mask mode": "Inpaint masked",
    "Masked content": "original",
    "Inpaint area": "Whole picture",
    "Masked area padding": 32,
    "RNG": "GPU",
    "Schedule type": "Automatic",
    "Schedule max sigma": 0,
    "Schedule min sigma": 0,
    "Schedule rho": 0,
    "VAE Encoder": "Full",
    "VAE Decoder": "Full",
    "FP8 weight": "Disable",
}


def quote(value: object) -> str:
    """`value` as text, in JSON's quotes if it holds a comma, a colon or a line break, or begins with a quote."""
    text = str(value)
    return json.dumps(text, ensure_ascii=False) if text[:1] == '"' or any(c in text for c in ",:\n") else text


def unquote(text: str) -> str:
    """What `quote` was given; text in quotes that isn't JSON stays as it is."""
    if len(text) < 2 or text[0] != '"' or text[-1] != '"':
        return text
    try:
        return str(json.loads(text))
    except json.JSONDecodeError:
        return text


def ordered(fields: Mapping[str, object]) -> dict[str, object]:
    """The same fields: those of FIELD_ORDER, the others as they come, those of LAST_FIELDS."""
    first = [key for key in FIELD_ORDER if key in fields]
    last = [key for key in LAST_FIELDS if key in fields]
    rest = [key for key in fields if key not in FIELD_ORDER and key not in LAST_FIELDS]
    return {key: fields[key] for key in (*first, *rest, *last)}


def hash_list(hashes: Iterable[tuple[str, str]]) -> str:
    """Value of "TI hashes" and "Lora hashes" from (name, digits): `name: hash, ...`, hashes cut to 12 digits."""
    return ", ".join(f"{name.replace(':', '').replace(',', '')}: {digits[:12]}" for name, digits in hashes)


def render(prompt: str, negative_prompt: str, fields: Mapping[str, object]) -> str:
    """The infotext, fields in the order given.

    A field of None is left out, one that equals its key is written as the key alone. Numbers are written as Python
    prints them: 7.0 from the API's float, 7 from the page's int.
    """
    negative = f"\n{NEGATIVE} {negative_prompt}" if negative_prompt else ""
    return f"{prompt}{negative}\n{line(fields)}".strip()


def line(fields: Mapping[str, object]) -> str:
    """The fields as `key: value, ...`, as `render` writes them."""
    pairs = (key if value == key else f"{key}: {quote(value)}" for key, value in fields.items() if value is not None)
    return ", ".join(pairs)


def with_fields(text: str, fields: Mapping[str, object]) -> str:
    """A picture's text with further fields, before those of LAST_FIELDS."""
    match = _LAST_ONES.search(text)
    assert match is not None, "the pattern matches any end"
    return f"{text[: match.start()]}, {line(fields)}{match.group()}" if text and fields else text


def fields_in(text: str) -> dict[str, str]:
    """The fields of such a line, sizes as they are."""
    return {key: unquote(quoted) for key, quoted in _pairs(text)}


def field_text(fields: Mapping[str, Any], key: str) -> str | None:
    """One of `parse`'s fields as it was written, None where there is none; "WxH" stands there as two."""
    if key in fields:
        return str(fields[key])
    sides = [fields.get(f"{key}-{side}") for side in (1, 2)]
    return None if None in sides else f"{sides[0]}x{sides[1]}"


class ExtractStyles(Protocol):
    """Takes styles out of a pair of prompts: (names, prompt, negative prompt)."""

    def extract(self, prompt: str, negative_prompt: str) -> tuple[tuple[str, ...], str, str]: ...


def parse(
    text: str,
    *,
    fill_defaults: bool = True,
    styles: ExtractStyles | None = None,
    styles_mode: str = "Apply if any",
    uses_emphasis: Callable[[str], bool] | None = None,
    backcompat: bool = True,
    skip: Iterable[str] = (),
) -> dict[str, Any]:
    """The fields of an infotext, with "Prompt" and "Negative prompt" among them.

    Values are text; "WxH" under "Size" becomes "Size-1" and "Size-2". The fields are those of the last line, or of
    the last one that begins with "Steps:" where that is another; what stands below is left out. A line is prompt if
    it has fewer than three fields. Never fails: what isn't a field is prompt or is left out.

    fill_defaults: add what the writer left out because it was the default (values are numbers and booleans there),
        translate old fields.
    styles, styles_mode: where styles are found in both prompts they are cut out and become "Styles array";
        "Ignore" leaves them, "Discard" names none, "Apply" names them even if there are none.
    uses_emphasis: tells whether a prompt has weights; adds "Emphasis" then.
    backcompat: add the settings that make pictures of older versions come out again.
    skip: keys to leave out.
    """
    prompt, negative_prompt, fields = _split(text)
    if styles is not None and styles_mode != "Ignore":
        prompt, negative_prompt = _take_styles_out(prompt, negative_prompt, fields, styles, styles_mode)
    fields |= {"Prompt": prompt, "Negative prompt": negative_prompt}
    if fill_defaults:
        _fill_defaults(fields)
        if uses_emphasis and (uses_emphasis(prompt) or uses_emphasis(negative_prompt)):
            fields.setdefault("Emphasis", "Original")
        fields.setdefault("Refiner switch by sampling steps", False)
        if backcompat:
            _add_old_behaviour(fields)
    for key in skip:
        fields.pop(key, None)
    return fields


def _split(text: str) -> tuple[str, str, dict[str, Any]]:
    """Prompt, negative prompt and the fields of their line."""
    lines = text.strip().split("\n")
    place, pairs = _line_of_fields(lines)
    lines = lines[:place]
    prompt: list[str] = []
    negative: list[str] = []
    current = prompt
    for line in map(str.strip, lines):
        if line.startswith(NEGATIVE):
            current = negative
            line = line.removeprefix(NEGATIVE).strip()
        if current or line:
            current.append(line)
    fields: dict[str, Any] = {}
    for key, quoted in pairs:
        value = unquote(quoted)
        if size := _SIZE.fullmatch(value):
            fields[f"{key}-1"], fields[f"{key}-2"] = size.groups()
        elif value:
            fields[key] = value
    return "\n".join(prompt), "\n".join(negative), fields


def _line_of_fields(lines: Sequence[str]) -> tuple[int, list[tuple[str, str]]]:
    """(where the line of fields stands, its pairs); (the number of lines, nothing) if there is none.

    Programs write below it what it doesn't say: templates, the time taken.
    """
    last = list(_pairs(lines[-1]))
    if len(last) >= MIN_FIELDS and any(key in _SURE for key, _ in last):
        return len(lines) - 1, last
    for place in range(len(lines) - 2, -1, -1):
        if _FIRST_FIELD.match(lines[place]):
            pairs = list(_pairs(lines[place]))
            if len(pairs) >= MIN_FIELDS and any(key in _SURE for key, _ in pairs[1:]):
                return place, pairs
    return (len(lines) - 1, last) if len(last) >= MIN_FIELDS else (len(lines), [])


def _pairs(line: str) -> Iterator[tuple[str, str]]:
    """`key: value` pairs, separated by commas; values may be in quotes.

    A key is what stands before a colon: two or more letters, digits, "_", " ", "-" and "/", a letter or digit first.
    Looking back from each colon instead of ahead for one keeps the time linear.
    """
    end = search = 0
    while (colon := line.find(":", search)) >= 0:
        search = colon + 1
        start = colon
        while start > end and _may_be_in_key(line[start - 1]):
            start -= 1
        key = line[start:colon].lstrip(" -/")
        if len(key) < 2:
            continue
        value = _VALUE.match(line, colon + 1)
        assert value is not None, "the pattern matches any text"
        yield key, value[1]
        end = search = value.end()


def _may_be_in_key(character: str) -> bool:
    return character.isalnum() or character in "_ -/"


def _take_styles_out(
    prompt: str, negative_prompt: str, fields: dict[str, Any], styles: ExtractStyles, mode: str
) -> tuple[str, str]:
    """The prompts without styles; adds "Styles array". Nothing is taken out if the hires prompts have others."""
    names, plain, plain_negative = styles.extract(prompt, negative_prompt)
    if "Hires prompt" in fields or "Hires negative prompt" in fields:
        version = _Version.of(fields.get("Version"))
        if version is None or version > _Version((1, 8, 0), 0, 139):
            hires = styles.extract(
                fields.get("Hires prompt", prompt), fields.get("Hires negative prompt", negative_prompt)
            )
            if hires[0] != names:
                return prompt, negative_prompt
            fields["Hires prompt"] = "" if hires[1] == plain else hires[1]
            fields["Hires negative prompt"] = "" if hires[2] == plain_negative else hires[2]
    if mode == "Apply" or (mode == "Apply if any" and names):
        fields["Styles array"] = list(names)
    return plain, plain_negative


def _fill_defaults(fields: dict[str, Any]) -> None:
    fields.setdefault("Clip skip", "1")
    if "Hypernet" in fields:  # before there were tags
        fields["Prompt"] += f"<hypernet:{fields['Hypernet']}:{fields.get('Hypernet strength', '1.0')}>"
    if "Hires resize-1" not in fields:
        fields |= {"Hires resize-1": 0, "Hires resize-2": 0}
    _translate_first_pass_size(fields)
    for key, value in _DEFAULTS.items():
        fields.setdefault(key, value)
    if fields["FP8 weight"] != "Disable":
        fields.setdefault("Cache FP16 weight for LoRA", False)


def _translate_first_pass_size(fields: dict[str, Any]) -> None:
    """Old hires fix gave the size of the first pass, 0x0 for one of about 512x512 pixels; now that of the second."""
    first = _number(fields.get("First pass size-1")), _number(fields.get("First pass size-2"))
    width, height = _number(fields.get("Size-1", 512)), _number(fields.get("Size-2", 512))
    if None in first or not width or not height:
        return
    if 0 in first:
        scale = math.sqrt(512 * 512 / (width * height))
        first = math.ceil(scale * width / 64) * 64, math.ceil(scale * height / 64) * 64
    fields |= {"Size-1": first[0], "Size-2": first[1], "Hires resize-1": width, "Hires resize-2": height}


def _number(value: object) -> int | None:
    """A size in pixels, or None."""
    text = str(value)
    return int(text) if text.isdecimal() and len(text) <= 6 else None


class _Version(NamedTuple):
    """stage: -1 for a release candidate, 0 else. commits: since the tag."""

    release: tuple[int, ...]
    stage: int
    commits: int

    @classmethod
    def of(cls, text: object) -> _Version | None:
        """Of a text such as "v1.5.2-12-gabc"; None for other programs' and for none."""
        match = _VERSION.fullmatch(str(text))
        if match is None:
            return None
        release = tuple(int(part) for part in match[1].split("."))
        return cls((*release, 0, 0)[:3], -1 if match[2] else 0, int(match[3] or 0))


def _add_old_behaviour(fields: dict[str, Any]) -> None:
    version = _Version.of(fields.get("Version"))
    if version is None:
        return
    if version < _Version((1, 6, 0), 0, 0):
        if "[" in fields["Prompt"]:
            fields["Old prompt editing timelines"] = True
        if fields.get("Sampler") in ("DDIM", "PLMS"):
            fields["Pad conds v0"] = True
    if version < _Version((1, 7, 0), 0, 225):
        fields["Downcast alphas_cumprod"] = True
    if version < _Version((1, 8, 0), 0, 0) and fields.get("Refiner"):
        fields["Refiner switch by sampling steps"] = True
