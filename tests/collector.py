"""A collector of traces as a test has it: takes OTLP over HTTP, and keeps the spans that it was sent."""

from __future__ import annotations

import base64
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from google.protobuf.json_format import ParseDict
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest


@dataclass(frozen=True)
class Received:
    """A span as it came: ids in hex, times in seconds; `links` are the spans that it names."""

    name: str
    trace: str
    span: str
    parent: str
    kind: int
    began: float
    ended: float
    error: str | None
    attributes: dict[str, Any]
    links: tuple[str, ...]
    resource: dict[str, Any]

    @property
    def pid(self) -> int:
        return int(self.resource["process.pid"])


class Collector:
    """Where spans are sent to. `answer` is the status of its answers."""

    def __init__(self) -> None:
        self.spans: list[Received] = []
        self.answer = 200
        self.headers: dict[str, str] = {}
        collector = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                collector.headers = dict(self.headers)
                assert (self.path, self.headers["Content-Type"]) == ("/v1/traces", "application/json")
                if collector.answer == 200:
                    collector.spans += received(body)
                self.send_response(collector.answer)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *words: object) -> None: ...

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    @contextmanager
    def running(self) -> Iterator[Collector]:
        thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        thread.start()
        try:
            yield self
        finally:
            self._server.shutdown()
            self._server.server_close()

    def of(self, trace: str) -> list[Received]:
        return [span for span in self.spans if span.trace == trace]

    def until(self, condition: Callable[[], object], seconds: float = 30.0) -> None:
        """Wait for spans that are on their way; bounded."""
        give_up = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < give_up, self.spans
            time.sleep(0.02)


def received(body: bytes) -> list[Received]:
    """The spans of an OTLP request, by the protocol's own schema: a field that it has not is an error."""
    message = ParseDict(ids_as_bytes(json.loads(body)), ExportTraceServiceRequest())
    return [
        Received(
            span.name,
            span.trace_id.hex(),
            span.span_id.hex(),
            span.parent_span_id.hex(),
            span.kind,
            span.start_time_unix_nano / 1e9,
            span.end_time_unix_nano / 1e9,
            span.status.message if span.status.code == 2 else None,
            {one.key: plain(one.value) for one in span.attributes},
            tuple(link.span_id.hex() for link in span.links),
            {one.key: plain(one.value) for one in resource.resource.attributes},
        )
        for resource in message.resource_spans
        for scope in resource.scope_spans
        for span in scope.spans
    ]


def ids_as_bytes(told: Any) -> Any:
    """OTLP's JSON has ids in hex, where that of other protocols has base64."""
    if isinstance(told, list):
        return [ids_as_bytes(one) for one in told]
    if not isinstance(told, dict):
        return told
    return {
        name: base64.b64encode(bytes.fromhex(value)).decode()
        if name in ("traceId", "spanId", "parentSpanId")
        else ids_as_bytes(value)
        for name, value in told.items()
    }


def plain(value: Any) -> Any:
    kind = value.WhichOneof("value")
    found = getattr(value, kind)
    return [plain(one) for one in found.values] if kind == "array_value" else found
