"""`POST /v1/assets`: name media by its URI, or upload its bytes."""

from __future__ import annotations

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from amber_ray.serving.answers import json_response
from amber_ray.serving.app_context import AppContext
from amber_ray.serving.described.parts import BINARY, answer, json
from amber_ray.serving.described.schemas import EXAMPLES, ref
from amber_ray.serving.incoming import is_json, json_value, pieces, refuse_longer
from amber_ray.serving.presence import while_present
from amber_ray.serving.routes.endpoint import Path, described
from amber_ray.wire.compute import MAX_URI
from amber_ray.wire.json import members, text
from amber_ray.wire.views import encode_asset

MEDIA = ("video", "audio", "image")
ASSET = json(ref("Asset"), EXAMPLES["Asset"])
UPLOADS = dict.fromkeys((*(f"{kind}/*" for kind in MEDIA), "application/octet-stream"), BINARY)


@described(
    "assets",
    {"200": answer("The asset", ASSET), "201": answer("The uploaded asset", ASSET)},
    "400 404 408 413 415 422",
    requestBody={
        "required": True,
        "content": {**json(ref("AssetUri"), EXAMPLES["AssetUri"]), **UPLOADS},
    },
)
async def asset(context: AppContext, request: Request) -> Response:
    """Identify media by its URI, or upload its bytes."""
    limits = context.settings.limits
    if is_json(request):
        fields = members(await json_value(request, limits), ("uri",), "the body")
        uri = text(fields.get("uri"), "uri", MAX_URI)
        found = await while_present(request.receive, context.service.add_asset(uri))
        return json_response(encode_asset(found))
    media_type = _media_type(request.headers.get("content-type", ""))
    refuse_longer(request, limits.upload_bytes, "the upload")
    found = await context.service.upload(pieces(request, limits.upload_bytes), media_type)
    return json_response(encode_asset(found), 201)


PATHS = [Path("/v1/assets", POST=asset)]


def _media_type(header: str) -> str | None:
    """The type that an upload claims; None for unspecified bytes.

    Text, forms and bodies without a type are refused: those are what a page of another site can make a
    browser post here without asking first.
    """
    kind = header.partition(";")[0].strip().lower()
    if kind == "application/octet-stream":
        return None
    if kind.partition("/")[0] in MEDIA and kind.partition("/")[2]:
        return kind
    raise HTTPException(
        415,
        'send {"uri": ...} as application/json, or the bytes themselves as video/*, audio/*, image/* '
        "or application/octet-stream",
    )
