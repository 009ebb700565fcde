"""The rows that tell what there is: values, assets, features, and how the service is doing."""

from __future__ import annotations

from amber_ray.serving.answers import JSON_TYPE
from amber_ray.serving.described.parts import (
    BINARY,
    STRING,
    Part,
    answer,
    header,
    json,
    listing,
    operation,
    query,
    row,
)
from amber_ray.serving.described.schemas import ASSET_ID, EXAMPLES, KEY, ref
from amber_ray.serving.metrics import render
from amber_ray.wire.views import ARROW_TYPE, NPY_TYPE


def paths() -> dict[str, dict[str, Part]]:
    """Path -> method -> operation."""
    return {**_values(), **_assets_and_features(), **_health()}


def _values() -> dict[str, dict[str, Part]]:
    forms = {
        JSON_TYPE: {"schema": {}, "example": 0.42},
        ARROW_TYPE: BINARY,
        NPY_TYPE: BINARY,
        "*/*": {**BINARY, "description": "the medium itself, where a feature makes one: image/jpeg"},
    }
    key = {"name": "key", "in": "path", "required": True, "schema": STRING, "example": KEY}
    known = {
        "name": "If-None-Match",
        "in": "header",
        "description": "ETags of the copies that the caller has; compared weakly",
        "schema": STRING,
        "example": '"a7b1e70f3c2d98e6b5040f1c2d3e4a59"',
    }
    only = {**known, "name": "If-Match", "description": "ETags of which it must be one; compared strongly"}
    cached = {
        "ETag": header("Of this representation of this making of the value; strong", required=True),
        "Cache-Control": header("A copy is asked about before it is used", "no-cache", required=True),
        "Vary": header("What the answer hangs on", "Accept", required=True),
    }
    about = {
        "Amber-Feature": header("The feature that it is a value of", required=True),
        "Amber-Version": header("That feature's version", required=True),
        "Amber-Made": header("When it was made, in seconds since 1970, if that is known", type="number"),
        "Content-Security-Policy": header("For browsers, on all but JSON", "sandbox; default-src 'none'"),
    }
    return {
        "/v1/values/{key}": {
            "get": row(
                "values",
                "value",
                "One value, in the form that Accept asks for",
                {
                    "200": answer("The value", forms, {**cached, **about}),
                    "304": answer("The copy that the caller has is good", headers=cached),
                },
                "400 404 406 412",
                parameters=[key, known, only],
            )
        },
        "/v1/values": {
            "delete": row(
                "values",
                "purge",
                "Forget the values that match all filters given, at least one",
                {"200": answer("How many were forgotten", json(ref("Purged"), EXAMPLES["Purged"]))},
                "400",
                parameters=[query("asset", ASSET_ID), query("feature", "redness"), query("version", "1")],
            )
        },
    }


def _assets_and_features() -> dict[str, dict[str, Part]]:
    asset = json(ref("Asset"), EXAMPLES["Asset"])
    uploads = dict.fromkeys(("video/*", "audio/*", "image/*", "application/octet-stream"), BINARY)
    whole = {**EXAMPLES["Feature"], "graph": EXAMPLES["Graph"]}
    name = {"name": "name", "in": "path", "required": True, "schema": STRING, "example": "redness"}
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
                    "content": {**json(ref("AssetUri"), EXAMPLES["AssetUri"]), **uploads},
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
                {"200": answer("The feature", json(ref("Feature"), whole))},
                "404",
                parameters=[name],
            )
        },
    }


def _health() -> dict[str, dict[str, Part]]:
    counters = answer("Stats", json(ref("Stats"), EXAMPLES["Stats"]))
    text = answer("Metrics", {"text/plain": {"schema": STRING, "example": render(EXAMPLES["Stats"])}})
    alive = answer("Alive", json(ref("Alive"), EXAMPLES["Alive"]))
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
            # Answered without a token and under any load: it says that the process lives, and nothing else.
            "get": operation("health", "healthz", "Liveness", {"200": alive}, ["403"], security=[])
        },
    }
