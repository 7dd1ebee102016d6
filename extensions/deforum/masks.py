"""Masks: read from a picture, composed by a formula, and used to lay a picture over another."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from webui.extensions.api import InvalidRequest

LONGEST = 2000
_TOKEN = re.compile(r"\s*(?:(?P<name>\{[^{}]*\}|\[[^\[\]]*\]|<[^<>]*>)|(?P<sign>[!&|^\\()]))")


def prepare(
    picture: Any, width: int, height: int, invert: bool = False, contrast: float = 1, brightness: float = 1,
    use_alpha: bool = False,
) -> Any:  # fmt: skip
    """(H, W) float of 0 to 1 out of a PIL image, white is painted. Raises: InvalidRequest for one that is all black.

    use_alpha: its transparency is the mask.
    """
    from PIL import Image, ImageEnhance, ImageOps

    mask = picture.convert("RGBA").getchannel("A") if use_alpha else picture.convert("L")
    mask = mask.resize((width, height), Image.Resampling.LANCZOS)
    if contrast != 1:
        mask = ImageEnhance.Contrast(mask).enhance(contrast)
    if brightness != 1:
        mask = ImageEnhance.Brightness(mask).enhance(brightness)
    if invert:
        mask = ImageOps.invert(mask)
    found = np.asarray(mask, dtype=np.float64) / 255
    if not found.any():
        raise InvalidRequest("The mask is black all over, so nothing would be painted; invert it or choose another.")
    return found


def overlay(picture: Any, original: Any, mask: Any) -> Any:
    """The picture where the mask is white, the original where it is black; uint8."""
    weight = mask[..., None]
    return np.round(picture * weight + original * (1 - weight)).astype(np.uint8)


def compose(formula: str, find: Callable[[str], Any]) -> Any:
    """A mask of truth values from a formula such as `{video_mask} & !<sky>`.

    {name}, [file.png] and <word> are asked of `find`, which gives (H, W) truth values. Operators, in order of strength:
    ! (not), & (and), \\ (without), ^ (either), | (or). Raises: InvalidRequest.
    """
    if len(formula) > LONGEST:
        raise InvalidRequest(f"The mask formula is longer than {LONGEST} characters.")
    tokens = list(_tokens(formula))
    if not tokens:
        raise InvalidRequest("The mask formula is empty; write for example {video_mask}.")
    try:
        value, rest = _either(tokens, find, 0)
    except RecursionError as error:
        raise InvalidRequest("The mask formula is nested too deeply.") from error
    if rest:
        raise InvalidRequest(f'The mask formula "{formula[:80]}" goes on after its end: {" ".join(rest)[:40]}')
    return value


def _tokens(formula: str) -> Iterator[str]:
    place = 0
    formula = formula.rstrip()
    while place < len(formula):
        found = _TOKEN.match(formula, place)
        if found is None:
            raise InvalidRequest(
                f'The mask formula "{formula[:80]}" has "{formula[place : place + 20].strip()}": neither {{name}}, '
                "[file], <word> nor one of ! & | ^ \\ ( )."
            )
        yield found["name"] or found["sign"]
        place = found.end()


_SIGNS: tuple[tuple[str, Callable[[Any, Any], Any]], ...] = (
    ("|", np.logical_or),
    ("^", np.logical_xor),
    ("\\", lambda left, right: left & ~right),
    ("&", np.logical_and),
)


def _either(tokens: list[str], find: Callable[[str], Any], level: int) -> tuple[Any, list[str]]:
    """The value of the tokens down to the given level of strength, and the tokens after it."""
    if level == len(_SIGNS):
        return _single(tokens, find)
    sign, combine = _SIGNS[level]
    value, tokens = _either(tokens, find, level + 1)
    while tokens and tokens[0] == sign:
        right, tokens = _either(tokens[1:], find, level + 1)
        value = combine(value, right)
    return value, tokens


def _single(tokens: list[str], find: Callable[[str], Any]) -> tuple[Any, list[str]]:
    if not tokens:
        raise InvalidRequest("The mask formula ends where a mask is expected.")
    first, rest = tokens[0], tokens[1:]
    if first == "!":
        value, rest = _single(rest, find)
        return ~value, rest
    if first == "(":
        value, rest = _either(rest, find, 0)
        if rest[:1] != [")"]:
            raise InvalidRequest("The mask formula has a ( that is never closed.")
        return value, rest[1:]
    if first[0] not in "{[<":
        raise InvalidRequest(f'The mask formula has "{first}" where a mask is expected.')
    return np.asarray(find(first), dtype=bool), rest
