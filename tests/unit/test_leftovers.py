"""What a process of tests has started ends with it, also where it had no time to clean up."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parents[2]

# What it starts is in a session of its own and reparented, as daemons are, and keeps no pipe open.
KILLED = """
import os, signal, subprocess, sys
from tests import leftovers

leftovers.watch()
sleeps = "import subprocess; print(subprocess.Popen(['sleep', '600'], stdout=subprocess.DEVNULL).pid)"
started = subprocess.run([sys.executable, "-c", sleeps], stdout=subprocess.PIPE, start_new_session=True)
print(started.stdout.decode(), end="", flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_nothing_is_left_of_a_process_that_was_killed() -> None:
    killed = subprocess.run(
        [sys.executable, "-c", KILLED],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        text=True,
        timeout=60,
        check=False,
    )
    left = Path("/proc", killed.stdout.strip())
    assert left.name.isdigit()
    give_up = time.monotonic() + 30
    while left.exists():
        assert time.monotonic() < give_up
        time.sleep(0.02)
