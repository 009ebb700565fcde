"""What JSON said becomes again what the feature returned, or is fetched; never another value."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from jaxtyping import UInt64

from amber_ray.core.model.request import MISSING
from amber_ray.core.model.service import FeatureInfo
from amber_ray.core.values.annotations import parse
from amber_ray.wire.inline import Decoder

HASHES = UInt64[np.ndarray, "t"]
EDGES = [0, 2**53 - 1, 2**53, 2**53 + 1, 2**63, 2**64 - 1]


def carried(annotation: Any, value: Any) -> Any:
    """The value after it went through JSON."""
    type = parse(annotation)
    decoder = Decoder()
    decoder.learn([FeatureInfo("f", "1", "asset", (), {}, type.spec(), {}, "parquet", "", True, "", False)])
    return decoder("f", json.loads(json.dumps(type.to_json(value))))


@pytest.mark.parametrize("value", [*EDGES[:4], 2**63 - 1, -(2**53), -(2**63)])
def test_a_whole_number_comes_back_as_it_was(value: int) -> None:
    got = carried(int, value)
    assert (type(got), got) == (int, value)


def test_hashes_come_back_as_they_were() -> None:
    value = np.array(EDGES, np.uint64)
    got = carried(HASHES, value)
    assert got.dtype == np.uint64
    assert got.tolist() == EDGES


@pytest.mark.parametrize("value", [{"hash": 2**60}, {"a": [-(2**53)]}, {"id": "9007199254740993"}])
def test_of_json_it_is_not_known_whether_digits_were_a_number(value: Any) -> None:
    assert carried(dict[str, object], value) is MISSING


def test_other_digits_are_text() -> None:
    assert carried(str, "9007199254740993") == "9007199254740993"
    assert carried(dict[str, object], {"id": "0123456789012345678", "n": 2**53 - 1}) == {
        "id": "0123456789012345678",
        "n": 2**53 - 1,
    }
