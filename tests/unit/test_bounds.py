"""A run of tests ends, and says what failed while it still runs."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.bounds import FAILING, LONG, WHOLE, Patience, Telling

ROOT = Path(__file__).parents[2]

SHORT = """
from tests import bounds

bounds.GRACE = 1.0

def pytest_configure(config):
    bounds.register(config)
"""

# A deadlock in native code: no handler of a signal runs.
STUCK = """
import ctypes
import pytest

@pytest.mark.timeout(1)
def test_stuck():
    mutex = ctypes.create_string_buffer(256)
    ctypes.PyDLL(None).pthread_mutex_lock(mutex)
    ctypes.PyDLL(None).pthread_mutex_lock(mutex)
"""

FINE = """
def test_fine():
    pass
"""

# The interpreter waits for a thread that never ends.
THREAD = """
import threading

def test_fine():
    threading.Thread(target=threading.Event().wait).start()
"""


def ran(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """A run of the tests of a folder."""
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *words, "."],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )


@pytest.mark.parametrize("spread", [[], ["-n", "2"]], ids=["one-process", "two-processes"])
def test_native_code_that_never_returns_ends_its_process_alone(tmp_path: Path, spread: list[str]) -> None:
    (tmp_path / "pytest.ini").write_text("[pytest]\ntimeout = 30\n")
    (tmp_path / "conftest.py").write_text(SHORT)
    (tmp_path / "test_fine.py").write_text(FINE)
    (tmp_path / "test_stuck.py").write_text(STUCK)
    done = ran(tmp_path, *spread)
    told = done.stdout + done.stderr
    assert done.returncode, told
    assert "in test_stuck" in done.stderr, told  # where it was
    if spread:
        assert "FAILED test_stuck.py::test_stuck" in told, told
        assert "1 failed, 1 passed" in told, told


def test_a_process_that_does_not_end_after_its_tests_is_ended(tmp_path: Path) -> None:
    (tmp_path / "pytest.ini").write_text("[pytest]\ntimeout = 30\n")
    (tmp_path / "conftest.py").write_text(SHORT)
    (tmp_path / "test_thread.py").write_text(THREAD)
    done = ran(tmp_path)
    assert "1 passed" in done.stdout
    assert done.returncode, done.stderr
    assert "_shutdown" in done.stderr, done.stderr


def test_where_failures_took_long_the_rest_of_the_file_fails_at_once() -> None:
    now = [0.0]
    patience = Patience(clock=lambda: now[0])

    def tried(name: str, seconds: float, failed: bool) -> None:
        patience.pytest_runtest_logstart()
        patience.pytest_runtest_setup(SimpleNamespace(nodeid=name))
        now[0] += seconds
        for of_this_phase in (failed, False):
            patience.pytest_runtest_logreport(SimpleNamespace(failed=of_this_phase))
        patience.pytest_runtest_logfinish(name)

    tried("a.py::test_slow", 2 * FAILING, failed=False)
    tried("a.py::test_one", FAILING / 2, failed=True)
    tried("a.py::test_two", FAILING / 2, failed=True)
    with pytest.raises(pytest.fail.Exception, match=f"not tried.* took {FAILING:.0f} s already"):
        tried("a.py::test_three", 1.0, failed=False)
    tried("b.py::test_one", 1.0, failed=False)


def test_what_takes_long_is_told_once_in_a_while() -> None:
    said: list[str] = []
    now = [0.0]
    telling = Telling(said.append, clock=lambda: now[0], end=lambda: said.append("ended"))
    telling.pytest_runtest_logstart("tests/a.py::test_a")
    for now[0] in (0.0, LONG - 1, LONG, LONG + 5, 2 * LONG):
        assert not telling.look()
    telling.pytest_runtest_logfinish("tests/a.py::test_a")
    now[0] = 3 * LONG
    assert not telling.look()
    assert [line.rpartition(" after ")[2] for line in said] == [
        f"{LONG:.0f} s: tests/a.py::test_a",
        f"{2 * LONG:.0f} s: tests/a.py::test_a",
    ]


def test_a_run_that_takes_too_long_ends_itself_and_says_what_ran() -> None:
    said: list[str] = []
    now = [0.0]
    telling = Telling(said.append, clock=lambda: now[0], end=lambda: said.append("ended"))
    now[0] = WHOLE - 1
    telling.pytest_runtest_logstart("tests/a.py::test_a")
    assert not telling.look()
    now[0] = WHOLE
    assert telling.look()
    assert "80 minutes" in said[0]
    assert "tests/a.py::test_a" in said[0]
    assert said[1:] == ["ended"]


def test_a_failure_is_told_as_it_comes_in_one_line() -> None:
    said: list[str] = []
    telling = Telling(said.append)
    crash = SimpleNamespace(reprcrash=SimpleNamespace(message="AssertionError: no\nassert 1 == 2"))
    for failed in (False, True):
        telling.pytest_runtest_logreport(
            SimpleNamespace(failed=failed, nodeid="tests/a.py::test_a", when="call", longrepr=crash)
        )
    assert said == ["FAILED tests/a.py::test_a (call): AssertionError: no"]
