"""What a demand has noted of its media, compared with what is listed now: new, changed, stale, gone, same.

Both sides come as streams that are sorted by URI, so a comparison holds one row of each in memory:

    listed   a  b' c     e          what is there now, each with a signature of its bytes
    noted       b  c  d  e          what the demand was true of, each with what it was true by
    changes  a new, b changed, d gone; c and e the same, or stale where `by` is another than today's

A signature is only ever compared with an earlier one of the same place. Must not know: where media are, how
anything is kept.
"""

from __future__ import annotations

import enum
import heapq
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple, TypeVar


class Listed(NamedTuple):
    """A place where there is media. `changed`: when it did last, in Unix seconds; 0 if nobody tells."""

    uri: str
    signature: str
    changed: float


class Noted(NamedTuple):
    """That a demand was true of a place: at this signature, `by` a digest of what was asked, of this asset.

    Without an asset it is a tombstone: the place is gone, and older notes of it do not count.
    """

    uri: str
    signature: str
    by: str
    asset: str


class Kind(enum.StrEnum):
    """How a place compares with what was noted of it."""

    SAME = "same"
    NEW = "new"
    CHANGED = "changed"
    STALE = "stale"
    """The bytes are the same, and something else is asked of them than was."""
    GONE = "gone"


class Change(NamedTuple):
    """One place of a comparison. `listed` is None for one that is gone, `noted` for one that is new."""

    kind: Kind
    uri: str
    listed: Listed | None
    noted: Noted | None


class Unsorted(ValueError):
    """A stream that should be sorted by URI, each once, is not."""


def compared(listed: Iterable[Listed], noted: Iterable[Noted], by: str) -> Iterator[Change]:
    """Every place of either stream, in order. Raises `Unsorted` where one of them is not sorted."""
    there, known = _in_order(listed), _in_order(noted)
    now, then = next(there, None), next(known, None)
    while now is not None or then is not None:
        if then is None or (now is not None and now.uri < then.uri):
            assert now is not None
            yield Change(Kind.NEW, now.uri, now, None)
            now = next(there, None)
        elif now is None or then.uri < now.uri:
            yield Change(Kind.GONE, then.uri, None, then)
            then = next(known, None)
        else:
            yield Change(_kind(now, then, by), now.uri, now, then)
            now, then = next(there, None), next(known, None)


class Comparison:
    """A comparison that is gone through piece by piece. `same` and `listed` count what was passed so far."""

    def __init__(self, listed: Iterable[Listed], noted: Iterable[Noted], by: str) -> None:
        self._changes = compared(listed, noted, by)
        self.same = self.listed = 0

    def next(self, most: int) -> list[Change]:
        """The next changes, none that is the same; fewer than `most` only at the end. Raises `Unsorted`."""
        found: list[Change] = []
        while len(found) < most and (change := next(self._changes, None)) is not None:
            self.listed += change.listed is not None
            if change.kind is Kind.SAME:
                self.same += 1
            else:
                found.append(change)
        return found


def _kind(now: Listed, then: Noted, by: str) -> Kind:
    if now.signature != then.signature:
        return Kind.CHANGED
    return Kind.SAME if then.by == by else Kind.STALE


Row = TypeVar("Row", Listed, Noted)


def _in_order(rows: Iterable[Row]) -> Iterator[Row]:
    before = ""
    for row in rows:
        if row.uri <= before:
            raise Unsorted(f"{row.uri!r} comes after {before!r}")
        before = row.uri
        yield row


def merged(runs: Sequence[Iterable[Listed]]) -> Iterator[Listed]:
    """One sorted stream of several; a place that several have comes once."""
    before = ""
    for row in heapq.merge(*runs):
        if row.uri != before:
            before = row.uri
            yield row


def overlaid(runs: Sequence[Iterable[Noted]], *, tombstones: bool = False) -> Iterator[Noted]:
    """One sorted stream of several, oldest first: the newest note of each place, tombstones only if asked."""
    numbered = [_numbered(run, -age) for age, run in enumerate(runs)]
    before = ""
    for uri, _, row in heapq.merge(*numbered):
        if uri != before:
            before = uri
            if row.asset or tombstones:
                yield row


def _numbered(run: Iterable[Noted], rank: int) -> Iterator[tuple[str, int, Noted]]:
    for row in run:
        yield row.uri, rank, row
