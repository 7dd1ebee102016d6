"""launch.py with real environments and real pip, on packages made here so that no network is needed."""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Mapping
from pathlib import Path

import pytest

import launch
from webui.core.flags import STARTED_IN, Flags, parse_flags

ROOT = Path(launch.__file__).resolve().parent
PIP_ENVIRONMENT = {**os.environ, "PIP_CONFIG_FILE": os.devnull, "PIP_RETRIES": "0", "PIP_DEFAULT_TIMEOUT": "5"}
for name in ("PIP_FIND_LINKS", "TORCH_COMMAND", "TORCH_INDEX_URL"):
    PIP_ENVIRONMENT.pop(name, None)


def run_launch(*arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(ROOT / "launch.py"), *arguments],
        env={**os.environ, **environ},
        capture_output=True,
        text=True,
        timeout=120,
    )


# The command


def test_help_needs_nothing_installed() -> None:
    run = subprocess.run(
        [sys.executable, "-S", str(ROOT / "launch.py"), "--help"], capture_output=True, text=True, timeout=60
    )
    assert run.returncode == 0
    for words in ("--no-half", "--medvram", "TORCH_COMMAND", "launch.py test", "--skip-venv"):
        assert words in run.stdout


def test_a_bad_flag_ends_with_a_sentence_before_anything_is_made() -> None:
    run = run_launch("--port", "99999", VENV_DIR="no/such/venv")
    assert (run.returncode, run.stdout) == (2, "")
    assert run.stderr == '--port wants a number from 1 to 65535, not "99999".\n'
    assert not (ROOT / "no").exists()


def test_a_problem_is_a_sentence_without_a_traceback(tmp_path: Path) -> None:
    run = run_launch("--skip-prepare-environment", VENV_DIR=str(tmp_path / "none"))
    assert run.returncode == 1
    assert "start once without --skip-prepare-environment" in run.stderr
    assert "Traceback" not in run.stderr


def test_old_pythons_can_read_it_and_are_told_so() -> None:
    source = (ROOT / "launch.py").read_text(encoding="utf-8")
    ast.parse(source, feature_version=(3, 7))
    code = f"import runpy, sys; sys.version_info = (3, 7, 1); runpy.run_path({str(ROOT / 'launch.py')!r})"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert run.returncode == 1
    assert run.stderr.startswith("Easel needs Python 3.10 to 3.13; this is 3.7")


def test_the_test_command_passes_arguments_and_status_on(tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text(
        "import os\n"
        "def test_good(): assert 'COMMANDLINE_ARGS' not in os.environ and os.environ['EASEL_BROWSER']\n"
        "def test_bad(): assert False\n"
    )
    arguments = ("--skip-venv", "--skip-install", "test", str(tmp_path / "test_it.py"), "-q", "-p", "no:cacheprovider")
    environ = {"EASEL_BROWSER": sys.executable, "COMMANDLINE_ARGS": "--listen"}
    run = run_launch(*arguments, **environ)
    assert run.returncode == 1, run.stderr
    assert "1 failed, 1 passed" in run.stdout
    assert run_launch(*arguments, "-k", "good", **environ).returncode == 0


@pytest.mark.parametrize(("cores", "memory", "count"), [(2, 24, 2), (16, 32, 4), (8, 6, 1), (8, 0, 1), (1, 64, 1)])
def test_all_tests_run_beside_each_other_where_there_is_room(cores: int, memory: int, count: int) -> None:
    assert launch.test_processes(cores, memory * 2**30) == count


def test_a_folder_named_test_is_no_command(tmp_path: Path) -> None:
    run = run_launch("--data-dir", "test", "--skip-prepare-environment", VENV_DIR=str(tmp_path / "none"))
    assert "start once without" in run.stderr


def test_the_server_is_told_where_the_user_stood(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "webui").mkdir()
    (tmp_path / "webui" / "__init__.py").touch()
    (tmp_path / "webui" / "app.py").write_text(
        "import os, sys; from pathlib import Path\n"
        f"Path('seen').write_text(os.environ[{STARTED_IN!r}] + ' ' + ' '.join(sys.argv[1:]))\n"
    )
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setattr(launch, "ROOT", tmp_path)
    assert launch.main(["--skip-venv", "--skip-install", "--no-half"], os.environ) == 0
    assert (tmp_path / "seen").read_text() == f"{tmp_path / 'here'} --skip-venv --skip-install --no-half"


@pytest.mark.parametrize("name", ["webui.sh", "webui.bat"])
def test_wrappers_are_two_lines(name: str) -> None:
    lines = (ROOT / name).read_text().splitlines()
    assert len(lines) == 2
    assert "launch.py" in lines[1]


@pytest.mark.skipif(os.name == "nt", reason="a POSIX shell script")
def test_webui_sh_passes_flags_on(tmp_path: Path) -> None:
    run = subprocess.run(
        [str(ROOT / "webui.sh"), "--port", "0 0"],
        env={**os.environ, "PYTHON": sys.executable},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (run.returncode, run.stderr) == (2, '--port wants a number from 1 to 65535, not "0 0".\n')


# Versions


@pytest.mark.parametrize("version", [(3, 10, 0), (3, 13, 9)])
def test_supported_versions(version: tuple[int, ...]) -> None:
    launch.check_version(version, Path("python"), skip=False)


@pytest.mark.parametrize("version", [(3, 9, 18), (3, 14, 0), (4, 0, 0)])
def test_other_versions_are_refused_unless_asked_for(version: tuple[int, ...]) -> None:
    with pytest.raises(launch.Problem, match=r"Easel runs on Python 3\.10 to 3\.13; python is \d\.\d+\.\d+\. .*PYTHON"):
        launch.check_version(version, Path("python"), skip=False)
    launch.check_version(version, Path("python"), skip=True)


def test_pins_are_exact() -> None:
    for file in (launch.REQUIREMENTS, launch.TEST_REQUIREMENTS):
        lines = [line for line in file.read_text().splitlines() if line and not line.startswith("#")]
        assert len(lines) == len(set(lines))
        for line in lines:
            assert re.fullmatch(r'[\w.-]+==[\w.]+(; (python_version|sys_platform) (<|>=|==) "[\w.]+")?', line), line


# The environment


def test_where_the_environment_lies(tmp_path: Path) -> None:
    assert launch.venv_folder(Flags(), {}) == ROOT / "venv"
    assert launch.venv_folder(Flags(), {"VENV_DIR": str(tmp_path)}) == tmp_path
    assert launch.venv_folder(Flags(), {"venv_dir": "other"}) == ROOT / "other"
    assert launch.venv_folder(Flags(), {"venv_dir": "-"}) is None
    assert launch.venv_folder(parse_flags(["--skip-venv"], {})[0], {}) is None


def test_python_names_the_interpreter(tmp_path: Path) -> None:
    assert launch.base_python({"PYTHON": sys.executable}, tmp_path) == Path(sys.executable)
    assert launch.base_python({}, tmp_path) == Path(sys.executable)
    outside = launch.base_python({}, Path(sys.prefix))
    assert launch.interpreter_version(outside) == sys.version_info[:3]
    assert not outside.is_relative_to(sys.prefix) or sys.prefix == sys.base_prefix
    with pytest.raises(launch.Problem, match='PYTHON names "python9.9"'):
        launch.base_python({"PYTHON": "python9.9"}, tmp_path)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fresh virtual environment, made by launch.py; the tests below copy it or install into it."""
    folder = tmp_path_factory.mktemp("made") / "venv"
    python = launch.ensure_venv(folder, Path(sys.executable))
    assert python == launch.python_in(folder)
    assert launch.interpreter_version(python) == sys.version_info[:3]
    return folder


def copy_of(venv: Path, folder: Path) -> Path:
    return Path(shutil.copytree(venv, folder / "copy", symlinks=True))


def test_a_sound_environment_is_reused(made: Path) -> None:
    marker = made / "marker"
    marker.touch()
    launch.ensure_venv(made, Path("no/such/python"))
    assert marker.exists()


def test_a_half_made_environment_is_made_anew(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torn = tmp_path / "venv"
    torn.mkdir()
    (torn / "pyvenv.cfg").touch()
    (torn / "left-over").touch()
    python = launch.ensure_venv(torn, Path(sys.executable))
    assert launch.interpreter_version(python)
    assert not (torn / "left-over").exists()
    assert f"Repairing the virtual environment {torn}" in capsys.readouterr().out


def test_an_environment_whose_python_is_gone_does_not_count(made: Path, tmp_path: Path) -> None:
    broken = copy_of(made, tmp_path)
    for python in launch.python_in(broken).parent.glob("python*"):
        python.unlink()
    with pytest.raises(launch.Problem, match="no-such-python does not run"):
        launch.ensure_venv(broken, tmp_path / "no-such-python")


def test_an_environment_of_another_python_does_not_count(made: Path, tmp_path: Path) -> None:
    other = copy_of(made, tmp_path)
    config = other / "pyvenv.cfg"
    config.write_text(re.sub(r"(?m)^version = .*$", "version = 3.4.5", config.read_text()))
    assert launch.made_for(other) == (3, 4)
    with pytest.raises(launch.Problem, match="no-such-python does not run"):
        launch.ensure_venv(other, tmp_path / "no-such-python")


def test_a_folder_of_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(launch.Problem, match="is not a virtual environment"):
        launch.ensure_venv(tmp_path, Path(sys.executable))
    assert (tmp_path / "thesis.txt").exists()


def test_pip_is_brought_back(made: Path, tmp_path: Path) -> None:
    copy = copy_of(made, tmp_path)
    (packages,) = copy.rglob("site-packages")
    for path in packages.glob("pip*"):
        shutil.rmtree(path)
    pip = launch.Pip(launch.python_in(copy), copy / "log", PIP_ENVIRONMENT)
    pip.ensure()
    assert (packages / "pip").is_dir()


# Installing


def make_wheel(folder: Path, name: str, version: str) -> Path:
    """A wheel with one module that knows its version."""
    info = f"{name}-{version}.dist-info"
    path = folder / f"{name}-{version}-py3-none-any.whl"
    files = {
        f"{name}.py": f"VERSION = {version!r}\n",
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    with zipfile.ZipFile(path, "w") as wheel:
        for file, text in files.items():
            wheel.writestr(file, text)
        wheel.writestr(f"{info}/RECORD", "".join(f"{file},,\n" for file in [*files, f"{info}/RECORD"]))
    return path


class Shelf:
    """A folder of packages, a requirements file that draws on it, and an environment to install into."""

    def __init__(self, folder: Path, home: Path) -> None:
        self.folder, self.home = folder, home
        self.python = launch.python_in(home)
        self.file = folder / "requirements.txt"
        self.stamp = home / "easel-requirements.json"

    def ask_for(self, *lines: str) -> None:
        self.file.write_text("\n".join(["--no-index", f"--find-links {self.folder.as_posix()}", *lines, ""]))

    def install(self, environ: Mapping[str, str] | None = None, *, reinstall_torch: bool = False) -> bool:
        environ = {**PIP_ENVIRONMENT, **(environ or {})}
        return launch.ensure_requirements(self.python, self.home, [self.file], environ, reinstall_torch)

    def version(self, name: str) -> str:
        code = f"import {name}; print({name}.VERSION)"
        return subprocess.run([self.python, "-c", code], capture_output=True, text=True, timeout=60).stdout.strip()


@pytest.fixture
def shelf(made: Path, tmp_path: Path) -> Shelf:
    for version in ("1.0", "2.0"):
        make_wheel(tmp_path, "easelprobe", version)
    for version in ("9.0", "9.1"):
        make_wheel(tmp_path, "torch", version)
    shelf = Shelf(tmp_path, made)
    shelf.stamp.unlink(missing_ok=True)
    return shelf


def test_requirements_are_installed_once_and_again_when_they_change(shelf: Shelf) -> None:
    shelf.ask_for("easelprobe==1.0")
    assert shelf.install()
    assert shelf.version("easelprobe") == "1.0"
    assert not shelf.install()
    shelf.ask_for("easelprobe==2.0")
    assert shelf.install()
    assert shelf.version("easelprobe") == "2.0"


def test_installing_for_the_tests_covers_the_program(shelf: Shelf) -> None:
    shelf.ask_for("easelprobe==1.0")
    extra = shelf.folder / "requirements-test.txt"
    extra.write_text("torch==9.0\n")
    for expected in (True, False):
        both = [shelf.file, extra]
        assert launch.ensure_requirements(shelf.python, shelf.home, both, PIP_ENVIRONMENT) == expected
        assert not shelf.install()


def test_a_broken_off_install_is_taken_up_again(shelf: Shelf) -> None:
    shelf.ask_for("easelprobe==1.0")
    assert shelf.install()
    shelf.ask_for("easelprobe==1.0", "easelabsent==1.0")
    with pytest.raises(launch.Problem):
        shelf.install()
    assert not shelf.stamp.exists()
    shelf.ask_for("easelprobe==1.0")
    assert shelf.install()


@pytest.mark.parametrize("content", ["", "[]", '"text"', "{", "\0"])
def test_a_damaged_stamp_counts_as_none(tmp_path: Path, content: str) -> None:
    (tmp_path / "stamp").write_text(content)
    assert launch.read_stamp(tmp_path / "stamp") is None
    assert launch.read_stamp(tmp_path / "none") is None


def test_torch_command_replaces_the_pin_and_a_changed_one_replaces_torch(shelf: Shelf) -> None:
    shelf.ask_for("torch==2.14.1", "easelprobe==1.0")
    command = f"pip install --no-index --find-links {shelf.folder.as_posix()} torch=="
    assert shelf.install({"TORCH_COMMAND": f"{command}9.0"})
    assert (shelf.version("torch"), shelf.version("easelprobe")) == ("9.0", "1.0")
    assert not shelf.install({"TORCH_COMMAND": f"{command}9.0"})
    assert shelf.install({"TORCH_COMMAND": f"python -m {command}9.1"})
    assert shelf.version("torch") == "9.1"


def test_reinstall_torch(shelf: Shelf) -> None:
    shelf.ask_for("torch==9.0")
    assert shelf.install()
    (module,) = shelf.home.rglob("site-packages/torch.py")
    module.write_text("VERSION = 'damaged'\n")
    assert not shelf.install()
    assert shelf.install(reinstall_torch=True)
    assert shelf.version("torch") == "9.0"


def test_a_package_that_does_not_exist_is_named(shelf: Shelf) -> None:
    shelf.ask_for("easelprobe==1.0", "easelabsent==3.1")
    with pytest.raises(launch.Problem) as caught:
        shelf.install()
    assert str(caught.value).startswith("Installing easelabsent==3.1 for Python 3.")
    assert "no release of it fits this Python" in str(caught.value)
    assert "What to do: use Python 3.10 to 3.13" in str(caught.value)


def test_a_package_that_cannot_be_built_is_named(shelf: Shelf) -> None:
    source = shelf.folder / "easelbroken-1.0"
    source.mkdir()
    (source / "setup.py").write_text("raise SystemExit('no compiler here')\n")
    (source / "PKG-INFO").write_text("Metadata-Version: 2.1\nName: easelbroken\nVersion: 1.0\n")
    with tarfile.open(shelf.folder / "easelbroken-1.0.tar.gz", "w:gz") as archive:
        archive.add(source, "easelbroken-1.0")
    shelf.ask_for("easelbroken==1.0")
    with pytest.raises(launch.Problem) as caught:
        shelf.install({"PIP_NO_BUILD_ISOLATION": "0"})
    assert str(caught.value).startswith("Installing easelbroken==1.0 for Python 3.")
    assert "could not be built" in str(caught.value)


def test_an_index_out_of_reach_is_said(shelf: Shelf) -> None:
    shelf.file.write_text("--index-url http://127.0.0.1:9/simple\neaselabsent==1.0\n")
    with pytest.raises(launch.Problem) as caught:
        shelf.install()
    assert "Installing easelabsent==1.0 " in str(caught.value)
    assert "the package index can't be reached. What to do: check the network" in str(caught.value)


@pytest.mark.parametrize(
    ("log", "status", "sentence"),
    [
        (
            "2026-01-01T10:00:00,000 Collecting numpy==2.4.6\n"
            "2026-01-01T10:00:01,000 ERROR: Could not install packages due to an OSError: [Errno 28] No space left",
            1,
            "Installing numpy==2.4.6 for Python 3.11 failed: the disk is full. What to do: free some space",
        ),
        (
            "2026-01-01T10:00:00,000 ERROR: Cannot install a==1 and b==2 because these package versions have "
            "conflicting dependencies.\n2026-01-01T10:00:00,000 ERROR: ResolutionImpossible: for help",
            1,
            "Installing a==1 and b==2 for Python 3.11 failed: the versions asked for contradict each other.",
        ),
        (
            "2026-01-01T10:00:00,000   Downloading torch-2.14.1-cp311.whl (900 MB)\n",
            -9,
            "Installing torch-2.14.1-cp311.whl for Python 3.11 failed: it was killed from outside (SIGKILL). "
            "What to do: see the words of pip install above",
        ),
        (
            "2026-01-01T10:00:00,000 Installing collected packages: mpmath, sympy\n"
            "2026-01-01T10:00:00,000 ERROR: Could not install packages due to an OSError: [Errno 13] Permission denied",
            1,
            "Installing mpmath, sympy for Python 3.11 failed: a file can't be written.",
        ),
        ("", 3, "Installing a package for Python 3.11 failed: it ended with status 3."),
        ("2026-01-01T10:00:00,000 ERROR: {odd}", 1, "failed: {odd}. What to do: see the words of pip install above"),
    ],
)
def test_other_failures(log: str, status: int, sentence: str) -> None:
    assert sentence in launch.explain_failure(log, status, (3, 11, 7), "pip install")


# The browser of the tests


@pytest.mark.skipif(os.name == "nt", reason="names a POSIX program")
def test_the_browser_is_found_by_variable_and_on_path(tmp_path: Path) -> None:
    assert launch.find_browser({"EASEL_BROWSER": sys.executable}) == sys.executable
    program = tmp_path / "chromium"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    assert launch.find_browser({"PATH": str(tmp_path)}) == str(program)


# Extensions


def extension(parent: Path, name: str, *lines: str) -> Path:
    folder = parent / name
    folder.mkdir(parents=True)
    (folder / "extension.py").touch()
    (folder / "requirements.txt").write_text("\n".join(lines))
    return folder


def test_what_extensions_need_is_installed_once_and_said_for_whom(
    shelf: Shelf, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_wheel(tmp_path, "easelalone", "3.0")
    environ = {**PIP_ENVIRONMENT, "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(tmp_path)}
    (shelf.home / "easel-extensions.json").unlink(missing_ok=True)
    folders = [
        extension(
            tmp_path / "e", "stars", "# what it needs", "easelprobe==2.0  # exactly", "--no-deps easelalone==3.0"
        ),
        extension(tmp_path / "e", "loose", "numpy>=1", "-e .", "--index-url https://example.com", "torch"),
    ]
    wanted = [launch.needs_of(folder) for folder in folders]
    launch.install_for_extensions(shelf.python, shelf.home, wanted, environ)
    said = capsys.readouterr().out
    assert 'Installing for the extension "stars": easelprobe==2.0, easelalone==3.0.' in said
    assert said.count("names no exact version: not installed") == 4
    assert (shelf.version("easelprobe"), shelf.version("easelalone")) == ("2.0", "3.0")
    launch.install_for_extensions(shelf.python, shelf.home, wanted, environ)
    assert "Installing" not in capsys.readouterr().out


def test_an_extension_gets_no_package_in_a_version_that_the_program_does_not_allow(
    shelf: Shelf, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    limits = tmp_path / "limits.txt"
    limits.write_text("easelprobe==1.0\n")
    shelf.ask_for("easelprobe==1.0")
    shelf.install()
    monkeypatch.setattr(launch, "REQUIREMENTS", limits)
    (shelf.home / "easel-extensions.json").unlink(missing_ok=True)
    environ = {**PIP_ENVIRONMENT, "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(tmp_path)}
    needs = launch.needs_of(extension(tmp_path / "e", "greedy", "easelprobe==2.0"))
    launch.install_for_extensions(shelf.python, shelf.home, [needs], environ)
    said = capsys.readouterr().out
    assert 'The extension "greedy" may not work until then.' in said
    assert shelf.version("easelprobe") == "1.0"
    assert launch.read_stamp(shelf.home / "easel-extensions.json") in (None, {})


@pytest.mark.parametrize(
    ("config", "options", "found"),
    [
        ("{}", {}, ["ours", "a", "b"]),
        ('{"disabled_extensions": ["a"]}', {}, ["ours", "b"]),
        ('{"disable_all_extensions": "extra"}', {}, ["ours"]),
        ('{"disable_all_extensions": "all"}', {}, []),
        ("{}", {"none": True}, []),
        ("{}", {"extra": False}, ["ours"]),
        ("not JSON", {}, ["ours", "a", "b"]),
    ],
)
def test_only_enabled_extensions_get_packages(
    tmp_path: Path, config: str, options: dict[str, bool], found: list[str]
) -> None:
    for parent, name in (("own", "ours"), ("data", "b"), ("data", "a")):
        extension(tmp_path / parent, name, "x==1")
    (tmp_path / "data" / "legacy").mkdir()
    (tmp_path / "data" / "legacy" / "requirements.txt").touch()
    path = tmp_path / "config.json"
    path.write_text(config)
    folders = launch.enabled_extensions((tmp_path / "own", tmp_path / "data"), path, **options)
    assert [folder.name for folder in folders] == found


def test_a_new_extension_works_and_has_a_test(tmp_path: Path) -> None:
    run = run_launch("new-extension", "less-colour", "--data-dir", str(tmp_path))
    assert run.returncode == 0, run.stderr
    folder = tmp_path / "extensions" / "less-colour"
    assert str(folder) in run.stdout
    tested = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", str(folder), str(folder)],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert tested.returncode == 0, tested.stdout
    again = run_launch("new-extension", "less-colour", "--data-dir", str(tmp_path))
    assert (again.returncode, "already" in again.stderr) == (1, True)
    for name in ("Less", "../x", "a b", ""):
        assert run_launch("new-extension", name, "--data-dir", str(tmp_path)).returncode == 1
