"""What a caller may be told of. A token of one tenant, unless it may operate, sees no other tenant's uploads.

What is in the media roots is everybody's who may read, and so are its values. An upload is its tenant's, and
so is what was made of it: for others it is not there, in the words of what was never there. That holds for
its id, its place and its values' keys; whoever has uploaded the same bytes sees them as its own.
"""

from __future__ import annotations

import dataclasses
from collections import OrderedDict
from collections.abc import Sequence

from amber_ray.core.model.absent import no_value
from amber_ray.core.model.request import AssetRef
from amber_ray.core.model.service import Service
from amber_ray.core.model.trust import Caller

REMEMBERED = 100_000
"""Keys that tenants were seen to be told of; what a tenant has seen once stays its to see."""


class Sight:
    """Asks the service once what a tenant may be told of, and remembers it."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._seen: OrderedDict[tuple[str, str], None] = OrderedDict()

    async def of_values(self, caller: Caller, keys: Sequence[str]) -> frozenset[str]:
        """Return those of the keys whose values the caller may be told."""
        tenant = blind(caller)
        if tenant is None:
            return frozenset(keys)
        new = [key for key in keys if (tenant, key) not in self._seen]
        if not new:
            return frozenset(keys)
        shown = await self._service.shown(new, tenant)
        hidden = frozenset(new) - shown
        self._seen.update(((tenant, key), None) for key in shown)
        while len(self._seen) > REMEMBERED:
            self._seen.popitem(last=False)
        return frozenset(keys) - hidden

    async def require_value(self, caller: Caller, key: str) -> None:
        """Raise `UnknownKey` if the caller may not be told of a value, or there is none."""
        if blind(caller) is not None and not await self.of_values(caller, [key]):
            raise no_value(key)


def blind(caller: Caller) -> str | None:
    """Return the tenant whose uploads alone the caller sees; None if it sees all."""
    return None if caller.sees_all else caller.tenant


def seen_by(caller: Caller, refs: tuple[AssetRef, ...]) -> tuple[AssetRef, ...]:
    """Return references to assets as this caller's."""
    tenant = blind(caller)
    if tenant is None:
        return refs
    return tuple(dataclasses.replace(ref, tenant=tenant) for ref in refs)
