"""`Results`: the answers of one request, under the names that its caller used.

A mapping from (feature, asset as named) to a value or a `Failure`. A feature per segment, or per what another
one finds, has the list of its windows' values in order (`windowed`); a feature per collection has the key
(feature, None).
`rows` has one line for each computed unit, for tables and files. Results are matched with names by id and
place, never by their order.
Must not know: how values were fetched.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from amber_ray.client.names import AssetLike, FeatureLike, asset_name, feature_name, place_of
from amber_ray.client.params import Params, ParamSet
from amber_ray.client.pictures import is_picture, pictured
from amber_ray.client.row import Row
from amber_ray.client.windowed import WindowedValues
from amber_ray.core.model.request import (
    MISSING,
    AssetRef,
    Failure,
    RequestState,
    RequestView,
    Result,
)
from amber_ray.core.model.units import Asset, Collection, EachRange, Segment, Unit
from amber_ray.core.values.annotations import ValueType
from amber_ray.errors import AmberError, MediaChanged, did_you_mean
from amber_ray.wire.problems import error_of_failure

if TYPE_CHECKING:
    import pandas
    import polars
    import pyarrow

Key = tuple[Any, ...]
"""(feature, asset as named), and the `ParamSet` as a third, where several sets of them were asked for."""
Asked = tuple[FeatureLike, AssetLike | None] | tuple[FeatureLike, AssetLike | None, Params]
"""A key as callers write it."""
RESOLVED_AT_ONCE = 16
"""Assets that the service is asked about at a time, where only their ids tell them apart."""


class Results(Mapping[Key, Any]):
    """Values and failures by (feature, asset), assets in the order asked for, then features.

    `results["thumbnail", "a.mp4"]` takes what the request took: paths, ids and assets, names and functions.
    An asset is also found by its id and by the place where the service read it. Where several sets of
    parameters were asked for, a key has its set as well:
    `results["embedding", "a.mp4", {"embedding.size": 224}]`.

    A list of values per segment, or per what another feature finds, also has the windows:
    `results["caption", "a.mp4"].items()` yields (window, value).

    `to_pandas`, `to_polars` and `to_arrow` give one table with a line for each unit and a column for each
    feature; in a notebook a table is shown with its pictures.
    """

    def __init__(self, rows: Sequence[Row], id: str = "", state: RequestState = "done") -> None:
        """`rows` in the order they are to be shown; `id` and `state` are the request's."""
        self.id = id
        self.state: RequestState = state
        self.rows = tuple(rows)
        self._entries: dict[Key, Any] = {}
        self._types: Mapping[str, ValueType] = {}
        for row in self.rows:
            self._add(row)

    def _add(self, row: Row) -> None:
        """Add a row to its entry: a segment's value to a list. The first failure replaces the entry."""
        key: Key = (row.feature, row.asset)
        if row.params is not None:
            key = (row.feature, row.asset, row.params)
        known = self._entries.get(key, MISSING)
        if isinstance(known, Failure):
            return
        if row.failure is not None:
            self._entries[key] = row.failure
        elif isinstance(row.unit, Segment):
            if known is MISSING:
                known = self._entries[key] = WindowedValues()
            known.add(row.unit, row.value)
        else:
            self._entries[key] = WindowedValues() if row.nothing_found else row.value

    def __getitem__(self, key: Asked) -> Any:
        feature, asset = feature_name(key[0]), None if key[1] is None else asset_name(key[1])
        params = ParamSet(key[2]) if len(key) > 2 else None

        def entry(name: str | None) -> Key:
            return (feature, name) if params is None else (feature, name, params)

        found = entry(asset)
        if found not in self._entries and asset is not None:
            found = entry(self._also.get(asset) or self._also.get(place_of(asset)) or asset)
        if found not in self._entries:
            raise KeyError(self._why_not(feature, asset, params))
        return self._entries[found]

    def _why_not(self, feature: str, asset: str | None, params: ParamSet | None) -> str:
        """Say what of a key is not in the table."""
        features = list(dict.fromkeys(row.feature for row in self.rows))
        sets = list(dict.fromkeys(row.params for row in self.rows if row.params is not None))
        if feature not in features:
            near = did_you_mean(feature, features, f"there are {', '.join(features) or 'none'}")
            return f"no feature {feature!r} was asked for; {near}"
        if sets and params not in sets:
            such = f"results[{feature!r}, {asset!r}, {sets[0]!r}]"
            return f"there are {len(sets)} sets of parameters; say which, as in {such}"
        if params is not None and not sets:
            return "one set of parameters was asked for; leave it out of the key"
        near = did_you_mean(asset or "", {row.asset for row in self.rows if row.asset})
        return f"no asset {asset!r} was asked for" + (f"; {near}" if near else "")

    @functools.cached_property
    def _also(self) -> dict[str, str | None]:
        """Map ids and places of assets to their names in this table; a place of several assets to None."""
        names: dict[str, str] = {}
        ids: dict[str, set[str]] = {}
        for row in self.rows:
            asset = None if row.unit is None else asset_of(row.unit)
            if asset is not None and row.asset is not None:
                names.setdefault(asset.id, row.asset)
                if asset.uri:
                    ids.setdefault(place_of(asset.uri), set()).add(asset.id)
        return {place: names[min(of)] if len(of) == 1 else None for place, of in ids.items()} | names

    def __iter__(self) -> Iterator[Key]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def __repr__(self) -> str:
        return f"<Results {self._summary()}>"

    def _repr_html_(self) -> str:
        """Return the table as notebooks show it."""
        from amber_ray.client.display import table_html

        return table_html(self.rows, self._summary())

    def _summary(self) -> str:
        bad = len(self.failures)
        return f"{len(self) - bad} ready, {bad} failed, request {self.id or 'none'}"

    def to_arrow(self) -> pyarrow.Table:
        """Return a `pyarrow.Table`: a row for each unit, a column for each feature (`client.tables`).

        Columns have the types that the store's Parquet files have, so nested values stay nested. A unit
        without a value has null there, and the column `error` says why.
        """
        from amber_ray.client.tables import to_arrow

        return to_arrow(self.rows, self._types)

    def to_pandas(self) -> pandas.DataFrame:
        """Return a `pandas.DataFrame` with the rows and columns of `to_arrow`.

        Numbers, booleans and text are columns of their own kind, anything else is as `results[...]` gives
        it: arrays are numpy arrays, pictures bytes. Raises `Unavailable` if pandas is not installed.
        """
        from amber_ray.client.tables import to_pandas

        return to_pandas(self.rows, self._types)

    def to_polars(self) -> polars.DataFrame:
        """Return a `polars.DataFrame` of `to_arrow`. Raises `Unavailable` if polars is not installed."""
        from amber_ray.client.tables import to_polars

        return to_polars(self.rows, self._types)

    def under(self, params: ParamSet) -> Results:
        """Return the same table as what one set of parameters gave."""
        return Results([row._replace(params=params) for row in self.rows], self.id, self.state)

    def typed(self, types: Mapping[str, ValueType]) -> Self:
        """Learn the types that the features declare, for the tables; pictures become `Picture`s."""
        self._types = types
        pictures = {name for name, type in types.items() if is_picture(type)}
        if any(row.feature in pictures for row in self.rows):
            self.rows = tuple(
                r._replace(value=pictured(types[r.feature], r.value)) if r.feature in pictures else r
                for r in self.rows
            )
            self._entries = {}
            for row in self.rows:
                self._add(row)
        return self

    @property
    def ready(self) -> dict[Key, Any]:
        """Return the entries that have a value, in order."""
        return {k: v for k, v in self._entries.items() if not isinstance(v, Failure)}

    @property
    def failures(self) -> dict[Key, Failure]:
        """Return the entries that failed, in order."""
        return {k: v for k, v in self._entries.items() if isinstance(v, Failure)}

    def value(
        self, feature: FeatureLike, asset: AssetLike | None = None, params: Params | None = None
    ) -> Any:
        """Return one entry's value. Raises its failure, as the error's class, if it has none."""
        found = self[feature, asset] if params is None else self[feature, asset, params]
        if isinstance(found, Failure):
            raise raised(found, asset)
        return found

    def raise_for_failures(self) -> None:
        """Raise the first failure; with several, its message says how many there are."""
        failures = list(self.failures.items())
        if not failures:
            return
        (_, asset, *_), failure = failures[0]
        error = raised(failure, asset)
        if len(failures) > 1:
            error.add_note(f"and {len(failures) - 1} more of {len(self)} failed: see Results.failures")
        raise error


def joined(tables: Sequence[Results]) -> Results:
    """Return several requests' tables as one, in order, with the first one's id."""
    if len(tables) == 1:
        return tables[0]
    states = {t.state for t in tables}
    state: RequestState = (
        "cancelled" if "cancelled" in states else "failed" if states == {"failed"} else "done"
    )
    return Results([row for table in tables for row in table.rows], tables[0].id, state)


def by_asset(results: Results, sets: Sequence[ParamSet]) -> Results:
    """Return a table of several sets of parameters with each asset's rows together, the sets in order."""
    assets: dict[str | None, int] = {}
    for row in results.rows:
        assets.setdefault(row.asset, len(assets))
    places = {params: i for i, params in enumerate(sets)}

    def place(row: Row) -> tuple[bool, int, int]:
        return row.asset is None, assets[row.asset], places[row.params] if row.params is not None else -1

    return Results(sorted(results.rows, key=place), results.id, results.state)


def raised(failure: Failure, asset: AssetLike | None = None) -> AmberError:
    """Return a failure as an exception: its message names the step, notes the traceback and the asset."""
    error = error_of_failure(failure)
    if failure.traceback:
        error.add_note(failure.traceback.rstrip())
    if asset is not None:
        error.add_note(f"asset: {asset_name(asset)}")
    return error


def withdrawn(state: str, step: str, key: str, unit: str) -> Failure:
    """Return the failure for a result that will not come, since its request has ended."""
    name, status = ("Cancelled", 409) if state == "cancelled" else ("Expired", 504)
    text = "the request was cancelled" if state == "cancelled" else "the request ended"
    return Failure("system", name, f"{text} before it was done", step, key, unit, status)


class Identified(NamedTuple):
    """What an asset that a caller named turned out to be.

    `id` is None for one without an identity; `failure` is why it has no results, where it has none.
    """

    id: str | None = None
    failure: Failure | None = None


def assigned(
    view: RequestView, features: Sequence[str], named: Mapping[str, Identified], *, complete: bool = True
) -> list[Row]:
    """Return the view's results as rows: by asset as named, feature and segment; collections at the end.

    Results find their rows by feature and asset id, whatever their order; one that is listed twice is one
    row. With `complete` a (feature, asset) that the view says nothing about becomes a failed row, so that no
    question is left without an answer.
    """
    of_asset: dict[tuple[str, str], dict[str, Result]] = {}
    of_all: dict[str, dict[str, Result]] = {}
    last: tuple[str, Asset | None] | None = None
    same: dict[str, Result] = {}
    for result in view.results:
        feature, asset = result.feature, result.asset
        # Results of one feature and asset come in a row, mostly: the place of the last is looked up once.
        if last is None or asset is not last[1] or feature != last[0]:
            last = feature, asset
            if asset is None:
                same = of_all.setdefault(feature, {})
            else:
                same = of_asset.setdefault((feature, asset.id), {})
        same.setdefault(result.key, result)
    rows: list[Row] = []
    for name, (id, failure) in named.items():
        for feature in features:
            found = of_asset.get((feature, id or ""), {})
            listed = sorted(found.values(), key=_start) if len(found) > 1 else found.values()
            rows.extend([_row(r, name) for r in listed])
            if found or feature in of_all or not (complete or failure):
                continue
            why = failure or withdrawn(view.state, feature, "", id or name)
            rows.append(Row(feature, name, None, failure.key if failure else "", "failed", failure=why))
    return rows + [_row(r, None) for feature in features for r in of_all.get(feature, {}).values()]


def _row(result: Result, name: str | None) -> Row:
    failure = result.failure
    if failure is None and result.state != "ready":
        failure = withdrawn(result.state, result.feature, result.key, result.unit.unit_id)
    asset = result.asset
    if failure is not None and asset is not None and name not in (None, asset.id, asset.uri):
        failure = failure.renamed(asset, name)  # of two files with the same bytes, the result names one
    nothing_found = isinstance(result.unit, EachRange) and result.state == "ready"
    return Row(
        result.feature,
        name,
        result.unit,
        result.key,
        result.state,
        [] if nothing_found else result.value,
        failure,
        result.seconds,
        result.cached,
    )


def _start(result: Result) -> int:
    start: int = getattr(result.unit, "start_us", 0)
    return start


def asset_of(unit: Unit) -> Asset | None:
    """Return the asset that a unit is of; None for a collection."""
    if isinstance(unit, Asset):
        return unit
    return None if isinstance(unit, Collection) else unit.asset


def by_id(view: RequestView) -> dict[str, Identified]:
    """Name the assets of a request whose caller's names are not known: by their ids, in the view's order.

    An asset that could not be resolved is named by the reference it was asked by.
    """
    named = {a.id: Identified(a.id) for a in (r.asset for r in view.results) if a is not None}
    for failed in view.failed_assets:
        name = failed.ref.id or failed.ref.uri or ""
        named[name] = Identified(failed.ref.id, failed.failure)
    return named


async def matched(
    view: RequestView,
    refs: Mapping[str, AssetRef],
    resolve: Callable[[str], Awaitable[str]],
) -> dict[str, Identified]:
    """Find which asset each name of a request turned out to be: its id, or why it has no results.

    `refs` maps the caller's names to the references that were sent. A name is never paired with a result by
    its position. It is matched, in this order, by
    1. its reference, if the view tells that it could not be resolved;
    2. the id it was sent with;
    3. the place it was sent with, if exactly one of the view's assets was read there;
    4. elimination, where one name and one of the view's assets are left;
    5. `resolve`, which gives the id of what is at a URI now or raises an `AmberError`.
    """
    match = _Matching(view)
    left = {name: ref for name, ref in refs.items() if not match.known(name, ref)}
    left = match.eliminate(left)
    if left and match.ids:
        gate = asyncio.Semaphore(RESOLVED_AT_ONCE)

        async def resolved(ref: AssetRef) -> str | AmberError:
            async with gate:
                try:
                    return await resolve(ref.uri or "")
                except AmberError as error:
                    return error

        found = dict(zip(left, await asyncio.gather(*map(resolved, left.values())), strict=True))
        left = match.eliminate({n: r for n, r in left.items() if not match.resolved(n, found[n])})
        for name, ref in left.items():
            match.named[name] = Identified(None, _unmatched(ref, found[name]))
    return {name: match.named.get(name, Identified()) for name in refs}


class _Matching:
    """The names that are matched so far, and what a view tells that they can be matched by."""

    def __init__(self, view: RequestView) -> None:
        self.named: dict[str, Identified] = {}
        self._refused = {failed.ref: failed.failure for failed in view.failed_assets}
        self._failures = {ref.id: failure for ref, failure in self._refused.items() if ref.id is not None}
        self.ids: dict[str, None] = {}
        self._places: dict[str, set[str]] = {}
        last: Asset | None = None
        for result in view.results:
            asset = result.asset
            if asset is not None and asset is not last:  # results of one asset come in a row, mostly
                last = asset
                self._seen(asset.id, asset.uri)
        for ref in self._refused:
            if ref.id is not None:
                self._seen(ref.id, ref.uri)

    def _seen(self, id: str, uri: str | None) -> None:
        self.ids[id] = None
        if uri:
            self._places.setdefault(place_of(uri), set()).add(id)

    def known(self, name: str, ref: AssetRef) -> bool:
        """Match a name by what was sent for it; return False if that does not tell which asset it is."""
        if ref in self._refused:
            self.named[name] = Identified(ref.id, self._refused[ref])
        elif ref.id is not None:
            self._is(name, ref.id)
        elif len(at := self._places.get(place_of(ref.uri or ""), set())) == 1:
            self._is(name, min(at))
        return name in self.named

    def resolved(self, name: str, id: str | AmberError) -> bool:
        """Match a name by the id it has now; return False if the view has no asset of that id."""
        if isinstance(id, str) and id in self.ids:
            self._is(name, id)
        return name in self.named

    def eliminate(self, left: Mapping[str, AssetRef]) -> dict[str, AssetRef]:
        """Match the one name that is left with the one asset that is left; returns the names still left.

        Every asset of a view is one of its request's, so the last asset belongs to the last name.
        """
        rest = self.ids.keys() - {of.id for of in self.named.values()}
        if len(left) == len(rest) == 1:
            self._is(*left, *rest)
            return {}
        return dict(left)

    def _is(self, name: str, id: str) -> None:
        self.named[name] = Identified(id, self._failures.get(id))


def _unmatched(ref: AssetRef, found: str | AmberError) -> Failure:
    """Return why no asset of the view is matched: it can't be read, or other content is there now."""
    where = ref.uri or ""
    if isinstance(found, str):
        found = MediaChanged(f"{where} has other content than when it was asked for; ask again")
    return Failure("input", type(found).__name__, str(found), "asset", "", where, found.status)
