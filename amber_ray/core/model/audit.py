"""Who changes something, and the lines of the log that says so.

Who acts is known where a caller comes in, and needed where the change is made: it goes along as a context
variable (`acting`), so that no call in between has to carry it. A line holds names and ids, never what was
sent: no token, no URL as it was given, no parameter, no text of an error.

Must not know: HTTP, where lines are kept.
"""

from __future__ import annotations

import contextlib
import json
import math
import re
from collections.abc import Collection, Iterator, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias, get_args

from amber_ray.errors import BadRequest

Change = Literal[
    "request.accepted",
    "request.cancelled",
    "callback.promised",
    "delivery.replayed",
    "asset.added",
    "asset.uploaded",
    "values.purged",
    "features.registered",
    "demand.kept",
    "demand.stopped",
    "token.made",
    "token.revoked",
]
"""What can be changed."""
CHANGES: tuple[Change, ...] = get_args(Change)

AUDIT = "audit"
"""What cursors of the log say that they are of."""
PLACE = (float, str)
"""The types of a place in a cursor."""
LinePlace: TypeAlias = tuple[float, str]
"""By what lines are in order: when it was, the newest first, and their ids."""

LONGEST = 512
"""Characters of a text in a line; longer ones are cut."""
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.:-]{0,40}")
MOST = 20
"""Items of a list in a line's detail; how many there were is told beside."""


@dataclass(frozen=True, slots=True)
class Actor:
    """Who acts: the name of its token, or what stands for one; its tenant; and the id of its HTTP request."""

    name: str
    tenant: str = ""
    request: str = ""


THIS_PROGRAM = Actor("this program")
"""Who acts where nobody came in by HTTP."""
_ACTING: ContextVar[Actor] = ContextVar("amber_acting", default=THIS_PROGRAM)


def actor() -> Actor:
    """Return who acts now."""
    return _ACTING.get()


@contextlib.contextmanager
def acting(who: Actor) -> Iterator[None]:
    """Have what is done inside be done by somebody; tasks that are begun there as well."""
    token = _ACTING.set(who)
    try:
        yield
    finally:
        _ACTING.reset(token)


@dataclass(frozen=True, slots=True)
class AuditLine:
    """One change.

    - `id`: the line's own; a line that is found twice is one;
    - `time`: Unix time;
    - `what`: one of `CHANGES`; `subject`: the id or name of what was changed;
    - `tenant`: whose it is, or of whom that was who did it; empty if it is nobody's;
    - `caller`: the name of the token, or what stands for one; `request`: the id of the HTTP request, the
      `X-Request-Id` of its answer, empty where there was none;
    - `outcome`: "done", "interrupted" if the caller hung up, else the error of a change that may have been
      made all the same;
    - `detail`: a few names and numbers.
    """

    id: str
    time: float
    what: str
    subject: str
    tenant: str
    caller: str
    request: str = ""
    outcome: str = "done"
    detail: Mapping[str, Any] = field(default_factory=dict)

    @property
    def place(self) -> LinePlace:
        """Where it comes in a listing."""
        return -self.time, self.id


@dataclass(frozen=True, slots=True)
class AuditFilter:
    """Which lines are meant: since a Unix time, of a tenant, of a change."""

    since: float | None = None
    tenant: str | None = None
    what: str | None = None

    def fits(self, one: AuditLine) -> bool:
        """Whether a line is meant."""
        return (
            (self.since is None or one.time >= self.since)
            and self.tenant in (None, one.tenant)
            and self.what in (None, one.what)
        )


EVERY_LINE = AuditFilter()


def checked_filter(only: AuditFilter) -> AuditFilter:
    """Return a filter. Raises `BadRequest` for a change that there is not and for a time that is none."""
    if only.what is not None and only.what not in CHANGES:
        raise BadRequest(f"what must be one of {', '.join(CHANGES)}, not {only.what!r}")
    if only.since is not None and not math.isfinite(only.since):
        raise BadRequest(f"since must be seconds since 1970, not {only.since}")
    return only


def line(id: str, time: float, what: Change, subject: str, who: Actor, tenant: str = "") -> AuditLine:
    """Return the line of a change that somebody makes."""
    return AuditLine(
        id,
        time,
        what,
        clipped(subject),
        clipped(tenant or who.tenant),
        clipped(who.name),
        clipped(who.request),
    )


def detail_of(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return what is told beside a change: texts cut, of lists the first items and how many there were."""
    told: dict[str, Any] = {}
    for name, value in given.items():
        if isinstance(value, Collection) and not isinstance(value, str):
            its = list(value)
            told[name] = [clipped(str(one)) for one in its[:MOST]]
            if len(its) > MOST:
                told[f"{name}_count"] = len(its)
        elif value not in (None, ""):
            told[name] = clipped(value) if isinstance(value, str) else value
    return told


def clipped(text: str) -> str:
    """Return a text that a line may hold."""
    # What is no text, half of a surrogate pair say, can't be written to Parquet.
    text = text.encode("utf-8", "replace").decode()
    return text if len(text) <= LONGEST else text[: LONGEST - 1] + "…"


def without_secrets(uri: str) -> str:
    """Return a path or URL without its query and without credentials, for a line.

    All up to the last "@" is left out, since a password may hold what else ends it; of a URL that can be read
    in several ways only the scheme is told.
    """
    scheme, separator, rest = uri.partition("://")
    if not separator:
        return uri
    if not _SCHEME.fullmatch(scheme):
        return "…"
    place, *query = re.split(r"[?#]", rest, maxsplit=1)
    if query and "@" in query[0]:
        return f"{scheme}://…"
    _, at, open_ = place.rpartition("@")
    return f"{scheme}://…@{open_}" if at else f"{scheme}://{place}"


def host_of(url: str) -> str:
    """Return the host of a URL, for a line: its path may be a secret, as those of chat services are."""
    scheme, separator, rest = without_secrets(url).partition("://")
    return f"{scheme}://{rest.partition('/')[0].removeprefix('…@')}" if separator else ""


def told_url(url: str) -> str:
    """Return a callback's URL as it is told to anybody: "https://hooks.example/…", its scheme and host.

    Who knows the rest may call the receiver in another's name, as with the hooks of chat services.
    """
    host = host_of(url)
    return url if url in (host, f"{host}/") else f"{host}/…"


def detail_text(detail: Mapping[str, Any]) -> str:
    """Return a line's detail as JSON, in one form."""
    return json.dumps(detail, sort_keys=True, ensure_ascii=False)


def told(one: AuditLine) -> str:
    """Return a line as text, for the log of a process."""
    who = " ".join(filter(None, (one.caller, one.tenant and f"of {one.tenant}", one.request)))
    return f"{one.what} {one.subject} by {who}: {one.outcome} {detail_text(one.detail)}"
