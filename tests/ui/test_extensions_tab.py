"""The Extensions tab in a real browser, with a server on this machine in the part of the internet."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Browser, Page, expect

from tests.api.server import serving
from tests.browsing import Visit
from tests.fileserver import CERTIFICATES, FileServer, Reply, file_server
from tests.repositories import VALID, commit
from tests.running import EXACT, ROOT, free_port
from webui.api.application import build_api
from webui.api.guard import Guard
from webui.core.flags import parse_flags
from webui.services.building import build_services
from webui.services.extension_manager import ExtensionManager
from webui.services.extension_sources import ExtensionSources
from webui.ui.page import mount

SITE = "https://files.example"
HOSTILE = "<img src=x onerror=window.hacked=1>"


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FileServer]:
    with file_server() as running:
        running.repositories = tmp_path_factory.mktemp("repositories")
        yield running


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("data")


@pytest.fixture(scope="module")
def tab(browser: Browser, files: FileServer, data: Path) -> Iterator[Visit]:
    """The page with two extensions of the user's, on the Extensions tab."""
    for name, code in (("moon", VALID), ("broken", "import nothing_of_that_name")):
        (data / "extensions" / name).mkdir(parents=True)
        (data / "extensions" / name / "extension.py").write_text(code)
    services = build_services(parse_flags(["--data-dir", str(data)], {})[0])
    place = services.paths.tmp / "extensions"
    manager = ExtensionManager(services, ExtensionSources(place, files.egress(), trusted=CERTIFICATES / "ca.pem"))
    with serving(Guard(mount(build_api(services), services, extensions=manager))) as url:
        visitor = Visit(browser, url)
        visitor.open()
        visitor.page.click("#tab_extensions-button")
        yield visitor
        visitor.context.close()
    services.checkpoints.close()


def choose_part(page: Page, label: str) -> None:
    page.locator("#tabs_extensions > .tab-wrapper button[role=tab]", has_text=label).first.click()


def test_installed_lists_states_times_and_problems(tab: Visit) -> None:
    choose_part(tab.page, "Installed")
    rows = tab.page.locator("#extensions_installed_html tbody tr")
    moon, broken = (rows.filter(has=tab.page.locator(f"input[name=enable_{name}]")) for name in ("moon", "broken"))
    expect(moon).to_contain_text("in use")
    expect(moon).to_contain_text(" s")
    expect(broken).to_contain_text("No module named")
    expect(rows.filter(has_text="built-in").first).to_be_visible()
    expect(tab.page.locator("#extensions_installed_top button").first).to_have_text("Apply and quit")
    expect(tab.page.locator("#extensions_disable_all input")).to_have_count(3)


def test_an_extension_is_installed_from_its_address_with_consent(tab: Visit, files: FileServer, data: Path) -> None:
    assert files.repositories is not None
    pinned = commit(files.repositories, "stars", {"extension.py": VALID, "requirements.txt": "six==1.17.0"})
    page = tab.page
    choose_part(page, "Install from URL")
    page.get_by_label("URL for extension's git repository").fill("ext::sh -c x")
    page.click("#extension_install")
    expect(page.locator("#extension_install_result")).to_contain_text("only addresses that begin with https://")
    page.get_by_label("URL for extension's git repository").fill(f"{SITE}/stars.git")
    page.click("#extension_install")
    facts = page.locator("#extension_install_result")
    for fact in (pinned, "2023-11-14", "six==1.17.0", "2 files", "Nothing of it has run yet"):
        expect(facts).to_contain_text(fact)
    assert not (data / "extensions" / "stars").exists()
    page.click("#extension_consent")
    expect(facts).to_contain_text("runs after the next start")
    assert (data / "extensions" / "stars" / "extension.py").exists()
    choose_part(page, "Installed")
    page.locator("#extensions_installed_top button", has_text="Refresh").click()
    row = page.locator("#extensions_installed_html tr[data-name=stars]")
    expect(row).to_contain_text(pinned[:8])
    newer = commit(files.repositories, "stars", {"extension.py": VALID + "# two\n"})
    page.locator("#extensions_installed_top button", has_text="Check for updates").click()
    expect(row).to_contain_text(f"new commit {newer[:8]}")
    expect(row.locator("input.update")).to_be_checked()


def test_an_index_is_filtered_sorted_and_harmless(tab: Visit, files: FileServer) -> None:
    listed = [
        {
            "name": "Beta",
            "url": f"{SITE}/beta.git",
            "description": "second",
            "tags": ["script"],
            "added": "2023-02-01",
            "stars": 9,
        },
        {"name": HOSTILE, "url": f"{SITE}/alpha.git", "description": HOSTILE, "tags": [HOSTILE], "added": "2024-01-01"},
        {
            "name": "Chinese",
            "url": f"{SITE}/zh.git",
            "description": "words",
            "tags": ["localization"],
            "added": "2022-01-01",
        },
    ]
    content = {"tags": {"script": "a script", HOSTILE: HOSTILE}, "extensions": listed}
    files.replies["/index.json"] = Reply(json.dumps(content).encode())
    page = tab.page
    choose_part(page, "Available")
    page.get_by_label("Extension index URL").fill(f"{SITE}/index.json")
    page.get_by_role("button", name="Load from:").click()
    names = page.locator("#extensions_available_html tbody tr td:first-child a")
    expect(names).to_have_text([HOSTILE, "Beta"])
    page.get_by_role("group", name="Extension tags").get_by_label("localization").uncheck()
    page.get_by_role("group", name="Order").get_by_label("oldest first").check()
    expect(names).to_have_text(["Chinese", "Beta", HOSTILE])
    page.get_by_role("group", name="Showing type").get_by_label("show").check()
    expect(names).to_have_count(0)
    page.get_by_role("group", name="Extension tags").get_by_label("script", exact=True).check()
    expect(names).to_have_text(["Beta"])
    page.get_by_role("group", name="Showing type").get_by_label("hide").check()
    page.get_by_label("Search").fill("WORDS")
    expect(names).to_have_text(["Chinese"])
    assert page.evaluate("window.hacked") is None


def test_the_set_is_saved_and_what_a_restore_does_is_told(tab: Visit) -> None:
    page = tab.page
    choose_part(page, "Backup/Restore")
    page.get_by_label("Config Name").fill("mine")
    page.get_by_role("button", name="Save Current Config").click()
    expect(page.locator("#extension_backup_saved_configs select")).to_have_value(re.compile("_mine.json$"))
    expect(page.locator("#extension_backup_steps")).to_contain_text("All is as it was saved.")
    choose_part(page, "Installed")
    choose_part(page, "Backup/Restore")
    page.locator("#extension_backup_restore_type").get_by_label("webui").check()
    page.click("#extension_backup_restore")
    expect(page.locator("[data-extensions=backup] .extensions-status")).to_contain_text("nothing to restore of Easel")


# Restarting


class Launched:
    """A server under the supervisor, as launch.py runs it, with an environment that is there already."""

    def __init__(self, data: Path, *flags: str):
        self.data, self.port = data, free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        words = [*EXACT, "--data-dir", str(data), "--port", str(self.port), "--skip-prepare-environment", "--skip-venv"]
        with (data / "launch.log").open("ab") as log:
            command = [sys.executable, "launch.py", *words, *flags]
            self.process = subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log)

    @property
    def log(self) -> str:
        return (self.data / "launch.log").read_text(errors="replace")

    def wait(self, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 240
        while not condition():
            assert time.monotonic() < deadline, self.log
            assert self.process.poll() is None, self.log
            time.sleep(0.2)

    def state(self) -> dict[str, object]:
        found: dict[str, object] = httpx.get(f"{self.url}/easel/v1/extensions", timeout=60).json()
        return found

    def up(self) -> bool:
        try:
            return httpx.get(f"{self.url}/internal/ping", timeout=5).status_code == 200
        except httpx.TransportError:
            return False

    def post(self, path: str, body: object) -> None:
        """Ask for something that ends in another start, and wait for it."""
        starts = self.log.count("Easel runs at")
        answer = httpx.post(f"{self.url}/easel/v1/extensions/{path}", json=body, timeout=60)
        assert answer.status_code == 200, answer.text
        self.wait(lambda: self.log.count("Easel runs at") > starts and self.up())

    def stop(self) -> None:
        self.process.terminate()
        assert self.process.wait(60) == 0


def test_a_start_that_an_extension_ends_leads_through_safe_mode_to_the_culprit(tmp_path: Path) -> None:
    for name in ("fine", "fatal", "other"):
        (tmp_path / "extensions" / name).mkdir(parents=True)
        code = VALID + ("import os; os._exit(7)\n" if name == "fatal" else "")
        (tmp_path / "extensions" / name / "extension.py").write_text(code)
    launched = Launched(tmp_path)
    try:
        launched.wait(launched.up)
        assert "It is tried once more with --safe-mode." in launched.log
        state = launched.state()
        search = state["search"]
        assert isinstance(search, dict)
        assert 'it ended with status 7 while the extension "fatal" was loading' in search["told"]
        assert search["suspects"] == ["fatal", "fine", "other"]
        launched.post("search", {"act": "begin"})  # fatal and fine are tried: that start fails, too
        search = launched.state()["search"]
        assert isinstance(search, dict)
        assert (search["suspects"], search["safe"]) == (["fatal", "fine"], True)
        launched.post("search", {"act": "next"})
        search = launched.state()["search"]
        assert isinstance(search, dict)
        assert search["found"] == "fatal"
        launched.post("search", {"act": "disable"})
        state = launched.state()
        rows = {row["name"]: row["state"] for row in state["extensions"]}  # type: ignore[attr-defined]
        assert {name: rows[name] for name in ("fatal", "fine", "other")} == {
            "fatal": "disabled",
            "fine": "in use",
            "other": "in use",
        }
        assert json.loads((tmp_path / "config.json").read_text())["disabled_extensions"] == ["fatal"]
    finally:
        launched.stop()


def test_apply_and_restart_ui_starts_a_new_server(browser: Browser, tmp_path: Path) -> None:
    (tmp_path / "extensions" / "moon").mkdir(parents=True)
    (tmp_path / "extensions" / "moon" / "extension.py").write_text(VALID)
    launched = Launched(tmp_path)
    try:
        launched.wait(launched.up)
        visit = Visit(browser, launched.url)
        page = visit.open()
        page.click("#tab_extensions-button")
        page.evaluate("window.leftBehind = true")
        page.locator("input[name=enable_moon]").uncheck()
        page.get_by_role("button", name="Apply and restart UI").click()
        expect(page.locator("[data-extensions=installed] .extensions-status")).to_contain_text("Easel starts again")
        fresh = "window.leftBehind === undefined && document.documentElement.dataset.easel === 'ready'"
        page.wait_for_function(fresh, timeout=240_000)
        page.click("#tab_extensions-button")
        expect(page.locator("tr[data-name=moon]")).to_contain_text("disabled")
        expect(page.locator("input[name=enable_moon]")).not_to_be_checked()
        visit.close()
    finally:
        launched.stop()
