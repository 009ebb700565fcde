"""What a request carries, read under bounds: bodies, preferences, ids.

Must not know: routes, the service.
"""

from __future__ import annotations

import asyncio
import dataclasses
import functools
import hashlib
import json
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request

from amber_ray.core.model.request import ComputeRequest
from amber_ray.core.model.trace import Span
from amber_ray.core.model.trust import Caller
from amber_ray.errors import BadRequest, TooLarge, UnknownRequest
from amber_ray.serving.presence import ClientGone
from amber_ray.serving.sight import seen_by
from amber_ray.settings import Limits
from amber_ray.wire.compute import REQUEST_ID, decode_request
from amber_ray.wire.json import describe, loads, quote
from amber_ray.wire.views import IDEMPOTENCY_KEY_HEADER, REQUEST_ID_HEADER

BODY_SECONDS = 30.0
"""How long a JSON body may take to arrive."""
IDLE_SECONDS = 60.0
"""How long an upload may pause between two pieces."""
IN_LOOP = 64 * 1024
"""Bytes of JSON that are decoded or encoded in the event loop; more goes to a thread."""

_PREFERENCE = re.compile(r"""\s*([A-Za-z0-9!#$%&'*+.^_`|~-]+)\s*(?:=\s*("[^"]*"|[^;,"]*))?\s*(?:;[^,]*)?""")
_IDEMPOTENCY_KEY = re.compile(r"""\s*(?:"(?P<quoted>[!#-~]{1,255})"|(?P<bare>[!#-~]{1,255}))\s*""")


@dataclass(frozen=True, slots=True)
class Prefer:
    """What is honoured of RFC 7240: how long to wait, and what to say in `Preference-Applied`."""

    wait: float
    applied: str | None


def prefer(request: Request, otherwise: float, limits: Limits) -> Prefer:
    """Seconds to wait: as preferred, at most `limits.wait_seconds`; what is malformed is ignored."""
    headers = request.headers.getlist("prefer")
    if not headers:
        return Prefer(min(otherwise, limits.wait_seconds), None)
    wait: float | None = None
    at_once = False
    for item in ",".join(headers).split(","):
        if (match := _PREFERENCE.fullmatch(item)) is None:
            continue
        name, value = match[1].lower(), (match[2] or "").strip().strip('"')
        if name == "respond-async":
            at_once = True
        elif name == "wait" and wait is None and re.fullmatch(r"\d{1,9}(\.\d{1,9})?", value):
            wait = min(float(value), limits.wait_seconds)
    if wait is not None:
        return Prefer(wait, f"wait={wait:g}")
    if at_once:
        return Prefer(0.0, "respond-async")
    return Prefer(min(otherwise, limits.wait_seconds), None)


def request_id(value: str) -> str:
    """A compute request's id out of a path; what can't be one is unknown."""
    if not REQUEST_ID.match(value):
        raise UnknownRequest(f"there is no request {describe(value)}; ids are letters, digits, '_' and '-'")
    return value


def chosen_id(request: Request, tenant: str) -> str | None:
    """The id of a compute request by the headers that its caller may name it with; None if it did not.

    `X-Amber-Request-Id` is the id itself. `Idempotency-Key` (draft-ietf-httpapi-idempotency-key-header-07) is
    any text: the id is a digest of it and the tenant, so no key meets that of another tenant.
    """
    value = request.headers.get(REQUEST_ID_HEADER)
    keys = request.headers.getlist(IDEMPOTENCY_KEY_HEADER)
    if value is not None and keys:
        raise BadRequest(f"give {REQUEST_ID_HEADER} or {IDEMPOTENCY_KEY_HEADER}, not both")
    if keys:
        if len(keys) > 1 or (match := _IDEMPOTENCY_KEY.fullmatch(keys[0])) is None:
            raise BadRequest(
                f"{IDEMPOTENCY_KEY_HEADER} must be one text of 1 to 255 visible ASCII characters, "
                f"with or without quotation marks around it, not {describe(', '.join(keys))}"
            )
        text = json.dumps([tenant, match["quoted"] or match["bare"]])
        return "key-" + hashlib.blake2b(text.encode(), digest_size=16).hexdigest()
    if value is not None and not REQUEST_ID.match(value):
        raise BadRequest(
            f"{REQUEST_ID_HEADER} must be 6 to 64 letters, digits, '_' or '-', "
            f"beginning with a letter or digit, not {describe(value)}"
        )
    return value


async def compute_request(request: Request, limits: Limits) -> ComputeRequest:
    """The body of a compute or explain call, in the name of the tenant that the caller's token is of.

    Raises `Forbidden` for another one.
    """
    caller: Caller = request.scope["amber.caller"]
    body = await json_body(request, limits)
    span: Span | None = request.scope.get("amber.span")
    trace = "" if span is None else span.text
    decode = functools.partial(_decode, body, limits, caller.tenant or "default", trace)
    asked = await asyncio.to_thread(decode) if len(body) > IN_LOOP else decode()
    caller.require_tenant(asked.tenant)
    return asked if caller.sees_all else dataclasses.replace(asked, assets=seen_by(caller, asked.assets))


def _decode(body: bytes, limits: Limits, tenant: str, trace: str) -> ComputeRequest:
    return decode_request(loads(body, limits), limits, tenant, trace)


async def json_value(request: Request, limits: Limits) -> Any:
    """A small JSON body, decoded."""
    return loads(await json_body(request, limits), limits)


def is_json(request: Request) -> bool:
    """Whether the body says it is JSON."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    return kind == "application/json" or (kind.startswith("application/") and kind.endswith("+json"))


async def json_body(request: Request, limits: Limits, *, as_text: bool = False) -> bytes:
    """The body of a request that says it is JSON, at most `limits.body_bytes` of it.

    The type is required because a page of another site can make a browser post text or a form here without
    asking, but not JSON. `as_text`: it may say what it likes, as something else shows that no page sent it.
    """
    if not (as_text or is_json(request)):
        raise HTTPException(415, "the body must be JSON, with 'Content-Type: application/json'")
    refuse_coded(request, "the body")
    most = limits.body_bytes
    refuse_longer(request, most, "the body")
    try:
        async with asyncio.timeout(BODY_SECONDS):
            message = await request.receive()
            body: bytes = message.get("body", b"")
            if message.get("more_body"):
                parts, size = [body], len(body)
                while size <= most and message.get("more_body"):
                    message = await request.receive()
                    parts.append(message.get("body", b""))
                    size += len(parts[-1])
                body = b"".join(parts)
    except TimeoutError:
        raise HTTPException(408, f"the body did not arrive within {BODY_SECONDS:g} seconds") from None
    if message["type"] == "http.disconnect":
        raise ClientGone
    if len(body) > most:
        raise TooLarge(f"the body has more than {most:,} bytes, which is as many as are taken")
    return body


async def pieces(request: Request, most: int) -> AsyncIterator[bytes]:
    """An uploaded body piece by piece; `TooLarge` as soon as it passes `most` bytes."""
    size = 0
    while True:
        try:
            async with asyncio.timeout(IDLE_SECONDS):
                message = await request.receive()
        except TimeoutError:
            raise HTTPException(408, f"the upload paused for more than {IDLE_SECONDS:g} seconds") from None
        if message["type"] == "http.disconnect":
            raise ClientGone
        piece: bytes = message.get("body", b"")
        size += len(piece)
        if size > most:
            raise TooLarge(f"the upload has more than {most:,} bytes, which is as many as are taken")
        if piece:
            yield piece
        if not message.get("more_body"):
            return


def refuse_longer(request: Request, most: int, what: str) -> None:
    """Refuse by the announced length, before a byte is read."""
    announced = request.headers.get("content-length", "")
    if announced.isascii() and announced.isdigit() and int(announced[:20]) > most:
        raise TooLarge(f"{what} has {int(announced[:20]):,} bytes; at most {most:,} are taken")


def refuse_coded(request: Request, what: str) -> None:
    """Refuse what is compressed for its way: it would be read, and kept, as it came."""
    coding = request.headers.get("content-encoding", "identity").strip().lower()
    if coding not in ("", "identity"):
        raise HTTPException(415, f"{what} is coded as {quote(coding)}; send its bytes as they are")
