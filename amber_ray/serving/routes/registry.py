"""`POST /v1/registry`: features as source text, which the server runs if it is set to, and whoever asks may.

What comes here is text and is never unpickled. To run it is to let its sender do what the server's own
features can, so it takes three: the setting, the scope, and a token that was made for somebody.
"""

from __future__ import annotations

import asyncio

from starlette.requests import Request
from starlette.responses import Response

from amber_ray.core.model.trust import Scope
from amber_ray.errors import Forbidden
from amber_ray.serving.answers import json_response
from amber_ray.serving.app_context import AppContext
from amber_ray.serving.described.parts import answer, body, json
from amber_ray.serving.described.schemas import EXAMPLES, ref
from amber_ray.serving.incoming import json_body
from amber_ray.serving.presence import while_present
from amber_ray.serving.routes.endpoint import Path, caller_of, described
from amber_ray.settings import Limits
from amber_ray.wire.json import loads
from amber_ray.wire.registry import Registering, decode_registering, encode_registry


@described(
    "features",
    Scope.OPERATE,
    {"200": answer("The registry", json(ref("Registry"), EXAMPLES["Registry"]))},
    "400 408 412 413 415 422",
    requestBody=body(EXAMPLES["Registering"], ref("Registering")),
    description="Only where the server takes features (`amber serve --register`). Requests name the registry "
    "by its digest. Without texts it tells what a registry has.",
)
async def register(context: AppContext, request: Request) -> Response:
    """Register features as source text, in a registry of their own."""
    caller = caller_of(request)
    if context.registrar is None:
        raise Forbidden(
            "this server runs no code of its clients; start it with `amber serve --register`, or give it the "
            "module that declares the features (`amber serve --features`)"
        )
    if not caller.brings_code:
        raise Forbidden(
            f"{caller.name} brings no code; make one with `amber token new --scope {Scope.OPERATE}`"
        )
    limits = context.settings.limits
    asked = await asyncio.to_thread(_asked, await json_body(request, limits), limits)
    view = await while_present(request.receive, context.registrar.register(*asked), context.drain)
    return json_response(encode_registry(view))


PATHS = [Path("/v1/registry", POST=register)]


def _asked(content: bytes, limits: Limits) -> Registering:
    return decode_registering(loads(content, limits), limits)
