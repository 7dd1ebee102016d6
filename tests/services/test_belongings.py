"""Whose jobs and forms are whose, and what a user finds again after a restart."""

from __future__ import annotations

from pathlib import Path

import pytest

from webui.core.errors import InvalidRequest, NotFound
from webui.core.flags import parse_flags
from webui.services.belongings import KEPT_JOBS, MAX_FORM, MAX_TABS, Belongings

TWO = ("--gradio-auth", "anna:a,ben:b")
ANNA, BEN = "a" * 32, "b" * 32


def belongings(folder: Path, *flags: str) -> Belongings:
    return Belongings(folder, parse_flags(flags, {})[0])


def test_a_users_form_and_jobs_outlive_a_restart(tmp_path: Path) -> None:
    before = belongings(tmp_path, *TWO)
    before.leave(ANNA, "txt2img", {"form": "[1]"})
    before.leave(ANNA, "txt2img", {"job": "task(1)"})
    before.leave(ANNA, "img2img", {"form": "[2]"})
    before.leave(ANNA, "img2img", {"form": None})
    before.take_job(ANNA, "task(1)")
    after = belongings(tmp_path, *TWO)
    assert after.left_by(ANNA) == {"txt2img": {"form": "[1]", "job": "task(1)"}, "img2img": {"form": None}}
    assert after.left_by(BEN) == {}
    assert after.has_job(ANNA, "task(1)")
    assert not after.has_job(BEN, "task(1)")
    with pytest.raises(NotFound, match="There is no job"):
        after.check_job(BEN, "task(1)")


def test_a_job_stays_with_who_had_it_first(tmp_path: Path) -> None:
    found = belongings(tmp_path, *TWO)
    found.take_job(ANNA, "task(1)")
    found.take_job(BEN, "task(1)")
    assert (found.has_job(ANNA, "task(1)"), found.has_job(BEN, "task(1)")) == (True, False)
    assert (found.last_jobs(ANNA), found.last_jobs(BEN)) == (("task(1)",), ())


def test_only_the_last_jobs_are_kept(tmp_path: Path) -> None:
    found = belongings(tmp_path, *TWO)
    for number in range(KEPT_JOBS + 5):
        found.take_job(ANNA, f"task({number})")
    after = belongings(tmp_path, *TWO)
    assert after.last_jobs(ANNA)[0] == f"task({KEPT_JOBS + 4})"
    assert len(after.last_jobs(ANNA)) == KEPT_JOBS


@pytest.mark.parametrize(
    ("tab", "changes"),
    [("", {"form": "[]"}), ("../x", {"job": "x"}), ("txt2img", {"other": "x"}), ("txt2img", {"form": "x" * MAX_FORM})],
)
def test_nothing_else_is_kept(tab: str, changes: dict[str, str], tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest):
        belongings(tmp_path, *TWO).leave(ANNA, tab, changes)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("content", ["", "[]", '{"tabs": [], "jobs": 3}', '{"tabs": {"txt2img": 4}}', "\xff"])
def test_a_file_that_cannot_be_used_is_a_fresh_page(content: str, tmp_path: Path) -> None:
    (tmp_path / f"{ANNA}.json").write_text(content, encoding="latin-1")
    found = belongings(tmp_path, *TWO)
    assert found.left_by(ANNA) == {}
    found.take_job(ANNA, "task(1)")
    assert belongings(tmp_path, *TWO).last_jobs(ANNA) == ("task(1)",)


def test_of_so_many_tabs_and_no_more(tmp_path: Path) -> None:
    found = belongings(tmp_path, *TWO)
    for number in range(MAX_TABS):
        found.leave(ANNA, f"tab_{number}", {"job": "task(1)"})
    found.leave(ANNA, "tab_3", {"job": "task(2)"})
    with pytest.raises(InvalidRequest, match="more than"):
        found.leave(ANNA, "another", {"job": "task(1)"})


def test_without_a_login_browsers_have_their_jobs_and_no_file(tmp_path: Path) -> None:
    found = belongings(tmp_path, "--listen")
    found.take_job(ANNA, "task(1)")
    assert (found.has_job(ANNA, "task(1)"), found.has_job(BEN, "task(1)")) == (True, False)
    assert found.left_by(ANNA) == {}
    with pytest.raises(InvalidRequest, match="nobody logs in"):
        found.leave(ANNA, "txt2img", {"form": "[]"})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("flags", [(), ("--gradio-auth", "me:x"), ("--listen", "--gradio-auth", "me:x")])
def test_where_one_person_uses_the_page_all_is_theirs(flags: tuple[str, ...], tmp_path: Path) -> None:
    assert belongings(tmp_path, *flags).has_job(ANNA, "task(of a program)")
