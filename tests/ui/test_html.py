from __future__ import annotations

from webui.services.reproduce import Fact, Reproduction
from webui.ui import html


def test_a_reproduction_shows_its_facts_and_nothing_is_markup() -> None:
    facts = (Fact("Checkpoint", "same", "a", "a"), Fact("<b>", "different", "<img src=x>", "<i>", "<script>"))
    shown = html.reproduction(Reproduction(facts))
    assert shown.startswith('<details class="reproduce different"><summary>✗ Not the same picture as things are: ')
    assert shown.count('<tr class="same">') == shown.count('<tr class="different">') == 1
    assert not any(mark in shown for mark in ("<b>", "<img", "<i>", "<script"))
