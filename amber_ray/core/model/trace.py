"""Traces: which spans a request has, whichever process they are measured in.

A caller names its trace by the header `traceparent` (W3C Trace Context), and the same text goes along with a
request through the engine and the shards to the workers:

    request ──┬── plan                         serving, engine
              └── wait ──┬── task ── step...   shard; the steps are measured by workers
                         │    └── write        shard
                         └── (link to a task that another request began)

Only what is recorded has a text: an empty one stands for no trace, and for one that its caller does not want
recorded. So whoever has no text does nothing, and that is all that tracing costs where it is off.

Must not know: who makes spans, where they are sent.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Final, Literal, NamedTuple, TypeAlias

_TRACEPARENT: Final = re.compile(
    r"(?!ff)([0-9a-f]{2})-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})(-.*)?\Z"
)
MOST_LINKS: Final = 32
"""Links of one span at most; further ones are not noted."""

Attribute: TypeAlias = str | int | float | bool | tuple[str, ...]
Kind: TypeAlias = Literal["internal", "server", "client"]


class TraceContext(NamedTuple):
    """A span as others refer to it: its trace (32 hex digits), itself (16), and whether it is recorded."""

    trace: str
    span: str
    sampled: bool = True

    @property
    def text(self) -> str:
        """It as `read` reads it."""
        return f"00-{self.trace}-{self.span}-{'01' if self.sampled else '00'}"


def read(traceparent: str) -> TraceContext | None:
    """Read a `traceparent`; None for a malformed one, which counts as none (W3C Trace Context, section 4.3).

    Of versions to come the first four fields are read, as section 4.3 has it.

    >>> read("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01").sampled
    True
    """
    found = _TRACEPARENT.match(traceparent)
    if found is None:
        return None
    version, trace, span, flags, more = found.groups()
    if version == "00" and more is not None:
        return None
    return TraceContext(trace, span, bool(int(flags, 16) & 1))


class Ran(NamedTuple):
    """When and where a step ran: from and to (Unix time), process, node."""

    began: float
    ended: float
    pid: int
    node: str


@dataclass(slots=True)
class Span:
    """What took its time. `error`: why it came to nothing; `where`: it was measured in another process."""

    name: str
    context: TraceContext
    parent: TraceContext | None
    began: float
    kind: Kind = "internal"
    attributes: dict[str, Attribute] = field(default_factory=dict)
    links: tuple[TraceContext, ...] = ()
    ended: float = 0.0
    error: str = ""
    where: Ran | None = None

    @property
    def text(self) -> str:
        """What spans below it are told; see `TraceContext.text`."""
        return self.context.text

    def link(self, other: TraceContext) -> None:
        """Note that another span has to do with it, once, and no more than `MOST_LINKS`."""
        if len(self.links) < MOST_LINKS and other not in self.links:
            self.links += (other,)


class Tracer:
    """Makes spans and hands over those that have ended.

    Args:
        export: takes a span that has ended, at once and without waiting; None: nothing is recorded.
        now: Unix time in seconds.
        digits: makes so many random hex digits.
        share: how many of the traces that begin here are recorded, from 0 to 1.
    """

    def __init__(
        self,
        export: Callable[[Span], object] | None,
        now: Callable[[], float],
        digits: Callable[[int], str],
        share: float = 1.0,
    ) -> None:
        self._export = export
        self.now = now
        self._digits = digits
        self._least = round((1.0 - share) * 16**8)

    @property
    def on(self) -> bool:
        """Whether anything is recorded."""
        return self._export is not None

    def begin(self, traceparent: str, name: str) -> Span | None:
        """The span of what a caller asks, in the caller's trace, or in a new one where it names none.

        None if it is not to be recorded: the caller says so, or it is not of the share that is.
        """
        if self._export is None:
            return None
        caller = read(traceparent) if traceparent else None
        if caller is not None:
            return self._made(name, caller.trace, caller, "server") if caller.sampled else None
        ids = self._digits(48)  # of the trace and of the span
        if self._least and int(ids[24:32], 16) < self._least:
            return None
        return Span(name, TraceContext(ids[:32], ids[32:]), None, self.now(), "server")

    def start(
        self,
        parent: str,
        name: str,
        kind: Kind = "internal",
        attributes: Mapping[str, Attribute] | None = None,
        began: float | None = None,
    ) -> Span | None:
        """A span under the one that `parent` names; None where that is not recorded.

        It begins now, or has begun at a time that `now` said.
        """
        if not parent or self._export is None:
            return None
        above = read(parent)
        if above is None or not above.sampled:
            return None
        span = self._made(name, above.trace, above, kind)
        if attributes:
            span.attributes |= attributes
        if began is not None:
            span.began = began
        return span

    def end(self, span: Span | None, error: str = "") -> None:
        """It has ended now, and came to nothing if an error says why; twice is once. None is no span."""
        if span is None or span.ended or self._export is None:
            return
        span.ended = self.now()
        span.error = error
        self._export(span)

    def measured(
        self, parent: Span, name: str, ran: Ran, attributes: dict[str, Attribute], error: str
    ) -> None:
        """Take in a span that another process has measured."""
        if self._export is None:
            return
        span = self._made(name, parent.context.trace, parent.context, "internal")
        span.began, span.ended, span.where = ran.began, ran.ended, ran
        span.attributes, span.error = attributes, error
        self._export(span)

    def during(self, parent: str, name: str) -> During:
        """`with tracer.during(parent, "plan"):` a span for as long as that lasts."""
        return During(self, self.start(parent, name)) if parent else _NOTHING

    def _made(self, name: str, trace: str, parent: TraceContext | None, kind: Kind) -> Span:
        return Span(name, TraceContext(trace, self._digits(16)), parent, self.now(), kind)


class During:
    """See `Tracer.during`. An exception ends the span with what it says."""

    __slots__ = ("_span", "_tracer")

    def __init__(self, tracer: Tracer | None, span: Span | None) -> None:
        self._tracer = tracer
        self._span = span

    def __enter__(self) -> Span | None:
        return self._span

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._tracer is not None:
            self._tracer.end(self._span, "" if error is None else f"{type(error).__name__}: {error}")


_NOTHING: Final = During(None, None)
UNTRACED: Final = Tracer(None, lambda: 0.0, lambda digits: "0" * digits)
"""Records nothing."""
