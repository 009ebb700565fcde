"""Spans on their way to a collector: OpenTelemetry's protocol (`otlp`) over HTTP.

Spans wait, written, in a bounded queue for a thread that sends them; what does not fit is dropped, so a
collector that is slow or away holds up nobody. They are not written by OpenTelemetry's SDK, which takes
ten times as long for one: hot reads are so short that this was a third of their processor time.

Must not know: what spans are about.
"""

from __future__ import annotations

import asyncio
import collections
import functools
import logging
import math
import random
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from amber_ray.core.model.trace import UNTRACED, Span, Tracer
from amber_ray.errors import BadRequest
from amber_ray.fabric.adapter import otlp
from amber_ray.settings import Settings

if TYPE_CHECKING:
    import httpx

log = logging.getLogger("amber.traces")

PATH = "/v1/traces"
"""Where a collector takes traces, by the OTLP specification."""
QUEUE, BATCH = 8192, 1024
"""Spans that wait at most, and that are sent together."""
DELAY_SECONDS = 1.0
"""How long a span waits for others."""
FLUSH_SECONDS = 2.0
"""How long the end of a process may wait until spans have been sent."""
TELL_SECONDS = 60.0
"""How often it is logged that spans are lost."""
SEND_SECONDS = 10.0
"""How long a collector may take to answer."""
PAUSES = (0.5, 1.0, 2.0)
"""Between tries of a batch that a collector may take later."""
AGAIN = frozenset({408, 429, 502, 503, 504})
_senders: list[Sender] = []
_SAMPLERS: Mapping[str, Callable[[str], float]] = {
    "always_on": lambda argument: 1.0,
    "always_off": lambda argument: 0.0,
    "traceidratio": lambda argument: float(argument or 1.0),
}


def from_environment(settings: Settings, environment: Mapping[str, str]) -> Settings:
    """Add what OpenTelemetry's own variables say of traces where settings say nothing.

    Raises `BadRequest` for a share that is none.
    """
    if environment.get("OTEL_SDK_DISABLED", "").lower() == "true":
        return settings
    told: dict[str, Any] = {}
    if name := environment.get("OTEL_SERVICE_NAME", ""):
        told["trace_service"] = name
    for variable in ("OTEL_EXPORTER_OTLP_HEADERS", "OTEL_EXPORTER_OTLP_TRACES_HEADERS"):
        if headers := environment.get(variable, ""):
            told["trace_headers"] = tuple(word.strip() for word in headers.split(",") if "=" in word)
    if settings.trace_endpoint:
        return settings.replace(**told)
    endpoint = environment.get("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "")
    if not endpoint and (base := environment.get("OTEL_EXPORTER_OTLP_ENDPOINT", "")):
        endpoint = base.rstrip("/") + PATH
    if not endpoint or environment.get("OTEL_TRACES_EXPORTER", "otlp") == "none":
        return settings
    sampler = environment.get("OTEL_TRACES_SAMPLER", "").removeprefix("parentbased_") or "always_on"
    share = _SAMPLERS.get(sampler, _SAMPLERS["always_on"])
    try:
        told["trace_share"] = share(environment.get("OTEL_TRACES_SAMPLER_ARG", ""))
        return settings.replace(trace_endpoint=endpoint, **told)
    except ValueError:
        given = environment["OTEL_TRACES_SAMPLER_ARG"]
        raise BadRequest(f"OTEL_TRACES_SAMPLER_ARG must be a number from 0 to 1, not {given!r}") from None


def tracer(settings: Settings) -> Tracer:
    """What records this process's spans; nothing where settings name no collector."""
    if not settings.trace_endpoint:
        return UNTRACED
    sender = _sender(settings.trace_endpoint, settings.trace_service, settings.trace_headers)
    return Tracer(sender.take, time.time, _digits, settings.trace_share)


async def flush(seconds: float = FLUSH_SECONDS) -> None:
    """Have what waits sent, for so long at most."""
    for sender in _senders:
        await asyncio.to_thread(sender.flush, seconds)


@functools.cache
def _sender(endpoint: str, service: str, headers: tuple[str, ...]) -> Sender:
    """The one of this process: its engine, its shard and its HTTP app share a queue and a thread."""
    made = Sender(endpoint, service, headers)
    _senders.append(made)
    return made


class Sender:
    """Takes spans from any thread, and sends them from one of its own, which begins with the first span.

    While a collector does not answer, a batch is tried again for some seconds and then given up; that is
    logged once a minute. `headers` are of the form `name=value`, the value as in a URL.
    """

    def __init__(self, endpoint: str, service: str = "amber", headers: Sequence[str] = ()) -> None:
        self._url = endpoint if urlsplit(endpoint).path.strip("/") else endpoint.rstrip("/") + PATH
        self._headers = {"Content-Type": "application/json"}
        for word in headers:
            name, _, value = word.partition("=")
            self._headers[name.strip()] = unquote(value.strip())
        self._service = service
        self._waiting: collections.deque[otlp.Written] = collections.deque()
        self._lost = 0
        self._why = "too many waited"
        self._told = -math.inf
        self._wake = threading.Event()
        self._flushing: collections.deque[threading.Event] = collections.deque()
        self._beginning = threading.Lock()
        self._thread: threading.Thread | None = None

    def take(self, span: Span) -> None:
        """Have a span sent. Never waits: one that finds the queue full is dropped."""
        waiting = self._waiting
        if len(waiting) >= QUEUE:
            self._lost += 1
            return
        waiting.append(otlp.write(span))
        if len(waiting) == BATCH:
            self._wake.set()
        if self._thread is None:
            with self._beginning:
                if self._thread is None:
                    self._thread = threading.Thread(target=self._run, name="amber-traces", daemon=True)
                    self._thread.start()

    def flush(self, seconds: float) -> bool:
        """Send what waits, for so long at most; True if all was tried. Blocks."""
        if self._thread is None:
            return True
        tried = threading.Event()
        self._flushing.append(tried)
        self._wake.set()
        return tried.wait(seconds)

    def _run(self) -> None:
        import httpx

        with httpx.Client(timeout=SEND_SECONDS, headers=self._headers) as http:
            while True:
                woken = self._wake.wait(DELAY_SECONDS)
                self._wake.clear()
                flushing = [self._flushing.popleft() for _ in range(len(self._flushing))]
                # Woken since a batch is full, it sends full ones only: what remains goes with the next, or
                # alone once nothing has come for a while. Many small ones would take a core.
                least = BATCH if woken and not flushing else 1
                while len(self._waiting) >= least:
                    some = [self._waiting.popleft() for _ in range(min(BATCH, len(self._waiting)))]
                    if not self._sent(http, otlp.body(some, self._service)):
                        self._lost += len(some)
                    self._tell()
                for tried in flushing:
                    tried.set()

    def _sent(self, http: httpx.Client, body: bytes) -> bool:
        """Whether a collector has taken a batch; one that may take it later is asked again."""
        for pause in (*PAUSES, 0.0):
            try:
                answer = http.post(self._url, content=body)
            except Exception as error:  # noqa: BLE001 - whatever it is, spans are lost and no more
                self._why = f"{type(error).__name__}: {error}"
            else:
                if answer.is_success:
                    return True
                self._why = f"it answered {answer.status_code}"
                if answer.status_code not in AGAIN:
                    return False
            time.sleep(pause)
        return False

    def _tell(self) -> None:
        if self._lost and time.monotonic() - self._told > TELL_SECONDS:
            log.warning("%d spans could not be sent to %s: %s", self._lost, self._url, self._why)
            self._lost, self._told = 0, time.monotonic()


def _digits(count: int) -> str:
    """Random digits; of a generator that the operating system has seeded for this process alone."""
    return _chance.randbytes(count // 2).hex()


_chance = random.Random()
