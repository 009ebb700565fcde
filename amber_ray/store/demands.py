"""Demands at rest, and what is known of each: small records, and sorted runs that may be long.

    <store>/demands/<name>.json                  what is wanted, and when it was said
    <store>/demands/states/<name>.json           how it stands, the runs that count, what its callback heard
    <store>/demands/runs/<name>/<id>.parquet     sorted runs of what it was true of (`store.runs`)

The records are the store's owner's alone. A run is written by whoever sweeps, under a name of its own, and
counts from when a state names it; one that no state names was left by a process that died. So a crash between
the two costs work that is done again, and no state ever names a run that is not there. Must not know: what is
done about a demand.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import NamedTuple

from amber_ray.core.model.demand_codec import (
    demand_from_json,
    demand_to_json,
    state_from_json,
    state_to_json,
)
from amber_ray.core.model.demands import Demand, DemandState
from amber_ray.errors import DamagedRecord
from amber_ray.store.files import Files
from amber_ray.store.json_files import JsonFolder

log = logging.getLogger("amber.store")

FOLDER, STATES = "demands", "demands/states"


class DemandRecord(NamedTuple):
    """A demand as it is kept. `id` is another one each time it is said: a state is of one saying."""

    demand: Demand
    id: str
    made: float


class DemandBook:
    """The demands of a store. Blocking. `fence` is that of `JsonFolder`."""

    def __init__(self, store: str | Files, fence: Callable[[], None] | None = None) -> None:
        files = Files(store) if isinstance(store, str) else store
        self._files = files
        self._fence = fence

    def _records(self) -> JsonFolder:
        return JsonFolder(self._files, FOLDER, "demand", self._fence)

    def _states(self) -> JsonFolder:
        return JsonFolder(self._files, STATES, "state of a demand", self._fence)

    def read(self) -> list[tuple[DemandRecord, DemandState]]:
        """Return all demands by name, each with its state. Raises `StoreError` if one can't be read now.

        A damaged record is logged and left out; a damaged state, or one of an earlier saying, is as if there
        was none: then everything is looked at again.
        """
        if not self._files.has_folder(FOLDER):
            return []
        found = []
        for name in self._records().ids():
            record = self._record(name)
            if record is not None:
                found.append((record, self._state(record)))
        return found

    def _record(self, name: str) -> DemandRecord | None:
        try:
            data = self._records().read(name)
            if data is None:
                return None
            return DemandRecord(demand_from_json(data["demand"]), str(data["id"]), float(data["made"]))
        except (DamagedRecord, ValueError, KeyError, TypeError) as error:
            log.error("the record of the demand %r is damaged, and it is not kept: %s", name, error)
            return None

    def _state(self, record: DemandRecord) -> DemandState:
        try:
            data = self._states().read(record.demand.name)
            if data is None or data.get("id") != record.id:
                return DemandState()
            return state_from_json(data)
        except (DamagedRecord, ValueError, KeyError, TypeError) as error:
            log.error("what is known of the demand %r is damaged: %s", record.demand.name, error)
            return DemandState()

    def write(self, record: DemandRecord, state: DemandState | None = None) -> None:
        """Keep a demand, in place of one of its name; durable on return. Raises `StoreError`.

        With `state` what is known of it goes on to be known, by the new record's id.
        """
        if state is not None:
            self.note(record, state)
        name = record.demand.name
        data = {"demand": demand_to_json(record.demand), "id": record.id, "made": record.made}
        self._records().write(name, data)

    def note(self, record: DemandRecord, state: DemandState) -> None:
        """Keep how a demand stands; durable on return. Raises `StoreError`."""
        self._states().write(record.demand.name, state_to_json(state) | {"id": record.id})

    def remove(self, name: str) -> None:
        """Forget a demand; one that is not there is fine. Its runs are deleted by whoever sweeps."""
        self._records().remove(name)
        self._states().remove(name)
