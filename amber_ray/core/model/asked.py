"""Requests in a listing: what was asked for, by whom, and what became of it, without its results.

Shards tell it of their parts of requests, and an engine of what it has answered by itself; `merged` makes one
of the parts of each. The newest come first. Must not know: where requests are remembered.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias, cast, get_args

from amber_ray.core.model.request import RequestState, RequestView
from amber_ray.errors import BadRequest

REQUESTS = "requests"
"""What cursors of listings of requests say that they are of."""
LOOKED_THROUGH = 1000
"""Requests that are looked through for one page of those in some state."""
PLACE = (float, str)
"""The types of a place in a cursor."""

Place: TypeAlias = tuple[float, str]
"""By what requests are in order: when they were created, the newest first, and their ids."""


@dataclass(frozen=True, slots=True)
class RequestInfo:
    """A request: `results` of them were asked for, of which `ready` have a value and `failed` have none.

    `created` is Unix time; `features` are the names asked for. How many results there are grows while windows
    are found.
    """

    id: str
    state: RequestState
    tenant: str
    created: float
    features: tuple[str, ...]
    results: int
    ready: int
    failed: int

    @property
    def place(self) -> Place:
        """Where it comes in a listing."""
        return -self.created, self.id


def checked_state(state: str | None) -> RequestState | None:
    """Return a state that requests may be in. Raises `BadRequest` for another one."""
    states = get_args(RequestState)
    if state not in (None, *states):
        raise BadRequest(f"state must be {', '.join(states[:-1])} or {states[-1]}, not {state!r}")
    return cast("RequestState | None", state)


def info_of(view: RequestView) -> RequestInfo:
    """Return what a listing tells of a request."""
    states = [result.state for result in view.results]
    lost = len(view.failed_assets) * len(view.features)
    ready, failed = states.count("ready"), states.count("failed") + lost
    results = len(states) + lost
    return RequestInfo(view.id, view.state, view.tenant, view.created, view.features, results, ready, failed)


def noted(data: Mapping[str, Any], shard: int) -> RequestInfo:
    """Return what a listing tells of a shard's part of a request, by its record in the journal.

    `data` is what `fabric.shard.records.Record.to_json` wrote; raises `KeyError` and `TypeError` for others.
    """
    expanded = data.get("expanded") or {}
    features, lost = about(data.get("request") or {}, [target[0] for target in data["targets"]])
    lost = lost if shard in (data.get("shards") or [shard])[:1] else 0
    failed = sum(answer["failure"] is not None for answer in data["answers"])
    return RequestInfo(
        str(data["id"]).rpartition(".")[0],
        data["state"],
        data["tenant"],
        data["created"],
        features,
        sum(len(expanded.get(key, (key,))) for _, _, key in data["targets"]) + lost,
        len(data["answers"]) - failed,
        failed + lost,
    )


def about(body: Mapping[str, Any], targets: Sequence[str]) -> tuple[tuple[str, ...], int]:
    """Return the features of a request, and how many of its results failed as their assets were not found.

    `body` is what is known of it beside its targets, whose features stand for what it does not tell.
    """
    features = tuple(body.get("features") or dict.fromkeys(targets))
    return features, len(body.get("failed_assets") or ()) * len(features)


def merged(parts: Iterable[RequestInfo]) -> dict[str, RequestInfo]:
    """Return requests by id, each of its parts: it runs while one does, and is done if one has a value."""
    found: dict[str, RequestInfo] = {}
    for one in parts:
        other = found.get(one.id)
        found[one.id] = one if other is None else _joined(other, one)
    return found


_STRONGEST: tuple[RequestState, ...] = ("running", "cancelled", "done", "failed")


def _joined(one: RequestInfo, other: RequestInfo) -> RequestInfo:
    return replace(
        one,
        state=min(one.state, other.state, key=_STRONGEST.index),
        created=max(one.created, other.created),
        features=one.features if len(one.features) >= len(other.features) else other.features,
        results=one.results + other.results,
        ready=one.ready + other.ready,
        failed=one.failed + other.failed,
    )
