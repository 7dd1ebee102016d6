#!/usr/bin/env python3
"""Start Easel: make its environment, install what it needs, and keep its server running.

    python launch.py [flags]              the web UI at http://127.0.0.1:7860
    python launch.py test [pytest args]   the tests, with what they need installed first
    python launch.py import <folder>      take over an A1111 install: settings, styles, models where they are
    python launch.py new-extension NAME   the folder of a new extension, which works and has a test
    python launch.py --help               every flag

Only the standard library is used here, since nothing is installed yet when this file runs.
"""

import sys

# Old interpreters must get as far as this sentence: no newer syntax below than f-strings and annotations.
if sys.version_info < (3, 10):
    sys.exit(
        "Easel needs Python 3.10 to 3.13; this is {}.{} ({}). Start it with a newer one, for example: "
        "python3.12 launch.py".format(sys.version_info[0], sys.version_info[1], sys.executable)
    )

import hashlib
import itertools
import json
import os
import re
import shlex
import shutil
import subprocess
import tempfile
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from webui.core.flags import EXIT_BAD_FLAG, STARTED_IN, BadFlag, Flags, flag_parser, parse_flags
from webui.process.extension_packages import Needs, enabled_extensions, missing, needs_of
from webui.process.supervision import SAFE_MODE, Supervisor, cause_of_death

ROOT = Path(__file__).resolve().parent
OLDEST, NEWEST = (3, 10), (3, 13)
SUPPORTED = "3.10 to 3.13"
REQUIREMENTS = ROOT / "requirements.txt"
TEST_REQUIREMENTS = ROOT / "requirements-test.txt"
TEST_MEMORY = 8 * 2**30
"""Bytes that a process of tests may need with all that it starts."""
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
OWN_SWITCHES = (
    "--skip-venv",
    "--skip-install",
    "--skip-prepare-environment",
    "--skip-python-version-check",
    "--reinstall-torch",
)
HELP = """environment variables:
  COMMANDLINE_ARGS  flags, appended to those given
  PYTHON            the Python that the virtual environment is made with
  VENV_DIR          the virtual environment's folder (venv); "-" is the same as --skip-venv
  TORCH_COMMAND     how torch is installed, e.g. "pip install torch==2.14.1 --index-url https://..."
  TORCH_INDEX_URL   a further package index to take torch from. Linux gets torch for NVIDIA by itself; on Windows
                    an NVIDIA card needs https://download.pytorch.org/whl/cu130 here

commands:
  launch.py test [pytest args]   install what the tests need and run them
  launch.py import <folder> [--dry-run] [flags]
                                 take over styles, settings and the page's defaults of an A1111 install; its models
                                 are listed where they are, nothing of it is changed. --dry-run only tells
  launch.py new-extension NAME [flags]
                                 make the folder of a new extension, which works and has a test

"""


class Problem(Exception):
    """Easel can't be started; `str(problem)` says what happened and what to do."""


def main(argv: Sequence[str], environ: Mapping[str, str]) -> int:
    """Returns: the exit status."""
    try:
        switches = list(itertools.takewhile(lambda word: word in OWN_SWITCHES, argv))
        command, *arguments = argv[len(switches) :] or [""]
        if command == "test":
            flags, _ = parse_flags(switches, {})
            return run_tests(prepare(flags, environ, (REQUIREMENTS, TEST_REQUIREMENTS)), arguments, environ)
        if command == "import":
            return import_install(arguments, environ)
        if command == "new-extension":
            return new_extension(arguments, environ)
        if "--help" in argv or "-h" in argv:
            flag_parser(usage="python launch.py [flags]", epilog=HELP).print_help()
            return 0
        flags, _ = parse_flags(argv, environ)  # the server parses them again and prints the warnings
        python = prepare(flags, environ, (REQUIREMENTS,))
        started_in = {STARTED_IN: environ.get(STARTED_IN) or os.getcwd()}

        def install_again() -> None:
            """What extensions need that came or were updated since the start."""
            if not (flags.skip_install or flags.skip_prepare_environment):
                ensure_extensions(python, venv_folder(flags, environ) or Path(sys.prefix), flags, environ)

        server = [str(python), "-m", "webui.app", *argv]
        retry_with = [] if flags.safe_mode else [SAFE_MODE]
        environ = {**environ, **started_in}
        return Supervisor(server, ROOT, environ, retry_with=retry_with, before_restart=install_again).run()
    except BadFlag as error:
        print(error, file=sys.stderr)
        return EXIT_BAD_FLAG
    except Problem as problem:
        print(f"\n{problem}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nStopped. The next start goes on from here.", file=sys.stderr)
        return 130


def say(sentence: str) -> None:
    print(sentence, flush=True)


def import_install(arguments: Sequence[str], environ: Mapping[str, str]) -> int:
    """`launch.py import`: take over another install and tell what was done. Returns: the exit status."""
    from webui.core.errors import WebuiError
    from webui.core.paths import Paths
    from webui.services import importing

    words = [word for word in arguments if word != "--dry-run"]
    dry_run = len(words) < len(arguments)
    if not words or words[0].startswith("-"):
        raise Problem("Name the folder of the other install: python launch.py import <folder> [--dry-run]")
    flags, warnings = parse_flags(words[1:], environ)
    for warning in warnings:
        say(warning)
    start = Path(environ.get(STARTED_IN) or Path.cwd())
    try:
        report = importing.import_install(start / Path(words[0]).expanduser(), Paths.of(flags), dry_run=dry_run)
    except WebuiError as error:
        raise Problem(str(error)) from error
    for line in report.lines():
        say(line)
    say("Nothing was changed (--dry-run)." if dry_run else "Done. Restart Easel if it runs.")
    return 0


def new_extension(arguments: Sequence[str], environ: Mapping[str, str]) -> int:
    """`launch.py new-extension`: write the folder and tell what to do with it. Returns: the exit status."""
    from webui.core.paths import Paths
    from webui.extensions.new import make_extension

    if not arguments or arguments[0].startswith("-"):
        raise Problem("Name the extension: python launch.py new-extension NAME")
    flags, _ = parse_flags(arguments[1:], environ)
    try:
        folder = make_extension(Paths.of(flags).extensions, arguments[0])
    except FileExistsError as error:
        raise Problem(f"There is a folder {error.filename} already; choose another name.") from error
    except (ValueError, OSError) as error:
        raise Problem(f"{error}.") from error
    say(f"Made {folder}.")
    say(f"Its test: python launch.py test {folder}")
    say("Restart Easel if it runs; the extension has an accordion on txt2img and img2img.")
    return 0


# The environment


def prepare(flags: Flags, environ: Mapping[str, str], files: Sequence[Path]) -> Path:
    """The Python to run, in an environment where `files` (requirements) are installed.

    Raises: Problem.
    """
    venv = venv_folder(flags, environ)
    if flags.skip_prepare_environment:
        python = python_in(venv) if venv else Path(sys.executable)
        if not python.exists():
            raise Problem(f"There is no environment at {venv}: start once without --skip-prepare-environment.")
        return python
    if venv:
        python = ensure_venv(venv, base_python(environ, venv), flags.skip_python_version_check)
    else:
        python = Path(sys.executable)
        check_version(sys.version_info[:3], python, flags.skip_python_version_check)
    if not flags.skip_install:
        home = venv or Path(sys.prefix)
        ensure_requirements(python, home, files, environ, flags.reinstall_torch)
        ensure_extensions(python, home, flags, environ)
    return python


def venv_folder(flags: Flags, environ: Mapping[str, str]) -> Path | None:
    """Where the virtual environment lies, or None to run in the active environment."""
    name = environ.get("VENV_DIR") or environ.get("venv_dir") or "venv"
    return None if flags.skip_venv or name == "-" else ROOT / Path(name).expanduser()


def base_python(environ: Mapping[str, str], venv: Path) -> Path:
    """The interpreter to make the virtual environment with: $PYTHON, or the one that runs this."""
    name = environ.get("PYTHON") or environ.get("python_cmd")
    if name:
        found = shutil.which(name)
        if not found:
            raise Problem(f'PYTHON names "{name}", which is not a program on this machine.')
        return Path(found)
    if Path(sys.prefix).resolve() == venv.resolve():  # it can't be replaced by itself
        name = "python.exe" if os.name == "nt" else f"bin/python{dotted(sys.version_info[:2])}"
        return Path(sys.base_prefix) / name
    return Path(sys.executable)


def python_in(venv: Path) -> Path:
    return venv / "Scripts" / "python.exe" if os.name == "nt" else venv / "bin" / "python"


def interpreter_version(python: Path) -> tuple[int, ...] | None:
    """(major, minor, micro) of the interpreter, or None when it doesn't run."""
    code = "import sys; print(*sys.version_info[:3])"
    try:
        run = subprocess.run([python, "-I", "-S", "-c", code], capture_output=True, text=True, timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return tuple(map(int, run.stdout.split())) if run.returncode == 0 else None


def check_version(version: Sequence[int], python: Path, skip: bool) -> None:
    """Raises: Problem for a Python that Easel isn't made for."""
    if OLDEST <= tuple(version[:2]) <= NEWEST or skip:
        return
    names = [f"python3.{minor}" for minor in range(NEWEST[1], OLDEST[1] - 1, -1)]
    found = next(filter(None, map(shutil.which, names)), None)
    raise Problem(
        f"Easel runs on Python {SUPPORTED}; {python} is {dotted(version)}. "
        + (f"Start it with the one at hand: PYTHON={found}" if found else "Install one of those and set PYTHON to it")
        + ", or try this one with --skip-python-version-check."
    )


def ensure_venv(venv: Path, base: Path, skip_version_check: bool = False) -> Path:
    """Make the virtual environment, or make it anew when its interpreter doesn't run or has changed.

    Returns: its interpreter. Raises: Problem.
    """
    python = python_in(venv)
    version = interpreter_version(python)
    if version and made_for(venv) == version[:2]:
        check_version(version, python, skip_version_check)
        return python
    base_version = interpreter_version(base)
    if not base_version:
        raise Problem(f"{base} does not run. Set PYTHON to a Python from {SUPPORTED}.")
    check_version(base_version, base, skip_version_check)
    there = venv.is_file() or any(path.is_file() for path in venv.rglob("*"))
    if there and not (venv / "pyvenv.cfg").exists():
        raise Problem(f"{venv} exists and is not a virtual environment. Move it away or set VENV_DIR to another.")
    say(f"{'Repairing' if there else 'Making'} the virtual environment {venv}.")
    run = subprocess.run([base, "-m", "venv", "--clear", venv], capture_output=True, text=True)
    if run.returncode or not interpreter_version(python):
        words = (run.stdout + run.stderr).strip()
        if "ensurepip" in words:
            minor = base_version[1]
            words = f"Its venv module is incomplete; on Debian and Ubuntu: apt install python3.{minor}-venv\n{words}"
        raise Problem(f"{base} could not make the virtual environment {venv}. {words}")
    return python


def made_for(venv: Path) -> tuple[int, ...] | None:
    """(major, minor) of the Python that the virtual environment was made with, or None when it isn't one."""
    try:
        text = (venv / "pyvenv.cfg").read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return None
    found = re.search(r"^version(?:_info)?\s*=\s*(\d+)\.(\d+)", text, re.MULTILINE)
    return (int(found[1]), int(found[2])) if found else None


# Installing


def ensure_requirements(
    python: Path, home: Path, files: Sequence[Path], environ: Mapping[str, str], reinstall_torch: bool = False
) -> bool:
    """Install the requirements in `files` unless the stamp in `home`, the environment's folder, says that they are.

    Each file has a stamp, which covers those before it too. Stamps are written last, so that a broken-off install
    is taken up again.
    Returns: whether anything was installed. Raises: Problem naming the package that failed.
    """
    stamps = [(home / f"easel-{file.stem}.json", files[: index + 1]) for index, file in enumerate(files)]
    wanted = [(stamp, stamp_content(python, covered, environ)) for stamp, covered in stamps]
    stamp, content = wanted[-1]
    installed = read_stamp(stamp)
    if installed == content and not reinstall_torch:
        return False
    stamp.unlink(missing_ok=True)
    names = " and ".join(file.name for file in files)
    say(f"Installing what {names} list{'s' if len(files) == 1 else ''}; the first time takes minutes.")
    with tempfile.TemporaryDirectory(prefix="easel-") as folder:
        pip = Pip(python, Path(folder) / "pip.log", environ)
        pip.ensure()
        if reinstall_torch or (installed and installed.get("torch") != content["torch"]):
            pip.run(["uninstall", "--yes", "torch"])
        options: list[str] = []
        if environ.get("TORCH_COMMAND"):
            pip.run_module(shlex.split(environ["TORCH_COMMAND"], posix=os.name != "nt"))
            files = [without_torch(file, Path(folder) / file.name) for file in files]
        elif environ.get("TORCH_INDEX_URL"):
            options = ["--extra-index-url", environ["TORCH_INDEX_URL"]]
        pip.run(["install", *options, *(word for file in files for word in ("-r", str(file)))])
    try:
        for stamp, content in wanted:
            stamp.write_text(json.dumps(content), encoding="utf-8")
    except OSError as error:
        say(f"Installed, but {stamp} can't be written ({error}), so the next start checks again.")
    return True


def ensure_extensions(python: Path, home: Path, flags: Flags, environ: Mapping[str, str]) -> None:
    """Install what the enabled extensions list in their requirements.txt, in versions that the program's own allow.

    An extension whose packages can't be had is told; the start goes on without them, and the next one tries again.
    """
    from webui.core.paths import Paths

    paths = Paths.of(flags)
    folders = enabled_extensions(
        (paths.builtin_extensions, paths.extensions),
        paths.config,
        none=flags.disable_all_extensions,
        extra=not (flags.disable_extra_extensions or flags.safe_mode),
    )
    install_for_extensions(python, home, [needs_of(folder) for folder in folders], environ)


def install_for_extensions(python: Path, home: Path, wanted: Sequence[Needs], environ: Mapping[str, str]) -> None:
    """home: the environment's folder, where a stamp tells what is installed for whom."""
    stamp = home / "easel-extensions.json"
    installed = read_stamp(stamp) or {}
    for needs in wanted:
        for line in needs.refused:
            say(f'The extension "{needs.extension}" asks for "{line}", which names no exact version: not installed.')
    for needs in missing(wanted, installed):
        say(f'Installing for the extension "{needs.extension}": {needs.packages}.')
        try:
            install_needs(python, needs, environ)
        except Problem as problem:
            say(f'{problem} The extension "{needs.extension}" may not work until then.')
            continue
        installed = {**installed, needs.extension: needs.fingerprint}
        try:
            stamp.write_text(json.dumps(installed), encoding="utf-8")
        except OSError as error:
            say(f"Installed, but {stamp} can't be written ({error}), so the next start checks again.")


def install_needs(python: Path, needs: Needs, environ: Mapping[str, str]) -> None:
    """Raises: Problem."""
    with tempfile.TemporaryDirectory(prefix="easel-") as name:
        folder = Path(name)
        limits = without_torch(REQUIREMENTS, folder / "limits.txt") if environ.get("TORCH_COMMAND") else REQUIREMENTS
        pip = Pip(python, folder / "pip.log", environ)
        pip.ensure()
        for lines, options in ((needs.lines, []), (needs.alone, ["--no-deps"])):
            if lines:
                listed = folder / "requirements.txt"
                listed.write_text("\n".join(lines) + "\n", encoding="utf-8")
                pip.run(["install", *options, "-r", str(listed), "-c", str(limits)])


def stamp_content(python: Path, files: Sequence[Path], environ: Mapping[str, str]) -> dict[str, object]:
    """What an installed environment depends on."""
    return {
        "requirements": hashlib.sha256(b"\0".join(file.read_bytes() for file in files)).hexdigest(),
        "torch": [environ.get("TORCH_COMMAND", ""), environ.get("TORCH_INDEX_URL", "")],
        "python": dotted((interpreter_version(python) or ())[:2]),
    }


def read_stamp(stamp: Path) -> dict[str, object] | None:
    try:
        content = json.loads(stamp.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return content if isinstance(content, dict) else None


def without_torch(file: Path, copy: Path) -> Path:
    """`copy`, written with the lines of `file` that don't ask for torch itself."""
    lines = file.read_text(encoding="utf-8").splitlines()
    copy.write_text("\n".join(line for line in lines if not re.match(r"torch\s*(\W|$)", line)) + "\n", encoding="utf-8")
    return copy


@dataclass(frozen=True)
class Pip:
    """pip of one environment. What it prints goes to the terminal, progress bars and all; `log` explains failures."""

    python: Path
    log: Path
    environ: Mapping[str, str]

    def ensure(self) -> None:
        """Bring pip into an environment that lacks it, as one that was interrupted while it was made."""
        for arguments in (["pip", "--version"], ["ensurepip", "--upgrade"]):
            run = subprocess.run([self.python, "-m", *arguments], capture_output=True, text=True)
            if run.returncode == 0:
                return
        raise Problem(f"{self.python} has no pip and can't get it: delete the environment, start again.\n{run.stderr}")

    def run(self, arguments: Sequence[str]) -> None:
        """Raises: Problem when pip fails."""
        self.run_module(["pip", *arguments])

    def run_module(self, words: Sequence[str]) -> None:
        """`python -m WORDS`; a "python -m" in front, as TORCH_COMMAND may have it, is taken as this python.

        Raises: Problem when it fails.
        """
        words = list(words)
        if "-m" in words[:2]:
            words = words[words.index("-m") + 1 :]
        if words and re.fullmatch(r"pip[0-9.]*(\.exe)?", words[0]):
            words[0] = "pip"
        self.log.unlink(missing_ok=True)
        environ = {**self.environ, "PIP_LOG": str(self.log), "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
        status = subprocess.run([self.python, "-m", *words], env=environ).returncode
        text = self.log.read_text(encoding="utf-8", errors="replace") if self.log.exists() else ""
        if status:
            raise Problem(explain_failure(text, status, interpreter_version(self.python) or (), shlex.join(words)))
        self.log.unlink(missing_ok=True)


# What pip's log says, what it means, what to do; the first that matches counts.
FAILURES = (
    (
        r"No space left on device|\[Errno 28\]|not enough space on the disk",
        "the disk is full",
        "free some space (torch alone wants several GB; TMPDIR moves what pip unpacks), then start again",
    ),
    (
        r"DO NOT MATCH THE HASHES|BadZipFile|IncompleteRead|incorrect header check",
        "its download is damaged",
        "start again; `pip cache purge` helps when that repeats",
    ),
    (
        r"CERTIFICATE_VERIFY_FAILED|SSLError",
        "the package index's certificate is not trusted",
        "check the clock and the proxy, then start again",
    ),
    (
        r"NewConnectionError|ConnectTimeoutError|ReadTimeoutError|NameResolutionError|ProxyError|Connection refused|"
        r"Temporary failure in name resolution|getaddrinfo failed|Network is unreachable|Read timed out",
        "the package index can't be reached",
        "check the network and the proxy, then start again",
    ),
    (
        r"No matching distribution found",
        "no release of it fits this Python on this system",
        f"use Python {SUPPORTED} (set PYTHON), or TORCH_COMMAND if it is torch, then start again",
    ),
    (
        r"externally-managed-environment",
        "this Python belongs to the system",
        "leave --skip-venv out, or make a virtual environment and start there",
    ),
    (
        r"\[Errno 13\]|\[WinError 5\]|Permission denied",
        "a file can't be written",
        "close what else uses this environment, check who owns it, then start again",
    ),
    (
        r"ResolutionImpossible",
        "the versions asked for contradict each other",
        "undo changes to requirements.txt, then start again",
    ),
    (
        r"Failed to build|Failed building wheel|InstallationSubprocessError|BackendUnavailable|BuildBackendException",
        "it has no ready-made package for this Python on this system and could not be built",
        f"use another Python from {SUPPORTED} (set PYTHON) or install a compiler, then start again",
    ),
)
# Where pip's log names the package it failed at: the last match of the first pattern that has one.
PACKAGE_NAMED = (
    r"No matching distribution found for (.+?)(?: \(|;|$)",
    r"Cannot install (.+?) because",
    r"Failed (?:to build|building wheel for) '?([\w.-]+)",
    r"^\s*(?:Collecting|Added|Downloading(?! link)|Installing collected packages:) (.+?)(?: from | \(|;|$)",
)


def explain_failure(log: str, status: int, version: Sequence[int], command: str) -> str:
    """Which package pip failed at, why, and what to do.

    log: what pip wrote. status: how it ended, a signal's number below 0. version: of its Python.
    """
    text = re.sub(r"^\S+T[\d:,.]+ ?", "", log, flags=re.MULTILINE)  # without the time before each line
    named = next(filter(None, (re.findall(pattern, text, re.MULTILINE) for pattern in PACKAGE_NAMED)), ["a package"])
    complaints = re.findall(r"^(?:ERROR|error): (.+)", text, re.MULTILINE)
    unknown = complaints[-1] if complaints and status > 0 else cause_of_death(status, out_of_memory=False)
    why, todo = next(
        ((why, todo) for pattern, why, todo in FAILURES if re.search(pattern, text)),
        (unknown, f"see the words of {command} above, then start again"),
    )
    package = textwrap.shorten(named[-1], 80, placeholder=" ...")
    return f"Installing {package} for Python {dotted(version[:2])} failed: {why}. What to do: {todo}."


def dotted(version: Sequence[int]) -> str:
    return ".".join(map(str, version))


# The tests


def run_tests(python: Path, arguments: Sequence[str], environ: Mapping[str, str]) -> int:
    """Run pytest: all tests in as many processes as the machine has room for, a part in one. Returns: its status."""
    browser = ensure_browser(environ)
    clean = {name: value for name, value in environ.items() if name != "COMMANDLINE_ARGS"}
    if browser:
        clean["EASEL_BROWSER"] = browser
    cores = os.cpu_count() or 1
    count = 1 if arguments else test_processes(cores, installed_memory())
    if count > 1:  # a file's tests stay together, since they share a server
        arguments = ["--numprocesses", str(count), "--dist", "loadfile"]
        clean.setdefault("OMP_NUM_THREADS", str(max(1, cores // count)))
    return subprocess.run([python, "-m", "pytest", *arguments], cwd=ROOT, env=clean).returncode


def test_processes(cores: int, memory: int) -> int:
    """How many processes run tests beside each other: each has a server, a browser and models. memory: bytes."""
    return max(1, min(cores, memory // TEST_MEMORY))


def installed_memory() -> int:
    """Bytes; 0 where the system doesn't say."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return 0


def ensure_browser(environ: Mapping[str, str]) -> str | None:
    """The Chromium that the browser tests drive; installed from Debian when it is missing and we may."""
    found = find_browser(environ)
    if found:
        return found
    if sys.platform == "linux" and shutil.which("apt-get") and os.geteuid() == 0:
        say("Installing Chromium for the browser tests.")
        quiet = {**environ, "DEBIAN_FRONTEND": "noninteractive"}
        subprocess.run(["apt-get", "update"], env=quiet, stdout=subprocess.DEVNULL)
        subprocess.run(["apt-get", "install", "--yes", "--no-install-recommends", "chromium"], env=quiet)
        found = find_browser(environ)
    if not found:
        say(
            "The browser tests need Chromium or Chrome, which is not here: install it (Debian, as root: "
            "apt-get install chromium) or set EASEL_BROWSER to its program. They are skipped until then."
        )
    return found


def find_browser(environ: Mapping[str, str]) -> str | None:
    """The path of Chromium or Chrome: $EASEL_BROWSER, one on PATH, or where macOS and Windows put it."""
    places = [environ.get("EASEL_BROWSER"), *(shutil.which(name, path=environ.get("PATH")) for name in BROWSERS)]
    if sys.platform == "darwin":
        for name in ("Chromium", "Google Chrome"):
            places.append(f"/Applications/{name}.app/Contents/MacOS/{name}")
    for variable in ("PROGRAMFILES", "PROGRAMFILES(X86)", "LOCALAPPDATA"):
        if environ.get(variable):
            places.append(str(Path(environ[variable]) / "Google/Chrome/Application/chrome.exe"))
    return next((place for place in places if place and Path(place).is_file()), None)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], os.environ))
