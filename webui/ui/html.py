"""Pieces of HTML. Whatever came from a user or a file is escaped here."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape

from webui.core.request import GenerationResult
from webui.services.reproduce import Reproduction

MARKS = {"same": "✓", "different": "✗", "unknown": "?"}
"""How a fact of a reproduction looks."""


def paragraphs(text: str) -> str:
    """The text with its line breaks, as one paragraph."""
    return f"<p>{escape(text).replace(chr(10), '<br>')}</p>" if text else ""


def sentences(lines: Iterable[str], css_class: str) -> str:
    return "".join(f'<p class="{css_class}">{escape(line)}</p>' for line in lines)


def problem(sentence: object) -> str:
    """An error as the log under the gallery shows it."""
    return sentences([str(sentence)], "error")


def reproduction(made: Reproduction) -> str:
    """One line that says whether the picture can come out the same, which opens to the facts."""
    rows = "".join(
        f'<tr class="{fact.state}"><td>{MARKS[fact.state]}</td><td>{escape(fact.name)}</td>'
        f'<td translate="no">{escape(fact.wanted)}</td><td translate="no">{escape(fact.here)}</td>'
        f"<td>{escape(fact.note)}</td></tr>"
        for fact in made.facts
    )
    head = "<tr><th></th><th></th><th>picture</th><th>here</th><th></th></tr>"
    return (
        f'<details class="reproduce {made.verdict}"><summary>{MARKS[made.verdict]} {escape(made.sentence)}</summary>'
        f"<table><thead>{head}</thead><tbody>{rows}</tbody></table></details>"
    )


def result_log(result: GenerationResult) -> str:
    """Comments of the job and the time it took."""
    return sentences(result.comments, "comments") + (
        f"<p class='performance'>Time taken: <b>{_duration(result.seconds)}</b></p>"
    )


def _duration(seconds: float) -> str:
    minutes, rest = divmod(seconds, 60)
    return f"{int(minutes)} min. {rest:.1f} sec." if minutes else f"{rest:.1f} sec."
