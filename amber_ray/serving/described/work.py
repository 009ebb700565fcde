"""The rows that ask for work: compute, explain, requests."""

from __future__ import annotations

from amber_ray.serving.answers import encode_json
from amber_ray.serving.described.parts import (
    APPLIED,
    ID,
    OWN_REQUEST,
    PREFER,
    RETRY,
    RETRY_LATER,
    STRING,
    Part,
    answer,
    body,
    header,
    json,
    row,
    view,
)
from amber_ray.serving.described.schemas import EXAMPLES, REQUEST, ref
from amber_ray.serving.sse import frame
from amber_ray.wire.compute import REQUEST_ID
from amber_ray.wire.views import REQUEST_ID_HEADER

OWN_ID: Part = {
    "name": REQUEST_ID_HEADER,
    "in": "header",
    "description": "An id of the caller's choosing; the same id again is the same request",
    "schema": {**STRING, "pattern": "^" + REQUEST_ID.pattern.replace(r"\Z", "$")},
    "example": REQUEST,
}
EVENT_DATA = {"progress": "Progress", "result": "Progress", "done": "Request", "error": "Problem"}
"""The schema of each event's data, by the event's name."""
EVENTS = b"".join(
    frame(name, encode_json(data))
    for name, data in (
        ("progress", {"done": 0, "total": 3}),
        ("result", {"done": 1, "total": 3, "result": EXAMPLES["Result"]}),
        ("done", EXAMPLES["Request"]),
    )
).decode()


def paths() -> dict[str, dict[str, Part]]:
    """Path -> method -> operation."""
    running = answer(
        "Accepted: it goes on, and survives restarts",
        json(ref("Request"), EXAMPLES["Running"]),
        {
            **OWN_REQUEST,
            **APPLIED,
            **RETRY_LATER,
            "Location": header("Where to ask how it stands", required=True),
        },
    )
    asked = body(EXAMPLES["Compute"], ref("Compute"))
    events = {
        "text/event-stream": {
            "schema": STRING,
            "example": EVENTS,
            "x-events": {name: ref(schema) for name, schema in EVENT_DATA.items()},
        }
    }
    return {
        "/v1/compute": {
            "post": row(
                "compute",
                "compute",
                "Compute features of assets; what is there already is not computed again",
                {"200": view({**OWN_REQUEST, **APPLIED}), "202": running},
                "400 404 408 413 415 422",
                parameters=[PREFER, OWN_ID],
                requestBody=asked,
            )
        },
        "/v1/explain": {
            "post": row(
                "compute",
                "explain",
                "What compute would do, step by step; runs nothing",
                {"200": answer("The plan", json(ref("Plan"), EXAMPLES["Plan"]))},
                "400 404 408 413 415 422",
                requestBody=asked,
            )
        },
        "/v1/requests/{id}": {
            "get": row(
                "requests",
                "request",
                "State and results; waits as preferred",
                {"200": view({**OWN_REQUEST, **APPLIED, **RETRY})},
                "404",
                parameters=[ID, PREFER],
            ),
            "delete": row(
                "requests",
                "cancel",
                "Cancel; work that others wait for goes on",
                {"200": view(OWN_REQUEST)},
                "404",
                parameters=[ID],
            ),
        },
        "/v1/requests/{id}/events": {
            "get": row(
                "requests",
                "events",
                "Progress, each result, and done, as server-sent events",
                {
                    "200": answer(
                        "Events; the stream ends with `done`, or with `error` if the service failed",
                        events,
                        {"X-Accel-Buffering": header("For proxies", "no", required=True)},
                    )
                },
                "404",
                parameters=[ID],
            )
        },
    }
