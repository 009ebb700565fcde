"""`GET /v1/values/{key}` and its lineage, and `POST` and `DELETE /v1/values`.

A key never changes its meaning, but its value may be made anew (`refresh`). So a cache may keep a copy, and
has to ask before it uses it (`no-cache`). A caller whose copy is still good is answered 304.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence

from starlette.datastructures import QueryParams
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp

from amber_ray.core.model.absent import no_value
from amber_ray.core.model.service import StoredValue
from amber_ray.core.model.trust import Caller, Scope
from amber_ray.errors import BadRequest, NotAcceptable, TooLarge
from amber_ray.serving.answers import JSON_TYPE, NO_STORE, json_response
from amber_ray.serving.app_context import AppContext
from amber_ray.serving.compression import coding_of
from amber_ray.serving.conditional import answer_without_body, tag_of_making
from amber_ray.serving.described.parts import BINARY, STRING, Part, answer, body, header, json, query
from amber_ray.serving.described.schemas import ASSET_ID, EXAMPLES, ref
from amber_ray.serving.described.schemas import KEY as KEY_EXAMPLE
from amber_ray.serving.encodings import encode, offers, tagged
from amber_ray.serving.incoming import json_body
from amber_ray.serving.negotiate import choose
from amber_ray.serving.presence import while_present
from amber_ray.serving.routes.endpoint import Path, caller_of, described
from amber_ray.serving.value_stream import Batches, ValueStream, absent
from amber_ray.settings import Limits
from amber_ray.wire.compute import KEY
from amber_ray.wire.json import describe, loads, members, text
from amber_ray.wire.provenance import encode_lineage
from amber_ray.wire.views import ARROW_TYPE, NPY_TYPE

VARY = "Accept, Accept-Encoding"
FILTERS = ("asset", "feature", "version")
SANDBOX = "sandbox; default-src 'none'"
"""The policy of what a feature made: it is data, whatever type it claims, and no browser may run it here."""

FORMS: Part = {
    JSON_TYPE: {"schema": {}, "example": 0.42},
    ARROW_TYPE: BINARY,
    NPY_TYPE: BINARY,
    "*/*": {
        "schema": {
            **BINARY["schema"],
            "description": "the medium itself, where a feature makes one: image/jpeg",
        }
    },
}
STREAMS = (ARROW_TYPE, "application/octet-stream")
"""What many values are sent as: Arrow, also under a name that every generator of clients knows."""
NAMED: Part = {"name": "key", "in": "path", "required": True, "schema": STRING, "example": KEY_EXAMPLE}
KNOWN: Part = {
    "name": "If-None-Match",
    "in": "header",
    "description": "ETags of the copies that the caller has; compared weakly",
    "schema": STRING,
    "example": '"a7b1e70f3c2d98e6b5040f1c2d3e4a59"',
}
ONLY: Part = {**KNOWN, "name": "If-Match", "description": "ETags of which it must be one; compared strongly"}
CACHED: Part = {
    "ETag": header("Of this representation of this making of the value; strong", required=True),
    "Cache-Control": header("A copy is asked about before it is used", "no-cache", required=True),
    "Vary": header("What the answer hangs on: at least Accept and Accept-Encoding", required=True),
}
ABOUT: Part = {
    "Amber-Feature": header("The feature that it is a value of", required=True),
    "Amber-Version": header("That feature's version", required=True),
    "Amber-Made": header("When it was made, in seconds since 1970, if that is known", type="number"),
    "Content-Security-Policy": header("For browsers, on all but JSON", SANDBOX),
}
ROWS = """A row for each key; a key that is given twice has one row. An answer with fewer rows than keys was \
cut off. Read it with `pyarrow.ipc.open_stream`, `polars.read_ipc_stream` or Arrow JS.

- `key`, `feature`, `version`: text
- `made`: when the value was made, timestamp[us] in UTC
- `value`: the value, in the type that its column has in the store's Parquet files
- `status`: int16, 200 or the HTTP status of why the key has no value
- `error`, `message`: text, null or why the key has no value

The column `value` has one type, that of the first key with a value. Keys whose values are of another type \
have the error `AnotherType` and are for another question: ask for one feature at a time. With `mixed` their \
values come as well, as one stream after the other, each of one type; many readers read the first alone. \
Past some bytes (by default 2 GiB) the keys that are left have the error `TooLarge`."""


@described(
    "values",
    Scope.READ,
    {
        "200": answer("The value", FORMS, {**CACHED, **ABOUT}),
        "304": answer("The copy that the caller has is good", headers=CACHED),
    },
    "400 404 406 412",
    parameters=[NAMED, KNOWN, ONLY],
)
async def value(context: AppContext, request: Request) -> Response:
    """One value, in the form that Accept asks for."""
    key = request.path_params["key"]
    if not KEY.match(key):
        raise BadRequest(f"a key is 32 lower-case hex digits, not {describe(key)}")
    [stored] = await while_present(request.receive, _stored(context, caller_of(request), key), context.drain)
    offered = offers(stored)
    media_type = choose(request.headers.get("accept"), offered)
    if media_type is None:
        raise NotAcceptable(
            f"this value of {stored.feature} can be had as {', '.join(offered)}, "
            f"not as {describe(request.headers['accept'])}"
        )
    content: bytes | None = None
    coding = coding_of(request.scope, media_type)
    tag = tag_of_making(stored, media_type, coding)
    if tag is None:
        content = await encode(stored, media_type)
        tag = await tagged(content, media_type, coding)
    headers = {"ETag": tag, "Cache-Control": "no-cache", "Vary": VARY}
    settled = answer_without_body(request.scope["headers"], tag)
    if settled == 304:
        return Response(status_code=304, headers=headers)
    if settled is not None:
        raise HTTPException(settled, f"this value's ETag is {tag}, which If-Match does not list")
    headers["Amber-Feature"] = stored.feature
    headers["Amber-Version"] = stored.version
    if stored.made:
        headers["Amber-Made"] = repr(stored.made)
    if media_type != JSON_TYPE:
        headers["Content-Security-Policy"] = SANDBOX
    headers["Content-Type"] = media_type
    return Response(await encode(stored, media_type) if content is None else content, 200, headers)


@described(
    "values",
    Scope.READ,
    {
        "200": answer(
            ROWS,
            dict.fromkeys(STREAMS, BINARY),
            {"Content-Security-Policy": ABOUT["Content-Security-Policy"]},
        )
    },
    "400 408 413 415",
    requestBody=body(EXAMPLES["KeyList"], ref("KeyList")),
)
async def values(context: AppContext, request: Request) -> ASGIApp:
    """The values of many keys as one Arrow stream, a row for each key."""
    limits = context.settings.limits
    content = await json_body(request, limits)
    keys, mixed = await asyncio.to_thread(_asked, content, limits)
    # Generated clients send one `Accept` with all their calls; the stream is the same by either name.
    media_type = choose(request.headers.get("accept"), STREAMS) or ARROW_TYPE
    headers = {"Content-Type": media_type, "Cache-Control": NO_STORE, "Content-Security-Policy": SANDBOX}
    answers = _shown(context, caller_of(request), keys)
    stream = ValueStream(keys, answers, limits.values_bytes, headers, mixed=mixed)
    await while_present(request.receive, stream.start(), context.drain)
    return stream


@described(
    "values",
    Scope.OPERATE,
    {"200": answer("How many were forgotten", json(ref("Purged"), EXAMPLES["Purged"]))},
    "400",
    parameters=[query("asset", ASSET_ID), query("feature", "redness"), query("version", "1")],
)
async def purge(context: AppContext, request: Request) -> Response:
    """Forget the values that match all filters given, at least one."""
    filters = _filters(request.query_params)
    return json_response({"purged": await context.service.purge(**filters)})


@described(
    "values",
    Scope.READ,
    {"200": answer("What it was made from", json(ref("Lineage"), EXAMPLES["Lineage"]))},
    "400 404 413",
    description="Itself first, then its inputs and theirs, each once; `inputs` are keys of other nodes. What "
    "is neither stored nor in memory (`stored`, `memory`) is told as today's features plan it, if they make "
    "the same value; otherwise `known` is false, and only its key is told. No value is read.",
    parameters=[NAMED],
)
async def lineage(context: AppContext, request: Request) -> Response:
    """A value's provenance, down to the media."""
    key = request.path_params["key"]
    if not KEY.match(key):
        raise BadRequest(f"a key is 32 lower-case hex digits, not {describe(key)}")
    await context.sight.require_value(caller_of(request), key)
    found = await while_present(request.receive, context.service.lineage(key), context.drain)
    return json_response(encode_lineage(found))


PATHS = [
    Path("/v1/values/{key}", GET=value),
    Path("/v1/values/{key}/lineage", GET=lineage),
    Path("/v1/values", POST=values, DELETE=purge),
]


async def _stored(context: AppContext, caller: Caller, key: str) -> list[StoredValue]:
    """The value of a key, as far as the caller may know of it."""
    await context.sight.require_value(caller, key)
    return await context.service.load([key])


def _shown(context: AppContext, caller: Caller, keys: Sequence[str]) -> Batches:
    """What is said of keys to a caller."""
    return context.service.values(keys) if caller.sees_all else _as_seen(context, caller, keys)


async def _as_seen(context: AppContext, caller: Caller, keys: Sequence[str]) -> Batches:
    """What is said of keys; those of which the caller may not know have no value."""
    shown = await context.sight.of_values(caller, keys)
    async with contextlib.aclosing(context.service.values([key for key in keys if key in shown])) as batches:
        async for batch in batches:
            yield batch
    hidden = [key for key in keys if key not in shown]
    if hidden:
        yield [absent(key, no_value(key)) for key in hidden]


def _asked(content: bytes, limits: Limits) -> tuple[list[str], bool]:
    """The keys that a body asks for, each once, and whether values of several types may come."""
    fields = members(loads(content, limits), ("keys", "mixed"), "the body")
    given, mixed = fields.get("keys"), fields.get("mixed", False)
    if not isinstance(mixed, bool):
        raise BadRequest(f"mixed must be true or false, not {describe(mixed)}")
    if not isinstance(given, list) or not given:
        raise BadRequest(f'the body must be {{"keys": [...]}} with at least one key, not {describe(given)}')
    if len(given) > limits.values_per_request:
        raise TooLarge(f"keys has {len(given):,} keys; at most {limits.values_per_request:,} are taken")
    for place, key in enumerate(given):
        if not isinstance(key, str) or not KEY.match(key):
            raise BadRequest(f"keys[{place}] must be 32 lower-case hex digits, not {describe(key)}")
    return list(dict.fromkeys(given)), mixed


def _filters(query: QueryParams) -> dict[str, str]:
    """The filters of a purge: at least one, since without any everything would go."""
    pairs = query.multi_items()
    given = members(dict(pairs), FILTERS, "the query")
    if len(given) < len(pairs):
        raise BadRequest("each of asset, feature and version may be given once")
    if not given:
        raise BadRequest("name what to purge: at least one of asset, feature and version in the query")
    if "asset" in given and not KEY.match(given["asset"]):
        raise BadRequest(f"asset must be an id of 32 lower-case hex digits, not {describe(given['asset'])}")
    return {name: text(value, name) for name, value in given.items()}
