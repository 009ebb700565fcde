"""`Results`: the answers of one request under the names its caller used.

A mapping from (feature, asset as named) to a value or a `Failure`; a feature per segment gives the list of
its segments' values in order, a feature per collection stands under (feature, None). `rows` has one line per
computed unit, for tables and files. Must not know: how values were fetched.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from amber_ray.client.names import AssetLike, FeatureLike, asset_name, feature_name
from amber_ray.core.model.request import MISSING, AssetRef, Failure, RequestView, Result, ResultState, State
from amber_ray.core.model.units import Collection, Segment, Unit
from amber_ray.errors import AmberError
from amber_ray.wire.problems import error_of_failure

Key = tuple[str, str | None]


class Row(NamedTuple):
    """One feature for one unit. `asset` is the caller's name for it, None for a collection."""

    feature: str
    asset: str | None
    unit: Unit | None
    key: str
    state: ResultState
    value: Any = MISSING
    failure: Failure | None = None
    seconds: float | None = None
    cached: bool = False


class Results(Mapping[Key, Any]):
    """Values and failures by (feature, asset), assets in the order asked for, then features.

    `results["thumbnail", "a.mp4"]` takes what the request took: paths, ids and assets, names and functions.
    """

    def __init__(self, rows: Sequence[Row], id: str = "", state: State = "done") -> None:
        """`rows` in the order they are to be shown; `id` and `state` are the request's."""
        self.id = id
        self.state: State = state
        self.rows = tuple(rows)
        self._entries: dict[Key, Any] = {}
        for row in self.rows:
            self._add(row)

    def _add(self, row: Row) -> None:
        """A segment's value joins its list; the first failure of an entry stands for the entry."""
        key = (row.feature, row.asset)
        known = self._entries.get(key, MISSING)
        if isinstance(known, Failure):
            return
        if row.failure is not None:
            self._entries[key] = row.failure
        elif not isinstance(row.unit, Segment):
            self._entries[key] = row.value
        elif known is MISSING:
            self._entries[key] = [row.value]
        else:
            known.append(row.value)

    def __getitem__(self, key: tuple[FeatureLike, AssetLike | None]) -> Any:
        feature, asset = key
        return self._entries[feature_name(feature), None if asset is None else asset_name(asset)]

    def __iter__(self) -> Iterator[Key]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def __repr__(self) -> str:
        bad = len(self.failures)
        return f"<Results {len(self) - bad} ready, {bad} failed, request {self.id or 'none'}>"

    @property
    def ready(self) -> dict[Key, Any]:
        """The entries that have a value, in order."""
        return {k: v for k, v in self._entries.items() if not isinstance(v, Failure)}

    @property
    def failures(self) -> dict[Key, Failure]:
        """The entries that failed, in order."""
        return {k: v for k, v in self._entries.items() if isinstance(v, Failure)}

    def value(self, feature: FeatureLike, asset: AssetLike | None = None) -> Any:
        """One entry's value, or its failure raised as its error class."""
        found = self[feature, asset]
        if isinstance(found, Failure):
            raise raised(found)
        return found

    def raise_for_failures(self) -> None:
        """Raise the first failure; with several, its message says how many there are."""
        failures = list(self.failures.values())
        if not failures:
            return
        error = raised(failures[0])
        if len(failures) > 1:
            error.add_note(f"and {len(failures) - 1} more of {len(self)} failed: see Results.failures")
        raise error


def joined(tables: Sequence[Results]) -> Results:
    """Several requests' tables as one, in order; its id is the first one's."""
    if len(tables) == 1:
        return tables[0]
    states = {t.state for t in tables}
    state: State = "cancelled" if "cancelled" in states else "failed" if states == {"failed"} else "done"
    return Results([row for table in tables for row in table.rows], tables[0].id, state)


def raised(failure: Failure) -> AmberError:
    """The exception a failure stands for: its message names the step, a note carries the traceback."""
    error = error_of_failure(failure)
    if failure.traceback:
        error.add_note(failure.traceback.rstrip())
    return error


def withdrawn(state: str, step: str, key: str, unit: str) -> Failure:
    """The failure that stands in a table for a result that will not come."""
    name, status = ("Cancelled", 409) if state == "cancelled" else ("Expired", 504)
    text = "the request was cancelled" if state == "cancelled" else "the request ended"
    return Failure("system", name, f"{text} before it was done", step, key, unit, status)


def assigned(view: RequestView, features: Sequence[str], named: Mapping[str, str | Failure]) -> list[Row]:
    """The view's results as rows: by asset as named, then feature, then segment; collections at the end.

    `named` maps the caller's name of each asset to its id, or to why it has none. A (feature, asset) that the
    view says nothing about becomes a failed row, so that no question is left without an answer.
    """
    by_asset: dict[tuple[str, str], list[Result]] = {}
    collections: list[Result] = []
    for result in view.results:
        asset = result.asset
        if asset is None:
            collections.append(result)
        else:
            by_asset.setdefault((result.feature, asset.id), []).append(result)
    shared = {r.feature for r in collections}
    rows: list[Row] = []
    for name, id in named.items():
        for feature in features:
            if isinstance(id, Failure):
                if feature not in shared:
                    rows.append(Row(feature, name, None, id.key, "failed", failure=id))
                continue
            found = by_asset.get((feature, id), [])
            if not found and feature not in shared:
                gone = withdrawn(view.state, feature, "", id)
                rows.append(Row(feature, name, None, "", "failed", failure=gone))
            rows.extend(_row(r, name) for r in sorted(found, key=_start))
    rows.extend(_row(r, None) for r in collections)
    return rows


def _row(result: Result, name: str | None) -> Row:
    failure = result.failure
    if failure is None and result.state != "ready":
        failure = withdrawn(result.state, result.feature, result.key, result.unit.unit_id)
    return Row(
        result.feature,
        name,
        result.unit,
        result.key,
        result.state,
        result.value,
        failure,
        result.seconds,
        result.cached,
    )


def _start(result: Result) -> int:
    return result.unit.start_us if isinstance(result.unit, Segment) else 0


async def matched(
    view: RequestView,
    refs: Mapping[str, AssetRef],
    resolve: Callable[[str], Awaitable[str]],
) -> dict[str, str | Failure]:
    """Which asset each name of a request turned out to be: its id, or why it has no results.

    `refs` maps the caller's names to references in the order they were sent. Results come in the order of the
    request's assets, so names and ids are paired in order of first appearance; where their numbers differ,
    because two names are the same content or an asset was refused later on, the URIs are asked for one by
    one through `resolve`, which gives an id or raises an `AmberError`.
    """
    failed = {f.ref: f.failure for f in view.failed_assets}
    named: dict[str, str | Failure] = {n: failed[r] for n, r in refs.items() if r in failed}
    waiting = {n: r for n, r in refs.items() if r not in failed}
    ids = list(dict.fromkeys(a.id for a in (r.asset for r in view.results) if a is not None))
    if not ids and any(isinstance(r.unit, Collection) for r in view.results):
        named.update({n: r.id or "" for n, r in waiting.items()})
    elif len(ids) == len(waiting) and all(
        r.id in (None, i) for r, i in zip(waiting.values(), ids, strict=True)
    ):
        named.update(zip(waiting, ids, strict=True))
    else:
        by_id = {ref.id: failure for ref, failure in failed.items() if ref.id is not None}
        for name, ref in waiting.items():
            named[name] = await _resolved(ref, resolve)
            named[name] = by_id.get(str(named[name]), named[name])
    return {name: named[name] for name in refs}


async def _resolved(ref: AssetRef, resolve: Callable[[str], Awaitable[str]]) -> str | Failure:
    try:
        return ref.id if ref.id is not None else await resolve(ref.uri or "")
    except AmberError as error:
        name, where = type(error).__name__, ref.uri or ""
        return Failure("input", name, str(error), "asset", "", where, error.status)
