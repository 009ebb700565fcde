"""Spans reach a collector by OTLP, and one that is slow, broken or away holds up nobody."""

from __future__ import annotations

import logging
import socket
import time
from collections.abc import Iterator

import pytest

from amber_ray.core.model.trace import Ran, TraceContext, Tracer
from amber_ray.errors import BadRequest
from amber_ray.fabric.adapter import tracing
from amber_ray.settings import Settings
from tests.collector import Collector

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


@pytest.fixture
def collector() -> Iterator[Collector]:
    with Collector().running() as made:
        yield made


def test_spans_arrive_as_they_were_with_the_process_that_they_are_of(collector: Collector) -> None:
    sender = tracing.Sender(collector.url)
    tracer = Tracer(sender.take, time.time, tracing._digits)
    request = tracer.begin(f"00-{TRACE}-{SPAN}-01", "GET /x")
    assert request is not None
    request.attributes |= {"a": 1, "b": ("x", "y"), "c": True, "d": 0.5}
    request.link(TraceContext("1" * 32, "2" * 16))
    tracer.measured(request, "step", Ran(10.5, 11.25, 77, "elsewhere"), {}, "FeatureError: no")
    tracer.end(request)
    assert sender.flush(20)
    step, whole = collector.spans
    assert (whole.trace, whole.parent, whole.name, whole.kind) == (TRACE, SPAN, "GET /x", 2)
    assert whole.attributes == {"a": 1, "b": ["x", "y"], "c": True, "d": 0.5}
    assert whole.links == ("2" * 16,)
    assert whole.error is None
    assert whole.resource["service.name"] == "amber"
    assert (step.trace, step.parent, step.error) == (TRACE, whole.span, "FeatureError: no")
    assert (step.began, step.ended) == (10.5, 11.25)
    assert (step.pid, step.resource["host.name"]) == (77, "elsewhere")


def test_a_collector_that_refuses_loses_spans_and_gets_the_next_ones(
    collector: Collector, caplog: pytest.LogCaptureFixture
) -> None:
    collector.answer = 400
    sender = tracing.Sender(collector.url + "/")
    tracer = Tracer(sender.take, time.time, tracing._digits)
    with caplog.at_level(logging.WARNING, "amber.traces"):
        tracer.end(tracer.begin("", "lost"))
        assert sender.flush(20)
        collector.until(lambda: caplog.records)
    assert "1 spans could not be sent" in caplog.text
    collector.answer = 200
    tracer.end(tracer.begin("", "found"))
    assert sender.flush(20)
    assert [span.name for span in collector.spans] == ["found"]


def test_a_collector_that_says_nothing_bounds_what_waits() -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen(1)
        sender = tracing.Sender(f"http://127.0.0.1:{silent.getsockname()[1]}/v1/traces")
        tracer = Tracer(sender.take, time.time, tracing._digits)
        for _ in range(3 * tracing.QUEUE):
            tracer.end(tracer.begin("", "x"))
        assert len(sender._waiting) <= tracing.QUEUE
        assert not sender.flush(0.01)


def test_what_waits_is_sent_in_full_batches_and_the_rest_once_nothing_comes(
    collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tracing, "BATCH", 4)
    monkeypatch.setattr(tracing, "DELAY_SECONDS", 60.0)
    sender = tracing.Sender(collector.url)
    tracer = Tracer(sender.take, time.time, tracing._digits)
    for number in range(6):
        tracer.end(tracer.begin("", f"{number}"))
    collector.until(lambda: collector.spans)
    assert [span.name for span in collector.spans] == ["0", "1", "2", "3"]
    assert len(sender._waiting) == 2
    assert sender.flush(20)
    assert [span.name for span in collector.spans[4:]] == ["4", "5"]


@pytest.mark.parametrize(
    ("environment", "endpoint", "share"),
    [
        ({}, "", 1.0),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318"}, "http://c:4318/v1/traces", 1.0),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c/otlp/"}, "http://c/otlp/v1/traces", 1.0),
        (
            {
                "OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318",
                "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://d/t",
                "OTEL_TRACES_SAMPLER": "parentbased_traceidratio",
                "OTEL_TRACES_SAMPLER_ARG": "0.25",
            },
            "http://d/t",
            0.25,
        ),
        (
            {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c", "OTEL_TRACES_SAMPLER": "always_off"},
            "http://c/v1/traces",
            0.0,
        ),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c", "OTEL_SDK_DISABLED": "true"}, "", 1.0),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c", "OTEL_TRACES_EXPORTER": "none"}, "", 1.0),
    ],
)
def test_opentelemetrys_own_variables_are_heeded(
    environment: dict[str, str], endpoint: str, share: float
) -> None:
    told = tracing.from_environment(Settings(), environment)
    assert (told.trace_endpoint, told.trace_share) == (endpoint, share)


def test_a_setting_counts_more_than_the_environment_and_a_share_that_is_none_is_refused() -> None:
    own = Settings(trace_endpoint="http://mine")
    assert tracing.from_environment(own, {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c"}) == own
    variables = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": "http://c",
        "OTEL_TRACES_SAMPLER": "traceidratio",
        "OTEL_TRACES_SAMPLER_ARG": "half",
    }
    with pytest.raises(BadRequest, match="OTEL_TRACES_SAMPLER_ARG must be a number from 0 to 1, not 'half'"):
        tracing.from_environment(Settings(), variables)
    for wrong in ({"trace_endpoint": "collector:4318"}, {"trace_share": 1.5}):
        with pytest.raises(BadRequest, match=r"trace_\w+ must be"):
            Settings(**wrong)  # type: ignore[arg-type]


def test_the_services_name_and_headers_go_along(collector: Collector) -> None:
    told = tracing.from_environment(
        Settings(trace_endpoint=collector.url),
        {"OTEL_SERVICE_NAME": "films", "OTEL_EXPORTER_OTLP_HEADERS": "api-key=a%20b, x-team=c"},
    )
    assert (told.trace_service, told.trace_headers) == ("films", ("api-key=a%20b", "x-team=c"))
    sender = tracing.Sender(told.trace_endpoint, told.trace_service, told.trace_headers)
    tracer = Tracer(sender.take, time.time, tracing._digits)
    tracer.end(tracer.begin("", "caf\udce9"))
    assert sender.flush(20)
    assert (collector.headers["api-key"], collector.headers["x-team"]) == ("a b", "c")
    assert (collector.spans[0].resource["service.name"], collector.spans[0].name) == ("films", "caf?")
