"""JSON Schemas of what travels, each with an example: the `components` of the OpenAPI document.

Written by hand beside `wire`, because no model is built from a body on the way in or out; a test holds
every example, and real answers of the app, to them.
"""

from __future__ import annotations

from typing import Any

Schema = dict[str, Any]

ASSET_ID = "5d41402abc4b2a76b9719d911017c592"
KEY = "0b5f3c2a9d8e7f60112233445566778f"
REQUEST = "rq-2f9c1b7a4e"


def ref(name: str) -> Schema:
    """A reference to a component."""
    return {"$ref": f"#/components/schemas/{name}"}


def _object(required: str, /, **properties: Schema) -> Schema:
    """An object; `required` lists the names that are always there."""
    return {"type": "object", "required": required.split(), "properties": properties}


def _list(of: Schema, **more: Any) -> Schema:
    return {"type": "array", "items": of, **more}


def _maybe(schema: Schema) -> Schema:
    return {"oneOf": [schema, {"type": "null"}]}


TEXT: Schema = {"type": "string"}
COUNT: Schema = {"type": "integer", "minimum": 0}
NUMBER: Schema = {"type": "number"}
FLAG: Schema = {"type": "boolean"}
ID: Schema = {"type": "string", "pattern": "^[0-9a-f]{32}$"}
UNIT_FIELDS: dict[str, Schema] = {"asset": _maybe(ID), "uri": _maybe(TEXT), "unit": ref("Unit")}

EXAMPLES: dict[str, Any] = {
    "Compute": {
        "features": ["brightness", "thumbnail"],
        "assets": [{"uri": "file:///media/a.mp4"}, {"id": ASSET_ID}],
        "params": {"frames.fps": 2},
        "range": [10, 20],
        "priority": "interactive",
        "tenant": "search",
        "refresh": False,
        "deadline": 600,
        "callback": None,
    },
    "Failure": {
        "kind": "feature",
        "type": "ValueError",
        "title": "Value error",
        "message": "no frames in this segment",
        "status": 422,
        "step": "brightness",
        "key": KEY,
        "unit": ASSET_ID,
        "attempts": 1,
    },
    "Result": {
        "feature": "brightness",
        "asset": ASSET_ID,
        "uri": "file:///media/a.mp4",
        "unit": {"index": 1, "start": 10.0, "end": 20.0},
        "key": KEY,
        "state": "ready",
        "value": 0.42,
        "error": None,
        "seconds": 1.2,
        "cached": True,
    },
    "Asset": {
        "id": ASSET_ID,
        "uri": "file:///media/a.mp4",
        "media_type": "video/mp4",
        "bytes": 2867721,
        "duration": 30.0,
        "streams": [{"kind": "video", "codec": "h264", "width": 640, "height": 360, "frame_rate": "24/1"}],
    },
    "Feature": {
        "name": "brightness",
        "version": "1",
        "per": "segment",
        "inputs": ["frames"],
        "params": {"gamma": {"type": "float", "default": 1.0}},
        "returns": {"type": "float"},
        "resources": {"CPU": 1.0},
        "store": "parquet",
        "doc": "Mean luma of the segment's frames, 0 to 1.",
        "pinned": True,
        "code_digest": "9f86d081884c7d65",
        "is_class": False,
    },
    "Graph": {
        "nodes": ["frames", "brightness"],
        "edges": [["frames", "brightness"]],
        "dependents": ["contact_sheet"],
    },
    "Step": {
        "feature": "brightness",
        "version": "1",
        "asset": ASSET_ID,
        "uri": "file:///media/a.mp4",
        "unit": {"index": 1, "start": 10.0, "end": 20.0},
        "key": KEY,
        "state": "missing",
        "inputs": ["e3b0c44298fc1c149afbf4c8996fb924"],
        "seconds": 0.8,
        "resources": {"CPU": 1.0},
        "target": True,
    },
    "Problem": {
        "type": "urn:amber:error:unknown-feature",
        "title": "Unknown feature",
        "status": 404,
        "detail": "there is no feature 'brightnes'; did you mean 'brightness'?",
        "error": "UnknownFeature",
        "instance": "4f1c9a02b7d54e6f8a31c0de",
    },
    "Stats": {"hits_total": 1200, "computed_total": 34, "hot_bytes": 1048576},
}
EXAMPLES["Request"] = {
    "id": REQUEST,
    "state": "done",
    "features": ["brightness"],
    "progress": {"done": 3, "total": 3},
    "tenant": "search",
    "created": 1767225600.0,
    "results": [EXAMPLES["Result"]],
}
EXAMPLES["Running"] = {
    **EXAMPLES["Request"],
    "state": "running",
    "progress": {"done": 1, "total": 3},
    "results": [
        {**{k: v for k, v in EXAMPLES["Result"].items() if k != "value"}, "state": "pending", "cached": False}
    ],
}

SCHEMAS: dict[str, Schema] = {
    "AssetRef": {
        "description": "An asset, by exactly one of its URI (or path) and the id of a known one.",
        "type": "object",
        "additionalProperties": False,
        "minProperties": 1,
        "maxProperties": 1,
        "properties": {"uri": {"type": "string", "minLength": 1, "maxLength": 4096}, "id": ID},
    },
    "Compute": {
        **_object(
            "features assets",
            features=_list(TEXT, minItems=1),
            assets=_list(ref("AssetRef"), minItems=1),
            params={
                "type": "object",
                "description": "`feature.name` to a value",
                "additionalProperties": {"type": ["number", "string", "boolean", "null"]},
            },
            range=_maybe(_list(NUMBER, minItems=2, maxItems=2, description="[A, B) in seconds")),
            priority={"type": "string", "enum": ["interactive", "ingest", "backfill"]},
            tenant=TEXT,
            refresh=FLAG,
            deadline=_maybe({"type": "number", "exclusiveMinimum": 0, "description": "seconds from now"}),
            callback=_maybe(TEXT),
        ),
        "additionalProperties": False,
    },
    "Unit": {
        "description": "What the value is of: null for a whole asset, a segment, or a collection.",
        "oneOf": [
            {"type": "null"},
            _object("index start end", index=COUNT, start=NUMBER, end=NUMBER),
            _object("collection", collection=_list(ID)),
        ],
    },
    "Failure": _object(
        "kind type title message status step key unit attempts",
        kind={"type": "string", "enum": ["input", "feature", "system"]},
        type=TEXT,
        title=TEXT,
        message=TEXT,
        status=COUNT,
        step={**TEXT, "description": "the feature that failed"},
        key=TEXT,
        unit=TEXT,
        attempts=COUNT,
        traceback=TEXT,
        blocked={**_list(TEXT), "description": "features without a value because of it, in /v1/failures"},
    ),
    "Result": _object(
        "feature asset unit key state error seconds cached",
        feature=_maybe(TEXT),
        **UNIT_FIELDS,
        key=_maybe(ID),
        state={"type": "string", "enum": ["ready", "pending", "failed", "cancelled"]},
        value={"description": "the value itself, if it is ready and small"},
        href={**TEXT, "description": "where the value is, if it is ready and large"},
        error=_maybe(ref("Failure")),
        seconds=_maybe(NUMBER),
        cached=FLAG,
    ),
    "Request": _object(
        "id state features progress results",
        id=TEXT,
        state={"type": "string", "enum": ["running", "done", "failed", "cancelled"]},
        features={**_list(TEXT), "description": "the features asked for, in order"},
        progress=_object("done total", done=COUNT, total=COUNT),
        tenant=TEXT,
        created={**NUMBER, "description": "seconds since 1970"},
        results=_list(ref("Result")),
    ),
    "Stream": _object("kind codec", kind={"type": "string", "enum": ["video", "audio", "other"]}, codec=TEXT),
    "Asset": _object(
        "id uri media_type bytes duration streams",
        id=ID,
        uri=TEXT,
        media_type=TEXT,
        bytes=COUNT,
        duration=_maybe(NUMBER),
        streams=_list(ref("Stream")),
    ),
    "Feature": _object(
        "name version per inputs params returns resources store doc pinned code_digest is_class",
        name=TEXT,
        version=TEXT,
        per={"type": "string", "enum": ["segment", "asset", "collection"]},
        inputs=_list(TEXT),
        params={"type": "object", "additionalProperties": _object("type default", type=TEXT, default={})},
        returns={"type": "object", "description": "the type of its values"},
        resources={"type": "object"},
        store={"type": "string", "enum": ["parquet", "memory", "never"]},
        doc=TEXT,
        pinned=FLAG,
        code_digest=TEXT,
        is_class=FLAG,
    ),
    "Graph": _object(
        "nodes edges dependents", nodes=_list(TEXT), edges=_list(_list(TEXT)), dependents=_list(TEXT)
    ),
    "Step": _object(
        "feature version asset unit key state inputs seconds resources target",
        feature=TEXT,
        version=TEXT,
        **UNIT_FIELDS,
        key=ID,
        state={"type": "string", "enum": ["hot", "kept", "cold", "running", "queued", "missing", "failed"]},
        inputs=_list(TEXT),
        seconds=_maybe(NUMBER),
        resources={"type": "object", "additionalProperties": NUMBER},
        target=FLAG,
    ),
    "Problem": {
        **_object(
            "type title status detail",
            type=TEXT,
            title=TEXT,
            status=COUNT,
            detail=TEXT,
            error={**TEXT, "description": "the error's class in `amber_ray.errors`"},
            instance={**TEXT, "description": "the HTTP request's id, as in the server's log"},
            retry_after=NUMBER,
        ),
        "description": "RFC 9457",
    },
    "Stats": {"type": "object", "additionalProperties": NUMBER},
}


def schemas() -> dict[str, Schema]:
    """All components, with their examples."""
    return {
        name: {**schema, "examples": [EXAMPLES[name]]} if name in EXAMPLES else schema
        for name, schema in SCHEMAS.items()
    }
