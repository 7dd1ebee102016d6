"""Installing, updating and restoring extensions, against repositories and archives on this machine."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.fileserver import CERTIFICATES, FileServer, Reply, file_server
from tests.repositories import VALID, commit, commit_entry, run_git, zipped
from webui.core.errors import InvalidRequest, NotFound, Refused, WebuiError
from webui.core.flags import parse_flags
from webui.core.paths import Paths
from webui.net.egress import Unreachable, is_public
from webui.net.members import USUAL, Limits
from webui.services.building import build_services
from webui.services.extension_folder import ExtensionFolder
from webui.services.extension_index import ExtensionIndexes
from webui.services.extension_manager import ExtensionManager
from webui.services.extension_sources import ARCHIVES, ExtensionSources
from webui.services.services import Services

RUN = "import pathlib; pathlib.Path(__file__).with_name('ran').touch()\n"
SITE = "https://files.example"
Make = Callable[..., ExtensionManager]


@pytest.fixture(scope="module")
def files() -> Iterator[FileServer]:
    with file_server() as running:
        yield running


@pytest.fixture
def repositories(files: FileServer, tmp_path: Path) -> Path:
    files.replies.clear()
    files.asked.clear()
    files.repositories = tmp_path / "repositories"
    files.repositories.mkdir()
    return files.repositories


@pytest.fixture
def make(files: FileServer, repositories: Path, tmp_path: Path) -> Iterator[Make]:
    built: list[Services] = []

    def build(*flags: str, use_git: bool = True, limits: Limits = USUAL, **egress: object) -> ExtensionManager:
        services = build_services(parse_flags(["--data-dir", str(tmp_path / "data"), *flags], {})[0])
        built.append(services)
        sources = ExtensionSources(
            services.paths.tmp / "extensions",
            files.egress(**egress),
            trusted=CERTIFICATES / "ca.pem",
            use_git=use_git,
            limits=limits,
        )
        return ExtensionManager(services, sources)

    yield build
    for services in built:
        services.checkpoints.close()


@pytest.fixture
def extensions(tmp_path: Path) -> Path:
    return tmp_path / "data" / "extensions"


def installed(manager: ExtensionManager, url: str, **more: str) -> str:
    return manager.install(manager.prepare(url, **more).id)


def test_a_repository_is_fetched_shown_and_only_then_installed(
    make: Make, repositories: Path, extensions: Path
) -> None:
    pinned = commit(
        repositories,
        "stars",
        {"extension.py": RUN + VALID, "requirements.txt": "six==1.17.0\nnumpy>=1\n", "a/b.txt": "x"},
    )
    manager = make()
    staged = manager.prepare(f"{SITE}/stars.git")
    assert (staged.name, staged.source.commit, staged.source.branch) == ("stars", pinned, "main")
    assert (staged.source.date, staged.packages) == (1_700_000_000, ("six==1.17.0",))
    assert staged.size > len(RUN)
    assert [note for note in staged.notes if "numpy>=1" in note]
    assert not (extensions / "stars").exists()
    assert "runs after the next start" in manager.install(staged.id)
    assert (extensions / "stars" / "a" / "b.txt").read_text() == "x"
    assert not list(extensions.rglob("ran"))
    (row,) = [row for row in manager.rows() if row.name == "stars"]
    assert (row.remote, row.branch, row.version, row.date) == (f"{SITE}/stars.git", "main", pinned[:8], 1_700_000_000)
    assert row.state == "runs after the next start"
    assert run_git(extensions / "stars", "status", "--porcelain") == ""
    with pytest.raises(NotFound, match="isn't waiting"):
        manager.install(staged.id)
    loaded = make()
    (row,) = [row for row in loaded.rows() if row.name == "stars"]
    assert (row.state, (extensions / "stars" / "ran").exists()) == ("in use", True)
    assert row.seconds is not None
    assert row.seconds > 0


def test_another_branch_and_folder_can_be_chosen(make: Make, repositories: Path, extensions: Path) -> None:
    commit(repositories, "stars", {"extension.py": VALID})
    other = commit(repositories, "stars", {"extension.py": VALID + "# newer\n"}, branch="try/new")
    manager = make()
    staged = manager.prepare(f"{SITE}/stars.git", "try/new", "heaven")
    assert (staged.name, staged.source.commit) == ("heaven", other)
    manager.discard(staged.id)
    assert not staged.folder.exists()
    with pytest.raises(NotFound, match='no branch "gone"; it has main, try/new'):
        manager.prepare(f"{SITE}/stars.git", "gone")
    assert list(extensions.iterdir()) == []


@pytest.mark.parametrize(
    "url",
    [
        "ext::sh -c touch% /tmp/x",
        "file:///etc",
        "/etc",
        "../other",
        "git@files.example:ann/stars.git",
        "ssh://files.example/stars.git",
        "git://files.example/stars.git",
        "http://files.example/stars.git",
        "--upload-pack=touch /tmp/x",
        "-u",
        "",
        "https://files.example\\@evil.example/stars.git",
    ],
)
def test_only_https_addresses_are_fetched(url: str, make: Make, files: FileServer) -> None:
    with pytest.raises(InvalidRequest, match="https://"):
        make().prepare(url)
    assert files.asked == []


@pytest.mark.parametrize(
    ("url", "more", "error"),
    [
        (f"{SITE}/stars.git", {"branch": "--upload-pack=x"}, InvalidRequest),
        (f"{SITE}/stars.git", {"branch": "a..b"}, InvalidRequest),
        (f"{SITE}/stars.git", {"name": "../outside"}, InvalidRequest),
        (f"{SITE}/stars.git", {"name": ".hidden"}, InvalidRequest),
        (f"{SITE}/stars.git", {"name": "-x"}, InvalidRequest),
        (f"{SITE}/stars.git", {"name": "con.txt"}, InvalidRequest),
        (f"{SITE}/stars.git", {"name": "a/b"}, InvalidRequest),
        (f"{SITE}/stars.git", {"name": "ControlNet"}, InvalidRequest),
        (f"{SITE}/..", {}, InvalidRequest),
        (f"{SITE}/stars.git?x=1", {}, InvalidRequest),
        ("https://ann:secret@files.example/stars.git", {}, Refused),
        (f"{SITE}/nothing.git", {}, NotFound),
        (f"{SITE}/page", {}, Refused),
    ],
)
def test_other_wishes_end_in_one_sentence(
    url: str,
    more: dict[str, str],
    error: type[WebuiError],
    make: Make,
    repositories: Path,
    extensions: Path,
    files: FileServer,
) -> None:
    commit(repositories, "stars", {"extension.py": VALID})
    files.replies["/page/info/refs"] = Reply(b"<html>", headers={"Content-Type": "text/html"})
    with pytest.raises(error):
        make().prepare(url, **more)
    assert list(extensions.iterdir()) == []


def test_redirects_are_followed_to_public_addresses_alone(make: Make, repositories: Path, files: FileServer) -> None:
    pinned = commit(repositories, "stars", {"extension.py": VALID})
    files.replies["/old/info/refs"] = Reply(
        status=301, headers={"Location": f"{SITE}/stars.git/info/refs?service=git-upload-pack"}
    )
    staged = make().prepare("https://cdn.example/old")
    assert (staged.source.url, staged.source.commit) == (f"{SITE}/stars.git", pinned)
    files.replies["/old/info/refs"] = Reply(
        status=302, headers={"Location": "https://inner.example/stars.git/info/refs"}
    )
    addresses = {"inner.example": "192.168.0.1"}
    manager = make(
        resolve=lambda host, port: [(addresses.get(host, "127.0.0.1"), files.port)],
        may_connect=lambda address: str(address) == "127.0.0.1" or is_public(address),
    )
    with pytest.raises(Refused, match="no public address"):
        manager.prepare("https://cdn.example/old")


def test_git_itself_reaches_no_other_address(make: Make, repositories: Path, files: FileServer) -> None:
    """The name answers with a public address when it is judged first, and with a private one when git asks."""
    commit(repositories, "stars", {"extension.py": VALID})
    asked: list[str] = []

    def resolve(host: str, port: int) -> list[tuple[str, int]]:
        asked.append(host)
        return [("127.0.0.1" if len(asked) == 1 else "10.0.0.1", files.port)]

    manager = make(resolve=resolve, may_connect=lambda address: str(address) == "127.0.0.1")
    with pytest.raises(Unreachable, match="git fetch failed"):
        manager.prepare(f"{SITE}/stars.git")
    assert len(asked) >= 2


def test_too_much_is_not_fetched(make: Make, repositories: Path) -> None:
    commit(repositories, "stars", {"extension.py": VALID, "noise": os.urandom(200_000).hex()})
    with pytest.raises(Refused, match="sends more than"):
        make(limits=Limits(fetched=100_000)).prepare(f"{SITE}/stars.git")
    with pytest.raises(Refused, match="unpacks to more"):
        make(limits=Limits(unpacked=100_000)).prepare(f"{SITE}/stars.git")
    with pytest.raises(Refused, match="more than 1 files"):
        make(limits=Limits(files=1)).prepare(f"{SITE}/stars.git")


@pytest.mark.parametrize(
    ("mode", "path", "content", "sentence"),
    [
        ("120000", "passwords", "/etc/passwd", "holds the link 'passwords'"),
        ("100644", "con.txt", "x", "no name inside a folder"),
        ("100644", "EXTENSION.py", "x", "in two spellings"),
        ("100644", "a:b", "x", "no name inside a folder"),
    ],
)
def test_hostile_content_of_repositories_is_refused(
    mode: str, path: str, content: str, sentence: str, make: Make, repositories: Path, tmp_path: Path
) -> None:
    commit_entry(repositories, "stars", mode, path, content)
    with pytest.raises(Refused, match=sentence):
        make().prepare(f"{SITE}/stars.git")
    assert list((tmp_path / "data" / "tmp" / "extensions").iterdir()) == []


def test_submodules_are_told_and_left_out(make: Make, repositories: Path) -> None:
    commit_entry(repositories, "stars", "160000", "inner", "1" * 40)
    staged = make().prepare(f"{SITE}/stars.git")
    assert staged.notes == ('It has the submodule "inner", which is not fetched.',)
    assert not list(staged.folder.glob("inner/*"))


def test_neither_the_users_nor_the_repositorys_hooks_are_run(
    make: Make, repositories: Path, extensions: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "home"
    hooks = home / "template" / "hooks"
    hooks.mkdir(parents=True)
    for name in ("post-checkout", "reference-transaction", "post-index-change"):
        (hooks / name).write_text(f"#!/bin/sh\ntouch {tmp_path}/hooked\n")
        (hooks / name).chmod(0o755)
    settings = (
        f"[init]\n templateDir = {home}/template\n[core]\n hooksPath = {hooks}\n fsmonitor = touch {tmp_path}/hooked\n"
    )
    (home / ".gitconfig").write_text(settings + f'[filter "own"]\n smudge = touch {tmp_path}/hooked\n')
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(home / ".gitconfig"))
    commit(repositories, "stars", {"extension.py": VALID, ".gitattributes": "* filter=own\n"})
    (tmp_path / "hooked").unlink(missing_ok=True)
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "elsewhere"))
    manager = make()
    installed(manager, f"{SITE}/stars.git")
    assert not (tmp_path / "hooked").exists()
    monkeypatch.delenv("GIT_DIR")
    config = extensions / "stars" / ".git" / "config"
    config.write_text(config.read_text() + f"[core]\n fsmonitor = touch {tmp_path}/hooked\n")
    commit(repositories, "stars", {"extension.py": VALID + "# two\n"})
    (tmp_path / "hooked").unlink(missing_ok=True)
    assert manager.check_updates()["stars"].startswith("new commit")
    assert manager.apply([], ["stars"], "none") == []
    assert "# two" in (extensions / "stars" / "extension.py").read_text()
    assert not (tmp_path / "hooked").exists()


def test_what_is_installed_is_not_replaced(make: Make, repositories: Path, extensions: Path) -> None:
    commit(repositories, "stars", {"extension.py": VALID})
    commit(repositories, "Stars", {"extension.py": "other"})
    manager = make()
    installed(manager, f"{SITE}/stars.git")
    for url, more, sentence in (
        (f"{SITE}/stars.git", {}, "installed already, as stars"),
        (f"{SITE}/stars/", {}, "installed already, as stars"),
        (f"{SITE}/Stars.git", {"name": "STARS"}, "installed already"),
    ):
        with pytest.raises(Refused, match=sentence):
            manager.prepare(url, **more)
    (extensions / "mine").mkdir()
    commit(repositories, "mine", {"extension.py": "other"})
    with pytest.raises(Refused, match='There is an extension "mine" already'):
        manager.prepare(f"{SITE}/mine.git")
    assert list((extensions / "mine").iterdir()) == []


def test_an_update_keeps_what_the_user_added_and_the_old_version(
    make: Make, repositories: Path, extensions: Path
) -> None:
    first = commit(repositories, "stars", {"extension.py": VALID, "gone.txt": "old", "list.txt": "one"})
    manager = make()
    installed(manager, f"{SITE}/stars.git")
    folder = extensions / "stars"
    (folder / "my wildcards").mkdir()
    (folder / "my wildcards" / "colours.txt").write_text("red")
    (folder / "list.txt").write_text("changed by hand")
    assert manager.check_updates() == {"stars": "latest"}
    second = commit(repositories, "stars", {"extension.py": VALID + "# two\n", "gone.txt": None, "new.txt": "new"})
    assert manager.check_updates() == {"stars": f"new commit {second[:8]}"}
    assert manager.apply(["stars"], ["stars"], "none") == []
    assert (folder / "my wildcards" / "colours.txt").read_text() == "red"
    assert sorted(path.name for path in folder.iterdir() if path.name[0] != ".") == [
        "extension.py",
        "list.txt",
        "my wildcards",
        "new.txt",
    ]
    assert (folder / "list.txt").read_text() == "one"
    (aside,) = (extensions / ".replaced").iterdir()
    assert (aside / "list.txt").read_text() == "changed by hand"
    (row,) = [row for row in manager.rows() if row.name == "stars"]
    assert (row.version, row.enabled) == (second[:8], False)
    assert first != second


def test_a_clone_made_by_hand_is_updated_too(make: Make, repositories: Path, extensions: Path) -> None:
    commit(repositories, "stars", {"extension.py": VALID, "gone.txt": "old"})
    manager = make()
    run_git(repositories, "clone", "-q", str(repositories / "stars.git"), str(extensions / "stars"))
    run_git(extensions / "stars", "remote", "set-url", "origin", f"{SITE}/stars.git")
    (extensions / "stars" / "mine.txt").touch()
    commit(repositories, "stars", {"gone.txt": None})
    assert manager.apply([], ["stars"], "none") == []
    assert not (extensions / "stars" / "gone.txt").exists()
    assert (extensions / "stars" / "mine.txt").exists()


def test_a_failed_update_changes_nothing_and_is_told(make: Make, repositories: Path, extensions: Path) -> None:
    commit(repositories, "stars", {"extension.py": VALID})
    manager = make()
    installed(manager, f"{SITE}/stars.git")
    commit_entry(repositories, "stars", "120000", "passwords", "/etc/passwd")
    (failed,) = manager.apply([], ["stars"], "none")
    assert "holds the link" in failed
    assert (extensions / "stars" / "extension.py").read_text() == VALID
    assert not (extensions / ".replaced").exists()
    assert [name for name in manager.apply([], ["../x", "nobody"], "none") if "no extension" in name]


def test_all_are_updated_at_the_start_but_those_that_cannot_be(
    make: Make, repositories: Path, files: FileServer, extensions: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("stars", "moon", "sun"):
        commit(repositories, name, {"extension.py": VALID})
    files.replies["/zipped.zip"] = Reply(zipped({"extension.py": VALID}))
    manager = make()
    for url in (f"{SITE}/stars.git", f"{SITE}/moon.git", f"{SITE}/sun.git", f"{SITE}/zipped.zip"):
        installed(manager, url)
    manager.apply(["stars"], [], "none")
    (extensions / "by hand").mkdir()
    commit(repositories, "stars", {"extension.py": VALID + "# two\n"})
    commit_entry(repositories, "moon", "120000", "passwords", "/etc/passwd")
    folder = ExtensionFolder(Paths.of(parse_flags(["--data-dir", str(extensions.parent)], {})[0]), manager.sources)
    assert folder.update_all() == ["stars"]  # one that is disabled, too
    assert "# two" in (extensions / "stars" / "extension.py").read_text()
    assert "Extension moon is not updated" in caplog.text
    assert not [name for name in ("sun", "zipped", "by hand") if f"Extension {name}" in caplog.text]
    assert folder.update_all() == []
    files.repositories = repositories / "gone"
    assert folder.update_all() == []
    assert "Extension sun is not updated" in caplog.text


def test_a_zip_file_is_installed_without_its_outer_folder(make: Make, files: FileServer, extensions: Path) -> None:
    files.replies["/stars.zip"] = Reply(zipped({"stars-main/extension.py": VALID, "stars-main/a/b.txt": "x"}))
    manager = make()
    staged = manager.prepare(f"{SITE}/stars.zip")
    assert staged.source.commit.startswith("sha256:")
    assert staged.source.files == ("extension.py", "a/b.txt")
    manager.install(staged.id)
    assert (extensions / "stars" / "a" / "b.txt").read_text() == "x"
    (failed,) = manager.apply([], ["stars"], "none")
    assert "install it anew" in failed


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (zipped({"extension.py": VALID, "../../evil.py": "x"}), "no name inside a folder"),
        (zipped({"extension.py": VALID, "/etc/evil": "x"}), "no name inside a folder"),
        (zipped({"extension.py": VALID, "C:/evil": "x"}), "no name inside a folder"),
        (zipped({"extension.py": VALID, "a\\..\\..\\evil": "x"}), "no name inside a folder"),
        (zipped({"extension.py": VALID, "nul": "x"}), "no name inside a folder"),
        (zipped({"extension.py": VALID, "a\u202eyp.exe": "x"}), "no name inside a folder"),
        (zipped({"extension.py": VALID, ".git/config": "[core]"}), "git would obey"),
        (zipped({"extension.py": VALID, "sub/.GIT/hooks/x": "x"}), "git would obey"),
        (zipped({"extension.py": VALID, "Extension.py": "x"}), "two spellings"),
        (zipped({"extension.py": VALID, "a": "x", "a/b": "x"}), "as a file and as a folder"),
        (zipped({"extension.py": VALID}, {"link": "/etc"}), "holds the link"),
        (zipped({"extension.py": VALID, "zeros": bytes(3_000_000)}), "unpacks to more"),
        (zipped({f"{number}.txt": "" for number in range(60)}), "more than 50 files"),
        (zipped({"readme.txt": "x"}), "is no extension"),
        (b"PK\x03\x04 nonsense", "no zip file"),
        (b"", "no zip file"),
    ],
)
def test_hostile_zip_files_are_refused(
    content: bytes, sentence: str, make: Make, files: FileServer, tmp_path: Path
) -> None:
    files.replies["/stars.zip"] = Reply(content)
    manager = make(limits=Limits(unpacked=1_000_000, files=50))
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(Refused, match=sentence):
        manager.prepare(f"{SITE}/stars.zip")
    assert [path for path in sorted(tmp_path.rglob("*")) if path not in before and path.name != "extensions"] == []


def test_a_zip_file_that_breaks_off_or_is_too_large(make: Make, files: FileServer) -> None:
    content = zipped({"extension.py": VALID + "#" * 5000})
    files.replies["/stars.zip"] = Reply(content, breaks_after=30)
    with pytest.raises(WebuiError, match="broke off"):
        make().prepare(f"{SITE}/stars.zip")
    files.replies["/stars.zip"] = Reply(content)
    with pytest.raises(Refused, match="sends more than"):
        make(limits=Limits(fetched=50)).prepare(f"{SITE}/stars.zip")


def test_without_git_a_known_sites_zip_is_fetched_and_said(
    make: Make, repositories: Path, files: FileServer, extensions: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(ARCHIVES, "files.example", "https://cdn.example/{path}/zip/{commit}")
    pinned = commit(repositories, "ann/stars", {"extension.py": VALID})
    files.replies[f"/ann/stars/zip/{pinned}"] = Reply(zipped({f"stars-{pinned}/extension.py": VALID}), length=-1)
    manager = make(use_git=False)
    staged = manager.prepare("https://files.example/ann/stars.git")
    assert (staged.source.url, staged.source.commit) == ("https://files.example/ann/stars.git", pinned)
    assert "git isn't installed here" in staged.notes[0]
    manager.install(staged.id)
    newer = commit(repositories, "ann/stars", {"extension.py": VALID + "# two\n"})
    files.replies[f"/ann/stars/zip/{newer}"] = Reply(zipped({"s/extension.py": VALID + "# two\n"}), length=-1)
    assert manager.check_updates() == {"stars": f"new commit {newer[:8]}"}
    assert manager.apply([], ["stars"], "none") == []
    assert "# two" in (extensions / "stars" / "extension.py").read_text()
    with pytest.raises(Refused, match="install git"):
        manager.prepare("https://cdn.example/ann/stars.git", name="other")


def test_an_a1111_extension_is_installed_and_listed_as_such(make: Make, repositories: Path, extensions: Path) -> None:
    commit(repositories, "old", {"scripts/old.py": RUN, "install.py": RUN, "requirements.txt": "six==1.17.0"})
    manager = make()
    staged = manager.prepare(f"{SITE}/old.git")
    assert (staged.legacy, staged.packages) == (True, ())
    assert any("can't run it yet" in note for note in staged.notes)
    assert any("install.py is not run" in note for note in staged.notes)
    manager.install(staged.id)
    (row,) = [row for row in make().rows() if row.name == "old"]
    assert "A1111" in row.state
    assert not list(extensions.rglob("ran"))


def test_a_set_is_saved_and_restored(make: Make, repositories: Path, extensions: Path) -> None:
    first = commit(repositories, "stars", {"extension.py": VALID})
    commit(repositories, "moon", {"extension.py": VALID})
    manager = make()
    installed(manager, f"{SITE}/stars.git")
    installed(manager, f"{SITE}/moon.git")
    manager.apply(["moon"], [], "none")
    file = manager.save_state("before <the> change/..")
    assert manager.states() == [file]
    assert "/" not in file
    saved = json.loads((extensions.parent / "config_states" / file).read_text())
    assert saved["extensions"]["stars"]["commit_hash"] == first
    assert saved["extensions"]["moon"]["enabled"] is False
    assert manager.planned(file) == []
    commit(repositories, "stars", {"extension.py": VALID + "# two\n"})
    manager.apply(["stars"], ["stars"], "none")
    (extensions / "late").mkdir()
    (extensions / "late" / "extension.py").write_text(VALID)
    shutil.rmtree(extensions / "moon")
    told = {(change.name, change.act) for change in manager.planned(file)}
    assert told == {
        ("stars", "fetch"),
        ("stars", "enable"),
        ("moon", "install"),
        ("moon", "disable"),
        ("late", "disable"),
    }
    assert manager.restore(file) == []
    assert (extensions / "stars" / "extension.py").read_text() == VALID
    assert (extensions / "moon" / "extension.py").exists()
    rows = {row.name: row.enabled for row in manager.rows() if not row.built_in}
    assert rows == {"stars": True, "moon": False, "late": False}
    assert manager.planned(file) == []


@pytest.mark.parametrize(
    "content",
    ["[]", "{", '{"extensions": []}', '{"extensions": {"x": 1}}', "[" * 100_000],
)
def test_what_is_no_saved_set_is_one_sentence(content: str, make: Make, tmp_path: Path) -> None:
    manager = make()
    folder = tmp_path / "data" / "config_states"
    folder.mkdir()
    (folder / "bad.json").write_text(content)
    with pytest.raises(InvalidRequest, match="no saved set"):
        manager.restore("bad.json")
    with pytest.raises(WebuiError):
        manager.planned("../config.json")


def test_a_hostile_saved_set_installs_nothing(make: Make, tmp_path: Path, repositories: Path) -> None:
    commit(repositories, "stars", {"extension.py": VALID})
    manager = make()
    folder = tmp_path / "data" / "config_states"
    folder.mkdir()
    entry = {"remote": f"{SITE}/stars.git", "branch": "main", "commit_hash": "--upload-pack=x", "enabled": True}
    bad = {
        "../../x": {**entry, "commit_hash": "1" * 40},
        "a": entry,
        "b": {**entry, "remote": "ext::sh -c x"},
        "c": {**entry, "branch": "--x"},
        "d": {"enabled": True},
    }
    (folder / "bad.json").write_text(json.dumps({"extensions": bad}))
    assert len(manager.restore("bad.json")) == 5
    assert list((tmp_path / "data" / "extensions").iterdir()) == []


@pytest.mark.parametrize("flags", [["--listen"], ["--share"], ["--server-name", "0.0.0.0"]])
def test_nothing_is_changed_where_others_reach_the_server(flags: list[str], make: Make, repositories: Path) -> None:
    commit(repositories, "stars", {"extension.py": VALID})
    manager = make(*flags)
    deeds: list[Callable[[], object]] = [
        lambda: manager.prepare(f"{SITE}/stars.git"),
        lambda: manager.install("x"),
        lambda: manager.apply([], [], "none"),
        lambda: manager.check_updates(),
        lambda: manager.save_state("x"),
        lambda: manager.restore("x"),
        lambda: manager.do_search("begin"),
    ]
    for deed in deeds:
        with pytest.raises(Refused, match="--enable-insecure-extension-access"):
            deed()
    assert manager.rows()
    open_to_all = make(*flags, "--enable-insecure-extension-access")
    assert open_to_all.prepare(f"{SITE}/stars.git").name == "stars"


# The index


def test_an_index_is_fetched_cleaned_and_kept(make: Make, files: FileServer, tmp_path: Path) -> None:
    content = {
        "tags": {"script": "Adds a script", "x": 5},
        "extensions": [
            {"name": "Stars", "url": f"{SITE}/stars.git", "description": "<b>", "tags": ["script", 7], "stars": 3},
            {"name": "Local", "url": "file:///etc", "description": ""},
            {"url": f"{SITE}/nameless.git"},
            "nonsense",
        ],
    }
    url = "https://files.example/index.json"
    files.replies["/index.json"] = Reply(json.dumps(content).encode())
    indexes = ExtensionIndexes(tmp_path / "cache", files.egress())
    assert indexes.kept(url).extensions == ()
    index = indexes.fetch(url)
    assert [(each.name, each.tags, each.stars) for each in index.extensions] == [("Stars", ("script", "7"), 3)]
    files.replies["/index.json"] = Reply(status=500)
    kept = indexes.fetch(url)
    assert (kept.extensions, kept.fetched) == (index.extensions, index.fetched)
    assert "kept from before" in kept.note
    for bad in (b"<html>", b"[]", b"[" * 100_000, b'{"extensions": 3}'):
        files.replies["/index.json"] = Reply(bad)
        with pytest.raises(Refused, match="no index"):
            indexes.fetch(url)
    with pytest.raises(Refused, match="https://"):
        indexes.fetch("http://files.example/index.json")
    with pytest.raises(Unreachable):
        indexes.fetch("https://files.example/other.json")
