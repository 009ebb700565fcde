"""What a process that ran tests has started ends with it, however it ends.

One that was killed, or that ended itself since a test did not, cleans nothing up: a Ray of several nodes or
an `amber serve` would go on and use the CPUs that other tests need. So each such process starts this file as
a program that holds the other end of a pipe. When the pipe closes, it kills whatever has the process's mark
in its environment, wherever that was reparented to.
"""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
import sys
import time
from pathlib import Path

MARK = "AMBER_TEST_PROCESS"
SECONDS = 20.0
"""How long it is tried: what is being started meanwhile is found a little later."""

_HELD: list[subprocess.Popen[bytes]] = []


def watch() -> None:
    """From now on, what this process starts ends with it."""
    mark = secrets.token_hex(8)
    others = {name: value for name, value in os.environ.items() if name != MARK}
    os.environ[MARK] = mark
    _HELD.append(
        subprocess.Popen(
            [sys.executable, "-S", __file__, mark],
            stdin=subprocess.PIPE,  # this process alone has the other end
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=others,
            start_new_session=True,  # interrupts are not for it
        )
    )


def marked(mark: str) -> list[int]:
    """The processes that have the mark."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if f"{MARK}={mark}\0".encode() in (entry / "environ").read_bytes():
                found.append(int(entry.name))
        except OSError:
            continue  # it has ended meanwhile
    return found


def end(mark: str) -> None:
    """Kill them, and what they had started meanwhile."""
    until = time.monotonic() + SECONDS
    while (left := marked(mark)) and time.monotonic() < until:
        for pid in left:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        time.sleep(0.1)


if __name__ == "__main__":
    sys.stdin.buffer.read()
    end(sys.argv[1])
