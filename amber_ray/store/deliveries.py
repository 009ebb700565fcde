"""Deliveries at rest: one JSON file each, durable before anybody is told of it.

Only the store's owner writes here (the first shard, `store.lease`). Must not know: how they are sent.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from amber_ray.core.deliveries.record import Delivery
from amber_ray.store.files import Files
from amber_ray.store.json_files import JsonFolder

log = logging.getLogger("amber.store")


class DeliveryBook:
    """`<store>/deliveries/<id>.json`. Blocking. `fence` is that of `JsonFolder`."""

    def __init__(self, store: str | Files, fence: Callable[[], None] | None = None) -> None:
        files = Files(store) if isinstance(store, str) else store
        self._records = JsonFolder(files, "deliveries", "delivery", fence)

    def write(self, delivery: Delivery) -> None:
        """Write or replace a delivery; it is durable when this returns. Raises `StoreError`."""
        self._records.write(delivery.id, delivery.to_json())

    def all(self) -> list[Delivery]:
        """Return all deliveries, in the order in which they were asked for.

        Raises `StoreError` if one can't be read now: none may be passed over. A damaged record is logged and
        moved to quarantine; a record that is no delivery is logged and left where it is.
        """
        self._records.sweep()
        found = []
        for id, data in self._records.whole():
            try:
                found.append(Delivery.from_json(data))
            except ValueError as error:
                log.error("the record of delivery %r is left alone: %s", id, error)
        return sorted(found, key=lambda delivery: (delivery.created, delivery.id))

    def remove(self, id: str) -> None:
        """Delete a delivery; one that is not there is fine. Raises `StoreError`."""
        self._records.remove(id)
