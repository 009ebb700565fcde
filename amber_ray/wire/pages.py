"""Pages of what there is, both ways: what is asked for in a query, and the page as JSON.

A page is `{"assets": [...], "cursor": "..."}`, under the name of what it lists; `cursor` is null on the last
one. Must not know: HTTP libraries, services.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any, NamedTuple, TypeVar

from amber_ray.core.model.audit import AuditFilter
from amber_ray.core.model.audit import checked_filter as checked_lines
from amber_ray.core.model.pages import (
    USUAL,
    AssetFilter,
    Page,
    checked_filter,
    checked_limit,
)
from amber_ray.errors import BadRequest
from amber_ray.wire.compute import MAX_URI
from amber_ray.wire.json import describe, members, text
from amber_ray.wire.problems import Reading

T = TypeVar("T")

MAX_CURSOR = 4 * MAX_URI
"""Characters of a cursor: it may hold a URI, of several bytes a character, in base64."""
AUDIT_FILTERS = ("since", "tenant", "what")
ASSET_FILTERS = ("prefix", "kind", "min_duration", "max_duration", "uploads")


class Asked(NamedTuple):
    """A query: its filters as text, how many items a page may have, and where it begins."""

    filters: Mapping[str, str]
    limit: int
    cursor: str | None


def read_query(pairs: Iterable[tuple[str, str]], filters: Collection[str]) -> Asked:
    """Read a query of `filters`, `limit` and `cursor`, each at most once. Raises `BadRequest`."""
    pairs = list(pairs)
    given = dict(members(dict(pairs), (*filters, "limit", "cursor"), "the query"))
    if len(given) < len(pairs):
        raise BadRequest("each name in the query may be given once")
    limit, cursor = given.pop("limit", None), given.pop("cursor", None)
    if limit is not None and not (limit.isascii() and limit.isdecimal() and len(limit) < 10):
        raise BadRequest(f"limit must be a whole number, not {describe(limit)}")
    return Asked(
        {name: text(value, name, MAX_URI) for name, value in given.items() if value},
        checked_limit(USUAL if limit is None else int(limit)),
        text(cursor, "cursor", MAX_CURSOR) if cursor else None,
    )


def write_query(filters: Mapping[str, Any], limit: int, cursor: str | None) -> dict[str, str]:
    """Write a query that `read_query` reads, without what is None."""
    given = {**filters, "limit": limit, "cursor": cursor}
    return {name: _written(value) for name, value in given.items() if value is not None}


def _written(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def read_asset_filter(filters: Mapping[str, str]) -> AssetFilter:
    """Read which assets are meant. Raises `BadRequest`."""
    uploads = filters.get("uploads", "true")
    if uploads not in ("true", "false"):
        raise BadRequest(f"uploads must be true or false, not {describe(uploads)}")
    low, high = (_seconds(filters, name) for name in ("min_duration", "max_duration"))
    return checked_filter(
        AssetFilter(filters.get("prefix", ""), filters.get("kind"), low, high, uploads == "true")
    )


def write_asset_filter(only: AssetFilter) -> dict[str, Any]:
    """Write which assets are meant, for a query."""
    return {
        "prefix": only.prefix or None,
        "kind": only.kind,
        "min_duration": only.min_duration,
        "max_duration": only.max_duration,
        "uploads": None if only.uploads else False,
    }


def read_audit_filter(filters: Mapping[str, str], tenant: str | None) -> AuditFilter:
    """Read which lines of the audit log are meant, of a tenant or of any. Raises `BadRequest`."""
    return checked_lines(AuditFilter(_seconds(filters, "since"), tenant, filters.get("what")))


def write_audit_filter(only: AuditFilter) -> dict[str, Any]:
    """Write which lines of the audit log are meant, for a query."""
    return {
        "since": None if only.since is None else repr(only.since),
        "tenant": only.tenant,
        "what": only.what,
    }


def encode_page(name: str, page: Page[T], encode: Callable[[T], Any]) -> dict[str, Any]:
    """Encode a page; `name` is what its items are called."""
    return {name: [encode(item) for item in page], "cursor": page.cursor}


def decode_page(name: str, data: Mapping[str, Any], decode: Callable[[Any], T]) -> Page[T]:
    """Decode a page."""
    with Reading(f"a page of {name}"):
        return Page(tuple(decode(item) for item in data[name]), data["cursor"])


def _seconds(filters: Mapping[str, str], name: str) -> float | None:
    if name not in filters:
        return None
    try:
        return float(filters[name])
    except ValueError as error:
        raise BadRequest(f"{name} must be a number of seconds, not {describe(filters[name])}") from error
