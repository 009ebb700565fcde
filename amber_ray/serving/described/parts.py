"""What operations are described with: bodies, answers, refusals, parameters."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from starlette.exceptions import HTTPException

from amber_ray.core.model.pages import MOST, USUAL
from amber_ray.errors import (
    BadRequest,
    Forbidden,
    MediaChanged,
    MediaError,
    NotAcceptable,
    Overloaded,
    TooLarge,
    Unauthorized,
    Unavailable,
    UnknownFeature,
)
from amber_ray.serving.answers import CHALLENGE, JSON_TYPE, NO_STORE, PROBLEM_TYPE, problem_document
from amber_ray.serving.described.schemas import CURSOR, EXAMPLES, HTTP_REQUEST, REQUEST, Schema, ref
from amber_ray.wire.views import REQUEST_ID_HEADER

Part = dict[str, Any]

STRING: Schema = {"type": "string"}
BINARY: Part = {"schema": {"type": "string", "format": "binary"}}
PREFER: Part = {
    "name": "Prefer",
    "in": "header",
    "description": "`wait=SECONDS` (RFC 7240): how long to wait for an answer; `respond-async`: not at all",
    "schema": STRING,
    "example": "wait=30",
}
TRACED: Part = {
    "name": "X-Request-Id",
    "in": "header",
    "description": "The HTTP request's id, if the caller chooses it: in answers, problems and the log",
    "schema": STRING,
    "example": HTTP_REQUEST,
}
"""Declared where work begins, though every call takes it. (openapi-python-client 0.29 forgets an import in a
call that has several bodies and no optional parameter.)"""
ID: Part = {"name": "id", "in": "path", "required": True, "schema": STRING, "example": REQUEST}


def header(description: str, *one_of: str, required: bool = False, **schema: Any) -> Part:
    """A header of an answer; `one_of` are all its values, where there are few."""
    kind: Schema = {"type": "string", **({"enum": list(one_of)} if one_of else {}), **schema}
    return {"description": description, "schema": kind, **({"required": True} if required else {})}


HEADERS: dict[str, Part] = {
    "X-Request-Id": header("This HTTP request's id: the caller's own, or a new one", required=True),
    "X-Content-Type-Options": header("For browsers", "nosniff", required=True),
    "Cross-Origin-Resource-Policy": header("For browsers", "same-origin", required=True),
    "Vary": header("What the answer hangs on beside its address"),
    "Access-Control-Allow-Origin": header("For a page of another site that may ask here (`allow_origins`)"),
    "Access-Control-Expose-Headers": header("For such a page: it may read every header", "*"),
}
"""Headers of every answer."""
COMMON = {name: {"$ref": f"#/components/headers/{name}"} for name in HEADERS}
CODED = {
    "Content-Encoding": header("Text of some length, for a caller that accepts gzip", "gzip"),
}
"""Headers that an answer in text may have."""
UNCACHED = {"Cache-Control": header("No cache keeps it", NO_STORE, required=True)}
RETRY = {"Retry-After": header("Seconds until it is worth asking again", type="integer", minimum=1)}
RETRY_LATER = {"Retry-After": {**RETRY["Retry-After"], "required": True}}
OWN_REQUEST = {REQUEST_ID_HEADER: header("The compute request's id", required=True)}
APPLIED = {"Preference-Applied": header("The preference that was honoured (RFC 7240)")}


def json(schema: Schema, example: Any) -> Part:
    """JSON content."""
    return {JSON_TYPE: {"schema": schema, "example": example}}


def answer(description: str, content: Part | None = None, headers: Part | None = None) -> Part:
    """One response of an operation. It is `no-store` unless `headers` say otherwise."""
    coded = CODED if content else {}
    all_headers = {**COMMON, **coded, **UNCACHED, **(headers or {})}
    return {"description": description, **({"content": content} if content else {}), "headers": all_headers}


def body(example: Any, schema: Schema) -> Part:
    """A JSON request body."""
    return {"required": True, "content": json(schema, example)}


def query(name: str, example: str, description: str = "") -> Part:
    """A query parameter."""
    told = {"description": description} if description else {}
    return {"name": name, "in": "query", **told, "schema": STRING, "example": example}


def view(headers: Part) -> Part:
    """A request as it stands."""
    return answer("The request as it stands", json(ref("Request"), EXAMPLES["Request"]), headers)


def listing(name: str, item: str) -> Part:
    """`{name: [item, ...]}`, which a component of its own describes: generators name their types by it."""
    return answer(f"All {name}", json(ref(f"{item}List"), {name: [EXAMPLES[item]]}))


def page(name: str, item: str) -> Part:
    """A page of a listing: `{name: [item, ...], "cursor": ...}`, which a component of its own describes."""
    example = {name: [EXAMPLES[item]], "cursor": CURSOR}
    return answer(f"A page of {name}", json(ref(f"{item}Page"), example))


PAGED: list[Part] = [
    {
        "name": "limit",
        "in": "query",
        "description": f"how many a page may have; without it {USUAL}",
        "schema": {"type": "integer", "minimum": 1, "maximum": MOST},
        "example": USUAL,
    },
    query("cursor", CURSOR, "`cursor` of the page before; without it a listing begins"),
]
"""The parameters of a listing that comes by pages."""

REFUSALS: dict[str, tuple[str, Exception, Part]] = {
    "400": (
        "What was sent is wrong; nothing was run",
        BadRequest('features must be a list of names such as ["shots"], not nothing'),
        {},
    ),
    "401": (
        "The API token is missing or not known",
        Unauthorized("an API token is needed; send it as 'Authorization: Bearer TOKEN'"),
        {
            "WWW-Authenticate": header(
                "How to say who asks; a browser that opens it as a page is told of `Basic` as well",
                pattern="^" + CHALLENGE,
                required=True,
            )
        },
    ),
    "403": (
        "Who asks may not (a scope, another tenant), or what is asked about may not be read",
        Forbidden("'/etc/passwd' is outside the media roots; move it into one"),
        {},
    ),
    "404": (
        "There is no such thing",
        UnknownFeature("there is no feature 'rednes'; did you mean 'redness'?"),
        {},
    ),
    "406": (
        "The value can't be had in a form that Accept asks for",
        NotAcceptable(
            "this value of redness can be had as application/json, application/vnd.apache.arrow.stream, "
            "application/x-npy, not as 'image/png'"
        ),
        {"Vary": header("What the answer hangs on", required=True)},
    ),
    "408": (
        "The body did not arrive in time",
        HTTPException(408, "the body did not arrive within 30 seconds"),
        {},
    ),
    "409": (
        "The media has other content than when it was registered",
        MediaChanged("'a.mp4' has other content than when it was registered; register it again"),
        {},
    ),
    "412": (
        "What the call counts on is not so: an ETag in If-Match, or the features that `expect` means",
        HTTPException(412, 'this value\'s ETag is "a7b1e70f", which If-Match does not list'),
        {},
    ),
    "413": (
        "More than one caller may cost",
        TooLarge("features has 2,000 names; at most 1,000 are taken"),
        {},
    ),
    "415": (
        "The body is not of a type that is taken",
        HTTPException(415, "the body must be JSON, with 'Content-Type: application/json'"),
        {},
    ),
    "416": (
        "There are no such bytes",
        HTTPException(416, "this has 1,000 bytes, and bytes=1000- is none of them"),
        {"Content-Range": header("How many bytes there are", pattern="^bytes [*]/[0-9]+$", required=True)},
    ),
    "422": (
        "The media is damaged, empty, or not what it claims to be; or the id is another request's",
        MediaError("'/media/a.mp4' is empty"),
        {},
    ),
    "429": ("The service is at a bound", Overloaded("tenant 'search' has 10,000 requests", 2.0), RETRY_LATER),
    "500": ("The server failed; its log has the reason under `instance`", Exception(), {}),
    "503": (
        "The cluster or the store can't be reached, or failed",
        Unavailable("the cache actor did not come up within 30 s"),
        RETRY_LATER,
    ),
}
"""What each status of a refusal means, an error that is answered so, and the headers of that answer."""


def refusals() -> dict[str, Part]:
    """The `components.responses`: a problem document for each status, with an example."""
    found = {}
    for status, (meaning, error, headers) in REFUSALS.items():
        example = problem_document(error, HTTP_REQUEST)
        content = {PROBLEM_TYPE: {"schema": ref("Problem"), "example": example}}
        found[status] = answer(meaning, content, headers)
    return found


def operation(
    tag: str,
    id: str,
    summary: str,
    answers: Part,
    refused: str = "",
    *,
    scopes: Collection[str] | None,
    **more: Any,
) -> Part:
    """One operation; `refused` are the statuses of its own refusals, of the keys of `REFUSALS`.

    Every one can be refused for who asks (401, 403) or for load (429), and can fail (500, 503). One without
    `scopes` needs no token and asks the service nothing.
    """
    anyone = scopes is None
    all_refused = (
        {"403", *refused.split()} if anyone else {"401", "403", "429", "500", "503", *refused.split()}
    )
    problems = {status: {"$ref": f"#/components/responses/{status}"} for status in sorted(all_refused)}
    if scopes is None:
        more["security"] = []
    else:
        needs = f"Needs the scope {' or '.join(f'`{scope}`' for scope in sorted(scopes))}."
        more["description"] = f"{more['description']} {needs}" if "description" in more else needs
    return {
        "tags": [tag],
        "operationId": id,
        "summary": summary,
        "responses": {**answers, **problems},
        **more,
    }
