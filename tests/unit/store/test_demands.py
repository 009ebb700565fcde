"""The records of demands and the runs of what they are true of, in a directory and in no directory."""

from __future__ import annotations

from tests.demand_contract import DemandContract, DemandTroubleContract
from tests.store_places import InMemory, InTroubledMemory, OnDisk, OnTroubledDisk


class TestOnDisk(OnDisk, DemandContract): ...


class TestInMemory(InMemory, DemandContract): ...


class TestTroubleOnDisk(OnTroubledDisk, DemandTroubleContract): ...


class TestTroubleInMemory(InTroubledMemory, DemandTroubleContract): ...
