"""Files of `cases.json` have the values said there, or are refused where they may be, for a true reason."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from amber_ray.errors import MediaError, TooLarge
from tests.odd.judge import UNTRUE, complaints, register
from tests.odd.made import MADE

HERE = Path(__file__).parent
CASES: list[dict[str, Any]] = json.loads((HERE / "cases.json").read_text())["files"]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["file"])
def test_a_file_is_answered_as_it_should_be(case: dict[str, Any], tmp_path: Path) -> None:
    check(Path(shutil.copy(HERE / "files" / case["file"], tmp_path)), case["expected"])


@pytest.mark.parametrize("name", MADE)
def test_a_file_of_our_own_is_answered_as_it_should_be(
    name: str, made: Callable[[str], Path], tmp_path: Path
) -> None:
    check(Path(shutil.copy(made(name), tmp_path)), MADE[name][1])


def check(path: Path, expected: dict[str, Any] | str) -> None:
    """Hold the answers for a file to what is expected."""
    if isinstance(expected, str):
        with pytest.raises(MediaError, match=re.escape(expected.removeprefix("refused: it "))):
            register(path)
        return
    try:
        found = complaints(register(path), expected)
    except (MediaError, TooLarge) as error:
        found = [str(error)] if "or" not in expected or UNTRUE.search(str(error)) else []
    assert found == []


def test_each_file_has_a_case() -> None:
    assert {case["file"] for case in CASES} == {path.name for path in (HERE / "files").iterdir()}
