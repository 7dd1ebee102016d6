"""The values of an axis, as users write them: a list with commas and quotes, numbers also as ranges."""

import csv
import io
import math
import re
from itertools import islice

from webui.extensions.api import MAX_PICTURES, InvalidRequest

_NUMBER = r"[+-]?\s*(?:\d+(?:\.\d*)?|\.\d+)"
_RANGE = re.compile(rf"({_NUMBER})\s*-\s*({_NUMBER})\s*(?:\(\s*({_NUMBER})\s*\)|\[\s*(\d+)\s*\])?")
_TRUTHS = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}


def texts_in(text):
    """The texts of a list such as `red, "a, b"`. Raises: InvalidRequest."""
    try:
        return [part.strip() for row in csv.reader(io.StringIO(text), skipinitialspace=True) for part in row]
    except csv.Error as error:
        raise InvalidRequest(f'"{text[:100]}" can\'t be read as a list: {error}.') from None


def text_of(values):
    """The list that `texts_in` reads these in."""
    file = io.StringIO()
    csv.writer(file).writerow(values)
    return file.getvalue().strip()


def read_values(texts, kind):
    """The values of the type `kind` that the texts mean. Raises: InvalidRequest naming the text."""
    if kind is str:
        return list(texts)
    found = []
    for text in filter(None, texts):
        found += _numbers(text, kind) if kind in (int, float) else [_truth(text)]
        if len(found) > MAX_PICTURES:
            raise InvalidRequest(f"these are more than {MAX_PICTURES} values.")
    return found


def _truth(text):
    if text.lower() not in _TRUTHS:
        raise InvalidRequest(f'"{text[:100]}" is neither True nor False.')
    return _TRUTHS[text.lower()]


def _numbers(text, kind):
    """The numbers that `4`, `1-5`, `1-5 (+2)` or `1-5 [3]` means."""
    match = _RANGE.fullmatch(text.strip())
    if match is None:
        return [_number(text, kind)]
    first, last = _number(match[1], kind), _number(match[2], kind)
    if match[4]:
        count = min(int(match[4]), MAX_PICTURES + 1)
        if not count:
            raise InvalidRequest(f'"{text[:100]}" has no values.')
        return [kind(first + (last - first) * index / max(count - 1, 1)) for index in range(count)]
    step = _number(match[3], kind) if match[3] else kind(1 if last >= first else -1)
    if not step or (last - first) * step < 0:
        raise InvalidRequest(f'"{text[:100]}" never gets from {first:g} to {last:g}.')
    count = math.floor((last - first) / step + 1e-9) + 1
    return [kind(round(first + step * index, 10)) for index in islice(range(count), MAX_PICTURES + 1)]


def _number(text, kind):
    try:
        if "_" in text:  # which Python reads in numbers
            raise ValueError(text)
        number = kind(text.replace(" ", ""))
        if not math.isfinite(number):
            raise ValueError(text)
    except (ValueError, OverflowError):
        noun = "whole number" if kind is int else "number"
        raise InvalidRequest(f'"{text[:100]}" is no {noun}.') from None
    return number
