"""The rows that tell what there is: values, assets, features, and how the service is doing."""

from __future__ import annotations

from amber_ray.serving.answers import JSON_TYPE
from amber_ray.serving.described.parts import BINARY, STRING, Part, answer, json, listing, query, row
from amber_ray.serving.described.schemas import ASSET_ID, EXAMPLES, KEY, Schema, ref
from amber_ray.wire.views import ARROW_TYPE, NPY_TYPE

PURGED: Schema = {"type": "object", "required": ["purged"], "properties": {"purged": {"type": "integer"}}}
URI: Schema = {
    "type": "object",
    "required": ["uri"],
    "additionalProperties": False,
    "properties": {"uri": STRING},
}
METRICS = "# TYPE amber_hits_total counter\namber_hits_total 1200\n"


def paths() -> dict[str, dict[str, Part]]:
    """Path -> method -> operation."""
    return {**_values(), **_assets_and_features(), **_health()}


def _values() -> dict[str, dict[str, Part]]:
    forms = {
        JSON_TYPE: {"schema": {}, "example": 0.42},
        ARROW_TYPE: BINARY,
        NPY_TYPE: BINARY,
        "image/*": BINARY,
    }
    key = {"name": "key", "in": "path", "required": True, "schema": STRING, "example": KEY}
    tag = '"a7b1e70f3c2d98e6b5040f1c2d3e4a59"'
    known = {
        "name": "If-None-Match",
        "in": "header",
        "description": "ETags of the copies that the caller has; compared weakly",
        "schema": STRING,
        "example": tag,
    }
    only = {**known, "name": "If-Match", "description": "ETags of which it must be one; compared strongly"}
    cached = {
        "ETag": {
            "description": "of this representation of this making of the value; strong",
            "schema": STRING,
        },
        "Cache-Control": {
            "description": "`no-cache`: a copy is asked about before it is used",
            "schema": STRING,
        },
        "Vary": {"description": "`Accept`", "schema": STRING},
    }
    about = {
        "Amber-Feature": {"schema": STRING},
        "Amber-Version": {"description": "of the feature", "schema": STRING},
        "Amber-Made": {"description": "when it was made, in seconds since 1970, if known", "schema": STRING},
    }
    return {
        "/v1/values/{key}": {
            "get": row(
                "values",
                "value",
                "One value, in the form that Accept asks for",
                {
                    "200": answer("The value", forms, headers={**cached, **about}),
                    "304": answer("The copy that the caller has is good", headers=cached),
                },
                "400 404 406 412 503",
                parameters=[key, known, only],
            )
        },
        "/v1/values": {
            "delete": row(
                "values",
                "purge",
                "Forget the values that match all filters given, at least one",
                {"200": answer("How many were forgotten", json(PURGED, {"purged": 12}))},
                "400",
                parameters=[query("asset", ASSET_ID), query("feature", "brightness"), query("version", "1")],
            )
        },
    }


def _assets_and_features() -> dict[str, dict[str, Part]]:
    asset = json(ref("Asset"), EXAMPLES["Asset"])
    uploads = dict.fromkeys(("video/*", "audio/*", "image/*", "application/octet-stream"), BINARY)
    feature = {"allOf": [ref("Feature"), {"type": "object", "properties": {"graph": ref("Graph")}}]}
    whole = {**EXAMPLES["Feature"], "graph": EXAMPLES["Graph"]}
    name = {"name": "name", "in": "path", "required": True, "schema": STRING, "example": "brightness"}
    return {
        "/v1/assets": {
            "post": row(
                "assets",
                "asset",
                "Identify media by its URI, or upload its bytes",
                {"200": answer("The asset", asset), "201": answer("The uploaded asset", asset)},
                "400 404 408 413 415 422",
                requestBody={
                    "required": True,
                    "content": {**json(URI, {"uri": "file:///media/a.mp4"}), **uploads},
                },
            )
        },
        "/v1/features": {
            "get": row("features", "features", "Every feature", {"200": listing("features", "Feature")})
        },
        "/v1/features/{name}": {
            "get": row(
                "features",
                "feature",
                "One feature with its graph",
                {"200": answer("The feature", json(feature, whole))},
                "404",
                parameters=[name],
            )
        },
    }


def _health() -> dict[str, dict[str, Part]]:
    alive: Schema = {"type": "object", "properties": {"status": STRING}}
    counters = answer("Stats", json(ref("Stats"), EXAMPLES["Stats"]))
    text = answer("Metrics", {"text/plain": {"schema": STRING, "example": METRICS}})
    return {
        "/v1/failures": {
            "get": row(
                "health",
                "failures",
                "The failures that are remembered now",
                {"200": listing("failures", "Failure")},
            )
        },
        "/v1/stats": {"get": row("health", "stats", "Counters and gauges", {"200": counters})},
        "/metrics": {"get": row("health", "metrics", "The same for Prometheus", {"200": text})},
        "/healthz": {
            "get": row(
                "health",
                "healthz",
                "Liveness",
                {"200": answer("Alive", json(alive, {"status": "ok"}))},
                security=[],
            )
        },
    }
