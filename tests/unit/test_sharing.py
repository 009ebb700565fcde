"""How tests are shared between processes names tests that there are."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

from tests.sharing import EACH_BY_ITSELF, FIRST, leaves, place, share

ROOT = Path(__file__).parents[2]


def test_every_beginning_is_that_of_some_tests() -> None:
    for beginning in (*EACH_BY_ITSELF, *FIRST):
        path, _, name = beginning.partition("::")
        assert (ROOT / path).exists(), path
        assert f"def {name}" in (ROOT / path).read_text() if name else True, beginning


def test_a_file_stays_together_unless_its_tests_share_nothing() -> None:
    assert share("tests/unit/a.py::test_b[1]") == share("tests/unit/a.py::test_c") == "tests/unit/a.py"
    one, other = (f"tests/integration/test_cli.py::test_{name}" for name in "ab")
    assert (share(one), share(other)) == (one, other)


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
