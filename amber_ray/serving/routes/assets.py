"""`POST /v1/assets`: name media by its URI, or upload its bytes."""

from __future__ import annotations

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from amber_ray.serving.answers import json_response
from amber_ray.serving.app_context import AppContext
from amber_ray.serving.incoming import is_json, json_value, pieces, refuse_longer
from amber_ray.serving.presence import while_present
from amber_ray.serving.routes.endpoint import route
from amber_ray.wire.compute import MAX_URI
from amber_ray.wire.json import members, text
from amber_ray.wire.views import encode_asset

MEDIA = ("video", "audio", "image")


def routes(site: AppContext) -> list[Route]:
    """The row, over `site`."""

    async def add(request: Request) -> Response:
        limits = site.settings.limits
        if is_json(request):
            fields = members(await json_value(request, limits), ("uri",), "the body")
            uri = text(fields.get("uri"), "uri", MAX_URI)
            asset = await while_present(request.receive, site.service.add_asset(uri))
            return json_response(encode_asset(asset))
        media_type = _media_type(request.headers.get("content-type", ""))
        refuse_longer(request, limits.upload_bytes, "the upload")
        asset = await site.service.upload(pieces(request, limits.upload_bytes), media_type)
        return json_response(encode_asset(asset), 201)

    return [route("/v1/assets", POST=add)]


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
