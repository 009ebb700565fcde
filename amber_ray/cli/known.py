"""`amber assets`: what a server or a store knows of media, without computing anything."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from typing import TypeVar

from amber_ray.cli.options import client_of
from amber_ray.cli.summary import size
from amber_ray.cli.terminal import cell, console, note, say, seconds, table
from amber_ray.core.model.pages import MOST, Page
from amber_ray.wire import views

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
