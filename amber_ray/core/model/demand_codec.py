"""Demands and how they stand as JSON, for the store's records and for HTTP, both ways side by side.

What is written by a later version may have more fields: they are passed over. Must not know: files, HTTP.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from amber_ray.core.model.callback import EVENTS, Callback
from amber_ray.core.model.demands import (
    Demand,
    DemandState,
    DemandStatus,
    DemandView,
    FailingAsset,
    Findings,
    Message,
    Telling,
)


def demand_to_json(demand: Demand) -> dict[str, Any]:
    """A demand as JSON-able data."""
    data: dict[str, Any] = {
        "name": demand.name,
        "features": list(demand.features),
        "prefixes": list(demand.prefixes),
        "params": dict(demand.params),
        "every": demand.every,
        "gone": demand.gone,
        "tenant": demand.tenant,
        "settle_seconds": demand.settle_seconds,
    }
    if demand.callback is not None:
        data["callback"] = {"url": demand.callback.url, "on": list(demand.callback.on)}
    return data


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
                name,
                tuple(features),
                tuple(prefixes),
                dict(data["params"]),
                every,
                gone,
                tenant,
                settle,
                _callback(data.get("callback")),
            )
    raise ValueError("this is no demand")


def _callback(data: Any) -> Callback | None:
    match data:
        case None:
            return None
        case {"url": str() as url, "on": [*on]}:
            return Callback(url, tuple(event for event in EVENTS if event in on))
    raise ValueError("this is no callback of a demand")


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
    return state._asdict() | {
        "runs": list(state.runs),
        "status": status_to_json(state.status),
        "findings": _findings_to_json(state.findings),
        "telling": state.telling._asdict()
        | {
            "findings": _findings_to_json(state.telling.findings),
            "unsent": [one._asdict() for one in state.telling.unsent],
        },
    }


def state_from_json(data: Mapping[str, Any]) -> DemandState:
    """A state that `state_to_json` wrote. Raises `ValueError`, `KeyError`, `TypeError` for what is none.

    One that was written before there were callbacks of demands is as if nobody had been told of anything.
    """
    match data:
        case {
            "runs": [*runs],
            "by": str() as by,
            "since": float() | int() as since,
            "status": {},
        } if all(isinstance(run, str) for run in runs):
            return DemandState(
                tuple(runs),
                by,
                since,
                status_from_json(data["status"]),
                int(data.get("became", 0)),
                _findings(data.get("findings", {})),
                _telling(data.get("telling", {})),
            )
    raise ValueError("this is no state of a demand")


def _findings_to_json(findings: Findings) -> dict[str, Any]:
    return findings._asdict() | {"failing": list(findings.failing)}


def _findings(data: Mapping[str, Any]) -> Findings:
    known = _known(data, Findings._fields)
    return Findings(**known | {"failing": tuple(known.get("failing", ()))})


def _telling(data: Mapping[str, Any]) -> Telling:
    known = _known(data, Telling._fields)
    unsent = tuple(Message(one["id"], one["type"], one["body"]) for one in known.get("unsent", ()))
    return Telling(**known | {"findings": _findings(known.get("findings", {})), "unsent": unsent})


def _known(data: Mapping[str, Any], fields: Sequence[str]) -> dict[str, Any]:
    return {name: data[name] for name in fields if name in data}


def view_to_json(view: DemandView) -> dict[str, Any]:
    """A demand as HTTP tells of it."""
    status = status_to_json(view.status) | {"all_true": view.status.all_true}
    return demand_to_json(view.demand) | {"made": view.made, "status": status}


def view_from_json(data: Mapping[str, Any]) -> DemandView:
    """A demand that HTTP told of. Raises `ValueError`, `KeyError` for what is none."""
    return DemandView(demand_from_json(data), status_from_json(data["status"]), float(data["made"]))
