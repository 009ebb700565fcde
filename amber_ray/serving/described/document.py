"""The OpenAPI 3.1 document, put together from what each path of `serving.routes` declares."""

from __future__ import annotations

from importlib import metadata
from typing import Any

from amber_ray.serving.described.parts import HEADERS, STRING, Part, body, refusals
from amber_ray.serving.described.schemas import EXAMPLES, REQUEST, ref, schemas
from amber_ray.serving.routes import PATHS

TOKEN = {
    "type": "http",
    "scheme": "bearer",
    "description": "An API token. A server without tokens answers its own machine alone, and asks for none.",
}


def _message(operation: str, of: str, schema: str, id: str) -> Part:
    return {
        "summary": f"What is sent to the URL of a {of}'s callback",
        "description": "Signed as Standard Webhooks say; sent again until it is taken (any 2xx), or until "
        "410.",
        "operationId": operation,
        "parameters": [
            {"name": f"webhook-{name}", "in": "header", "required": True, "schema": STRING, "example": one}
            for name, one in (
                ("id", id),
                ("timestamp", "1764421200"),
                ("signature", "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="),
            )
        ],
        "requestBody": body(EXAMPLES[schema], ref(schema)),
        "responses": {
            "2XX": {"description": "It is taken"},
            "410": {"description": "Nobody wants it any more"},
        },
    }


MESSAGES: dict[str, Part] = {
    "ended": {"post": _message("ended", "request", "Message", f"end_{REQUEST}")},
    "news": {"post": _message("news", "demand", "DemandMessage", f"d12_{REQUEST}")},
}


def document(bearer: bool, base: str = "") -> dict[str, Any]:
    """The whole description.

    Args:
        bearer: whether API tokens are configured here.
        base: the path that the app is mounted at. At the root no server is named, so that callers take
            the host that the description came from.
    """
    components: dict[str, Any] = {
        "schemas": schemas(),
        "headers": HEADERS,
        "responses": refusals(),
        # Also where there are no tokens: clients are generated against one server and used against another.
        "securitySchemes": {"token": TOKEN},
    }
    described: dict[str, Any] = {
        "openapi": "3.1.0",
        "info": {
            "title": "Amber on Ray",
            "version": _version(),
            "description": "A media feature store that computes on demand. Errors are RFC 9457 documents.",
        },
        **({"servers": [{"url": base}]} if base else {}),
        "paths": {path.path: path.operations() for path in PATHS},
        "webhooks": MESSAGES,
        "components": components,
    }
    if bearer:
        # Said of each call, not once for all: openapi-python-client asks for a token only where it is said.
        described["paths"] = {
            path: {method: {"security": [{"token": []}], **one} for method, one in methods.items()}
            for path, methods in described["paths"].items()
        }
    return described


def _version() -> str:
    try:
        return metadata.version("amber-ray")
    except metadata.PackageNotFoundError:  # run from a source tree that was never installed
        return "0"
