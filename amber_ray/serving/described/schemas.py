"""JSON Schemas of what travels, each with an example: the `components` of the OpenAPI document.

Written by hand beside `wire`, because no model is built from a body on the way in or out. Tests hold every
example to its schema and to what the code makes, and every answer of the app to the schemas.
"""

from __future__ import annotations

from typing import Any, get_args

from amber_ray.core.model.audit import CHANGES
from amber_ray.core.model.callback import DELIVERY_STATES, EVENTS
from amber_ray.core.model.demand_codec import status_to_json
from amber_ray.core.model.demands import (
    LEAST_EVERY,
    MOST_EVERY,
    MOST_NAMED,
    MOST_SETTLE,
    DemandStatus,
    FailingAsset,
)
from amber_ray.core.model.request import Priority, StepAction
from amber_ray.core.model.stats import HITS_REPLICA, HITS_STORE
from amber_ray.core.model.units import Stream
from amber_ray.errors import UnknownFeature
from amber_ray.wire.compute import MAX_CALLBACK, MAX_DEADLINE, MAX_FEATURES, MAX_URI, TENANT
from amber_ray.wire.json import MAX_NAME
from amber_ray.wire.problems import problem

Schema = dict[str, Any]

ASSET_ID = "5d41402abc4b2a76b9719d911017c592"
KEY = "0b5f3c2a9d8e7f60112233445566778f"
REQUEST = "2f9c1b7a4e5d60718293a4b5c6d7e8f9"
HTTP_REQUEST = "4f1c9a02b7d54e6f8a31c0de"
GRANT = "9a1c3e5f70b2d486.1767226200.5a" + "0c" * 31
CURSOR = "WyJhc3NldHMiLCIvbWVkaWEvYS5tcDQiXQ"


def ref(name: str) -> Schema:
    """A reference to a component."""
    return {"$ref": f"#/components/schemas/{name}"}


def _object(required: str, /, **properties: Schema) -> Schema:
    """An object; `required` lists the names that are always there."""
    return {"type": "object", "required": required.split(), "properties": properties}


def _callback(on: str) -> Schema:
    """Who is called; `on` says what its events mean."""
    url = {
        **_text(MAX_CALLBACK),
        "description": "https, of a host that the server's operator has named (`callback_hosts`)",
    }
    events = _list({"type": "string", "enum": list(EVENTS)}, minItems=1, description=on)
    return {**_object("url", url=url, on=events), "additionalProperties": False}


def _page(name: str, item: str) -> Schema:
    """A page of a listing."""
    cursor = {**_maybe(TEXT), "description": "asks for the next page; null: this is the last one"}
    return _object(f"{name} cursor", **{name: _list(ref(item))}, cursor=cursor)


def _list(of: Schema, **more: Any) -> Schema:
    return {"type": "array", "items": of, **more}


def _text(longest: int) -> Schema:
    return {"type": "string", "minLength": 1, "maxLength": longest}


def _maybe(schema: Schema) -> Schema:
    return {"oneOf": [schema, {"type": "null"}]}


TEXT: Schema = {"type": "string"}
COUNT: Schema = {"type": "integer", "minimum": 0}
NUMBER: Schema = {"type": "number"}
STATE: Schema = {"type": "string", "enum": ["running", "done", "failed", "cancelled"]}
FLAG: Schema = {"type": "boolean"}
ID: Schema = {"type": "string", "pattern": "^[0-9a-f]{32}$"}
VERSION = "auto-a881ee23ad9653ac"
DIGEST = "5f0c9e5f3a1d4f1e8b7c6a5d4e3f2a1b"
NOTE: Schema = {
    **TEXT,
    "description": "what of the asset features do not see, as all but the first picture of one that moves",
}
UNIT_FIELDS: dict[str, Schema] = {
    "asset": _maybe(ID),
    "uri": _maybe(TEXT),
    "unit": ref("Unit"),
    "note": NOTE,
}

EXAMPLES: dict[str, Any] = {
    "Compute": {
        "features": ["redness", "thumbnail"],
        "assets": [{"uri": "file:///media/a.mp4"}, {"id": ASSET_ID}],
        "params": {"frames.fps": 2},
        "range": [10, 20],
        "priority": "interactive",
        "tenant": "search",
        "refresh": False,
        "deadline": 600,
        "callback": {"url": "https://hooks.example/amber", "on": ["done", "failed"]},
    },
    "AuditLine": {
        "id": "5b1f0c7e9d2a4386b7c8d9e0f1a2b3c4",
        "time": 1764428412.25,
        "what": "values.purged",
        "subject": "feature redness version 1",
        "tenant": "search",
        "caller": "nightly",
        "request": "6f2d1c0b9a8e7f6d5c4b3a29",
        "outcome": "done",
        "detail": {"values": 1200},
    },
    "Delivery": {
        "id": f"end_{REQUEST}",
        "request": REQUEST,
        "tenant": "search",
        "url": "https://hooks.example/…",
        "state": "pending",
        "type": "request.done",
        "created": 1764400000.0,
        "attempts": 2,
        "next_at": 1764400021.5,
        "status": 503,
        "error": "the receiver answered 503",
        "demand": "",
    },
    "Message": {
        "type": "request.done",
        "timestamp": "2026-11-29T13:00:00.000+00:00",
        "data": {
            "request": REQUEST,
            "tenant": "search",
            "state": "done",
            "results": {"ready": 3, "failed": 0},
            "failed_assets": 0,
            "links": {"request": f"/v1/requests/{REQUEST}"},
        },
    },
    "Failure": {
        "kind": "feature",
        "type": "FeatureError",
        "title": "Feature error",
        "message": "ValueError: no frames in this segment",
        "status": 422,
        "step": "redness",
        "key": KEY,
        "unit": f"{ASSET_ID}@10000000+10000000",
        "attempts": 1,
    },
    "Result": {
        "feature": "redness",
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
        "name": "redness",
        "version": VERSION,
        "per": "segment",
        "inputs": ["frames"],
        "params": {},
        "returns": {"type": "optional", "item": {"type": "float"}},
        "resources": {"CPU": 1.0},
        "store": "parquet",
        "doc": "How much more red than green and blue there is.",
        "pinned": False,
        "code_digest": "a881ee23ad9653acd1ad07e9c6f3171d",
        "is_class": False,
        "digest": DIGEST,
        "calls": {},
    },
    "Graph": {
        "nodes": ["frames", "redness"],
        "edges": [["frames", "redness"]],
        "dependents": ["reddest"],
    },
    "Step": {
        "feature": "redness",
        "version": VERSION,
        "asset": ASSET_ID,
        "uri": "file:///media/a.mp4",
        "unit": {"index": 1, "start": 10.0, "end": 20.0},
        "key": KEY,
        "state": "missing",
        "inputs": ["e3b0c44298fc1c149afbf4c8996fb924"],
        "seconds": 0.8,
        "resources": {"CPU": 1.0},
        "target": True,
        "action": "run",
        "expected": None,
    },
    "Problem": problem(UnknownFeature("there is no feature 'rednes'; did you mean 'redness'?"), HTTP_REQUEST),
    "Stats": {HITS_REPLICA: 1200, HITS_STORE: 61, "computed_total": 34, "hot_bytes": 1048576},
    "Purged": {"purged": 12},
    "MediaLink": {"url": f"/v1/assets/{ASSET_ID}/media?grant={GRANT}", "seconds": 600},
    "StoredVersion": {"feature": "redness", "version": VERSION, "parts": 2, "rows": 1200, "bytes": 1048576},
    "KeyList": {"keys": [KEY, "1c6a4d3bae9f801722334455667788a0"]},
    "Progress": {"done": 1, "total": 3},
    "AssetUri": {"uri": "file:///media/a.mp4"},
    "RequestInfo": {
        "id": REQUEST,
        "state": "done",
        "tenant": "search",
        "created": 1767225600.0,
        "features": ["redness"],
        "results": 3,
        "ready": 2,
        "failed": 1,
    },
    "ValueInfo": {
        "key": KEY,
        "feature": "redness",
        "version": VERSION,
        "params": {"frames.fps": 2.0},
        "per": "segment",
        "asset": ASSET_ID,
        "unit": {"index": 1, "start": 10.0, "end": 20.0},
        "made": 1767225600.25,
        "seconds": 1.2,
        "device": "cpu",
        "stored": True,
        "memory": False,
        "code": "a881ee23ad9653acd1ad07e9c6f3171d",
        "inputs": ["e3b0c44298fc1c149afbf4c8996fb924"],
    },
    "SourceText": {
        "name": "mine.py",
        "text": "from amber_ray import Asset, feature\n\n\n@feature\ndef size(asset: Asset) -> int:\n"
        "    return asset.bytes\n",
        "package": "",
        "filed": True,
    },
    "Alive": {"status": "ok"},
    "Ready": {"status": "ready"},
}
EXAMPLES["Registering"] = {
    "base": "",
    "texts": [EXAMPLES["SourceText"]],
    "features": {"size": DIGEST},
}
EXAMPLES["Registry"] = {
    "digest": KEY,
    "features": [EXAMPLES["Feature"]],
    "declared": {"redness": DIGEST},
}
EXAMPLES["Demanding"] = {
    "features": ["redness"],
    "prefixes": ["/media/films/", "s3://media/new/"],
    "params": {"frames.fps": 2},
    "every": 60,
    "gone": "keep",
    "tenant": "search",
    "settle_seconds": 5,
    "callback": {"url": "https://hooks.example/amber", "on": ["done", "failed"]},
}
EXAMPLES["DemandMessage"] = {
    "type": "demand.done",
    "timestamp": "2026-11-29T13:00:00.000+00:00",
    "data": {
        "demand": "films",
        "tenant": "search",
        "assets": {"seen": 1204, "true": 1204},
        "links": {"demand": "/v1/demands/films"},
    },
}
EXAMPLES["DemandStatus"] = {
    **status_to_json(
        DemandStatus(
            seen=1204,
            true=1200,
            running=3,
            failed=1,
            oldest=1767225600.0,
            began=1767225610.0,
            ended=1767225612.5,
            seconds=2.5,
            listing=0.4,
            asked=12,
            computed=11,
            sweeps=7,
            sweeping=True,
            failing=(FailingAsset("/media/films/b.mp4", "redness: ValueError: no frames in this segment"),),
        )
    ),
    "all_true": False,
}
EXAMPLES["Demand"] = {
    "name": "films",
    **EXAMPLES["Demanding"],
    "made": 1767225600.0,
    "status": EXAMPLES["DemandStatus"],
}
EXAMPLES["Stopped"] = {"stopped": True}
EXAMPLES["Events"] = {
    "Records": [
        {
            "eventName": "ObjectCreated:Put",
            "s3": {"bucket": {"name": "media"}, "object": {"key": "new/red+flower.png"}},
        }
    ]
}
EXAMPLES["Noticed"] = {"taken": 1, "uncovered": 0, "dropped": 0, "ignored": 0}
EXAMPLES["Request"] = {
    "id": REQUEST,
    "state": "done",
    "features": ["redness"],
    "progress": {"done": 3, "total": 3},
    "tenant": "search",
    "created": 1767225600.0,
    "results": [EXAMPLES["Result"]],
}
PENDING = {**EXAMPLES["Result"], "state": "pending", "seconds": None, "cached": False}
del PENDING["value"]
EXAMPLES["Running"] = {
    **EXAMPLES["Request"],
    "state": "running",
    "progress": {"done": 1, "total": 3},
    "results": [PENDING],
}
EXAMPLES["Plan"] = {"steps": [EXAMPLES["Step"]], "states": {"missing": 1}, "seconds": 0.8, "unknown": []}

EXAMPLES["Lineage"] = {
    "key": KEY,
    "nodes": [
        {**EXAMPLES["ValueInfo"], "known": True},
        {"key": EXAMPLES["ValueInfo"]["inputs"][0], "known": False},
    ],
    "assets": [EXAMPLES["Asset"]],
}

_END = r"\Z"
"""How a pattern of `wire` ends; JSON Schema's patterns are ECMA-262's, which write `$`."""
_STREAM: dict[str, Schema] = {
    "kind": {"type": "string", "enum": ["video", "audio", "other"]},
    "rotation": {"type": "integer"},
    "mirrored": {"type": "boolean"},
    "chosen": {"type": "boolean"},
    "crop": {"type": "array", "items": COUNT, "minItems": 4, "maxItems": 4},
    **dict.fromkeys(("width", "height", "frames", "sample_rate", "channels"), COUNT),
}
"""Fields of a stream that are not texts; those that don't apply to one are left out."""

_DEMAND: dict[str, Schema] = {
    "features": _list(_text(MAX_NAME), minItems=1, maxItems=MOST_NAMED),
    "prefixes": {
        **_list(_text(MAX_URI), minItems=1, maxItems=MOST_NAMED),
        "description": "absolute paths of folders and files, and URLs, of which one that ends with / has all "
        "below it",
    },
    "params": ref("Params"),
    "every": {
        "type": "number",
        "minimum": LEAST_EVERY,
        "maximum": MOST_EVERY,
        "description": "seconds from one look to the next",
    },
    "gone": ref("Gone"),
    "tenant": {"type": "string", "pattern": f"^{TENANT.pattern.removesuffix(_END)}$"},
    "settle_seconds": {
        "type": "number",
        "minimum": 0,
        "maximum": MOST_SETTLE,
        "description": "how long a local file must have stood still before it is taken",
    },
    "callback": ref("DemandCallback"),
}
_DEMAND_STATUS: dict[str, Schema] = {
    "oldest": {
        **_maybe(NUMBER),
        "description": "since when the oldest asset that is not true is not, in seconds since 1970",
    },
    **dict.fromkeys(("began", "ended", "seconds", "listing"), NUMBER),
    "sweeping": FLAG,
    "all_true": {**FLAG, "description": "whether a whole look has found, or made, everything true"},
    "error": {**TEXT, "description": "why the last look could not be made, or not of everything"},
    "failing": _list(ref("FailingAsset")),
    "unwatched": {
        **TEXT,
        "description": "why what changes in a folder is found by the next look, not at once",
    },
    "untold": {**TEXT, "description": "why the callback has not been told of everything yet"},
}
"""Fields of a demand's status that are no counts."""

SCHEMAS: dict[str, Schema] = {
    "AssetRef": {
        "description": "An asset, by exactly one of its URI (or path) and the id of a known one.",
        "type": "object",
        "additionalProperties": False,
        "minProperties": 1,
        "maxProperties": 1,
        "properties": {"uri": _text(MAX_URI), "id": ID},
    },
    "Compute": {
        **_object(
            "features assets",
            features=_list(_text(MAX_NAME), minItems=1, maxItems=MAX_FEATURES),
            assets=_list(ref("AssetRef"), minItems=1),
            params=_maybe(ref("Params")),
            range=_maybe(
                _list(
                    {"type": "number", "minimum": 0},
                    minItems=2,
                    maxItems=2,
                    description="[A, B) in seconds, A < B",
                )
            ),
            priority=_maybe(ref("Priority")),
            tenant=_maybe({"type": "string", "pattern": f"^{TENANT.pattern.removesuffix(_END)}$"}),
            refresh=_maybe({**FLAG, "description": "make the values anew even where there are some"}),
            deadline=_maybe(
                {
                    "type": "number",
                    "exclusiveMinimum": 0,
                    "maximum": MAX_DEADLINE,
                    "description": "seconds from now",
                }
            ),
            callback=_maybe(ref("Callback")),
            expect=_maybe(
                {
                    "type": "object",
                    "description": "features to the digests that they must have (`digest` of a feature), "
                    "else the answer is 412 and nothing is run",
                    "propertyNames": _text(MAX_NAME),
                    "maxProperties": MAX_FEATURES,
                    "additionalProperties": ID,
                }
            ),
            registry=_maybe(
                {
                    **ID,
                    "description": "the registry to plan with: the `digest` that `POST /v1/registry` told",
                }
            ),
        ),
        "additionalProperties": False,
    },
    "Params": {
        "type": "object",
        "description": "`feature.name` to a value",
        "propertyNames": _text(MAX_NAME),
        "additionalProperties": {"type": ["number", "string", "boolean", "null"], "maxLength": MAX_URI},
    },
    "Priority": {"type": "string", "enum": [p.name.lower() for p in reversed(Priority)]},
    "Unit": {
        "description": "What the value is of: null for a whole asset, a segment, a window that a feature "
        "found, or a collection. Before it is known what a feature finds, and where it finds nothing, each "
        "of its ranges.",
        "oneOf": [
            {"type": "null"},
            *(ref("SegmentUnit"), ref("FoundUnit"), ref("EachUnit"), ref("CollectionUnit")),
        ],
    },
    "SegmentUnit": _object("index start end", index=COUNT, start=NUMBER, end=NUMBER),
    "FoundUnit": {**_object("start end", start=NUMBER, end=NUMBER), "additionalProperties": False},
    "EachUnit": _object("each", each=TEXT),
    "CollectionUnit": _object("collection", collection=_list(ID)),
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
        uri={**TEXT, "description": "where the asset that it is about is read, in /v1/failures"},
    ),
    "Result": _object(
        "feature asset unit key state error seconds cached",
        feature=_maybe(TEXT),
        **UNIT_FIELDS,
        key=_maybe(ID),
        state={"type": "string", "enum": ["ready", "pending", "failed", "cancelled"]},
        value={
            "description": "The value itself, if it is ready and small. Bytes are base64. Numbers that a "
            "double can't hold are text: whole ones beyond 2^53 - 1 by their digits, NaN, Infinity and "
            "-Infinity by these words."
        },
        href={**TEXT, "description": "where the value is, if it is ready and large"},
        error=_maybe(ref("Failure")),
        seconds=_maybe(NUMBER),
        cached=FLAG,
    ),
    "Request": _object(
        "id state features progress results",
        id=TEXT,
        state=STATE,
        features={**_list(TEXT), "description": "the features asked for, in order"},
        progress=_object("done total", done=COUNT, total=COUNT),
        tenant=TEXT,
        created={**NUMBER, "description": "seconds since 1970"},
        results=_list(ref("Result")),
    ),
    "Stream": _object(
        "kind codec",
        **{name: _STREAM.get(name, TEXT) for name in Stream.__slots__},
    ),
    "Asset": _object(
        "id uri media_type bytes duration streams",
        id=ID,
        uri=TEXT,
        media_type=TEXT,
        bytes=COUNT,
        duration=_maybe(NUMBER),
        streams=_list(ref("Stream")),
        note=NOTE,
    ),
    "Feature": _object(
        "name version per inputs params returns resources store doc pinned code_digest is_class digest calls",
        name=TEXT,
        version=TEXT,
        per={
            "type": "string",
            "description": "segment, asset, collection, or the feature for each of whose ranges it is",
        },
        inputs=_list(TEXT),
        params={"type": "object", "additionalProperties": ref("Param")},
        returns={"type": "object", "description": "the type of its values", "additionalProperties": True},
        resources={"type": "object", "additionalProperties": NUMBER},
        store={"type": "string", "enum": ["parquet", "memory", "never"]},
        doc=TEXT,
        pinned=FLAG,
        code_digest=TEXT,
        is_class=FLAG,
        digest={**ID, "description": "what its values mean, all but the code of its inputs"},
        calls=ref("Calls"),
        graph={**ref("Graph"), "description": "only where one feature is asked for"},
    ),
    "Calls": {
        **_object("", concurrency=COUNT, rate=TEXT, retry_status=_list(COUNT)),
        "description": "How a feature that calls a service is held back; empty for others.",
    },
    "Param": _object("type default", type=TEXT, default={}),
    "SourceText": {
        **_object(
            "name text",
            name={**TEXT, "description": "what people call it, for messages and tracebacks"},
            text={**TEXT, "description": "a module's source"},
            package={**TEXT, "description": "the package that its relative imports start from"},
            filed={**FLAG, "description": "whether it is the text of a file, and not of a notebook"},
        ),
        "additionalProperties": False,
    },
    "Registering": {
        **_object(
            "",
            base={
                "type": "string",
                "pattern": "^([0-9a-f]{32})?$",
                "description": "the registry to add to, by its digest; empty: the server's own",
            },
            texts=_list(ref("SourceText")),
            features={
                "type": "object",
                "description": "the features meant, with the digests that they must have here",
                "additionalProperties": ID,
            },
        ),
        "additionalProperties": False,
    },
    "Registry": _object(
        "digest features declared",
        digest={**ID, "description": "names it in `registry` of a request"},
        features=_list(ref("Feature")),
        declared={
            "type": "object",
            "description": "of each feature, a digest of all that was declared",
            "additionalProperties": ID,
        },
    ),
    "Purged": _object("purged", purged=COUNT),
    "MediaLink": _object(
        "url seconds",
        url={**TEXT, "description": "on this server, for a player"},
        seconds={**_maybe(COUNT), "description": "for how long it is good; null: always"},
    ),
    "StoredVersion": _object(
        "feature version parts rows bytes", feature=TEXT, version=TEXT, parts=COUNT, rows=COUNT, bytes=COUNT
    ),
    "KeyList": {
        **_object(
            "keys",
            keys=_list(
                ID,
                minItems=1,
                description="keys of results; the server bounds their number (413), by default to 10,000",
            ),
            mixed={
                **FLAG,
                "description": "give values of several types, one stream after the other",
            },
        ),
        "additionalProperties": False,
    },
    "Progress": _object("done total", done=COUNT, total=COUNT, result=ref("Result")),
    "Plan": _object(
        "steps states seconds unknown",
        steps=_list(ref("Step")),
        states={"type": "object", "additionalProperties": COUNT},
        seconds={**NUMBER, "description": "what the steps that must run take, of features that have run"},
        unknown=_list({**TEXT, "description": "a feature that must run, never ran, and is not in seconds"}),
    ),
    "Upload": {
        **_object("file", file={"type": "string", "format": "binary", "description": "the media's bytes"}),
        "additionalProperties": False,
    },
    "FeatureList": _object("features", features=_list(ref("Feature"))),
    "StoredVersionList": _object("versions", versions=_list(ref("StoredVersion"))),
    "Delivery": _object(
        "id request tenant url state type created attempts next_at status error demand",
        id={**TEXT, "description": "what the receiver gets as `webhook-id`"},
        request={**TEXT, "description": "the request that it is about; empty if it is about a demand"},
        demand={**TEXT, "description": "the name of the demand that it is about; empty if about a request"},
        tenant=TEXT,
        url={**TEXT, "description": "scheme and host of the URL that is called"},
        state={
            "type": "string",
            "enum": list(DELIVERY_STATES),
            "description": "its request goes on, it is to be sent, the receiver has taken it, or it is sent "
            "again only by hand",
        },
        type={**TEXT, "description": "such as request.done; empty while the request goes on"},
        created={**NUMBER, "description": "when it was asked for, in Unix seconds"},
        attempts=COUNT,
        next_at={**_maybe(NUMBER), "description": "when it is sent next, in Unix seconds"},
        status={**_maybe(COUNT), "description": "what the receiver answered last"},
        error={**TEXT, "description": "why it was not taken"},
    ),
    "Message": _object(
        "type timestamp data",
        type={
            "type": "string",
            "enum": [f"request.{what}" for what in ("done", "failed", "cancelled", "result")],
        },
        timestamp={**TEXT, "format": "date-time"},
        data=ref("MessageData"),
    ),
    "MessageData": _object(
        "request tenant state results failed_assets links",
        request=TEXT,
        tenant=TEXT,
        state={"type": "string", "enum": ["running", "done", "failed", "cancelled"]},
        results=ref("MessageResults"),
        failed_assets={**COUNT, "description": "assets that could not be found"},
        links=ref("MessageLinks"),
    ),
    "DemandMessage": _object(
        "type timestamp data",
        type={"type": "string", "enum": [f"demand.{what}" for what in EVENTS]},
        timestamp={**TEXT, "format": "date-time"},
        data=ref("DemandMessageData"),
    ),
    "DemandMessageData": _object(
        "demand tenant assets links",
        demand=TEXT,
        tenant=TEXT,
        assets=ref("DemandMessageAssets"),
        links=ref("DemandMessageLinks"),
    ),
    "DemandMessageAssets": _object(
        "",
        became_true={**COUNT, "description": "of a result: how many have become true since the last one"},
        seen={**COUNT, "description": "of the others: places with media, as of the last look"},
        true={**COUNT, "description": "of the others: those of which all is there"},
        failed={**COUNT, "description": "of a failed: those that fail"},
        newly_failed={**COUNT, "description": "of a failed: those of them that did not before"},
    ),
    "DemandMessageLinks": _object("demand", demand={**TEXT, "description": "a path of this server"}),
    "MessageResults": _object("ready failed", ready=COUNT, failed=COUNT),
    "MessageLinks": _object("request", request={**TEXT, "description": "a path of this server"}),
    "AuditLine": _object(
        "id time what subject tenant caller request outcome detail",
        id=TEXT,
        time={**NUMBER, "description": "seconds since 1970"},
        what={"type": "string", "enum": list(CHANGES)},
        subject={**TEXT, "description": "the id or name of what was changed"},
        tenant={**TEXT, "description": "whose it is, or of whom that was who did it; empty if nobody's"},
        caller={**TEXT, "description": "the name of the token, or what stands for one"},
        request={**TEXT, "description": "the `X-Request-Id` of the answer; empty where nobody asked by HTTP"},
        outcome={
            **TEXT,
            "description": "`done`, `interrupted` if the caller hung up, else the error of what may be done "
            "all the same",
        },
        detail={"type": "object", "additionalProperties": True},
    ),
    "AuditLinePage": _page("audit", "AuditLine"),
    "DeliveryList": _object("deliveries", deliveries=_list(ref("Delivery"))),
    "Callback": _callback(
        "the end with at least one value, the end without any, or results as they come; by default done and "
        "failed"
    ),
    "DemandCallback": _callback(
        "all has become true, assets fail that did not, or assets have become true; by default done and "
        "failed"
    ),
    "FailureList": _object("failures", failures=_list(ref("Failure"))),
    "RequestInfoPage": _page("requests", "RequestInfo"),
    "RequestInfo": _object(
        "id state tenant created features results ready failed",
        id=TEXT,
        state=STATE,
        tenant=TEXT,
        created={**NUMBER, "description": "seconds since 1970"},
        features={**_list(TEXT), "description": "the features asked for"},
        results={**COUNT, "description": "how many were asked for; it grows while windows are found"},
        ready={**COUNT, "description": "how many of them have a value"},
        failed={**COUNT, "description": "how many of them have none"},
    ),
    "Lineage": _object(
        "key nodes assets",
        key=ID,
        nodes=_list({"anyOf": [ref("ValueInfo"), ref("UnknownValue")]}),
        assets={**_list(ref("Asset")), "description": "the media, once for each place where it was found"},
    ),
    "UnknownValue": _object("key known", key=TEXT, known={"type": "boolean", "enum": [False]}),
    "AssetPage": _page("assets", "Asset"),
    "ValueInfoPage": _page("values", "ValueInfo"),
    "ValueInfo": _object(
        "key feature version params per asset unit made seconds device stored memory code inputs",
        key=ID,
        feature=TEXT,
        version=TEXT,
        params={
            "type": "object",
            "description": "its own by name, those of what it is made from by `feature.name`",
            "additionalProperties": True,
        },
        per={
            "type": "string",
            "enum": ["asset", "segment", "window", "collection"],
            "description": "what it is of: a window is one that a feature found, a segment one of the grid",
        },
        asset=_maybe(ID),
        unit=ref("Unit"),
        known={**FLAG, "description": "of a lineage's node: false if nothing but its key is known"},
        made={**NUMBER, "description": "when, in seconds since 1970"},
        seconds={**NUMBER, "description": "how long it took"},
        device={**TEXT, "description": "where: `cpu`, or the GPU's name"},
        stored={**FLAG, "description": "it is in Parquet"},
        memory={**FLAG, "description": "it is in memory; one that is not stored may never be"},
        code={**TEXT, "description": "the digest of the feature's code, empty where it was not noted"},
        inputs={**_list(TEXT), "description": "the keys of what it was made from"},
    ),
    "AssetUri": {**_object("uri", uri=_text(MAX_URI)), "additionalProperties": False},
    "Alive": _object("status", status=TEXT),
    "Graph": _object(
        "nodes edges dependents", nodes=_list(TEXT), edges=_list(_list(TEXT)), dependents=_list(TEXT)
    ),
    "Step": _object(
        "feature version asset unit key state inputs seconds resources target action expected",
        feature=TEXT,
        version=TEXT,
        **UNIT_FIELDS,
        key=ID,
        state={"type": "string", "enum": ["hot", "kept", "cold", "running", "queued", "missing", "failed"]},
        inputs=_list(TEXT),
        seconds=_maybe(NUMBER),
        resources={"type": "object", "additionalProperties": NUMBER},
        target=FLAG,
        action={
            "type": "string",
            "enum": list(get_args(StepAction)),
            "description": "what compute would do with it: run it, wait for work that is under way, read it "
            "from the store, use it as it is in memory, fail because of it, or skip it: nothing needs it",
        },
        expected={
            **_maybe(COUNT),
            "description": "of a step that is each range of a finder: how many it may be, by what the finder "
            "found in other assets; null of others, and where it has not run yet",
        },
    ),
    "Demanding": {
        **_object(
            "features prefixes",
            **{
                name: _maybe(one) if name not in ("features", "prefixes") else one
                for name, one in _DEMAND.items()
            },
        ),
        "additionalProperties": False,
    },
    "Demand": _object(
        "name features prefixes params every gone tenant settle_seconds made status",
        name=TEXT,
        **_DEMAND,
        made={**NUMBER, "description": "seconds since 1970"},
        status=ref("DemandStatus"),
    ),
    "DemandStatus": _object(
        " ".join(EXAMPLES["DemandStatus"]),
        **{name: _DEMAND_STATUS.get(name, COUNT) for name in EXAMPLES["DemandStatus"]},
    ),
    "Gone": {
        "type": "string",
        "enum": ["keep", "purge"],
        "description": "what becomes of values of assets that are nowhere any more",
    },
    "FailingAsset": _object("uri message", uri=TEXT, message=TEXT),
    "DemandList": _object("demands", demands=_list(ref("Demand"))),
    "Stopped": _object("stopped", stopped=FLAG),
    "Events": {
        "type": "object",
        "description": "where something happened: one uri, or uris, or what S3 or MinIO sends, as it comes "
        "or by SNS, SQS or EventBridge",
        "properties": {
            "uri": _text(MAX_URI),
            "uris": _list(_text(MAX_URI)),
            "Records": _list({"type": "object", "additionalProperties": True}),
            "Messages": _list({"type": "object", "additionalProperties": True}),
        },
    },
    "Noticed": _object(
        "taken uncovered dropped ignored",
        taken={**COUNT, "description": "places that are looked at"},
        uncovered={**COUNT, "description": "places that no demand covers"},
        dropped={**COUNT, "description": "too many wait already; the next look of a demand finds the same"},
        ignored={**COUNT, "description": "events after which everything is as it was"},
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
