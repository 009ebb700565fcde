"""Files of `cases.json` have the values said there, or are refused where they may be, for a true reason."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from amber_ray.errors import MediaError, TooLarge
from tests.odd.judge import UNTRUE, complaints, register

HERE = Path(__file__).parent
CASES: list[dict[str, Any]] = json.loads((HERE / "cases.json").read_text())["files"]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["file"])
def test_a_file_is_answered_as_it_should_be(case: dict[str, Any], tmp_path: Path) -> None:
    path = Path(shutil.copy(HERE / "files" / case["file"], tmp_path))
    expected = case["expected"]
    if isinstance(expected, str):
        with pytest.raises(MediaError, match=expected.removeprefix("refused: it ")):
            register(path)
        return
    try:
        found = complaints(register(path), expected)
    except (MediaError, TooLarge) as error:
        found = [str(error)] if "or" not in expected or UNTRUE.search(str(error)) else []
    assert found == []


def test_each_file_has_a_case() -> None:
    assert {case["file"] for case in CASES} == {path.name for path in (HERE / "files").iterdir()}
