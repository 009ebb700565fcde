"""A failure is told to each caller by that caller's own name for the media."""

from __future__ import annotations

import pytest

from amber_ray.core.model.naming import name_of, named, unnamed
from amber_ray.core.model.request import Failure
from amber_ray.core.model.units import Asset

MINE = Asset("a" * 32, "/one/mine 'best'.jpg", "image/jpeg", 10)
YOURS = Asset("a" * 32, "s3://films/yours.jpg", "image/jpeg", 10)
OTHER = Asset("b" * 32, "/one/other.jpg", "image/jpeg", 10)


def failure(message: str) -> Failure:
    return Failure("input", "MediaError", message, "probe", "k" * 32, MINE.id)


@pytest.mark.parametrize("text", [f"{name_of(MINE.uri)!r} is damaged", f"can't open {MINE.uri}: why"])
def test_the_reader_sees_the_readers_name(text: str) -> None:
    kept = failure(unnamed(text, [MINE]))
    assert "mine" not in kept.message
    assert kept.told([MINE]).message == text
    assert kept.told([YOURS]).message in ("'yours.jpg' is damaged", "can't open s3://films/yours.jpg: why")


def test_who_names_no_asset_sees_no_name() -> None:
    kept = failure(unnamed(f"{name_of(MINE.uri)!r} is damaged", [MINE]))
    assert kept.told().message == kept.told([OTHER]).message == "the media is damaged"


def test_each_asset_of_a_collection_keeps_its_own_name() -> None:
    text = f"{name_of(MINE.uri)!r} and {name_of(OTHER.uri)!r} differ"
    assert named(unnamed(text, [MINE, OTHER]), {OTHER.id: "/two/c.jpg"}) == "the media and 'c.jpg' differ"


def test_a_text_without_names_is_told_as_it_is() -> None:
    plain = failure("no media here")
    assert plain.told([MINE]) is plain
