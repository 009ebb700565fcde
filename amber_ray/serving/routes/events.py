"""`/v1/events`: what senders say has happened to media, so that demands look there at once."""

from __future__ import annotations

import asyncio
import functools
import logging

from starlette.requests import Request
from starlette.responses import Response

from amber_ray.core.model.trust import Scope
from amber_ray.serving.answers import json_response
from amber_ray.serving.app_context import AppContext
from amber_ray.serving.described.parts import answer, body, json
from amber_ray.serving.described.schemas import EXAMPLES, ref
from amber_ray.serving.incoming import IN_LOOP, json_body
from amber_ray.serving.routes.endpoint import Path, caller_of, described
from amber_ray.settings import Limits
from amber_ray.wire.events import Told, decode_events, encode_noticed
from amber_ray.wire.json import loads

log = logging.getLogger("amber.demands")

SNS_HEADER = "x-amz-sns-message-type"
"""SNS says that its JSON is text, and has this header, which no page can make a browser send unasked."""


@described(
    "demands",
    (Scope.COMPUTE, Scope.UPLOAD),
    {"200": answer("What became of the events", json(ref("Noticed"), EXAMPLES["Noticed"]))},
    "400 408 413 415",
    requestBody=body(EXAMPLES["Events"], ref("Events")),
    description="Plain, or a notification of S3 or MinIO, bare or by SNS, SQS or EventBridge. An event only "
    "makes sooner what the next look of a demand finds.",
)
async def notify(context: AppContext, request: Request) -> Response:
    """Tell that media appeared, changed or went."""
    limits = context.settings.limits
    sent = await json_body(request, limits, as_text=SNS_HEADER in request.headers)
    decode = functools.partial(_decode, sent, limits)
    told = await asyncio.to_thread(decode) if len(sent) > IN_LOOP else decode()
    if told.confirm:
        # It is not opened here: whoever may post would have this server call any address.
        log.warning("SNS asks to confirm a subscription, which is done by opening %r", told.confirm)
    noticed = await context.service.notify(told.uris, caller_of(request).tenant)
    return json_response(encode_noticed(noticed, told.ignored))


def _decode(sent: bytes, limits: Limits) -> Told:
    return decode_events(loads(sent, limits), limits)


PATHS = [Path("/v1/events", POST=notify)]
