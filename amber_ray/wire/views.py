"""What travels over HTTP, both ways: plain JSON-able data <-> the dataclasses of `core`.

Shared by the app and the HTTP client, so that the two can't drift apart; everything round-trips as far as
the wire carries it (a result's asset is its id and URI; sizes and streams are asked for with the asset).
Must not know: HTTP libraries, Ray, pyarrow. Importing it loads none of them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from amber_ray.core.model.asked import RequestInfo
from amber_ray.core.model.audit import AuditLine
from amber_ray.core.model.callback import DeliveryView
from amber_ray.core.model.request import MISSING, AssetFailure, AssetRef, ExplainedStep, RequestView, Result
from amber_ray.core.model.service import FeatureInfo, RequestEvent
from amber_ray.core.model.units import EachRange
from amber_ray.wire.compute import decode_request, encode_request
from amber_ray.wire.json import loads
from amber_ray.wire.problems import (
    Reading,
    decode_failure,
    encode_failure,
    error_of_failure,
    error_of_problem,
    problem,
    title,
)
from amber_ray.wire.units import decode_asset, decode_unit, encode_asset, encode_unit, place

__all__ = [
    "decode_asset",
    "decode_delivery",
    "decode_event",
    "decode_failure",
    "decode_feature",
    "decode_info",
    "decode_line",
    "decode_request",
    "decode_result",
    "decode_step",
    "decode_unit",
    "decode_view",
    "encode_asset",
    "encode_delivery",
    "encode_event",
    "encode_failure",
    "encode_feature",
    "encode_info",
    "encode_line",
    "encode_request",
    "encode_result",
    "encode_step",
    "encode_unit",
    "encode_view",
    "error_of_failure",
    "error_of_problem",
    "loads",
    "problem",
    "title",
]

Encode = Callable[[str, Any], Any]
"""(feature name, value) -> JSON-able, or the other way round."""

JSON_TYPE = "application/json"
PROBLEM_TYPE = "application/problem+json"
ARROW_TYPE = "application/vnd.apache.arrow.stream"
NPY_TYPE = "application/x-npy"
REQUEST_ID_HEADER = "X-Amber-Request-Id"
"""Names a compute request: sent, it is the id to use (the same id again is the same request)."""
IDEMPOTENCY_KEY_HEADER = "Idempotency-Key"
"""Names a compute request by any text of its caller's: the same text again is the same request."""


# Deliveries


def encode_delivery(view: DeliveryView) -> dict[str, Any]:
    """Encode a delivery."""
    return dataclasses.asdict(view)


def decode_delivery(data: Mapping[str, Any]) -> DeliveryView:
    """Read what `encode_delivery` wrote; a server that has no callbacks of demands names none."""
    with Reading("a delivery"):
        known = {"demand": "", **data}
        return DeliveryView(**{field.name: known[field.name] for field in dataclasses.fields(DeliveryView)})


def encode_line(line: AuditLine) -> dict[str, Any]:
    """Encode a line of the audit log."""
    return dataclasses.asdict(line)


def decode_line(data: Mapping[str, Any]) -> AuditLine:
    """Read what `encode_line` wrote."""
    with Reading("a line of the audit log"):
        return AuditLine(**{field.name: data[field.name] for field in dataclasses.fields(AuditLine)})


# Results and requests


def encode_result(result: Result, encode: Encode | None = None, base: str = "") -> dict[str, Any]:
    """Encode one result: with `value` if it is inline, else `href` once it is ready, prefixed by `base`.

    One that is each range of a finder is ready where there is no range, and has neither.
    """
    data: dict[str, Any] = {
        "feature": result.feature,
        **place(result.unit),
        "key": result.key,
        "state": result.state,
        "error": None if result.failure is None else encode_failure(result.failure),
        "seconds": result.seconds,
        "cached": result.cached,
    }
    if result.value is not MISSING:
        data["value"] = result.value if encode is None else encode(result.feature, result.value)
    elif result.state == "ready" and not isinstance(result.unit, EachRange):
        data["href"] = f"{base}/v1/values/{result.key}"
    return data


def decode_result(data: Mapping[str, Any], decode: Encode | None = None) -> Result:
    """Decode a result. `value` stays JSON unless `decode` turns it back, and is MISSING if by href."""
    with Reading("a result"):
        value = MISSING
        if "value" in data:
            value = data["value"] if decode is None else decode(data["feature"], data["value"])
        return Result(
            feature=data["feature"],
            key=data["key"],
            unit=decode_unit(data["asset"], data.get("uri"), data["unit"], data.get("note", "")),
            state=data["state"],
            value=value,
            failure=None if data["error"] is None else decode_failure(data["error"]),
            seconds=data["seconds"],
            cached=data["cached"],
        )


def encode_view(
    view: RequestView,
    encode: Encode | None = None,
    *,
    features: Iterable[str] = (),
    base: str = "",
) -> dict[str, Any]:
    """Encode a request as it stands.

    An asset that could not be resolved is a failed result, without key, for each of `features` (those
    asked for; by default those that other results name).
    """
    results = [encode_result(result, encode, base) for result in view.results]
    names = tuple(features) or view.features or tuple(dict.fromkeys(r.feature for r in view.results))
    results += [_unresolved(failed, name) for failed in view.failed_assets for name in names or (None,)]
    return {
        "id": view.id,
        "state": view.state,
        "features": list(names),
        "progress": {"done": view.done, "total": view.total},
        "tenant": view.tenant,
        "created": view.created,
        "results": results,
    }


def _unresolved(failed: AssetFailure, feature: str | None) -> dict[str, Any]:
    return {
        "feature": feature,
        "asset": failed.ref.id,
        "uri": failed.ref.uri,
        "unit": None,
        "key": None,
        "state": "failed",
        "error": encode_failure(failed.failure),
        "seconds": None,
        "cached": False,
    }


def decode_view(data: Mapping[str, Any], decode: Encode | None = None) -> RequestView:
    """Decode a request; results without a key are the assets that could not be resolved."""
    with Reading("a request"):
        failed: dict[AssetRef, AssetFailure] = {}
        for result in data["results"]:
            if result["key"] is None:
                ref = AssetRef(result["uri"], result["asset"])
                failed[ref] = AssetFailure(ref, decode_failure(result["error"]))
        return RequestView(
            id=data["id"],
            state=data["state"],
            done=data["progress"]["done"],
            total=data["progress"]["total"],
            results=tuple(decode_result(r, decode) for r in data["results"] if r["key"] is not None),
            failed_assets=tuple(failed.values()),
            tenant=data["tenant"],
            created=data["created"],
            features=tuple(data["features"]),
        )


def encode_info(info: RequestInfo) -> dict[str, Any]:
    """Encode what a listing tells of a request."""
    return {name: getattr(info, name) for name in RequestInfo.__slots__} | {"features": list(info.features)}


def decode_info(data: Mapping[str, Any]) -> RequestInfo:
    """Decode what a listing tells of a request."""
    with Reading("a request"):
        fields = {name: data[name] for name in RequestInfo.__slots__}
        return RequestInfo(**{**fields, "features": tuple(data["features"])})


def encode_event(
    event: RequestEvent,
    encode: Encode | None = None,
    *,
    features: Iterable[str] = (),
    base: str = "",
) -> dict[str, Any]:
    """Encode the data of a server-sent event named `event.kind`: the view for `done`, else progress."""
    if event.view is not None:
        return encode_view(event.view, encode, features=features, base=base)
    data: dict[str, Any] = {"done": event.done, "total": event.total}
    if event.result is not None:
        data["result"] = encode_result(event.result, encode, base)
    return data


def decode_event(kind: str, data: Mapping[str, Any], decode: Encode | None = None) -> RequestEvent:
    """Decode an event by its name and data. Raises the error that an `error` event tells of."""
    if kind == "error":
        raise error_of_problem(int(data.get("status", 500)), data)
    with Reading("an event"):
        if kind == "done":
            view = decode_view(data, decode)
            return RequestEvent("done", view.done, view.total, view=view)
        if kind not in ("progress", "result"):
            raise ValueError(f"there is no event {kind!r}")
        result = decode_result(data["result"], decode) if "result" in data else None
        return RequestEvent(kind, data["done"], data["total"], result)  # type: ignore[arg-type]


# Features and plans


def encode_feature(info: FeatureInfo) -> dict[str, Any]:
    """Encode a feature; a parameter is `{"type", "default"}`."""
    data = {name: getattr(info, name) for name in FeatureInfo.__slots__}
    data["inputs"] = list(info.inputs)
    data["params"] = {name: {"type": t, "default": default} for name, (t, default) in info.params.items()}
    data["returns"] = dict(info.returns)
    data["resources"] = dict(info.resources)
    data["calls"] = dict(info.calls)
    return data


def decode_feature(data: Mapping[str, Any]) -> FeatureInfo:
    """Decode a feature; other fields (a feature's graph) are ignored."""
    with Reading("a feature"):
        fields = {name: data[name] for name in FeatureInfo.__slots__ if name != "calls"}
        fields["calls"] = dict(data.get("calls", {}))
        fields["inputs"] = tuple(data["inputs"])
        fields["params"] = {name: (p["type"], p["default"]) for name, p in data["params"].items()}
        return FeatureInfo(**fields)


def encode_step(step: ExplainedStep) -> dict[str, Any]:
    """Encode one step of a plan."""
    return {
        "feature": step.feature,
        "version": step.version,
        **place(step.unit),
        "key": step.key,
        "state": step.state,
        "inputs": list(step.inputs),
        "seconds": step.seconds,
        "resources": dict(step.resources),
        "target": step.target,
        "action": step.action,
        "expected": step.expected,
    }


def decode_step(data: Mapping[str, Any]) -> ExplainedStep:
    """Decode one step of a plan."""
    with Reading("a step"):
        return ExplainedStep(
            feature=data["feature"],
            version=data["version"],
            key=data["key"],
            unit=decode_unit(data["asset"], data.get("uri"), data["unit"]),
            state=data["state"],
            inputs=tuple(data["inputs"]),
            seconds=data["seconds"],
            resources=data["resources"],
            target=data["target"],
            action=data["action"],
            expected=data.get("expected"),
        )
