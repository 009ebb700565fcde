"""What tests cost is counted wherever it is used."""

from __future__ import annotations

import subprocess
import sys
import time

import pytest

from tests.cost import MARK, Meter

BUSY = """
import sys, time
while time.process_time() < 0.3:
    pass
print(flush=True)
sys.stdin.read()
"""


@pytest.fixture(autouse=True)
def unmarked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(MARK, "")  # and as it was afterwards


def test_what_this_process_and_others_use_is_added_up() -> None:
    meter = Meter()
    try:
        until = time.process_time() + 0.3
        while time.process_time() < until:
            pass
        mine = meter.used()
        assert mine >= 0.25
        with subprocess.Popen(
            [sys.executable, "-c", BUSY], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        ) as busy:
            assert busy.stdout is not None
            busy.stdout.readline()
            assert meter.used() - mine >= 0.25
    finally:
        meter.stop()
