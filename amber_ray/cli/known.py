"""`amber assets`, `requests`, `lineage` and `audit`: what a server or a store knows, computing nothing."""

from __future__ import annotations

import argparse
import contextlib
import json
import time
from collections.abc import Callable
from datetime import datetime
from typing import TypeVar

from amber_ray.cli.options import client_of, there
from amber_ray.cli.summary import size
from amber_ray.cli.terminal import cell, console, note, say, seconds, table
from amber_ray.cli.token import UNITS, seconds_of
from amber_ray.core.model.audit import AuditFilter, checked_filter
from amber_ray.core.model.pages import MOST, Page
from amber_ray.core.model.provenance import ValueInfo
from amber_ray.errors import BadRequest
from amber_ray.store.audit import AuditBook
from amber_ray.wire import views
from amber_ray.wire.provenance import encode_lineage

T = TypeVar("T")


def assets(args: argparse.Namespace) -> int:
    """List assets by their places."""
    with client_of(args) as client:
        found = _up_to(
            args.limit,
            lambda limit, cursor: client.assets(
                args.prefix,
                kind=args.kind,
                min_duration=args.min_duration,
                max_duration=args.max_duration,
                limit=limit,
                cursor=cursor,
            ),
        )
    if args.format == "json":
        say(json.dumps([views.encode_asset(asset) for asset in found], indent=1))
        return 0
    rows = table("place", "type", ">duration", ">bytes", "id")
    for asset in found:
        length = seconds(asset.duration)
        rows.add_row(cell(asset.uri), asset.media_type, length, size(asset.bytes), asset.id)
    console().print(rows)
    return 0


def requests(args: argparse.Namespace) -> int:
    """List a server's requests, the newest first."""
    with client_of(args) as client:
        found = _up_to(
            args.limit,
            lambda limit, cursor: client.requests(args.state, tenant=args.tenant, limit=limit, cursor=cursor),
        )
    if args.format == "json":
        say(json.dumps([views.encode_info(info) for info in found], indent=1))
        return 0
    rows = table("id", "state", "tenant", "created", "features", ">results", ">ready", ">failed")
    for info in found:
        created = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(info.created))
        counts = (f"{n:,}" for n in (info.results, info.ready, info.failed))
        rows.add_row(info.id, info.state, info.tenant, created, cell(", ".join(info.features)), *counts)
    console().print(rows)
    return 0


def lineage(args: argparse.Namespace) -> int:
    """Show what a value was made from, as a tree: each value under its first user."""
    with client_of(args) as client:
        found = client.lineage(args.key)
    if args.format == "json":
        say(json.dumps(encode_lineage(found), indent=1))
        return 0
    nodes = {node.key: node for node in found.nodes}
    shown: set[str] = set()
    stack = [(found.key, 0)]
    while stack:
        key, depth = stack.pop()
        node = nodes.get(key)
        if node is None:
            say(f"{'  ' * depth}{key}  unknown")
            continue
        again = key in shown
        say(f"{'  ' * depth}{_told(node)}{', as above' if again and node.inputs else ''}")
        if not again:
            shown.add(key)
            stack += [(one, depth + 1) for one in reversed(node.inputs)]
    for asset in found.assets:
        say(f"{asset.id}  {asset.uri}")
    return 0


def audit(args: argparse.Namespace) -> int:
    """List who changed what, the newest first; of a store without any server."""
    if args.server is not None and args.store is not None:
        raise BadRequest("--store and --server exclude each other: a server has its store")
    since = None if args.since is None else _since(args.since, time.time())
    only = checked_filter(AuditFilter(since, args.tenant, args.what))
    if args.server is not None:
        with client_of(args) as client:
            found = _up_to(
                args.limit,
                lambda limit, cursor: client.audit(
                    since=since, tenant=args.tenant, what=args.what, limit=limit, cursor=cursor
                ),
            )
    else:
        told = AuditBook(there(args.store)).read(only, None, args.limit)
        found = list(told.values)
        if told.end is not None:
            _more(found)
    if args.format == "json":
        say(json.dumps([views.encode_line(line) for line in found], indent=1))
        return 0
    rows = table("time", "what", "subject", "by", "tenant", "outcome", "detail")
    for line in found:
        at = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(line.time))
        detail = ", ".join(f"{name} {_short(value)}" for name, value in line.detail.items())
        told_ = (line.subject, line.caller, line.tenant, line.outcome, detail)
        rows.add_row(at, line.what, *map(cell, told_))
    console().print(rows)
    return 0


def _short(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _since(text: str, now: float) -> float:
    """`7d` ago, or a local date and time, as a Unix time. Raises `BadRequest`."""
    if text[-1:] in UNITS:
        with contextlib.suppress(BadRequest):
            return now - seconds_of(text)
    try:
        return datetime.fromisoformat(text).timestamp()
    except (ValueError, OverflowError) as error:
        raise BadRequest(
            f"--since takes a time such as 90m, 12h, 7d, 2026-11-29 or 2026-11-29T13:00, not {text!r}"
        ) from error


def _told(node: ValueInfo) -> str:
    """One value in a line."""
    where = "stored" if node.stored else "in memory" if node.memory else "not there"
    params = f" {json.dumps(dict(node.params))}" if node.params else ""
    made = f", {seconds(node.seconds)} on {node.device}" if node.device else ""
    return f"{node.key}  {node.feature}@{node.version}{params} of {node.per} {node.unit}: {where}{made}"


def _up_to(most: int, page: Callable[[int, str | None], Page[T]]) -> list[T]:
    """The first items of a listing; says so if there are others."""
    found: list[T] = []
    cursor: str | None = None
    while len(found) < most:
        some = page(min(most - len(found), MOST), cursor)
        found += some
        cursor = some.cursor
        if cursor is None:
            return found
    _more(found)
    return found


def _more(found: list[T]) -> None:
    note(f"amber: there may be more than these {len(found):,}; --limit says how many are shown")
