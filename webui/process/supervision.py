"""How launch.py watches the server, and what the two agree on; standard library only.

launch.py starts the server with a pipe as its standard input and these environment variables:

    EASEL_SUPERVISED=1     somebody restarts this process when it crashes
    EASEL_READY_FILE=PATH  the server writes its port here once it answers; until then its death is a failed
                           start, which is not repeated
    EASEL_RESTARTS=N       how many crashes came before this start; 0 the first time
    EASEL_FAILED_START=... why the start before this one, which is in safe mode, failed ("it ended with status 1")

The pipe's other end lies in launch.py and nothing is ever written to it: its end of file means that launch.py is
gone, however it went, on every system alike.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from webui.core.flags import EXIT_BAD_FLAG

SUPERVISED = "EASEL_SUPERVISED"
READY_FILE = "EASEL_READY_FILE"
RESTARTS = "EASEL_RESTARTS"
FAILED_START = "EASEL_FAILED_START"
SAFE_MODE = "--safe-mode"

EXIT_FAILED_START = 3
"""The server can't start (port taken, folder not writable) and has said why: don't try again."""
EXIT_RESTART = 4
"""The server asks to be started anew, as "Reload UI" does; before it answers, too."""


# In the server


def is_supervised(environ: Mapping[str, str] = os.environ) -> bool:
    """Whether launch.py watches this process."""
    return environ.get(SUPERVISED) == "1"


def restart_count(environ: Mapping[str, str] = os.environ) -> int:
    """How many crashes or asked-for restarts came before this start; the browser is opened at 0 only."""
    count = environ.get(RESTARTS, "0")
    return int(count) if count.isdecimal() else 0


def announce_ready(port: int, environ: Mapping[str, str] = os.environ) -> None:
    """Tell launch.py that the server answers on `port`; it is given the same port after a crash.

    Does nothing when nobody supervises.
    """
    if environ.get(READY_FILE):
        Path(environ[READY_FILE]).write_text(str(port), encoding="ascii")


def watch_supervisor(grace: float = 10.0, environ: Mapping[str, str] = os.environ) -> None:
    """End this process when launch.py is gone: by SIGTERM, and after `grace` seconds at once.

    Call it before anything reads standard input. Does nothing when nobody supervises.
    """
    if is_supervised(environ):
        threading.Thread(target=_end_with_supervisor, args=(grace,), name="supervisor-watch", daemon=True).start()


def _end_with_supervisor(grace: float) -> None:
    # The bare descriptor: Python's own reader holds a lock that the interpreter wants when it ends.
    while os.read(0, 1):
        continue
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(grace)
    os._exit(EXIT_FAILED_START)


# In launch.py

WINDOWS_CAUSES = {
    0xC0000005: "it accessed memory that isn't its own (access violation)",
    0xC0000017: "it ran out of system memory",
    0xC000001D: "it used an instruction that this CPU lacks",
    0xC00000FD: "its stack overflowed",
    0xC000012D: "it ran out of system memory",
    0xC0000409: "it stopped itself after a fault in native code",
}
POSIX_CAUSES = {
    "SIGKILL": "it was killed from outside",
    "SIGSEGV": "it accessed memory that isn't its own",
    "SIGBUS": "a file in its memory was cut off (a model overwritten in place?), or the disk is full",
    "SIGILL": "it used an instruction that this CPU lacks",
    "SIGABRT": "it stopped itself after a fault in native code",
}
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)


def _say(sentence: str) -> None:
    print(sentence, flush=True)


def signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def memory_kills(vmstat: Path = Path("/proc/vmstat"), cgroup: Path = Path("/proc/self/cgroup")) -> int:
    """How many processes the kernel has killed for want of memory, as far as it tells (Linux), else 0."""
    group = re.search(r"^0::/?(.*)$", _read(cgroup), re.MULTILINE)
    counts = _read(vmstat) + (_read(Path("/sys/fs/cgroup") / group[1] / "memory.events") if group else "")
    return sum(map(int, re.findall(r"^oom_kill (\d+)$", counts, re.MULTILINE)))


def _read(path: Path) -> str:
    """The text of a file that only some systems have, else ""."""
    try:
        return path.read_text()
    except OSError:
        return ""


def cause_of_death(code: int, out_of_memory: bool) -> str:
    """Why a process ended, as "it ...".

    code: subprocess's: a signal's number below 0, a status, or Windows' NTSTATUS. out_of_memory: the kernel killed
    some process for want of memory meanwhile.
    """
    if code < 0:
        name = signal_name(-code)
        if name == "SIGKILL" and out_of_memory:
            return f"it ran out of system memory and was killed ({name})"
        return f"{POSIX_CAUSES.get(name, 'it was ended by a signal')} ({name})"
    if code & 0xFFFFFFFF in WINDOWS_CAUSES:
        return f"{WINDOWS_CAUSES[code & 0xFFFFFFFF]} (0x{code & 0xFFFFFFFF:08X})"
    return f"it ended with status {code}"


@dataclass(frozen=True)
class Ended:
    """How one run of the server ended. port: where it answered, or None when it never did."""

    code: int
    port: int | None
    out_of_memory: bool

    @property
    def was_stopped(self) -> bool:
        """A clean end, by itself or by SIGINT or SIGTERM."""
        return self.code == 0 or self.code in {-number for number in STOP_SIGNALS} | {128 + n for n in STOP_SIGNALS}

    @property
    def status(self) -> int:
        """The exit status that says the same."""
        return self.code if self.code >= 0 else 128 - self.code

    @property
    def cause(self) -> str:
        return cause_of_death(self.code, self.out_of_memory)


class Supervisor:
    """Runs the server and starts it again when it crashes, on the same port.

    A crash is any end of a server that had answered, except exit statuses 0 and EXIT_FAILED_START, SIGINT and
    SIGTERM. A start that fails before the server answers is tried once more with `retry_with`, further arguments.
    before_restart is called before a start that the server asked for. delay: seconds before the first restart,
    doubled for each further one up to longest_delay; a run longer than `within` seconds starts the count anew. After
    `crashes` in `within` seconds it gives up. stop_grace: seconds that a server has to end after SIGINT or SIGTERM.
    """

    def __init__(
        self,
        command: Sequence[str],
        folder: Path,
        environ: Mapping[str, str],
        *,
        retry_with: Sequence[str] = (),
        before_restart: Callable[[], None] = lambda: None,
        delay: float = 1.0,
        longest_delay: float = 30.0,
        crashes: int = 5,
        within: float = 120.0,
        stop_grace: float = 60.0,
    ) -> None:
        self.command, self.folder, self.environ = list(command), folder, environ
        self.retry_with, self.before_restart = list(retry_with), before_restart
        self.delay, self.longest_delay = delay, longest_delay
        self.crashes, self.within, self.stop_grace = crashes, within, stop_grace
        self.child: subprocess.Popen[bytes] | None = None
        self.stopping = threading.Event()

    def run(self) -> int:
        """Returns: the exit status for this process. Call it in the main thread: it handles signals."""
        before = {number: signal.signal(number, self._stop) for number in STOP_SIGNALS}
        try:
            with tempfile.TemporaryDirectory(prefix="easel-") as folder:
                return self._run(Path(folder) / "ready")
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _run(self, ready: Path) -> int:
        port: int | None = None
        restarts = 0
        failed = ""
        crashed_at: list[float] = []
        while True:
            started = time.monotonic()
            ended = self._run_once(ready, port, restarts, failed)
            if self.stopping.is_set():
                return 0 if ended.was_stopped else ended.status
            if ended.was_stopped or ended.code in (EXIT_BAD_FLAG, EXIT_FAILED_START):
                return ended.status
            if ended.code == EXIT_RESTART:
                restarts += ended.port is not None
                port, failed = ended.port or port, ""
                _say("Easel starts again, as it was asked to.")
                self.before_restart()
                continue
            if ended.port is None and self.retry_with and not failed:
                failed = ended.cause
                _say(f"Easel could not start: {failed}. It is tried once more with {' '.join(self.retry_with)}.")
                continue
            if ended.port is None and port is None:
                _say(f"Easel could not start: {ended.cause}.")
                return ended.status
            port = ended.port or port
            restarts += 1
            failed = ""
            now = time.monotonic()
            crashed_at = [*(crashed_at if now - started < self.within else ()), now]
            if len(crashed_at) >= self.crashes and now - crashed_at[-self.crashes] < self.within:
                _say(f"Easel stopped: {ended.cause}. After {self.crashes} crashes in a row it is not started again.")
                return ended.status
            delay = min(self.longest_delay, self.delay * 2 ** (len(crashed_at) - 1))
            _say(f"Easel stopped: {ended.cause}. It starts again in {delay:g} s.")
            if self.stopping.wait(delay):
                return 0

    def _run_once(self, ready: Path, port: int | None, restarts: int, failed: str) -> Ended:
        """Start the server, wait for its end.

        port: where to serve, None for where the flags say. failed: why the last start failed, "" if it didn't.
        """
        ready.unlink(missing_ok=True)
        kills = memory_kills()
        self.child = subprocess.Popen(
            [*self.command, *(["--port", str(port)] if port else []), *(self.retry_with if failed else [])],
            cwd=self.folder,
            env={
                "PYTHONUNBUFFERED": "1",
                **self.environ,
                SUPERVISED: "1",
                READY_FILE: str(ready),
                RESTARTS: str(restarts),
                FAILED_START: failed,
            },
            stdin=subprocess.PIPE,
            start_new_session=os.name != "nt",  # so that Ctrl+C reaches it once, from here
        )
        with self.child as child:
            if self.stopping.is_set():  # the signal came before there was a child
                child.terminate()
            # `wait` is what a signal interrupts; leaving the block closes the pipe.
            code = child.wait()
        try:
            served_on = int(ready.read_text(encoding="ascii"))
        except (OSError, ValueError):
            served_on = None
        return Ended(code, served_on, memory_kills() > kills)

    def _stop(self, number: int, frame: object) -> None:
        """Signal handler: pass the signal on; kill the server when it doesn't end in time."""
        first = not self.stopping.is_set()
        self.stopping.set()
        child = self.child
        if child is None:
            return
        if os.name != "nt":  # there Ctrl+C has reached it already
            child.send_signal(number)
        if first:
            timer = threading.Timer(self.stop_grace, self._kill)
            timer.daemon = True
            timer.start()

    def _kill(self) -> None:
        if self.child and self.child.poll() is None:
            _say(f"Easel has not ended in {self.stop_grace:g} s and is killed.")
            self.child.kill()
