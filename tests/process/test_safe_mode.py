"""Starts in safe mode, and the search by halves."""

from __future__ import annotations

from pathlib import Path

import pytest

from webui.process.safe_mode import SafeMode, SafeModeFiles, Search
from webui.process.supervision import FAILED_START


@pytest.mark.parametrize("count", [1, 2, 3, 5, 8, 33])
def test_every_culprit_is_found_in_as_many_starts_as_were_told(count: int) -> None:
    names = [f"e{number}" for number in range(count)]
    for culprit in names:
        search = Search.among(names)
        told, steps = search.steps_left, 0
        while search.tried:
            search = search.answered(culprit in search.tried)
            steps += 1
        assert search.found == culprit
        assert steps <= told


@pytest.mark.parametrize("count", [1, 2, 3, 8])
def test_where_none_is_at_fault_none_is_named(count: int) -> None:
    search = Search.among(map(str, range(count)))
    while search.tried:
        search = search.answered(False)
    assert (search.suspects, search.found) == ((), "")


def test_a_search_needs_suspects() -> None:
    with pytest.raises(ValueError, match="no extension"):
        Search.among([])


def test_a_start_that_failed_answers_the_question(tmp_path: Path) -> None:
    files = SafeModeFiles(tmp_path)
    files.keep(Search.among(["a", "b", "c"]))
    going_on = files.start(True, {})
    assert not going_on.on
    assert [name for name in "abc" if going_on.left_out(name)] == ["c"]
    files.loading("b")
    failed = files.start(True, {FAILED_START: "it ended with status 1"})
    assert (failed.on, failed.culprit) == (True, "b")
    assert all(map(failed.left_out, "abc"))
    assert files.start(False, {}).search == Search(("a", "b"), ("a",))
    files.keep(None)
    assert files.start(False, {}) == SafeMode()


def test_a_failed_start_names_what_was_loading(tmp_path: Path) -> None:
    files = SafeModeFiles(tmp_path)
    files.loading("stars")
    safe = files.start(True, {FAILED_START: "it was killed"})
    assert 'it was killed while the extension "stars" was loading.' in safe.told()
    assert files.start(True, {FAILED_START: "it was killed"}).culprit == ""
    (tmp_path / "extension-search.json").write_text("[1")
    assert files.start(False, {}) == SafeMode()
