"""Spans on their way to a collector: by OpenTelemetry's SDK, as OTLP over HTTP.

The SDK is an extra (`pip install 'amber-ray[otel]'`), and is imported only where traces are asked for. Spans
wait in a bounded queue for a thread that sends them; what does not fit is dropped, so a collector that is
slow or away holds up nobody. The service's name, headers, time limits and certificates are told by the SDK's
own variables (`OTEL_SERVICE_NAME`, `OTEL_EXPORTER_OTLP_HEADERS`, `OTEL_EXPORTER_OTLP_TIMEOUT`).

Must not know: what spans are about.
"""

from __future__ import annotations

import asyncio
import collections
import functools
import importlib.util
import logging
import math
import os
import random
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urlsplit

from amber_ray.core.model.trace import UNTRACED, Span, TraceContext, Tracer
from amber_ray.errors import BadRequest
from amber_ray.settings import Settings

log = logging.getLogger("amber.traces")

PATH = "/v1/traces"
"""Where a collector takes traces, by the OTLP specification."""
EXTRA = "sending traces needs OpenTelemetry: pip install 'amber-ray[otel]'"
QUEUE, BATCH = 8192, 512
"""Spans that wait at most, and that are sent together."""
DELAY_SECONDS = 1.0
"""How long a span waits for others."""
FLUSH_SECONDS = 2.0
"""How long the end of a process may wait until spans have been sent."""
TELL_SECONDS = 60.0
"""How often it is logged that spans are lost."""
PROCESSES = 1000
"""Processes of which it is remembered how a collector is told of them."""
_senders: list[Sender] = []
_SAMPLERS: Mapping[str, Callable[[str], float]] = {
    "always_on": lambda argument: 1.0,
    "always_off": lambda argument: 0.0,
    "traceidratio": lambda argument: float(argument or 1.0),
}


def installed() -> bool:
    """Whether the extra is there."""
    try:
        return importlib.util.find_spec("opentelemetry.exporter.otlp.proto.http") is not None
    except ModuleNotFoundError:
        return False


def refuse_impossible(settings: Settings) -> None:
    """Raise `BadRequest` for settings that ask for traces where the extra is not installed."""
    if settings.trace_endpoint and not installed():
        raise BadRequest(EXTRA)


def from_environment(settings: Settings, environment: Mapping[str, str]) -> Settings:
    """Add what OpenTelemetry's own variables say of traces where settings say nothing.

    Somebody else may have set them for all programs of a machine, so without the extra they are no error.
    Raises `BadRequest` for a share that is none.
    """
    if settings.trace_endpoint or environment.get("OTEL_SDK_DISABLED", "").lower() == "true":
        return settings
    endpoint = environment.get("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "")
    if not endpoint and (base := environment.get("OTEL_EXPORTER_OTLP_ENDPOINT", "")):
        endpoint = base.rstrip("/") + PATH
    if not endpoint or environment.get("OTEL_TRACES_EXPORTER", "otlp") == "none":
        return settings
    if not installed():
        log.warning("no traces are sent to %s: %s", endpoint, EXTRA)
        return settings
    name = environment.get("OTEL_TRACES_SAMPLER", "").removeprefix("parentbased_") or "always_on"
    share = _SAMPLERS.get(name, _SAMPLERS["always_on"])
    try:
        return settings.replace(
            trace_endpoint=endpoint, trace_share=share(environment.get("OTEL_TRACES_SAMPLER_ARG", ""))
        )
    except ValueError:
        given = environment["OTEL_TRACES_SAMPLER_ARG"]
        raise BadRequest(f"OTEL_TRACES_SAMPLER_ARG must be a number from 0 to 1, not {given!r}") from None


def tracer(settings: Settings) -> Tracer:
    """What records this process's spans; nothing where settings name no collector.

    A program that asks a running Amber need not have the extra: its spans are not sent then.
    """
    if not settings.trace_endpoint:
        return UNTRACED
    if not installed():
        log.warning("no traces are sent to %s from here: %s", settings.trace_endpoint, EXTRA)
        return UNTRACED
    sender = _sender(settings.trace_endpoint)
    return Tracer(sender.take, time.time, _digits, settings.trace_share)


async def flush(seconds: float = FLUSH_SECONDS) -> None:
    """Have what waits sent, for so long at most."""
    for sender in _senders:
        await asyncio.to_thread(sender.flush, seconds)


@functools.cache
def _sender(endpoint: str) -> Sender:
    """The one of this process: its engine, its shard and its HTTP app share a queue and a thread."""
    made = Sender(endpoint)
    _senders.append(made)
    return made


class Sender:
    """Takes spans from any thread, and sends them from one of its own, which begins with the first span.

    While a collector does not answer, the SDK's exporter tries a batch again for some seconds and then gives
    it up; that is logged once a minute.
    """

    def __init__(self, endpoint: str) -> None:
        self._url = endpoint if urlsplit(endpoint).path.strip("/") else endpoint.rstrip("/") + PATH
        self._waiting: collections.deque[Span] = collections.deque()
        self._lost = 0
        self._told = -math.inf
        self._wake = threading.Event()
        self._idle = threading.Event()
        self._beginning = threading.Lock()
        self._thread: threading.Thread | None = None
        self._why = _Why()

    def take(self, span: Span) -> None:
        """Have a span sent. Never waits: one that finds the queue full is dropped."""
        if len(self._waiting) >= QUEUE:
            self._lost += 1
            return
        self._waiting.append(span)
        self._idle.clear()
        if len(self._waiting) >= BATCH:
            self._wake.set()
        if self._thread is None:
            with self._beginning:
                if self._thread is None:
                    self._thread = threading.Thread(target=self._run, name="amber-traces", daemon=True)
                    self._thread.start()

    def flush(self, seconds: float) -> bool:
        """Send what waits, for so long at most; True if all was tried. Blocks."""
        self._wake.set()
        return not self._waiting or self._idle.wait(seconds)

    def _run(self) -> None:
        from opentelemetry.exporter.otlp.proto.http import trace_exporter
        from opentelemetry.sdk.trace.export import SpanExportResult

        logging.getLogger(trace_exporter.__name__).addFilter(self._why)
        export = trace_exporter.OTLPSpanExporter(endpoint=self._url).export
        make = _Made()
        while True:
            self._wake.wait(DELAY_SECONDS)
            self._wake.clear()
            while self._waiting:
                some = [self._waiting.popleft() for _ in range(min(BATCH, len(self._waiting)))]
                if export([make(span) for span in some]) is not SpanExportResult.SUCCESS:
                    self._lost += len(some)
                self._tell()
            self._idle.set()

    def _tell(self) -> None:
        if self._lost and time.monotonic() - self._told > TELL_SECONDS:
            log.warning("%d spans could not be sent to %s: %s", self._lost, self._url, self._why.last)
            self._lost, self._told = 0, time.monotonic()


class _Why(logging.Filter):
    """Remembers what the exporter says instead of having it logged for each batch."""

    last = "the queue is full"

    def filter(self, record: logging.LogRecord) -> bool:
        """Note a line, and let none pass."""
        self.last = record.getMessage()
        return False


class _Made:
    """Makes a span of OpenTelemetry's from one of ours."""

    def __init__(self) -> None:
        from opentelemetry import trace
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import ReadableSpan
        from opentelemetry.sdk.util.instrumentation import InstrumentationScope

        self._trace = trace
        self._span = ReadableSpan
        self._resource = Resource
        self._scope = InstrumentationScope("amber_ray")
        self._service = Resource.create()
        if str(self._service.attributes.get("service.name", "unknown")).startswith("unknown"):
            self._service = self._service.merge(Resource({"service.name": "amber"}))
        self._processes: dict[tuple[int, str], Any] = {}

    def __call__(self, span: Span) -> Any:
        trace = self._trace
        where = (
            (os.getpid(), os.uname().nodename) if span.where is None else (span.where.pid, span.where.node)
        )
        code = trace.StatusCode.ERROR if span.error else trace.StatusCode.UNSET
        return self._span(
            span.name,
            context=self._context(span.context),
            parent=None if span.parent is None else self._context(span.parent),
            resource=self._process(*where),
            attributes=span.attributes,
            links=[trace.Link(self._context(link)) for link in span.links],
            kind=trace.SpanKind[span.kind.upper()],
            status=trace.Status(code, span.error or None),
            start_time=int(span.began * 1e9),
            end_time=int(span.ended * 1e9),
            instrumentation_scope=self._scope,
        )

    def _context(self, its: TraceContext) -> Any:
        flags = self._trace.TraceFlags(int(its.sampled))
        return self._trace.SpanContext(int(its.trace, 16), int(its.span, 16), True, flags)

    def _process(self, pid: int, node: str) -> Any:
        """What OpenTelemetry calls the resource: the process that a span was measured in."""
        found = self._processes.get((pid, node))
        if found is None:
            if len(self._processes) >= PROCESSES:
                self._processes.clear()
            about: dict[str, Any] = {"process.pid": pid, "host.name": node}
            found = self._processes[pid, node] = self._service.merge(self._resource(about))
        return found


def _digits(count: int) -> str:
    """Random digits; of a generator that the operating system has seeded for this process alone."""
    return _chance.randbytes(count // 2).hex()


_chance = random.Random()
