"""`GET /v1/audit`: who changed what, for whoever operates the service."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from amber_ray.core.model.audit import CHANGES
from amber_ray.core.model.trust import Scope
from amber_ray.serving.answers import json_response
from amber_ray.serving.app_context import AppContext
from amber_ray.serving.described.parts import PAGED, STRING, Part, page, query
from amber_ray.serving.presence import while_present
from amber_ray.serving.routes.endpoint import Path, caller_of, described
from amber_ray.wire.pages import AUDIT_FILTERS, encode_page, read_audit_filter, read_query
from amber_ray.wire.views import encode_line

SINCE: Part = {
    "name": "since",
    "in": "query",
    "description": "only from this time on, in seconds since 1970",
    "schema": {"type": "number"},
    "example": 1764428400,
}
WHAT: Part = {
    "name": "what",
    "in": "query",
    "description": "only this change",
    "schema": {**STRING, "enum": list(CHANGES)},
    "example": "values.purged",
}


@described(
    "audit",
    Scope.OPERATE,
    {"200": page("audit", "AuditLine")},
    "400",
    description="The newest first. What was answered is in it. A page may have fewer than `limit` and be "
    "followed by others: go on as long as there is a `cursor`.",
    parameters=[SINCE, query("tenant", "search", "of this tenant alone"), WHAT, *PAGED],
)
async def audit(context: AppContext, request: Request) -> Response:
    """What was changed and by whom, page by page."""
    asked = read_query(request.query_params.multi_items(), AUDIT_FILTERS)
    only = read_audit_filter(asked.filters, caller_of(request).chosen(asked.filters.get("tenant")))
    found = await while_present(
        request.receive, context.service.audit(only, asked.limit, asked.cursor), context.drain
    )
    return json_response(encode_page("audit", found, encode_line))


PATHS = [Path("/v1/audit", GET=audit)]
