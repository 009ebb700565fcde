"""`GET /v1/assets/{id}/media`, an asset's bytes with ranges, and `POST .../media/link`, for players.

The bytes are those that the id is the digest of: where they are no longer so, the answer says that (404, 409)
and is never another file. A token of one tenant that may not operate is answered of another tenant's upload
as of an id that nobody knows.
"""

from __future__ import annotations

import re
from urllib.parse import quote

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp

from amber_ray.core.model.service import MediaPiece
from amber_ray.core.model.trust import Scope
from amber_ray.serving import grants
from amber_ray.serving.answers import json_response
from amber_ray.serving.app_context import AppContext, base
from amber_ray.serving.conditional import answer_without_body
from amber_ray.serving.described.parts import BINARY, ID, STRING, Part, answer, header, json, query
from amber_ray.serving.described.schemas import ASSET_ID, EXAMPLES, GRANT, ref
from amber_ray.serving.media_stream import MediaStream
from amber_ray.serving.presence import while_present
from amber_ray.serving.ranges import asked_part
from amber_ray.serving.routes.endpoint import Path, asset_id, caller_of, described
from amber_ray.serving.sight import blind
from amber_ray.wire.json import describe

NAMED = {**ID, "example": ASSET_ID}
KEPT = "private, no-cache"
"""Content never changes under an id, but who may read it does, so a copy is asked about before it is used."""

_ODD = re.compile(r"[^ !#-.0-9:-\[\]-~]")
"""What a name in quotes has not: quotes, slashes and backslashes, and all but printable ASCII."""


def _given(name: str, description: str, example: str) -> Part:
    return {
        "name": name,
        "in": "header",
        "description": description,
        "schema": STRING,
        "example": example,
    }


ASKED = [
    NAMED,
    _given("Range", "`bytes=A-B`, `bytes=A-`, `bytes=-LAST`; of several the first there is", "bytes=0-99"),
    _given("If-Range", "An ETag: with another one all is sent", f'"{ASSET_ID}"'),
    _given("If-None-Match", "ETags of the copies that the caller has", f'"{ASSET_ID}"'),
    _given("If-Match", "ETags of which it must be one", f'"{ASSET_ID}"'),
    query(grants.PARAMETER, GRANT, "what a link has instead of a token"),
]
CACHED: Part = {
    "ETag": header("The asset's id, which is the digest of these bytes; strong", required=True),
    "Cache-Control": header("A copy is asked about before it is used", KEPT, required=True),
    "Accept-Ranges": header("Parts may be asked for", "bytes", required=True),
}
SENT: Part = {
    **CACHED,
    "Content-Disposition": header("To be shown; and what the file is called", required=True),
}
MEDIA: Part = dict.fromkeys(("application/octet-stream", "video/*", "audio/*", "image/*"), BINARY)
"""The first is a name that every generator of clients knows."""


@described(
    "assets",
    Scope.READ,
    {
        "200": answer("All of it", MEDIA, SENT),
        "206": answer(
            "The part that `Range` asks for",
            MEDIA,
            {**SENT, "Content-Range": header("Which bytes, of how many", required=True)},
        ),
        "304": answer("The copy that the caller has is good", headers=CACHED),
    },
    "400 404 409 412 416 422",
    description="As they were when it was registered: media that has changed is 409, media that is gone 404. "
    "They come in the type that their content was found to be. An upload of another tenant is not there.",
    parameters=ASKED,
)
async def media(context: AppContext, request: Request) -> ASGIApp:
    """The asset's bytes, all or a part."""
    id = asset_id(request)
    caller = caller_of(request)
    tenant = blind(caller)

    async def piece(start: int, end: int) -> MediaPiece:
        return await context.service.media(id, start, end, tenant)

    async def more(start: int, end: int) -> bytes:
        return (await piece(start, end)).data

    told = await while_present(request.receive, piece(0, 0), context.drain)
    tag = f'"{id}"'
    headers = {"ETag": tag, "Cache-Control": KEPT, "Accept-Ranges": "bytes"}
    settled = answer_without_body(request.scope["headers"], tag)
    if settled == 304:
        return Response(status_code=304, headers=headers)
    if settled is not None:
        raise HTTPException(settled, f"this asset's ETag is {tag}, which If-Match does not list")
    headers |= {"Content-Type": told.media_type, "Content-Disposition": disposition(told.name)}
    status, part = 200, range(told.size)
    if request.method == "HEAD":  # ranges are defined for GET alone (RFC 9110 section 14.2)
        return Response(None, status, {**headers, "Content-Length": str(told.size)})
    asked = asked_part(request.scope["headers"], told.size, tag)
    if asked is not None:
        if not asked:
            named = describe(request.headers["range"])
            raise HTTPException(
                416,
                f"this asset has {told.size:,} bytes, and {named} is none of them",
                headers={"Content-Range": f"bytes */{told.size}"},
            )
        status, part = 206, asked
        headers["Content-Range"] = f"bytes {part.start}-{part.stop - 1}/{told.size}"
    headers["Content-Length"] = str(len(part))
    context.streams.enter()
    try:
        first = await while_present(request.receive, more(part.start, part.stop), context.drain)
    except BaseException:
        context.streams.left()
        raise
    return MediaStream(first, part, more, status, headers, context.streams, context.drain)


@described(
    "assets",
    Scope.READ,
    {"200": answer("The address", json(ref("MediaLink"), EXAMPLES["MediaLink"]))},
    "400 404 409 422",
    description="For `<video src>`, which can send no token. It opens the media of this asset alone, for "
    f"{grants.SECONDS // 60} minutes at most, and no longer than the token is good that asked for it. A "
    "server without tokens gives the plain address.",
    parameters=[NAMED],
)
async def media_link(context: AppContext, request: Request) -> Response:
    """An address of the asset's bytes that needs no token for some minutes."""
    id = asset_id(request)
    caller = caller_of(request)
    asked = context.service.media(id, 0, 0, blind(caller))
    await while_present(request.receive, asked, context.drain)
    grant = context.keyring.link(request.headers.get("authorization", "").encode("latin-1"), id)
    shown = "" if grant is None else f"?{grants.PARAMETER}={grant}"
    url = f"{base(request)}/v1/assets/{id}/media{shown}"
    return json_response({"url": url, "seconds": None if grant is None else grants.SECONDS})


def disposition(name: str) -> str:
    """Return a `Content-Disposition` that shows the bytes and says what they are called (RFC 6266)."""
    plain = _ODD.sub("_", name)
    return f"inline; filename=\"{plain}\"; filename*=UTF-8''{quote(name, safe='')}"


PATHS = [
    Path("/v1/assets/{id}/media", GET=media),
    Path("/v1/assets/{id}/media/link", POST=media_link),
]
