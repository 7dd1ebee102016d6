"""Regular expressions typed by users, applied without letting a bad one stop the worker."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence

from webui.core.errors import InvalidRequest

SECONDS = 10
"""An honest pattern needs milliseconds; one with nested repetitions may need years."""

PROGRAM = """
import json, re, sys
pattern, names = json.load(sys.stdin)
try:
    wanted = re.compile(pattern)
except (re.error, RecursionError, OverflowError) as error:
    print(json.dumps(str(error)))
else:
    print(json.dumps([name for name in names if wanted.search(name)]))
"""


def discarded(pattern: str, names: Sequence[str]) -> frozenset[str]:
    """The names in which the pattern is found. It runs in a process of its own, which ends after ten seconds.

    Raises: InvalidRequest when the pattern is broken or takes too long.
    """
    try:
        done = subprocess.run(
            [sys.executable, "-I", "-S", "-c", PROGRAM],
            input=json.dumps([pattern, list(names)]),
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=True,
        )
    except (subprocess.TimeoutExpired, subprocess.CalledProcessError) as error:
        raise InvalidRequest(
            f'The pattern "{pattern[:100]}" takes too long to look for; write a plainer one.'
        ) from error
    found = json.loads(done.stdout)
    if isinstance(found, str):
        raise InvalidRequest(f'"{pattern[:100]}" is not a regular expression: {found[:100]}.')
    return frozenset(found)
