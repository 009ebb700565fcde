"""Names of what is counted by tier, as Prometheus writes them: `hits_total{tier="memory"}`.

An answer that was there already is a hit of the tier that it came from: the memory of the process that was
asked (`replica`), the memory of the shards (`memory`), or the store (`store`). A value that is read by its
key is a read of one of these tiers.
"""

from __future__ import annotations

from typing import Final


def _of(name: str, tier: str) -> str:
    return f'{name}{{tier="{tier}"}}'


HITS_REPLICA: Final = _of("hits_total", "replica")
HITS_MEMORY: Final = _of("hits_total", "memory")
HITS_STORE: Final = _of("hits_total", "store")
READS_REPLICA: Final = _of("reads_total", "replica")
READS_MEMORY: Final = _of("reads_total", "memory")
READS_STORE: Final = _of("reads_total", "store")
OF_ENGINES: Final = (HITS_REPLICA, HITS_STORE, READS_REPLICA, READS_MEMORY, READS_STORE)
"""What engines count by themselves: no shard sees it, or each of them sees a part.

Hits of the store are those that they have read there themselves; shards count theirs too.
"""
