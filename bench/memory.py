"""How much memory this process takes."""

from __future__ import annotations

import sys
from pathlib import Path

import psutil

STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def peak_memory() -> int:
    """Bytes in memory at most, mapped files included: since `reset_peak_memory` on Linux, elsewhere since the start."""
    if sys.platform == "win32":
        return int(psutil.Process().memory_info().peak_wset)
    if STATUS.exists():
        return _told("VmHWM")
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def memory() -> int:
    """Bytes in memory now, without mapped files where that is known (on Linux): those are the disk's cache."""
    return int(psutil.Process().memory_info().rss) - _mapped()


def peak_of_its_own() -> int:
    """As `peak_memory`, without the files that are mapped now."""
    return peak_memory() - _mapped()


def _mapped() -> int:
    return _told("RssFile") if STATUS.exists() else 0


def _told(name: str) -> int:
    line = next(line for line in STATUS.read_text().splitlines() if line.startswith(f"{name}:"))
    return int(line.split()[1]) * 1024


def reset_peak_memory() -> None:
    """Forget what was taken before; only Linux can."""
    if CLEAR.exists():
        CLEAR.write_text("5")
