"""A machine that does to a dict what it does to the index."""

from __future__ import annotations

import hashlib
from unittest import mock

import numpy as np
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from amber_ray.store import key_index as module
from amber_ray.store.key_index import KeyIndex, hexed

# Half of them differ only in their second half, so that ties are common.
KEYS = [hashlib.blake2b(bytes([n]), digest_size=16).hexdigest() for n in range(30)]
KEYS += ["0" * 16 + k[16:] for k in KEYS]
PARTS = ["a", "b", "c", "d"]
some = st.lists(st.sampled_from(KEYS), max_size=25)


class Machine(RuleBasedStateMachine):
    """A small `FRESH` makes every path common: the dict, waiting batches, runs and their merges."""

    def __init__(self) -> None:
        super().__init__()
        self.patch = mock.patch.multiple(module, FRESH=6, VECTOR=3)
        self.patch.start()

    def teardown(self) -> None:
        self.patch.stop()

    @initialize()
    def empty(self) -> None:
        self.index = KeyIndex()
        self.places: dict[str, tuple[str, int]] = {}
        self.parts: list[str] = []

    @rule(part=st.sampled_from(PARTS), keys=some)
    def add(self, part: str, keys: list[str]) -> None:
        self.index.add(part, np.frombuffer(bytes.fromhex("".join(keys)), np.uint8).reshape(-1, 16))
        self.places.update((k, (part, row)) for row, k in enumerate(keys))
        if part not in self.parts:
            self.parts.append(part)

    @rule(keys=some)
    def remove(self, keys: list[str]) -> None:
        self.index.remove(keys)
        for k in keys:
            self.places.pop(k, None)

    @rule(part=st.sampled_from(PARTS))
    def remove_part(self, part: str) -> None:
        held = {k for k, place in self.places.items() if place[0] == part}
        removed = self.index.remove_part(part)
        assert len(removed) == len(held)
        assert set(removed) == held
        for k in held:
            del self.places[k]
        if part in self.parts:
            self.parts.remove(part)

    @rule(keys=some)
    def find_many(self, keys: list[str]) -> None:
        assert self.index.find_many(keys) == [self.places.get(k) for k in keys]

    @rule(part=st.sampled_from(PARTS))
    def rows_of(self, part: str) -> None:
        keys, rows = self.index.rows_of(part)
        assert len(set(hexed(keys))) == len(keys)
        found = dict(zip(hexed(keys), rows.tolist(), strict=True))
        assert found == {k: place[1] for k, place in self.places.items() if place[0] == part}

    @rule()
    def find_each(self) -> None:
        assert [self.index.find(k) for k in KEYS] == [self.places.get(k) for k in KEYS]

    @precondition(lambda self: hasattr(self, "index"))
    @invariant()
    def parts_and_memory(self) -> None:
        assert self.index.parts() == self.parts
        assert self.index.nbytes >= 16 * len(self.places)

    @rule()
    def length(self) -> None:
        assert len(self.index) == len(self.places)


TestIndex = Machine.TestCase
TestIndex.settings = settings(max_examples=60, stateful_step_count=30)
