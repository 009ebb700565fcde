"""Responses: JSON bodies, and every error as an RFC 9457 problem document with the headers that belong to it.

Must not know: routes, the service.
"""

from __future__ import annotations

import http
import json
import math
from collections.abc import Mapping
from typing import Any

import orjson
from starlette.exceptions import HTTPException
from starlette.responses import Response

from amber_ray.errors import AmberError, NotAcceptable, Overloaded, Unauthorized
from amber_ray.wire.problems import problem

JSON_TYPE = "application/json"
PROBLEM_TYPE = "application/problem+json"
NO_STORE = "no-store"
CHALLENGE = 'Bearer realm="amber"'
ASK_PEOPLE = 'Basic realm="amber", charset="UTF-8"'
"""A challenge for a browser that opens a page: it asks its reader for a password, which is the token."""


def encode_json(data: Any) -> bytes:
    """Encode JSON. Non-finite floats must have been turned to strings before (`ValueType.to_json` does)."""
    try:
        return orjson.dumps(data)
    except TypeError:
        # Past what orjson takes: integers of more than 64 bits, halves of surrogate pairs, dates in a table.
        return json.dumps(data, default=str).encode()


def json_response(data: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """Return a JSON response, `no-store` unless `headers` says otherwise."""
    return Response(encode_json(data), status, {"Cache-Control": NO_STORE, **(headers or {})}, JSON_TYPE)


def error_response(error: Exception, request_id: str | None = None) -> Response:
    """Return the problem document for an error, with the headers that its status asks for."""
    document = problem_document(error, request_id)
    headers = {"Cache-Control": NO_STORE}
    if isinstance(error, HTTPException):
        headers.update(error.headers or {})
    if isinstance(error, Overloaded):
        headers["Retry-After"] = seconds(error.retry_after)
    elif document["status"] == 503:
        headers["Retry-After"] = "1"
    if isinstance(error, NotAcceptable):
        headers["Vary"] = "Accept"
    if isinstance(error, Unauthorized):
        headers["WWW-Authenticate"] = CHALLENGE
    return Response(encode_json(document), document["status"], headers, PROBLEM_TYPE)


def problem_document(error: Exception, request_id: str | None = None) -> dict[str, Any]:
    """Return the RFC 9457 document for an error of Amber or Starlette; any other is a plain 500."""
    if isinstance(error, AmberError):
        return problem(error, request_id)
    if isinstance(error, HTTPException):
        return _plain(error.status_code, error.detail, request_id)
    # What went wrong is in the log under the request's id; a stranger learns nothing from it.
    return _plain(500, "the server failed; its log has the reason under this id", request_id)


def seconds(value: float) -> str:
    """Return a `Retry-After`: whole seconds, at least 1."""
    return str(max(1, math.ceil(value)))


def _plain(status: int, detail: str, request_id: str | None) -> dict[str, Any]:
    """Return a problem of no type but its HTTP status (`about:blank`, RFC 9457 section 4.2.1)."""
    try:
        title = http.HTTPStatus(status).phrase
    except ValueError:
        title = "Error"
    data = {"type": "about:blank", "title": title, "status": status, "detail": detail}
    if request_id is not None:
        data["instance"] = request_id
    return data
