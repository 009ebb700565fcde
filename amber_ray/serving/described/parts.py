"""What operations are written with: bodies, answers, parameters."""

from __future__ import annotations

from typing import Any

from amber_ray.serving.answers import JSON_TYPE
from amber_ray.serving.described.schemas import EXAMPLES, REQUEST, Schema, ref

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
ID: Part = {"name": "id", "in": "path", "required": True, "schema": STRING, "example": REQUEST}
RETRY: Part = {"Retry-After": {"description": "seconds", "schema": {"type": "integer"}}}


def json(schema: Schema, example: Any) -> Part:
    """JSON content."""
    return {JSON_TYPE: {"schema": schema, "example": example}}


def answer(description: str, content: Part | None = None, **more: Any) -> Part:
    """One response of an operation."""
    return {"description": description, **({"content": content} if content else {}), **more}


def body(example: Any, schema: Schema) -> Part:
    """A JSON request body."""
    return {"required": True, "content": json(schema, example)}


def query(name: str, example: str) -> Part:
    """A query parameter."""
    return {"name": name, "in": "query", "schema": STRING, "example": example}


def view() -> Part:
    """A request as it stands."""
    return answer("The request as it stands", json(ref("Request"), EXAMPLES["Request"]))


def listing(name: str, item: str) -> Part:
    """`{name: [item, ...]}`."""
    schema = {
        "type": "object",
        "required": [name],
        "properties": {name: {"type": "array", "items": ref(item)}},
    }
    return answer(f"All {name}", json(schema, {name: [EXAMPLES[item]]}))


def row(tag: str, id: str, summary: str, answers: Part, refusals: str = "", **more: Any) -> Part:
    """One operation; every one can be refused for who asks (401, 403) or for load (429), and as told."""
    problem = {"$ref": "#/components/responses/Problem"}
    refused = dict.fromkeys(("401", "403", "429", *refusals.split()), problem)
    return {"tags": [tag], "operationId": id, "summary": summary, "responses": {**answers, **refused}, **more}
