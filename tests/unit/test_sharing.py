"""How processes share tests: what is named are tests that there are, and none is lost with a process."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.sharing import EACH_BY_ITSELF, FIRST, TOGETHER, leaves, place, share

ROOT = Path(__file__).parents[2]


def test_every_beginning_is_that_of_some_tests() -> None:
    for beginning in (*EACH_BY_ITSELF, *FIRST, *TOGETHER):
        path, _, name = beginning.partition("::")
        assert (ROOT / path).exists(), path
        assert f"def {name}" in (ROOT / path).read_text() if name else True, beginning


def test_a_file_stays_together_unless_its_tests_share_nothing() -> None:
    assert share("tests/unit/a.py::test_b[1]") == share("tests/unit/a.py::test_c") == "tests/unit/a.py"
    one, other = (f"tests/integration/test_cli.py::test_{name}" for name in "ab")
    assert (share(one), share(other)) == (one, other)


def test_the_browsers_tests_stay_in_one_process() -> None:
    assert share("tests/browser/test_a.py::test_b") == share("tests/browser/test_c.py::test_d")


def test_what_takes_long_begins_first() -> None:
    names = [
        "tests/unit/a.py::test_b",
        "tests/fault/a.py::test_b",
        "tests/integration/test_benchmarks.py::test_b",
    ]
    assert sorted(names, key=place) == names[::-1]


def test_what_a_folders_tests_share_ends_with_the_last_of_them() -> None:
    def of(path: str) -> Any:
        return SimpleNamespace(path=ROOT / path)

    one = of("tests/fault/test_a.py")
    assert not leaves(one, of("tests/fault/test_a.py"))
    assert not leaves(one, of("tests/fault/test_b.py"))
    assert leaves(one, of("tests/integration/test_a.py"))
    assert leaves(one, None)


SHARED = """
from tests import sharing

sharing.EACH_BY_ITSELF = ("test_",)

def pytest_xdist_make_scheduler(config, log):
    return sharing.Sharing(config, log)
"""

# The first one ends its process; the second one holds the other process until that was replaced and has begun
# one more, while some are left for both.
ENDS = """
import os, time
from pathlib import Path
import pytest

RUNS = Path(__file__).parent / "runs"

def begun():
    return [line.split() for line in RUNS.read_text().splitlines()]

@pytest.mark.parametrize("number", range(9))
def test_one(number):
    with open(RUNS, "a") as file:
        file.write(f"{number} {os.getpid()}\\n")
    if number == FATAL:
        os._exit(1)
    if number == HOLDS:
        until = time.monotonic() + 30
        while len({pid for _, pid in begun()}) < 3:
            assert time.monotonic() < until, begun()
            time.sleep(0.01)
"""


@pytest.mark.parametrize(("fatal", "holds"), [(0, 1), (8, -1)])
def test_a_process_that_ends_is_replaced_and_each_test_begins_once(
    tmp_path: Path, fatal: int, holds: int
) -> None:
    (tmp_path / "pytest.ini").write_text("[pytest]\ntimeout = 40\n")
    (tmp_path / "conftest.py").write_text(SHARED)
    (tmp_path / "test_ends.py").write_text(ENDS.replace("FATAL", str(fatal)).replace("HOLDS", str(holds)))
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-n", "2", "."],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert "1 failed, 8 passed" in done.stdout, done.stdout + done.stderr
    assert f"FAILED test_ends.py::test_one[{fatal}]" in done.stdout, done.stdout
    runs = [line.split()[0] for line in (tmp_path / "runs").read_text().splitlines()]
    assert sorted(runs) == [str(n) for n in range(9)]
