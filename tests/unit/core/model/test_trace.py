"""Traces: what a `traceparent` says, and which spans are made of it."""

from __future__ import annotations

import itertools

import pytest

from amber_ray.core.model.trace import MOST_LINKS, Ran, Span, TraceContext, Tracer, read

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
GOOD = f"00-{TRACE}-{SPAN}-01"


def made(share: float = 1.0, trace: str = "") -> tuple[Tracer, list[Span]]:
    spans: list[Span] = []
    numbers = itertools.count(1)
    now = itertools.count(100)

    def digits(count: int) -> str:
        own = f"{next(numbers):0{count}x}"
        return trace + own[len(trace) :] if count > len(trace) else own

    return Tracer(spans.append, lambda: float(next(now)), digits, share), spans


def test_a_traceparent_names_a_trace_a_span_and_whether_it_is_recorded() -> None:
    assert read(GOOD) == TraceContext(TRACE, SPAN, True)
    assert read(f"00-{TRACE}-{SPAN}-00") == TraceContext(TRACE, SPAN, False)
    assert read(f"00-{TRACE}-{SPAN}-03") == TraceContext(TRACE, SPAN, True)  # flags to come are not looked at
    assert read(f"cc-{TRACE}-{SPAN}-01-what-comes-later") == TraceContext(TRACE, SPAN, True)
    assert TraceContext(TRACE, SPAN).text == GOOD


@pytest.mark.parametrize(
    "text",
    [
        *("", "00", "nonsense", GOOD.upper(), GOOD[:-1], GOOD + "0", GOOD + "-", GOOD + "-more", f" {GOOD}"),
        *(f"ff-{TRACE}-{SPAN}-01", f"00-{'0' * 32}-{SPAN}-01", f"00-{TRACE}-{'0' * 16}-01"),
        *(f"{GOOD},{GOOD}", f"00-{TRACE}-{SPAN}-0g", f"0-{TRACE}-{SPAN}-01", f"00-{TRACE}-{SPAN}-01\n"),
        *(f"cc-{TRACE}-{SPAN}-01more", f"00_{TRACE}_{SPAN}_01", "٠" * 55),
    ],
)
def test_a_malformed_traceparent_counts_as_none(text: str) -> None:
    assert read(text) is None
    tracer, _ = made()
    span = tracer.begin(text, "GET")
    assert span is not None
    assert span.parent is None


def test_what_a_caller_does_not_want_recorded_is_not() -> None:
    tracer, spans = made()
    assert tracer.begin(f"00-{TRACE}-{SPAN}-00", "GET") is None
    assert tracer.start("", "plan") is None
    assert tracer.start(f"00-{TRACE}-{SPAN}-00", "plan") is None
    tracer.end(None)
    with tracer.during("", "plan") as span:
        assert span is None
    assert spans == []


def test_spans_hang_together_and_end_once() -> None:
    tracer, spans = made()
    request = tracer.begin(GOOD, "GET")
    assert request is not None
    with tracer.during(request.text, "plan"):
        pass
    with pytest.raises(ValueError, match="no"), tracer.during(request.text, "plan"):
        raise ValueError("no")
    tracer.measured(request, "step", Ran(1.0, 2.0, 77, "there"), {"amber.feature": "a"}, "")
    tracer.end(request)
    tracer.end(request, "again")
    assert [span.name for span in spans] == ["plan", "plan", "step", "GET"]
    assert {span.context.trace for span in spans} == {TRACE}
    assert len({span.context.span for span in spans}) == 4
    assert [span.parent for span in spans] == [*[request.context] * 3, TraceContext(TRACE, SPAN)]
    assert [span.error for span in spans] == ["", "ValueError: no", "", ""]
    assert all(span.ended > span.began for span in spans)
    assert spans[2].where == Ran(1.0, 2.0, 77, "there")


@pytest.mark.parametrize(
    ("share", "digits", "recorded"),
    [(0.0, "f", False), (0.25, "b", False), (0.25, "c", True), (1.0, "0", True)],
)
def test_a_share_of_the_traces_that_begin_here_is_recorded(share: float, digits: str, recorded: bool) -> None:
    tracer, _ = made(share, "1" * 24 + digits * 8)
    assert (tracer.begin("", "GET") is not None) is recorded
    assert tracer.begin(GOOD, "GET") is not None  # its caller has decided


def test_a_span_may_have_begun_before_it_was_known_that_there_is_one() -> None:
    tracer, spans = made()
    request = tracer.begin(GOOD, "POST")
    assert request is not None
    began = tracer.now()
    tracer.end(tracer.start(request.text, "plan", began=began))
    assert (spans[0].began, spans[0].ended > began) == (began, True)


def test_links_are_noted_once_and_not_without_end() -> None:
    tracer, _ = made()
    span = tracer.begin("", "GET")
    assert span is not None
    for number in (*range(1, 50), 1):
        span.link(TraceContext(TRACE, f"{number:016x}"))
    assert len(span.links) == MOST_LINKS
    assert len(set(span.links)) == MOST_LINKS
