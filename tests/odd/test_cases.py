"""Every file of `cases.json` has the values that it says, or is refused where it says so, for the true reason."""

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
        asset = register(path)
    except (MediaError, TooLarge) as error:
        assert "or" in expected, error
        assert not UNTRUE.search(str(error)), error
        return
    assert complaints(asset, expected) == []


def test_each_file_has_a_case() -> None:
    assert {case["file"] for case in CASES} == {path.name for path in (HERE / "files").iterdir()}
