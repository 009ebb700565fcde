"""One path with a handler per method, as a plain ASGI endpoint.

One route per path makes the `Allow` of a 405 complete, and calling the handler straight spares a hot read
the frameworks' layers of wrapping.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from amber_ray.wire.json import quote

Handler = Callable[[Request], Awaitable[ASGIApp]]


class Endpoint:
    """Calls the handler of the request's method; HEAD is answered by GET's, its body dropped by the guard."""

    def __init__(self, handlers: dict[str, Handler]) -> None:
        self._handlers = dict(handlers)
        if "GET" in handlers:
            self._handlers.setdefault("HEAD", handlers["GET"])
        self.allow = ", ".join(sorted({*self._handlers, "OPTIONS"}))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        handler = self._handlers.get(scope["method"])
        if handler is not None:
            response = await handler(Request(scope, receive, send))
        elif scope["method"] == "OPTIONS":
            response = Response(status_code=204, headers={"Allow": self.allow})
        else:
            raise HTTPException(
                405,
                f"{quote(scope['path'])} takes {self.allow}, not {quote(scope['method'])}",
                headers={"Allow": self.allow},
            )
        await response(scope, receive, send)


def route(path: str, **handlers: Handler) -> Route:
    """A route for `path`, its handlers named by their methods: `route("/x", GET=read, DELETE=remove)`."""
    return Route(path, Endpoint(handlers), methods=None, include_in_schema=False)
