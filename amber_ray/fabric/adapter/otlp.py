"""OpenTelemetry's protocol for traces (OTLP 1.3) as JSON: a span's text, and the body of a request with many.

A span is written the moment it ends, by whoever ended it: what it says is in the processor's cache then, and
what waits to be sent is one object instead of ten. Written by the sender's thread up to a second later it
took twice as long (6.8 us instead of 3.2), which is much of a hot read (`benchmarks/telemetry`).

Must not know: what spans are about, how they are sent.
"""

from __future__ import annotations

import functools
import json
import os
from collections.abc import Iterable, Mapping
from typing import Any, Final, TypeAlias

import orjson

from amber_ray.core.model.trace import Attribute, Span

KINDS: Final[Mapping[str, int]] = {"internal": 1, "server": 2, "client": 3}
"""As the protocol numbers them."""
ERROR: Final = 2
"""The status code of a span that came to nothing."""

Process: TypeAlias = tuple[int, str]
"""Where a span was measured: the process's id and its node's name."""
Written: TypeAlias = tuple[Process, bytes]
"""A span as JSON in UTF-8, beside the process that it was measured in."""


def write(span: Span) -> Written:
    """Return a span that has ended as it is sent.

    What a text holds that is not UTF-8 (a file's name need not be) becomes a question mark.
    """
    context, parent = span.context, span.parent
    told: dict[str, Any] = {
        "traceId": context.trace,
        "spanId": context.span,
        "flags": 1,
        "name": span.name,
        "kind": KINDS[span.kind],
        "startTimeUnixNano": str(int(span.began * 1e9)),
        "endTimeUnixNano": str(int(span.ended * 1e9)),
        "attributes": _attributes(span.attributes),
    }
    if parent is not None:
        told["parentSpanId"] = parent.span
    if span.links:
        told["links"] = [{"traceId": link.trace, "spanId": link.span} for link in span.links]
    if span.error:
        told["status"] = {"code": ERROR, "message": span.error}
    return _here() if span.where is None else (span.where.pid, span.where.node), _encoded(told)


def body(spans: Iterable[Written], service: str) -> bytes:
    """Return the body of a request with these spans, by the processes that they were measured in."""
    by_process: dict[Process, list[bytes]] = {}
    for process, text in spans:
        by_process.setdefault(process, []).append(text)
    resources = [_resource(service, process, its) for process, its in by_process.items()]
    return b'{"resourceSpans":[%b]}' % b",".join(resources)


def _resource(service: str, process: Process, spans: Iterable[bytes]) -> bytes:
    pid, node = process
    about = _attributes({"service.name": service, "process.pid": pid, "host.name": node})
    scope = b'{"resource":%b,"scopeSpans":[{"scope":{"name":"amber_ray"},"spans":[%b]}]}'
    return scope % (_encoded({"attributes": about}), b",".join(spans))


def _attributes(named: Mapping[str, Attribute]) -> list[dict[str, Any]]:
    return [
        {"key": name, "value": {"stringValue": value} if isinstance(value, str) else _value(value)}
        for name, value in named.items()
    ]


def _value(value: Attribute) -> dict[str, Any]:
    if isinstance(value, str):
        return {"stringValue": value}
    if isinstance(value, bool):
        return {"boolValue": value}
    if isinstance(value, int):
        return {"intValue": str(value)}
    if isinstance(value, float):
        return {"doubleValue": value}
    return {"arrayValue": {"values": [_value(one) for one in value]}}


def _encoded(told: Mapping[str, Any]) -> bytes:
    try:
        return orjson.dumps(told)
    except TypeError:  # a text with half of a surrogate pair
        return json.dumps(told, ensure_ascii=False).encode("utf-8", "replace")


@functools.cache
def _here() -> Process:
    return os.getpid(), os.uname().nodename
