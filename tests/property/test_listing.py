"""Comparisons of listings against sets, and listings that are sorted on disk against `sorted`."""

from __future__ import annotations

import random
from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from amber_ray.core.model.listing import Kind, Listed, Noted, Unsorted, compared, merged, overlaid
from amber_ray.store import runs as stored
from amber_ray.store.runs import Listing

URIS = st.text("ab/é𝄞", min_size=1, max_size=3)
TABLES = st.dictionaries(URIS, st.sampled_from("12"))
BY = st.dictionaries(URIS, st.tuples(st.sampled_from("12"), st.sampled_from("xy")))


def listed(table: Mapping[str, str]) -> list[Listed]:
    return [Listed(uri, signature, 0.0) for uri, signature in sorted(table.items())]


def noted(table: Mapping[str, tuple[str, str]]) -> list[Noted]:
    return [Noted(uri, signature, by, "asset") for uri, (signature, by) in sorted(table.items())]


@given(TABLES, BY)
def test_a_comparison_says_what_sets_say(now: dict[str, str], then: dict[str, tuple[str, str]]) -> None:
    found = list(compared(listed(now), noted(then), "x"))
    assert [change.uri for change in found] == sorted(now.keys() | then.keys())
    both = now.keys() & then.keys()
    moved = {uri for uri in both if now[uri] != then[uri][0]}
    expected = {
        Kind.NEW: now.keys() - then.keys(),
        Kind.GONE: then.keys() - now.keys(),
        Kind.CHANGED: moved,
        Kind.STALE: {uri for uri in both - moved if then[uri][1] != "x"},
        Kind.SAME: {uri for uri in both - moved if then[uri][1] == "x"},
    }
    for kind, uris in expected.items():
        assert {change.uri for change in found if change.kind is kind} == uris
    for change in found:
        assert (change.listed is not None) == (change.uri in now)
        assert (change.noted is not None) == (change.uri in then)


@given(st.lists(TABLES, max_size=5))
def test_merged_listings_are_one_sorted_listing(tables: list[dict[str, str]]) -> None:
    found = [row.uri for row in merged([listed(table) for table in tables])]
    assert found == sorted({uri for table in tables for uri in table})


@given(st.lists(st.dictionaries(URIS, st.none() | st.sampled_from("12")), max_size=5))
def test_of_several_notes_the_newest_counts(tables: list[dict[str, str | None]]) -> None:
    runs = [[Noted(u, s or "", "x", "asset" if s else "") for u, s in sorted(t.items())] for t in tables]
    newest: dict[str, str | None] = {}
    for table in tables:
        newest |= table
    assert {r.uri: r.signature for r in overlaid(runs)} == {u: s for u, s in newest.items() if s}
    assert [r.uri for r in overlaid(runs, tombstones=True)] == sorted(newest)


@pytest.mark.parametrize("uris", ["ba", "aa"])
def test_what_is_not_in_order_is_refused(uris: str) -> None:
    with pytest.raises(Unsorted):
        list(compared([Listed(uri, "1", 0.0) for uri in uris], [], "x"))
    with pytest.raises(Unsorted):
        list(compared([], [Noted(uri, "1", "x", "a") for uri in uris], "x"))


@pytest.mark.parametrize("order", ["sorted", "shuffled", "twice"])
def test_a_listing_is_sorted_on_disk(order: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stored, "CHUNK", 100)
    rows = [Listed(f"/films/{n:05}", str(n), float(n)) for n in range(2_345)]
    given = {"sorted": rows, "shuffled": random.Random(1).sample(rows, len(rows)), "twice": rows + rows}[
        order
    ]
    with Listing() as listing:
        listing.add(given)
        assert list(listing.rows()) == rows


def test_an_empty_listing_has_no_rows() -> None:
    with Listing() as listing:
        assert list(listing.rows()) == []
