"""Cut a long list of assets into requests that a server takes: by count, and by the size of their names.

Must not know: what is done with a window.
"""

from __future__ import annotations

from collections.abc import Sequence

from amber_ray.client.names import Named
from amber_ray.errors import BadRequest

Window = tuple[Named, ...]

MOST_ASSETS = 5_000
MOST_BYTES = 2 << 20
"""Both well below the server's own limits (`settings.Limits.assets_per_request`, `body_bytes`)."""
OVERHEAD = 16


def windows(assets: Sequence[Named], most: int | None = None) -> list[Window]:
    """The assets in order, in windows of at most `most` (by default as many as a request may hold)."""
    if most is not None and most < 1:
        raise BadRequest(f"window must be at least 1 asset, not {most}")
    limit = min(most or MOST_ASSETS, MOST_ASSETS)
    parts: list[Window] = []
    part: list[Named] = []
    size = 0
    for asset in assets:
        cost = OVERHEAD + len((asset.ref.uri or asset.ref.id or "").encode())
        if part and (len(part) >= limit or size + cost > MOST_BYTES):
            parts.append(tuple(part))
            part, size = [], 0
        part.append(asset)
        size += cost
    if part:
        parts.append(tuple(part))
    return parts
