"""Demands and how they stand as JSON, for the store's records and for HTTP, both ways side by side.

What is written by a later version may have more fields: they are passed over. Must not know: files, HTTP.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from amber_ray.core.model.demands import Demand, DemandState, DemandStatus, DemandView, FailingAsset


def demand_to_json(demand: Demand) -> dict[str, Any]:
    """A demand as JSON-able data."""
    return {
        "name": demand.name,
        "features": list(demand.features),
        "prefixes": list(demand.prefixes),
        "params": dict(demand.params),
        "every": demand.every,
        "gone": demand.gone,
        "tenant": demand.tenant,
        "settle_seconds": demand.settle_seconds,
    }


def demand_from_json(data: Mapping[str, Any]) -> Demand:
    """A demand that `demand_to_json` wrote. Raises `ValueError` for what is none."""
    match data:
        case {
            "name": str() as name,
            "features": [*features],
            "prefixes": [*prefixes],
            "params": {},
            "every": float() | int() as every,
            "gone": "keep" | "purge" as gone,
            "tenant": str() as tenant,
            "settle_seconds": float() | int() as settle,
        } if all(isinstance(word, str) for word in (*features, *prefixes)):
            return Demand(
                name, tuple(features), tuple(prefixes), dict(data["params"]), every, gone, tenant, settle
            )
    raise ValueError("this is no demand")


def status_to_json(status: DemandStatus) -> dict[str, Any]:
    """A status as JSON-able data; `failing` as objects."""
    data = {f.name: getattr(status, f.name) for f in dataclasses.fields(status)}
    return data | {"failing": [one._asdict() for one in status.failing]}


def status_from_json(data: Mapping[str, Any]) -> DemandStatus:
    """A status that `status_to_json` wrote; what is missing is as of a demand that has not been looked at."""
    fields = {f.name: data[f.name] for f in dataclasses.fields(DemandStatus) if f.name in data}
    failing = tuple(FailingAsset(one["uri"], one["message"]) for one in fields.pop("failing", ()))
    return DemandStatus(**fields, failing=failing)


def state_to_json(state: DemandState) -> dict[str, Any]:
    """A state as JSON-able data."""
    return state._asdict() | {"runs": list(state.runs), "status": status_to_json(state.status)}


def state_from_json(data: Mapping[str, Any]) -> DemandState:
    """A state that `state_to_json` wrote. Raises `ValueError` for what is none."""
    match data:
        case {
            "runs": [*runs],
            "by": str() as by,
            "since": float() | int() as since,
            "status": {},
        } if all(isinstance(run, str) for run in runs):
            return DemandState(tuple(runs), by, since, status_from_json(data["status"]))
    raise ValueError("this is no state of a demand")


def view_to_json(view: DemandView) -> dict[str, Any]:
    """A demand as HTTP tells of it."""
    status = status_to_json(view.status) | {"all_true": view.status.all_true}
    return demand_to_json(view.demand) | {"made": view.made, "status": status}


def view_from_json(data: Mapping[str, Any]) -> DemandView:
    """A demand that HTTP told of. Raises `ValueError`, `KeyError` for what is none."""
    return DemandView(demand_from_json(data), status_from_json(data["status"]), float(data["made"]))
