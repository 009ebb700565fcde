"""`/v1/assets`: `GET` what is known, by pages; `POST` names media, or uploads it. And an asset's values."""

from __future__ import annotations

import dataclasses

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from amber_ray.core.model.absent import nothing_at
from amber_ray.core.model.trust import Scope
from amber_ray.core.model.units import Asset
from amber_ray.errors import UnknownAsset
from amber_ray.serving.answers import json_response
from amber_ray.serving.app_context import AppContext
from amber_ray.serving.described.parts import BINARY, ID, PAGED, TRACED, answer, json, page, query
from amber_ray.serving.described.schemas import ASSET_ID, EXAMPLES, ref
from amber_ray.serving.forms import AROUND, UploadedForm
from amber_ray.serving.incoming import is_json, json_value, pieces, refuse_coded, refuse_longer
from amber_ray.serving.presence import while_present
from amber_ray.serving.routes.endpoint import Path, asset_id, caller_of, described
from amber_ray.serving.sight import blind
from amber_ray.wire.compute import MAX_URI
from amber_ray.wire.json import members, text
from amber_ray.wire.pages import ASSET_FILTERS, encode_page, read_asset_filter, read_query
from amber_ray.wire.provenance import VALUE_FILTERS, encode_value
from amber_ray.wire.views import encode_asset

MEDIA = ("video", "audio", "image")
ASSET = json(ref("Asset"), EXAMPLES["Asset"])
FORM = "multipart/form-data"
BYTES = "application/octet-stream"


@described(
    "assets",
    (Scope.COMPUTE, Scope.UPLOAD),
    {"200": answer("The asset", ASSET), "201": answer("The uploaded asset", ASSET)},
    "400 404 408 413 415 422",
    parameters=[TRACED],
    requestBody={
        "required": True,
        "description": "The media's URI; or its bytes, under their own type (`video/*`, `audio/*`, "
        f"`image/*`) or as `{BYTES}`; or a form with one file. What it is, its content tells.",
        "content": {
            **json(ref("AssetUri"), EXAMPLES["AssetUri"]),
            FORM: {"schema": ref("Upload")},
            BYTES: BINARY,
        },
    },
)
async def asset(context: AppContext, request: Request) -> Response:
    """Identify media by its URI, or upload its bytes."""
    limits = context.settings.limits
    if is_json(request):
        caller_of(request).require(Scope.COMPUTE)
        fields = members(await json_value(request, limits), ("uri",), "the body")
        uri = text(fields.get("uri"), "uri", MAX_URI)
        found = await while_present(request.receive, _added(context, request, uri), context.drain)
        return json_response(encode_asset(found))
    caller_of(request).require(Scope.UPLOAD)
    kind = request.headers.get("content-type", "")
    refuse_coded(request, "the upload")
    if _essence(kind) == FORM:
        refuse_longer(request, limits.upload_bytes + AROUND, "the upload")
        form = UploadedForm(pieces(request, limits.upload_bytes + AROUND), kind, limits.upload_bytes)
        claimed = _essence(await form.open())
        uploaded = form.content()
    else:
        claimed = _claimed(kind)
        refuse_longer(request, limits.upload_bytes, "the upload")
        uploaded = pieces(request, limits.upload_bytes)
    upload = context.service.upload(uploaded, claimed if _is_media(claimed) else None)
    found = await context.drain.in_time(upload)
    return json_response(encode_asset(found), 201)


@described(
    "assets",
    Scope.READ,
    {"200": page("assets", "Asset")},
    "400",
    description="By their URIs. An asset is told once for each place, as it was when it was last looked at "
    "there. A page looks through so many places and may have fewer assets than `limit`, or none, and be "
    "followed by others: go on as long as there is a `cursor`, with the same filters. Pages fit together "
    "while assets are added. A token of one tenant that may not operate is shown that tenant's uploads and "
    "no others.",
    parameters=[
        query("prefix", "/media/films/", "what the URI begins with"),
        query("kind", "video", "`video`, `audio` or `image`"),
        query("min_duration", "60", "seconds; a still image has no duration"),
        query("max_duration", "7200", "seconds"),
        query("uploads", "false", "`false`: without what was sent as bytes"),
        *PAGED,
    ],
)
async def assets(context: AppContext, request: Request) -> Response:
    """The assets that are known, page by page."""
    asked = read_query(request.query_params.multi_items(), ASSET_FILTERS)
    only = read_asset_filter(asked.filters)
    if not caller_of(request).sees_all:
        # An id is all that it takes to read what is of an upload.
        only = dataclasses.replace(only, tenant=caller_of(request).tenant)
    found = await while_present(
        request.receive, context.service.list_assets(only, asked.limit, asked.cursor), context.drain
    )
    return json_response(encode_page("assets", found, encode_asset))


@described(
    "assets",
    Scope.READ,
    {"200": answer("The asset", ASSET)},
    "400 404",
    description="As it is where it lies now; of one that is nowhere any more, as it was. What others have "
    "uploaded is not there for a token of one tenant that may not operate.",
    parameters=[{**ID, "example": ASSET_ID}],
)
async def asset_facts(context: AppContext, request: Request) -> Response:
    """What is known of an asset."""
    return json_response(
        encode_asset(await while_present(request.receive, _seen(context, request), context.drain))
    )


@described(
    "assets",
    Scope.READ,
    {"200": page("values", "ValueInfo")},
    "400 404",
    description="By feature, version and time. A value of a set of assets that this one is in is among them. "
    "No value is read. A page may have fewer than `limit` and be followed by others: go on as long as there "
    "is a `cursor`, with the same filters.",
    parameters=[
        {**ID, "example": ASSET_ID},
        query("feature", "redness", "of this feature alone"),
        query("version", "1", "of this version alone"),
        *PAGED,
    ],
)
async def about(context: AppContext, request: Request) -> Response:
    """The values that there are about an asset, page by page."""
    id = asset_id(request)
    asked = read_query(request.query_params.multi_items(), VALUE_FILTERS)
    if not caller_of(request).sees_all:
        await while_present(request.receive, _seen(context, request), context.drain)
    found = await while_present(
        request.receive,
        context.service.list_values(id, **asked.filters, limit=asked.limit, cursor=asked.cursor),
        context.drain,
    )
    return json_response(encode_page("values", found, encode_value))


async def _seen(context: AppContext, request: Request) -> Asset:
    """The asset of the path, as far as the caller may know of it."""
    return await context.service.asset(asset_id(request), blind(caller_of(request)))


async def _added(context: AppContext, request: Request, uri: str) -> Asset:
    """The asset at a URI; of an upload of others, what is said where nothing is."""
    found = await context.service.add_asset(uri)
    tenant = blind(caller_of(request))
    if tenant is not None:
        try:
            await context.service.asset(found.id, tenant)
        except UnknownAsset:
            raise nothing_at(uri) from None
    return found


PATHS = [
    Path("/v1/assets/{id}", GET=asset_facts),
    Path("/v1/assets/{id}/values", GET=about),
    Path("/v1/assets", GET=assets, POST=asset),
]


def _claimed(header: str) -> str:
    """The type that a body is sent under, which must be one of media or of bytes of any kind.

    Text, other forms and bodies without a type are refused: those are what a page of another site can make a
    browser post here without asking first. It can post a form with a file too, but no browser that does so
    leaves out whose page it is (`Origin`), and the guard refuses that.
    """
    kind = _essence(header)
    if kind == BYTES or _is_media(kind):
        return kind
    raise HTTPException(
        415,
        'send {"uri": ...} as application/json, the bytes themselves as video/*, audio/*, image/* or '
        f"{BYTES}, or a form with one file as {FORM}",
    )


def _essence(header: str) -> str:
    """A media type without its parameters."""
    return header.partition(";")[0].strip().lower()


def _is_media(kind: str) -> bool:
    return kind.partition("/")[0] in MEDIA and bool(kind.partition("/")[2])
