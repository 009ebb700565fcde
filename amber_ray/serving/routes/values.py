"""`GET /v1/values/{key}` and `DELETE /v1/values`.

A key never changes its meaning, but its value may be made anew (`refresh`). So a cache may keep a copy, and
has to ask before it uses it (`no-cache`). A caller whose copy is still good is answered 304.
"""

from __future__ import annotations

from starlette.datastructures import QueryParams
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from amber_ray.errors import BadRequest, NotAcceptable
from amber_ray.serving.answers import JSON_TYPE, json_response
from amber_ray.serving.app_context import AppContext
from amber_ray.serving.conditional import answer_without_body, tag_of_making
from amber_ray.serving.encodings import encode, offers, tagged
from amber_ray.serving.negotiate import choose
from amber_ray.serving.presence import while_present
from amber_ray.serving.routes.endpoint import route
from amber_ray.wire.compute import KEY
from amber_ray.wire.json import describe, members, text

FILTERS = ("asset", "feature", "version")


def routes(site: AppContext) -> list[Route]:
    """The two rows, over `site`."""

    async def read(request: Request) -> Response:
        key = request.path_params["key"]
        if not KEY.match(key):
            raise BadRequest(f"a key is 32 lower-case hex digits, not {describe(key)}")
        [stored] = await while_present(request.receive, site.service.load([key]))
        offered = offers(stored)
        media_type = choose(request.headers.get("accept"), offered)
        if media_type is None:
            raise NotAcceptable(
                f"this value of {stored.feature} can be had as {', '.join(offered)}, "
                f"not as {describe(request.headers['accept'])}"
            )
        content: bytes | None = None
        tag = tag_of_making(stored, media_type)
        if tag is None:
            content = await encode(stored, media_type)
            tag = await tagged(content, media_type)
        headers = {"ETag": tag, "Cache-Control": "no-cache", "Vary": "Accept"}
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
            # What a feature made is data, whatever type it claims: a browser must not run it in this origin.
            headers["Content-Security-Policy"] = "sandbox; default-src 'none'"
        headers["Content-Type"] = media_type
        return Response(await encode(stored, media_type) if content is None else content, 200, headers)

    async def purge(request: Request) -> Response:
        filters = _filters(request.query_params)
        return json_response({"purged": await site.service.purge(**filters)})

    return [route("/v1/values/{key}", GET=read), route("/v1/values", DELETE=purge)]


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
