"""Holds answers of the HTTP app to its own OpenAPI document.

`http_app.client` passes every answer through `check`, so each test that asks the app anything is a test of
the document too: paths, methods, statuses, media types, headers and bodies. Schemas are closed here: a field
that the document does not name is a mistake, as is a header that it does not name.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from functools import cache
from typing import Any

import httpx
import jsonschema

from amber_ray.serving.described.document import document

DOCUMENT = document(bearer=False)
OF_EVERY_MESSAGE = {"content-type", "content-length", "transfer-encoding"}
"""Headers that OpenAPI says elsewhere, or that belong to HTTP itself."""

Part = dict[str, Any]


def closed(schema: Any) -> Any:
    """The schema with every object that names its properties taking no others."""
    if isinstance(schema, list):
        return [closed(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    made = {
        key: closed(value) if key not in ("example", "examples") else value for key, value in schema.items()
    }
    if isinstance(schema.get("properties"), dict) and schema.get("type") == "object":
        made.setdefault("additionalProperties", False)
    return made


COMPONENTS = {**DOCUMENT["components"], "schemas": closed(DOCUMENT["components"]["schemas"])}


@cache
def _validator(schema: str) -> jsonschema.Draft202012Validator:
    return jsonschema.Draft202012Validator({**closed(json.loads(schema)), "components": COMPONENTS})


def fits(value: Any, schema: Part) -> None:
    """Raise unless the value is one that the schema describes, and has nothing beyond."""
    _validator(json.dumps(schema)).validate(value)


def resolved(part: Part) -> Part:
    """What a reference of the document stands for."""
    while "$ref" in part:
        found: Any = DOCUMENT
        for name in part["$ref"].removeprefix("#/").split("/"):
            found = found[name]
        part = found
    return part


def path_of(target: str) -> str | None:
    """The path of the document that a request's target is an instance of."""
    for path in DOCUMENT["paths"]:
        if re.fullmatch(re.sub(r"\{\w+\}", "[^/]+", path), target):
            return str(path)
    return None


def operation_of(method: str, path: str) -> Part | None:
    """What the document says of a method of a path; HEAD is GET's."""
    found: Part | None = DOCUMENT["paths"][path].get({"HEAD": "get"}.get(method, method.lower()))
    return found


def allowed(path: str) -> set[str]:
    """The methods of a path, with those that HTTP adds."""
    methods = {method.upper() for method in DOCUMENT["paths"][path]}
    return methods | {"OPTIONS"} | ({"HEAD"} if "GET" in methods else set())


def check(answer: httpx.Response, root: str = "") -> None:
    """Raise unless the document says that this answer may come. Its body must have been read."""
    request = answer.request
    path = path_of(request.url.path.removeprefix(root))
    if path is None:
        if answer.status_code >= 400 and request.method != "HEAD":
            fits_problem(answer)
        return
    operation = operation_of(request.method, path)
    if operation is None and "Access-Control-Allow-Methods" in answer.headers:
        return  # a browser asked whether a page may ask: the Fetch standard describes that
    if operation is None and answer.status_code in (401, 403, 429):
        fits_problem(answer)  # who asks may not; which methods there are is not told
        return
    if operation is None:
        assert set(answer.headers["Allow"].split(", ")) == allowed(path)
        if request.method == "OPTIONS":
            assert (answer.status_code, answer.content) == (204, b"")
        else:
            assert answer.status_code == 405
            if request.method != "HEAD":
                fits_problem(answer)
        return
    where = f"{request.method} {path} {answer.status_code}"
    declared = operation["responses"].get(str(answer.status_code))
    assert declared is not None, f"{where} is not described"
    declared = resolved(declared)
    _check_headers(where, answer.headers, declared.get("headers", {}))
    content = declared.get("content", {})
    kind = answer.headers.get("content-type", "").partition(";")[0]
    if not content:
        assert (kind, answer.content) == ("", b""), f"{where} has a body"
        return
    form = content.get(kind) or content.get(kind.partition("/")[0] + "/*") or content.get("*/*")
    assert form is not None, f"{where} is {kind}, which is not described"
    if request.method == "HEAD":
        assert answer.content == b"", f"{where} has a body"
    elif kind.endswith("json"):
        fits(answer.json(), form["schema"])
    elif kind == "text/event-stream":
        for name, data in events_of(answer.text):
            fits(data, form["x-events"][name])


def events_of(text: str) -> Iterator[tuple[str, Any]]:
    """Server-sent events as (name, data); comments and retry hints are passed over."""
    for block in text.split("\n\n"):
        lines = dict(line.split(": ", 1) for line in block.splitlines() if not line.startswith(":"))
        if "event" in lines:
            yield lines["event"], json.loads(lines["data"])


def fits_problem(answer: httpx.Response) -> None:
    """Raise unless this is an RFC 9457 document that says the answer's own status."""
    assert answer.headers["content-type"] == "application/problem+json"
    fits(answer.json(), {"$ref": "#/components/schemas/Problem"})
    assert answer.json()["status"] == answer.status_code


def _check_headers(where: str, given: httpx.Headers, declared: Part) -> None:
    described = {name.lower(): resolved(header) for name, header in declared.items()}
    extra = set(given) - set(described) - OF_EVERY_MESSAGE
    assert not extra, f"{where} has headers that are not described: {extra}"
    for name, header in described.items():
        assert name in given or not header.get("required"), f"{where} has no {name}"
        if name in given:
            value: Any = given[name]
            if header["schema"].get("type") in ("integer", "number"):
                value = json.loads(value)
            fits(value, header["schema"])
