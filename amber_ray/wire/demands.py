"""Demands over HTTP, both ways: the body of `PUT /v1/demands/{name}`, and what is told of a demand.

Whether features and parameters exist is the registry's to judge. Must not know: HTTP, files.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from amber_ray.core.model.demand_codec import demand_to_json, view_from_json, view_to_json
from amber_ray.core.model.demands import EVERY_SECONDS, MOST_NAMED, SETTLE_SECONDS, Demand, DemandView
from amber_ray.errors import BadRequest
from amber_ray.wire.compute import MAX_URI, decode_callback, decode_tenant, given_params
from amber_ray.wire.json import describe, members, text
from amber_ray.wire.problems import Reading

FIELDS = ("features", "prefixes", "params", "every", "gone", "tenant", "settle_seconds", "callback")


def encode_demand(demand: Demand) -> dict[str, Any]:
    """The body for a demand; its name is in the path."""
    data = demand_to_json(demand)
    del data["name"]
    return data


def decode_demand(name: str, data: Any, of: str = "default") -> Demand:
    """The demand of a body. Raises `BadRequest`, naming the field. `of`: the tenant if it names none."""
    fields = members(data, FIELDS, "the body")
    demand = Demand(
        name=text(name, "the name of a demand"),
        features=_texts(fields, "features", "shots"),
        prefixes=_texts(fields, "prefixes", "/media/films/"),
        params=given_params(fields.get("params") or {}),
        every=_seconds(fields, "every", EVERY_SECONDS),
        gone=_gone(fields.get("gone")),
        tenant=of if fields.get("tenant") is None else decode_tenant(fields["tenant"]),
        settle_seconds=_seconds(fields, "settle_seconds", SETTLE_SECONDS),
        callback=None if fields.get("callback") is None else decode_callback(fields["callback"]),
    )
    demand.check()
    return demand


def _texts(fields: Mapping[str, Any], name: str, example: str) -> tuple[str, ...]:
    value = fields.get(name)
    if not isinstance(value, list) or not value:
        raise BadRequest(f'{name} must be a list of texts such as ["{example}"], not {describe(value)}')
    if len(value) > MOST_NAMED:
        raise BadRequest(f"{name} has {len(value):,} entries; at most {MOST_NAMED} are taken")
    return tuple(dict.fromkeys(text(one, f"{name}[{i}]", MAX_URI) for i, one in enumerate(value)))


def _seconds(fields: Mapping[str, Any], name: str, default: float) -> float:
    value = fields.get(name)
    if value is None:
        return default
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise BadRequest(f"{name} must be seconds, not {describe(value)}")
    return float(value)


def _gone(value: Any) -> Any:
    if value is None:
        return "keep"
    if value not in ("keep", "purge"):
        raise BadRequest(f"gone must be keep or purge, not {describe(value)}")
    return value


def encode_view(view: DemandView) -> dict[str, Any]:
    """A demand as it is told."""
    return view_to_json(view)


def decode_view(data: Any) -> DemandView:
    """What `encode_view` wrote. Raises `Unavailable` for what is none."""
    with Reading("a demand"):
        return view_from_json(data)
