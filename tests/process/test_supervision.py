"""The supervisor with a real, small server under it: what it restarts, what it leaves alone, and what it says."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from webui.process.supervision import (
    EXIT_FAILED_START,
    EXIT_RESTART,
    Supervisor,
    announce_ready,
    cause_of_death,
    is_supervised,
    memory_kills,
    restart_count,
    watch_supervisor,
)

ROOT = Path(__file__).resolve().parents[2]

# A server of sorts: it writes down how it was started and then acts on the word that its start number finds in $ACTS.
SERVER = """
import os, signal, sys, time
from pathlib import Path
from webui.process.supervision import announce_ready, restart_count, watch_supervisor

log = Path(os.environ["LOG"])
acts = os.environ["ACTS"].split()
act = acts[min(restart_count(), len(acts) - 1)]

def note(words):
    with log.open("a") as file:
        file.write(words + "\\n")

def stop(number, frame):
    note(signal.Signals(number).name)
    if act != "stubborn":
        sys.exit(0)

signal.signal(signal.SIGINT, stop)
signal.signal(signal.SIGTERM, stop)
watch_supervisor(grace=5)
note(f"start {restart_count()} {os.getpid()} " + " ".join(sys.argv[1:]))
if act == "unsafe" and "--safe-mode" not in sys.argv:
    sys.exit(1)
if act == "unsafe":
    note(os.environ["EASEL_FAILED_START"])
    sys.exit(int(announce_ready(7865) or 0))
if act == "update":
    sys.exit(4 if log.read_text().count("start ") == 1 else int(announce_ready(7865) or 0))
if act.startswith("early"):
    sys.exit(int(act.removeprefix("early")))
announce_ready(7865)
note("ready")
if act.startswith("exit"):
    sys.exit(int(act.removeprefix("exit")))
if act.startswith("SIG"):
    os.kill(os.getpid(), signal.Signals[act])
while True:
    time.sleep(0.02)
"""
RUN = """
import os, sys
from pathlib import Path
from webui.process.supervision import Supervisor
settings = eval(os.environ["SETTINGS"])
sys.exit(Supervisor([sys.executable, os.environ["SERVER"], "--flag"], Path.cwd(), os.environ, **settings).run())
"""

pytestmark = pytest.mark.skipif(os.name == "nt", reason="the stand-in server ends itself by POSIX signals")


class Supervised:
    """A supervisor in its own process, with the stand-in server under it."""

    def __init__(self, folder: Path, acts: str, **settings: object) -> None:
        self.log = folder / "log"
        server = folder / "server.py"
        server.write_text(SERVER)
        environ = {
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "LOG": str(self.log),
            "ACTS": acts,
            "SERVER": str(server),
            "SETTINGS": repr({"delay": 0.01, **settings}),
        }
        self.process = subprocess.Popen(
            [sys.executable, "-c", RUN],
            env=environ,
            cwd=folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def lines(self) -> list[str]:
        return self.log.read_text().splitlines() if self.log.exists() else []

    def starts(self) -> list[list[str]]:
        """[number of restarts, process id, arguments...] of each start."""
        return [line.split()[1:] for line in self.lines() if line.startswith("start")]

    def wait_for(self, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 120
        while not condition():
            assert time.monotonic() < deadline, self.lines()
            time.sleep(0.01)

    def end(self) -> tuple[int, str]:
        """The exit status and what was printed."""
        output, _ = self.process.communicate(timeout=120)
        return self.process.returncode, output


@pytest.fixture
def supervised(tmp_path: Path) -> Iterator[Callable[..., Supervised]]:
    started = []

    def start(acts: str, **settings: object) -> Supervised:
        started.append(Supervised(tmp_path, acts, **settings))
        return started[-1]

    yield start
    for one in started:
        one.process.kill()
        one.process.wait()


def test_a_killed_server_is_restarted_on_its_port_and_the_cause_named(supervised: Callable[..., Supervised]) -> None:
    one = supervised("SIGKILL exit0")
    status, output = one.end()
    assert status == 0
    assert "Easel stopped: it was killed from outside (SIGKILL). It starts again in 0.01 s." in output
    (first, _, *arguments), (second, _, *later) = one.starts()
    assert (first, second) == ("0", "1")
    assert arguments == ["--flag"]
    assert later == ["--flag", "--port", "7865"]


@pytest.mark.parametrize(
    ("act", "words"),
    [("SIGSEGV", "it accessed memory that isn't its own (SIGSEGV)"), ("exit1", "it ended with status 1")],
)
def test_other_crashes_are_restarted_too(supervised: Callable[..., Supervised], act: str, words: str) -> None:
    one = supervised(f"{act} exit0")
    status, output = one.end()
    assert status == 0
    assert words in output
    assert len(one.starts()) == 2


def test_a_clean_end_is_the_end(supervised: Callable[..., Supervised]) -> None:
    one = supervised("exit0 exit1")
    assert one.end() == (0, "")
    assert len(one.starts()) == 1


def test_a_failed_start_is_not_tried_again(supervised: Callable[..., Supervised]) -> None:
    one = supervised("early1 exit0")
    assert one.end() == (1, "Easel could not start: it ended with status 1.\n")
    assert len(one.starts()) == 1


def test_a_failed_start_is_tried_once_more_in_safe_mode(supervised: Callable[..., Supervised]) -> None:
    one = supervised("unsafe", retry_with=["--safe-mode"])
    assert one.end() == (
        0,
        "Easel could not start: it ended with status 1. It is tried once more with --safe-mode.\n",
    )
    assert [start[2:] for start in one.starts()] == [["--flag"], ["--flag", "--safe-mode"]]
    assert one.lines()[-1] == "it ended with status 1"


def test_a_start_that_fails_in_safe_mode_too_is_the_end(supervised: Callable[..., Supervised]) -> None:
    one = supervised("early1", retry_with=["--safe-mode"])
    status, output = one.end()
    assert (status, len(one.starts())) == (1, 2)
    assert output.endswith("Easel could not start: it ended with status 1.\n")


def test_after_a_restart_that_fails_safe_mode_lasts_one_start(supervised: Callable[..., Supervised]) -> None:
    one = supervised("exit4 unsafe exit0", retry_with=["--safe-mode"])
    assert one.end()[0] == 0
    port = ["--port", "7865"]
    assert [start[2:] for start in one.starts()] == [["--flag"], ["--flag", *port], ["--flag", *port, "--safe-mode"]]


def test_packages_are_looked_after_before_a_restart_that_was_asked_for(
    tmp_path: Path,
) -> None:
    server, log = tmp_path / "server.py", tmp_path / "log"
    server.write_text(SERVER)
    environ = {**os.environ, "PYTHONPATH": str(ROOT), "LOG": str(log), "ACTS": "SIGKILL exit4 exit0"}
    called: list[int] = []

    def look_after() -> None:
        called.append(log.read_text().count("start"))

    command = [sys.executable, str(server)]
    assert Supervisor(command, tmp_path, environ, delay=0.01, before_restart=look_after).run() == 0
    assert called == [2]


@pytest.mark.parametrize("act", [f"early{EXIT_FAILED_START}", f"exit{EXIT_FAILED_START}", "early2"])
def test_a_server_that_said_why_it_cannot_start_is_left_alone(supervised: Callable[..., Supervised], act: str) -> None:
    one = supervised(f"{act} exit0")
    assert one.end() == (int(act[-1]), "")
    assert len(one.starts()) == 1


def test_a_restart_that_fails_before_it_answers_is_tried_again(supervised: Callable[..., Supervised]) -> None:
    one = supervised("SIGKILL early1 exit0")
    assert one.end()[0] == 0
    assert [start[2:] for start in one.starts()] == [["--flag"], *[["--flag", "--port", "7865"]] * 2]


def test_a_restart_that_was_asked_for_is_no_crash(supervised: Callable[..., Supervised]) -> None:
    one = supervised(f"{f'exit{EXIT_RESTART} ' * 7} exit0")
    status, output = one.end()
    assert status == 0
    assert output.count("Easel starts again, as it was asked to.") == 7


def test_a_restart_may_be_asked_for_before_anything_is_answered(supervised: Callable[..., Supervised]) -> None:
    one = supervised("update", retry_with=["--safe-mode"])
    assert one.end() == (0, "Easel starts again, as it was asked to.\n")
    first, second = one.starts()
    assert (first[0], second[0]) == ("0", "0")  # so that the browser is opened all the same
    assert first[2:] == second[2:] == ["--flag"]


def test_it_gives_up_after_five_crashes_in_a_row(supervised: Callable[..., Supervised]) -> None:
    one = supervised("SIGKILL")
    status, output = one.end()
    assert status == 128 + signal.SIGKILL
    assert len(one.starts()) == 5
    assert [f"in {delay:g} s" in output for delay in (0.01, 0.02, 0.04, 0.08, 0.16)] == [True] * 4 + [False]
    assert "After 5 crashes in a row it is not started again." in output


def test_a_long_run_between_crashes_starts_the_count_anew(supervised: Callable[..., Supervised]) -> None:
    one = supervised("SIGKILL " * 6 + "exit0", within=0.0, delay=0.001)
    assert one.end()[0] == 0
    assert len(one.starts()) == 7


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_is_passed_on_once_and_waited_for(supervised: Callable[..., Supervised], number: signal.Signals) -> None:
    one = supervised("serve")
    one.wait_for(lambda: "ready" in one.lines())
    one.process.send_signal(number)
    assert one.end() == (0, "")
    assert one.lines()[2:] == [number.name]


def test_a_server_that_does_not_stop_is_killed(supervised: Callable[..., Supervised]) -> None:
    one = supervised("stubborn", stop_grace=0.2)
    one.wait_for(lambda: "ready" in one.lines())
    one.process.terminate()
    status, output = one.end()
    assert status == 128 + signal.SIGKILL
    assert "Easel has not ended in 0.2 s and is killed." in output
    assert len(one.starts()) == 1


def test_a_stop_between_two_runs_ends_at_once(supervised: Callable[..., Supervised]) -> None:
    one = supervised("SIGKILL", delay=60.0, longest_delay=60.0)
    assert one.process.stdout is not None
    one.process.stdout.readline()
    one.process.terminate()
    assert one.end() == (0, "")
    assert len(one.starts()) == 1


def test_the_server_ends_when_its_supervisor_is_killed(supervised: Callable[..., Supervised]) -> None:
    one = supervised("serve")
    one.wait_for(lambda: "ready" in one.lines())
    one.process.kill()
    one.wait_for(lambda: "SIGTERM" in one.lines())
    one.wait_for(lambda: not running(int(one.starts()[0][1])))


def test_a_stubborn_server_ends_too_when_its_supervisor_is_killed(tmp_path: Path) -> None:
    code = (
        "import signal, time; from webui.process.supervision import watch_supervisor; "
        "signal.signal(signal.SIGTERM, signal.SIG_IGN); watch_supervisor(grace=0.1); time.sleep(60)"
    )
    environ = {**os.environ, "PYTHONPATH": str(ROOT), "EASEL_SUPERVISED": "1"}
    with subprocess.Popen([sys.executable, "-c", code], env=environ, stdin=subprocess.PIPE) as child:
        assert child.stdin is not None
        child.stdin.close()
        assert child.wait(timeout=60) == EXIT_FAILED_START


def running(pid: int) -> bool:
    """Whether a process is there that isn't a zombie."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    status = Path(f"/proc/{pid}/stat")
    return not (status.exists() and status.read_text().rpartition(")")[2].split()[0] == "Z")


def test_without_a_supervisor_nothing_happens(tmp_path: Path) -> None:
    assert not is_supervised({})
    assert restart_count({}) == 0
    announce_ready(7860, {})
    watch_supervisor(environ={})
    announce_ready(7861, {"EASEL_READY_FILE": str(tmp_path / "ready")})
    assert (tmp_path / "ready").read_text() == "7861"


@pytest.mark.parametrize(
    ("code", "out_of_memory", "cause"),
    [
        (-signal.SIGKILL, True, "it ran out of system memory and was killed (SIGKILL)"),
        (-signal.SIGKILL, False, "it was killed from outside (SIGKILL)"),
        (-signal.SIGILL, True, "it used an instruction that this CPU lacks (SIGILL)"),
        (-signal.SIGUSR1, False, "it was ended by a signal (SIGUSR1)"),
        (-200, False, "it was ended by a signal (signal 200)"),
        (0xC0000005, False, "it accessed memory that isn't its own (access violation) (0xC0000005)"),
        (7, True, "it ended with status 7"),
    ],
)
def test_cause_of_death(code: int, out_of_memory: bool, cause: str) -> None:
    assert cause_of_death(code, out_of_memory) == cause


def test_memory_kills_adds_up_what_the_kernel_counts(tmp_path: Path) -> None:
    vmstat, cgroup = tmp_path / "vmstat", tmp_path / "cgroup"
    assert memory_kills(vmstat, cgroup) == 0
    vmstat.write_text("nr_free_pages 12\noom_kill 3\nother 9\n")
    cgroup.write_text("0::/no-such-group\n")
    assert memory_kills(vmstat, cgroup) == 3
    assert memory_kills() >= 0
