"""`amber assets`, `requests` and `lineage`: what a server or a store knows, without computing anything."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from typing import TypeVar

from amber_ray.cli.options import client_of
from amber_ray.cli.summary import size
from amber_ray.cli.terminal import cell, console, note, say, seconds, table
from amber_ray.core.model.pages import MOST, Page
from amber_ray.core.model.provenance import ValueInfo
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
    note(f"amber: there may be more than these {len(found):,}; --limit says how many are shown")
    return found
