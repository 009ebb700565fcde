"""What is told of values beside the values, both ways. Must not know: HTTP libraries, where values are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from amber_ray.core.model.kept import window_of
from amber_ray.core.model.provenance import ValueInfo, ValueLineage
from amber_ray.core.model.units import MICRO
from amber_ray.wire.problems import Reading
from amber_ray.wire.units import decode_asset, encode_asset

VALUE_FILTERS = ("feature", "version")


def encode_value(value: ValueInfo) -> dict[str, Any]:
    """Encode what is told of a value; `unit` as results have it, times in seconds."""
    return {
        "key": value.key,
        "feature": value.feature,
        "version": value.version,
        "params": dict(value.params),
        "per": value.per,
        "asset": None if value.per == "collection" else value.assets[0],
        "unit": _unit(value),
        "made": value.made,
        "seconds": value.seconds,
        "device": value.device,
        "stored": value.stored,
        "memory": value.memory,
        "code": value.code,
        "inputs": list(value.inputs),
    }


def decode_value(data: Mapping[str, Any]) -> ValueInfo:
    """Decode what is told of a value."""
    with Reading("a value"):
        same = (
            "key",
            "feature",
            "version",
            "params",
            "made",
            "seconds",
            "device",
            "stored",
            "memory",
            "code",
        )
        return ValueInfo(
            unit=_text(data["asset"], data["unit"]),
            found=data["per"] == "window",
            inputs=tuple(data["inputs"]),
            **{name: data[name] for name in same},
        )


def encode_lineage(lineage: ValueLineage) -> dict[str, Any]:
    """Encode a lineage: its nodes, those of which nothing is known but the key at the end, and the media."""
    nodes: list[dict[str, Any]] = [{**encode_value(node), "known": True} for node in lineage.nodes]
    nodes += [{"key": key, "known": False} for key in lineage.unknown]
    return {"key": lineage.key, "nodes": nodes, "assets": [encode_asset(one) for one in lineage.assets]}


def decode_lineage(data: Mapping[str, Any]) -> ValueLineage:
    """Decode a lineage."""
    with Reading("a lineage"):
        return ValueLineage(
            data["key"],
            tuple(decode_value(node) for node in data["nodes"] if node["known"]),
            tuple(node["key"] for node in data["nodes"] if not node["known"]),
            tuple(map(decode_asset, data["assets"])),
        )


def _unit(value: ValueInfo) -> dict[str, Any] | None:
    if value.per == "collection":
        return {"collection": list(value.assets)}
    window = window_of(value.unit)
    if window is None:
        return None
    _, start, length = window
    its = {"start": start / MICRO, "end": (start + length) / MICRO}
    return its if value.found else {"index": start // length if length else 0, **its}


def _text(asset: str | None, unit: Mapping[str, Any] | None) -> str:
    """The text of a unit, as `ValueInfo` has it."""
    if unit is None:
        return str(asset)
    if "collection" in unit:
        return "{" + ",".join(unit["collection"]) + "}"
    start, end = round(unit["start"] * MICRO), round(unit["end"] * MICRO)
    return f"{asset}@{start}+{end - start}"
