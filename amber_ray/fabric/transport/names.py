"""The names under which Amber's detached actors are found in a cluster's namespace."""

from __future__ import annotations

GATEWAY = "gateway"


def shard_name(shard: int) -> str:
    """The cache actor of a shard."""
    return f"cache-{shard}"
