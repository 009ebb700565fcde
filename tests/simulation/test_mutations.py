"""The simulation notices a broken core: a few deliberate mistakes here, all of them with `make mutate`."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.simulation.mutate import ROOT, attempt
from tests.simulation.mutations import MUTATIONS, QUICK, Mutation


@pytest.mark.parametrize("mutation", [m for m in MUTATIONS if m.name in QUICK], ids=lambda m: m.name)
def test_a_mistake_is_noticed(mutation: Mutation, tmp_path: Path) -> None:
    assert attempt(mutation, tmp_path, seeds=200, jobs=1)


def test_every_mistake_can_still_be_made() -> None:
    assert len([m for m in MUTATIONS if m.file.startswith("core/")]) >= 25
    assert len([m for m in MUTATIONS if m.file.startswith("fabric/")]) >= 25
    assert len({m.name for m in MUTATIONS}) == len(MUTATIONS)
    for mutation in MUTATIONS:
        text = (ROOT / "amber_ray" / mutation.file).read_text()
        assert text.count(mutation.old) == 1, mutation.name
