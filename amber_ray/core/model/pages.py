"""Pages of what there is: how many items a page may have, where the next one begins, which assets are meant.

A cursor holds the place of the last item that was told, not a number of items. So pages fit together while
items are added and removed: each that was there all the time is told once. A cursor is opaque to callers, and
nothing is kept for it anywhere. It says nothing of filters: the next page is asked for with the same ones.

A page may have fewer items than were asked for, or none, and be followed by others: only so much is looked
through for one page. The last page is the one without a cursor.

Must not know: stores, HTTP.
"""

from __future__ import annotations

import base64
import heapq
import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

from amber_ray.core.model.units import Asset
from amber_ray.errors import BadRequest

T = TypeVar("T")

USUAL, MOST = 100, 1000
"""Items of a page: as many as nobody asked for, and the most."""
OF_TENANTS = "of/"
"""The folder under that of uploads that has one for each tenant."""
KINDS = ("video", "audio", "image")


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """Some items in order; `cursor` asks for those after them, and is None where there are no more."""

    items: tuple[T, ...] = ()
    cursor: str | None = None

    def __iter__(self) -> Iterator[T]:
        return iter(self.items)

    def __len__(self) -> int:
        return len(self.items)


@dataclass(frozen=True, slots=True)
class AssetFilter:
    """Which assets are meant: those of which all that is given is true.

    - `prefix`: the beginning of the place, as `Asset.uri` has it;
    - `kind`: `video`, `audio` or `image`;
    - `min_duration`, `max_duration`: seconds, both included; a still image has none, so it fits neither;
    - `uploads`: False leaves out what callers sent as bytes;
    - `tenant`: of that, only what was sent for this tenant; over HTTP it is the token's.
    """

    prefix: str = ""
    kind: str | None = None
    min_duration: float | None = None
    max_duration: float | None = None
    uploads: bool = True
    tenant: str | None = None

    def shows(self, uri: str, uploads: str) -> bool:
        """Whether a place may be told, as far as it is an upload's; `uploads`: what those begin with."""
        if not uploads or not uri.startswith(uploads):
            return True
        its = self.tenant is None or uri.startswith(f"{uploads}{uploads_of(self.tenant)}")
        return self.uploads and its

    def fits(self, kind: str, duration: float | None) -> bool:
        """Whether an asset of this kind and duration is meant, wherever it is."""
        if self.kind not in (None, kind):
            return False
        if self.min_duration is None and self.max_duration is None:
            return True
        low, high = self.min_duration or 0.0, self.max_duration
        return duration is not None and low <= duration <= (math.inf if high is None else high)


EVERY_ASSET = AssetFilter()


def uploads_of(tenant: str) -> str:
    """Return the folder of a tenant's uploads, under that of all; empty for what is nobody's."""
    return f"{OF_TENANTS}{tenant}/" if tenant else ""


def checked_limit(limit: int) -> int:
    """Return how many items a page may have. Raises `BadRequest` for a number that no page may have."""
    if not 1 <= limit <= MOST:
        raise BadRequest(f"limit must be from 1 to {MOST:,}, not {limit}")
    return limit


def checked_filter(only: AssetFilter) -> AssetFilter:
    """Return a filter. Raises `BadRequest` for a kind that there is not and for a duration that is none."""
    if only.kind not in (None, *KINDS):
        raise BadRequest(f"kind must be {', '.join(KINDS[:-1])} or {KINDS[-1]}, not {only.kind!r}")
    for name in ("min_duration", "max_duration"):
        seconds = getattr(only, name)
        if seconds is not None and not 0 <= seconds < math.inf:
            raise BadRequest(f"{name} must be seconds from 0, not {seconds}")
    return only


def write_cursor(of: str, *place: Any) -> str:
    """Return the cursor of a listing that goes on after a place, which is JSON-able."""
    data = json.dumps([of, *place], separators=(",", ":")).encode()
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def read_cursor(of: str, cursor: str | None, *types: type) -> tuple[Any, ...] | None:
    """Return the place that `write_cursor` was given, None without a cursor.

    Raises `BadRequest` for a cursor of another listing, and for a text that is none.
    """
    if not cursor:
        return None
    try:
        data = json.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
        name, *place = data
        if name == of and [type(one) for one in place] == list(types):
            return tuple(place)
    except (ValueError, TypeError):
        pass  # no base64, no JSON, no list
    raise BadRequest(f"cursor {cursor[:64]!r} is none of a page of {of}; leave it out to begin anew")


def page_of(
    rows: Iterable[T], limit: int, place: Callable[[T], tuple[Any, ...]], of: str, more: bool = False
) -> Page[T]:
    """Return the first rows as a page. `rows` are in order, after the place where this page begins.

    `more`: there are others after all that were given.
    """
    found: list[T] = []
    for row in rows:
        if len(found) == limit:
            return Page(tuple(found), write_cursor(of, *place(found[-1])))
        found.append(row)
    return Page(tuple(found), write_cursor(of, *place(found[-1])) if more and found else None)


# --- what several places tell of


class Placed(Protocol):
    """Something that has a place in a listing, by which it is compared: JSON-able."""

    @property
    def place(self) -> tuple[Any, ...]:
        """The place."""
        ...


P = TypeVar("P", bound=Placed)


@dataclass(frozen=True, slots=True)
class Told(Generic[P]):
    """What one place tells of, in order, up to the place `end`; None: there is nothing else."""

    values: tuple[P, ...] = ()
    end: tuple[Any, ...] | None = None


def first(values: Iterable[P], after: tuple[Any, ...] | None, most: int) -> Told[P]:
    """Tell of the first after a place, which are given in no order."""
    its = heapq.nsmallest(most + 1, (v for v in values if after is None or v.place > after), key=_place)
    return Told(tuple(its[:most]), its[most - 1].place if len(its) > most else None)


def together(several: Iterable[Told[P]], merged: Callable[[Iterable[P]], Mapping[str, P]]) -> Told[P]:
    """Return what several places tell as one: in order, as far as all of them have told.

    `merged` makes one of those that several places know.
    """
    several = list(several)
    end = min((told.end for told in several if told.end is not None), default=None)
    every = merged(value for told in several for value in told.values).values()
    return Told(tuple(sorted((v for v in every if end is None or v.place <= end), key=_place)), end)


def told_page(told: Told[P], limit: int, of: str) -> Page[P]:
    """Return the first as a page; what `told` does not reach is on the pages after it."""
    its = told.values[:limit]
    end = its[-1].place if len(told.values) > limit else told.end
    return Page(its, None if end is None else write_cursor(of, *end))


def _place(value: Placed) -> tuple[Any, ...]:
    return value.place


# --- assets in memory


ASSETS = "assets"
"""What cursors of listings of assets say that they are of."""


def list_assets(
    places: Iterable[Asset], only: AssetFilter, limit: int, cursor: str | None, uploads: str = ""
) -> Page[Asset]:
    """Return a page of assets that are all in memory, one for each place.

    `uploads` is what the places of uploads begin with; empty if there are none.
    """
    checked_limit(limit), checked_filter(only)
    after = read_cursor(ASSETS, cursor, str)
    rows = sorted((one for one in places if after is None or one.uri > after[0]), key=lambda one: one.uri)
    fit = (
        one
        for one in rows
        if one.uri.startswith(only.prefix)
        and only.fits(one.kind, one.duration)
        and only.shows(one.uri, uploads)
    )
    return page_of(fit, limit, lambda one: (one.uri,), ASSETS)
