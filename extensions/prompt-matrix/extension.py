"""The script Prompt matrix: a picture of every combination of the parts of a prompt that "|" divides."""

from dataclasses import replace
from typing import Literal

from webui.extensions.api import (
    InvalidRequest,
    Legend,
    LegendLook,
    Params,
    Script,
    drawn,
    hookimpl,
    joined,
    make_grid,
    param,
    with_legends,
)

MOST_PARTS = 12
"""Beside the first: 4096 combinations."""


class PromptMatrix(Params):
    """Prompt matrix"""

    put_at_start: bool = param(False, label="Put variable parts at start of prompt")
    different_seeds: bool = param(False, label="Use different seed for each picture")
    prompt_type: Literal["positive", "negative"] = param(
        "positive", label="Select prompt", choices=("positive", "negative"), kind="radio"
    )
    variations_delimiter: Literal["comma", "space"] = param(
        "comma", label="Select joining char", choices=("comma", "space"), kind="radio"
    )
    margin_size: int = param(0, label="Grid margins (px)", ge=0, le=500, step=2)


@hookimpl
def register_choices(choices):
    choices.add(Script("Prompt matrix", expand=expand, combine=combine, params=PromptMatrix))


def field_of(values):
    return "prompt" if values.prompt_type == "positive" else "negative_prompt"


def parts_of(request):
    """(what is in every prompt, the parts that are in half of them)."""
    first, *others = getattr(request, field_of(request.extension(PromptMatrix))).strip().split("|")
    if len(others) > MOST_PARTS:
        count = len(others)
        raise InvalidRequest(f"{count} variable parts make {2**count} pictures; {MOST_PARTS} parts are the most.")
    return first, [part.strip().strip(",") for part in others]


def expand(request, settings):
    """A request for every combination; bit n of its number says whether part n is in it."""
    values = request.extension(PromptMatrix)
    first, others = parts_of(request)
    variation = request.variation
    seed, subseed = drawn(request.seed), drawn(variation.seed)
    joining = ", " if values.variations_delimiter == "comma" else " "
    for number in range(2 ** len(others)):
        chosen = [part for bit, part in enumerate(others) if number & (1 << bit)]
        text = joining.join([*chosen, first] if values.put_at_start else [first, *chosen])
        yield request.replace(
            **{field_of(values): text},
            batch_count=1,
            batch_size=1,
            save_grid=False,
            seed=seed + number if values.different_seeds else seed,
            variation=variation.replace(seed=subseed + number) if variation.strength else variation,
        )


def combine(request, results, job):
    """The pictures with a grid of them in front, once all are there."""
    first, others = parts_of(request)
    settings = job.settings.replace(**request.overrides)
    pictures = [result.pictures[0] for result in results if result.pictures]
    if len(pictures) < 2 ** len(others) or not (settings["return_grid"] or settings["grid_save"]):
        return told(request, joined(results))
    look = LegendLook.of(settings)
    rows = 2 ** (len(others) // 2)
    across, down = others[: (len(others) + 1) // 2], others[(len(others) + 1) // 2 :]
    grid = with_legends(
        make_grid(pictures, rows, look.background),
        legends(across),
        legends(down),
        request.extension(PromptMatrix).margin_size,
        look,
    )
    shown = request.replace(**{field_of(request.extension(PromptMatrix)): first.strip()})
    sheet = job.save_grid(grid, shown.replace(seed=results[0].info["all_seeds"][0]), "prompt_matrix")
    return told(request, joined([sheet, *results]))


def legends(parts):
    """The words of each column or row: all parts, those struck out that aren't in it."""
    return [
        [Legend(part, bool(number & (1 << bit))) for bit, part in enumerate(parts)] for number in range(2 ** len(parts))
    ]


def told(request, result):
    if request.batch_count * request.batch_size == 1:
        return result
    sentence = "Prompt matrix makes one picture of each combination, whatever the batch count and size."
    return replace(result, comments=(*result.comments, sentence))
