"""A path of the HTTP contract: a handler for each of its methods, declared with what OpenAPI says of it.

    @described("requests", Scope.COMPUTE, {"200": view(OWN_REQUEST)}, "404", parameters=[ID])
    async def cancel(context: AppContext, request: Request) -> Response:
        '''Cancel; work that others wait for goes on.'''

    PATHS = [Path("/v1/requests/{id}", GET=request, DELETE=cancel)]

One route for each path makes the `Allow` of a 405 complete, and calling the handler straight spares a hot
read the layers that frameworks wrap around it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Send
from starlette.types import Scope as AsgiScope

from amber_ray.core.model.audit import Actor, acting
from amber_ray.core.model.trust import Caller, Scope
from amber_ray.errors import BadRequest
from amber_ray.serving.app_context import AppContext
from amber_ray.serving.described.parts import Part, operation
from amber_ray.wire.compute import KEY
from amber_ray.wire.json import describe, quote

CHANGING = frozenset({"POST", "PUT", "PATCH", "DELETE"})
"""Methods that may change something, and so by whom is noted."""

Handler = Callable[[AppContext, Request], Awaitable[ASGIApp]]


class Guarded(NamedTuple):
    """A handler, and the scopes of which its caller must have one; None: anyone may ask, without a token."""

    handler: Handler
    scopes: frozenset[Scope] | None


class Described(NamedTuple):
    """A handler with its scopes, and its OpenAPI operation."""

    guarded: Guarded
    operation: Part


def described(
    tag: str, scope: Scope | tuple[Scope, ...] | None, answers: Part, refused: str = "", **more: Any
) -> Callable[[Handler], Described]:
    """Declare a handler as an operation; see `parts.operation`.

    Its caller's token must have the `scope`, or one of several; None: no token is needed. The operation's id
    is the function's name, its summary the first line of the function's docstring.
    """
    scopes = None if scope is None else frozenset((scope,) if isinstance(scope, Scope) else scope)

    def declare(handler: Handler) -> Described:
        id: str = getattr(handler, "__name__", "")
        summary = (handler.__doc__ or "").partition("\n")[0].removesuffix(".")
        told = operation(tag, id, summary, answers, refused, scopes=scopes, **more)
        return Described(Guarded(handler, scopes), told)

    return declare


class Path:
    """A path and its methods: `Path("/x", GET=read, DELETE=remove)`."""

    def __init__(self, path: str, **methods: Described) -> None:
        self.path = path
        self.methods = methods

    def operations(self) -> dict[str, Part]:
        """What OpenAPI says of the path, by method."""
        return {method.lower(): one.operation for method, one in self.methods.items()}

    def route(self, context: AppContext) -> Route:
        """The route that answers from `context`."""
        return route(self.path, context, **{method: one.guarded for method, one in self.methods.items()})


def caller_of(request: Request) -> Caller:
    """Who asks, as the guard found out."""
    caller: Caller = request.scope["amber.caller"]
    return caller


def asset_id(request: Request) -> str:
    """The asset's id in the path. Raises `BadRequest` for what can be none."""
    id: str = request.path_params["id"]
    if not KEY.match(id):
        raise BadRequest(f"an asset's id is 32 lower-case hex digits, not {describe(id)}")
    return id


def _actor(scope: AsgiScope) -> Actor:
    caller: Caller = scope["amber.caller"]
    return Actor(caller.token or caller.name, caller.tenant or "", scope["amber.request_id"])


def route(path: str, context: AppContext, **handlers: Guarded) -> Route:
    """A route for a path that OpenAPI says nothing of, its handlers named by their methods."""
    return Route(path, Endpoint(context, handlers, path), methods=None)


class Endpoint:
    """Calls the handler of the request's method, if its caller may.

    HEAD is answered by GET's, its body dropped by the guard. `path` is what traces call the route.
    """

    def __init__(self, context: AppContext, handlers: dict[str, Guarded], path: str = "") -> None:
        self._context = context
        self._path = path
        self._handlers = dict(handlers)
        if "GET" in handlers:
            self._handlers.setdefault("HEAD", handlers["GET"])
        self.allow = ", ".join(sorted({*self._handlers, "OPTIONS"}))

    async def __call__(self, scope: AsgiScope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        scope["amber.path"] = self._path
        guarded = self._handlers.get(scope["method"])
        if guarded is not None:
            if guarded.scopes is not None and scope["amber.caller"].scopes.isdisjoint(guarded.scopes):
                scope["amber.caller"].require(*sorted(guarded.scopes))
            request = Request(scope, receive, send)
            if scope["method"] in CHANGING and guarded.scopes is not None:
                with acting(_actor(scope)):
                    response = await guarded.handler(self._context, request)
            else:
                response = await guarded.handler(self._context, request)
        elif scope["method"] == "OPTIONS":
            response = Response(status_code=204, headers={"Allow": self.allow})
        else:
            raise HTTPException(
                405,
                f"{quote(scope['path'])} takes {self.allow}, not {quote(scope['method'])}",
                headers={"Allow": self.allow},
            )
        await response(scope, receive, send)
