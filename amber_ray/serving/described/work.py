"""The rows that ask for work: compute, explain, requests."""

from __future__ import annotations

from amber_ray.serving.described.parts import ID, PREFER, RETRY, STRING, Part, answer, body, json, row, view
from amber_ray.serving.described.schemas import EXAMPLES, REQUEST, Schema, ref
from amber_ray.wire.views import REQUEST_ID_HEADER

OWN_ID: Part = {
    "name": REQUEST_ID_HEADER,
    "in": "header",
    "description": "An id of the caller's choosing; the same id again is the same request",
    "schema": {**STRING, "pattern": "^[A-Za-z0-9][A-Za-z0-9_-]{5,63}$"},
    "example": REQUEST,
}
EXPLAINED: Schema = {
    "type": "object",
    "required": ["steps", "states", "seconds"],
    "properties": {
        "steps": {"type": "array", "items": ref("Step")},
        "states": {"type": "object", "additionalProperties": {"type": "integer"}},
        "seconds": {"type": "number", "description": "what the steps that must run are expected to take"},
    },
}
EVENTS = f"""event: progress
data: {{"done":1,"total":3}}

event: done
data: {{"id":"{REQUEST}","state":"done"}}

"""


def paths() -> dict[str, dict[str, Part]]:
    """Path -> method -> operation."""
    running = answer(
        "Accepted: it goes on, and survives restarts",
        json(ref("Request"), EXAMPLES["Running"]),
        headers={"Location": {"schema": STRING}, **RETRY},
    )
    plan = {"steps": [EXAMPLES["Step"]], "states": {"missing": 1}, "seconds": 0.8}
    asked = body(EXAMPLES["Compute"], ref("Compute"))
    return {
        "/v1/compute": {
            "post": row(
                "compute",
                "compute",
                "Compute features of assets; what is there already is not computed again",
                {"200": view(), "202": running},
                "400 404 408 413 415 503",
                parameters=[PREFER, OWN_ID],
                requestBody=asked,
            )
        },
        "/v1/explain": {
            "post": row(
                "compute",
                "explain",
                "What compute would do, step by step; runs nothing",
                {"200": answer("The plan", json(EXPLAINED, plan))},
                "400 404 408 413 415 503",
                requestBody=asked,
            )
        },
        "/v1/requests/{id}": {
            "get": row(
                "requests",
                "request",
                "State and results; waits as preferred",
                {"200": view()},
                "404",
                parameters=[ID, PREFER],
            ),
            "delete": row(
                "requests",
                "cancel",
                "Cancel; work that others wait for goes on",
                {"200": view()},
                "404",
                parameters=[ID],
            ),
        },
        "/v1/requests/{id}/events": {
            "get": row(
                "requests",
                "events",
                "Progress, each result, and done, as server-sent events",
                {"200": answer("Events", {"text/event-stream": {"schema": STRING, "example": EVENTS}})},
                "404",
                parameters=[ID],
            )
        },
    }
