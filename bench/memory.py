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
        line = next(line for line in STATUS.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) * 1024
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def memory() -> int:
    """Bytes in memory now."""
    return int(psutil.Process().memory_info().rss)


def reset_peak_memory() -> None:
    """Forget what was taken before; only Linux can."""
    if CLEAR.exists():
        CLEAR.write_text("5")
