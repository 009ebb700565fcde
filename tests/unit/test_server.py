"""A program that is waited for and has ended is not waited for any longer."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

from tests.server import first_line

# What it starts outlives it and holds its output open, as Ray's daemons do.
LEAVES = "import subprocess; subprocess.Popen(['sleep', '60'])"


def test_a_program_that_ends_without_a_word_has_no_first_line() -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", LEAVES], stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        assert first_line(process, 50) == ""
    finally:
        os.killpg(process.pid, signal.SIGKILL)


def test_what_a_program_said_before_it_ended_is_its_first_line() -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", "print('ready at once'); print('and more')"],
        stdout=subprocess.PIPE,
        text=True,
    )
    process.wait(30)
    assert first_line(process) == "ready at once\n"
